"""The peak memory of a method, by the tensors that are alive at once; and the generators that a trial begins with."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from prunebench.contract.live import watched
from prunebench.pruning import CalibrationData, Hessian, Sparsity, calibrated
from prunebench.pruning.nested import HELD, held
from prunebench.pruning.sparsity import parse_pattern
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.testing.live_bytes import LiveBytes
from prunebench.testing.models import MODELS, calibration, prune_by_magnitude
from prunebench.testing.said import Peak

# The ceiling on memory beyond the model: so many copies of the model and so many walks over its blocks. That is enough
# for the states of an optimiser that trains every parameter, but not for the inputs of every layer.
COPIES = 32
WALKS = 2


def measure_peak(method: MethodClass, options: Mapping[str, Any], architecture: str, pattern: str) -> Peak:
    """Measure the peak of tensors beyond the model with long calibration text."""
    model, data = MODELS[architecture](), long_calibration(MODELS[architecture])
    sparsity: Sparsity = parse_pattern(pattern)
    if method.after:
        prune_by_magnitude(model, sparsity)
    asked = held(sparsity) if method.after and method.mask == HELD else sparsity

    def walk() -> None:
        for _ in calibrated(model, data, sparsity, Hessian):
            pass

    hook = plugin_manager(method, options).hook
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    ceiling = WALKS * _peak_bytes(model, walk) + COPIES * size
    try:
        peak = _peak_bytes(model, lambda: hook.prune(model=model, data=data, sparsity=asked))
    except (Exception, SystemExit):  # reported under the rule "runs"
        return Peak(peak=None, ceiling=ceiling)
    return Peak(peak=peak, ceiling=ceiling)


def long_calibration(teacher: Callable[[], PreTrainedModel] | None = None) -> CalibrationData:
    """The calibration data on which memory is measured, with what makes the dense model."""
    return calibration(nsamples=64, seqlen=60, teacher=teacher)


def _peak_bytes(model: nn.Module, function: Callable[[], object]) -> int:
    """The most bytes of new tensors alive at once while ``function()`` runs, the model's own not counted."""
    with seeded_generators(0), LiveBytes([*model.parameters(), *model.buffers()]) as live, watched():
        function()
    return int(live.peak)


@contextmanager
def seeded_generators(noise: int) -> Iterator[None]:
    """Seed the global generators inside this context, and restore their states afterwards."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(noise)
    random.seed(noise)
    np.random.seed(noise)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
