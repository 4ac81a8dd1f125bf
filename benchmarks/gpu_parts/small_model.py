"""(e) A small LLaMA trained on a text's bytes, pruned at 90 % with growing budgets of tokens, by methods as they ship.

ELSA-L spends its budget inside ADMM, gradual magnitude pruning while it adds zeros, and ALPS prunes at once and spends
it on retraining. Each gets the same number of settings for a budget; the largest budget is tried with the two that
were best before. The setting is chosen on a validation text and its loss shown on a test text, which no method sees.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from prunebench_plugins.alps import ALPS
from prunebench_plugins.elsa import ElsaL
from prunebench_plugins.gmp import GMP
from prunebench_plugins.retrain import Retrain
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from gpu_parts.common import Context, free_memory, parameters_of, random_llama
from gpu_parts.report import Report, Row
from prunebench.pruning import CalibrationData, Held, Unstructured, language_loss, prunable, trainable

SPARSITY = Unstructured(0.9)
NSAMPLES = 128
TRAIN_LR, WARM_UP = 1e-3, 100
UPDATES = 32  # of z and u in a run of ELSA-L; GMP prunes at the same interval
HELD_OUT = 20  # a twentieth of the text, half for validation, half for the test
MOST_WINDOWS = 128
SETTINGS: dict[str, tuple[tuple[float, ...], ...]] = {
    "elsa-l": ((1.5, 0.02), (4, 0.02), (4, 0.1)),  # how far weights can travel, in their rms; λ
    "gmp": ((5e-4,), (1e-3,), (2e-3,)),  # learning rate
    "alps + retrain": ((5e-4,), (1e-3,), (2e-3,)),
}
MOST_AT_LARGEST = 2


@dataclass(frozen=True)
class Text:
    """A text as bytes: calibration data from its beginning, windows (count, seqlen) from its end."""

    data: CalibrationData
    validation: Tensor
    test: Tensor


def read_text(context: Context) -> Text:
    """Split the file.

    Raises:
        ValueError: it holds fewer bytes than one window in each part.
    """
    assert context.text is not None
    seqlen = context.size.small_seqlen
    tokens = torch.frombuffer(bytearray(context.text.read_bytes()), dtype=torch.uint8).long()
    cut = len(tokens) - len(tokens) // HELD_OUT
    count = (len(tokens) - cut) // seqlen
    if count < 2:
        raise ValueError(f"{context.text} holds {len(tokens)} bytes: give at least {2 * HELD_OUT * seqlen}")
    windows = tokens[cut:][: count * seqlen].view(-1, seqlen)
    validation, test = windows[: count // 2][:MOST_WINDOWS], windows[count // 2 :][:MOST_WINDOWS]
    return Text(CalibrationData(tokens[:cut], nsamples=NSAMPLES, seqlen=seqlen, seed=0), validation, test)


def run(context: Context, report: Report) -> None:
    """Train, prune, retrain, compare."""
    text, size = read_text(context), context.size
    dense = random_llama(context, size.small)
    steps = train_dense(dense, text, context)
    tokens = steps * size.small_batch * size.small_seqlen
    report.add(Row("model", parameters_of(dense) / 1e6, "M", note=f"trained on {tokens:,} bytes, {steps} steps"))
    report.add(Row("dense", mean_loss(dense, text.test, context), "nats/byte"))
    at_once = copy.deepcopy(dense)
    ALPS().prune(model=at_once, data=text.data, sparsity=SPARSITY)
    report.add(Row("alps, no retraining", mean_loss(at_once, text.test, context), "nats/byte", correct=exact(at_once)))
    candidates = dict(SETTINGS)
    for budget in size.budgets:
        for name in SETTINGS:
            start = at_once if name == "alps + retrain" else dense
            if budget == size.budgets[-1]:
                candidates[name] = candidates[name][:MOST_AT_LARGEST]
            candidates[name] = compare_settings(name, candidates[name], start, budget, text, context, report)


def compare_settings(
    name: str,
    settings: tuple[tuple[float, ...], ...],
    start: LlamaForCausalLM,
    budget: int,
    text: Text,
    context: Context,
    report: Report,
) -> tuple[tuple[float, ...], ...]:
    """Run a method with each setting and report the best by the validation loss; returns them, the best first."""
    steps = max(1, round(budget / (context.size.small_batch * context.size.small_seqlen)))
    found = []
    for setting in settings:
        model = copy.deepcopy(start)
        method(name, setting, model, steps, context.size.small_batch)(model, text.data)
        validation, test = (mean_loss(model, windows, context) for windows in (text.validation, text.test))
        found.append((validation, setting, test, exact(model)))
        free_memory(context.device)
    found.sort(key=lambda one: (math.isnan(one[0]), one[0]))
    tried = ", ".join(f"{'/'.join(f'{x:g}' for x in setting)}: {validation:.4f}" for validation, setting, *_ in found)
    report.add(
        Row(
            f"{name}, {budget:,} tokens",
            found[0][2],
            "nats/byte",
            correct=all(right for *_, right in found),
            note=f"{steps} steps; validation {tried}",
        )
    )
    return tuple(setting for _, setting, *_ in found)


def method(
    name: str, setting: tuple[float, ...], model: nn.Module, steps: int, batch_size: int
) -> Callable[[nn.Module, CalibrationData], None]:
    """A method with one setting, as a function that prunes or retrains a model."""
    interval = max(1, steps // UPDATES)
    if name == "elsa-l":
        travel, lmda = setting
        lr = 2 * travel * rms_of(model) / steps
        elsa_l = ElsaL(steps=steps, lr=lr, lmda=lmda, interval=interval, batch_size=batch_size)
        return lambda model, data: elsa_l.prune(model=model, data=data, sparsity=SPARSITY)
    if name == "gmp":
        gmp = GMP(steps=steps, lr=setting[0], interval=interval, batch_size=batch_size)
        return lambda model, data: gmp.prune(model=model, data=data, sparsity=SPARSITY)
    retrain = Retrain(steps=steps, lr=setting[0], batch_size=batch_size)
    return lambda model, data: retrain.prune(model=model, data=data, sparsity=Held(SPARSITY))


def rms_of(model: nn.Module) -> float:
    """Root mean square of the weights that are pruned."""
    weights = [layer.weight for layer, _ in prunable(model, SPARSITY)]
    squares = sum(float(W.float().norm()) ** 2 for W in weights)
    return math.sqrt(squares / sum(W.numel() for W in weights))


def train_dense(model: LlamaForCausalLM, text: Text, context: Context) -> int:
    """Train for a stated time; the learning rate falls linearly with it. Returns the number of steps."""
    began, share, steps = time.perf_counter(), 0.0, 0

    def rate() -> float:
        return TRAIN_LR * min(1.0, (steps + 1) / WARM_UP) * (1 - share)

    with trainable(model, grad_checkpointing=False) as parameters:
        optimizer = torch.optim.AdamW(parameters, lr=TRAIN_LR, betas=(0.9, 0.95), weight_decay=0.1)
        for ids in text.data.batches(context.size.small_batch):
            step(model, optimizer, ids, context, rate())
            steps += 1
            if context.device == "cuda" and steps % 10 == 0:
                torch.cuda.synchronize()  # or the clock would run ahead of the work
            share = (time.perf_counter() - began) / context.train_seconds
            if share >= 1:
                return steps
    raise AssertionError("batches never end")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor, context: Context, lr: float) -> None:
    """One step of AdamW with clipping."""
    language_loss(model, ids.to(context.device)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([x for group in optimizer.param_groups for x in group["params"]], 1.0)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def mean_loss(model: nn.Module, windows: Tensor, context: Context) -> float:
    """Mean loss of windows, nats a byte."""
    batches = torch.split(windows, context.size.small_batch)
    total = sum(float(language_loss(model, ids.to(context.device))) * len(ids) for ids in batches)
    return total / len(windows)


def exact(model: nn.Module) -> bool:
    """Whether every matrix has as many zeros as were asked for."""
    return all(int((layer.weight == 0).sum()) == target.zeros for layer, target in prunable(model, SPARSITY))
