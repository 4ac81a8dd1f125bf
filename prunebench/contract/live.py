"""Checks of what a method leaves behind in its own process, which no file of its tensors would show."""

import hashlib
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.contract.leaks import leakable_state
from prunebench.contract.rules import Violation
from prunebench.pruning import CalibrationData
from prunebench.pruning.callbacks import use_layer_watcher


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 (hex) of a tensor's dtype, shape and bytes, on any device."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {tuple(plain.shape)}".encode()
    return hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; of a block on disk those on the meta device."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@dataclass
class Watch:
    """What a method did while it ran that is visible neither on the model nor on the data.

    Args:
        stdout: what it printed.
        unfinished: layers that were not pruned when the next one was asked for: (name, zeros, zeros asked for).
    """

    stdout: io.StringIO = field(default_factory=io.StringIO)
    unfinished: list[tuple[str, int, int]] = field(default_factory=list)

    def layer_finished(self, name: str, zeros: int, requested: int) -> None:
        """The layer watcher: ``calibrated`` was asked for what comes after a layer that was written to."""
        if zeros < requested:
            self.unfinished.append((name, zeros, requested))

    def state(self) -> list[Any]:
        """What was observed so far, as JSON, for ``restore``."""
        return [self.stdout.getvalue(), self.unfinished]

    def restore(self, state: list[Any]) -> None:
        """Continue from what was observed of an interrupted run."""
        self.stdout.seek(0)
        self.stdout.truncate()
        self.stdout.write(state[0])
        self.unfinished[:] = [(name, zeros, requested) for name, zeros, requested in state[1]]


@contextmanager
def watched() -> Iterator[Watch]:
    """Observe a method that runs inside this context; what it prints is captured."""
    watch = Watch()
    with redirect_stdout(watch.stdout), use_layer_watcher(watch.layer_finished):
        yield watch


@dataclass(frozen=True)
class LiveState:
    """What a method must leave as it found it in its own process.

    Args:
        tensors: dtype, device and shape of every parameter and buffer.
        buffers: digests of the buffers that no checkpoint holds.
        modes: whether each module is in train mode.
        use_cache: of the model's configuration.
        hooks: number of hooks and patched forwards.
        generators: digest of the global generators' state.
        data: digest of the calibration data; None where there is none to compare.
        method_state: fingerprints of what the method's instance, class and module hold.
    """

    tensors: dict[str, tuple[torch.dtype, torch.device, torch.Size]]
    buffers: dict[str, str]
    modes: dict[str, bool]
    use_cache: Any
    hooks: int
    generators: str
    data: str | None
    method_state: dict[str, object]

    @classmethod
    def of(cls, model: nn.Module, data: CalibrationData | None, method: object) -> "LiveState":
        """The state before a method runs on a model, with calibration data and the method's instance."""
        return cls(
            tensors={name: (tensor.dtype, tensor.device, tensor.shape) for name, tensor in all_tensors(model).items()},
            buffers=_buffer_digests(model),
            modes={name: module.training for name, module in model.named_modules()},
            use_cache=getattr(getattr(model, "config", None), "use_cache", None),
            hooks=_count_hooks(model),
            generators=_generators_digest(),
            data=None if data is None else data.digest,
            method_state=leakable_state(method),
        )

    def violations(
        self, model: nn.Module, data: CalibrationData | None, method: object, watch: Watch | None, *, prunes: bool
    ) -> Iterator[Violation]:
        """Violations in modes, configuration, hooks, generators, data, the method's own state, and what was seen."""
        if changed := [name for name, module in model.named_modules() if module.training != self.modes.get(name)]:
            yield Violation(
                "mode", f"the module {changed[0]!r} was left in another mode (train or eval) than it was found"
            )
        if getattr(getattr(model, "config", None), "use_cache", None) != self.use_cache:
            yield Violation("use_cache", f"config.use_cache was {self.use_cache} and was left otherwise")
        if (left := _count_hooks(model) - self.hooks) != 0:
            yield Violation("hooks", f"{left} hooks or patched forwards were left on the model")
        if _generators_digest() != self.generators:
            yield Violation("generators", "a global random generator was used: draw from one seeded by data.seed")
        if data is not None and data.digest != self.data:
            yield Violation("data", "the calibration data was changed")
        state = leakable_state(method)
        for name in sorted({*state, *self.method_state}):
            if state.get(name) != self.method_state.get(name):
                yield Violation("state", f"{name} was written to, which would leak into the next cell")
        if watch is not None:
            yield from _check_watch(watch, prunes=prunes)

    def tensor_violations(self, model: nn.Module, changes: str) -> Iterator[Violation]:
        """Violations in names, dtypes, devices and shapes, and in the buffers that no checkpoint holds."""
        after = all_tensors(model)
        if names := set(after) ^ set(self.tensors):
            yield names_violation(names)
        for name, tensor in after.items():
            if violation := self.tensor_violation(name, tensor):
                yield violation
        buffers = _buffer_digests(model)
        for name in (name for name in self.buffers if buffers.get(name, self.buffers[name]) != self.buffers[name]):
            yield unchanged_violation(name, changes)

    def tensor_violation(self, name: str, tensor: Tensor) -> Violation | None:
        """The violation of one tensor that is of another dtype or shape, or on another device."""
        if name not in self.tensors:
            return None
        dtype, device, shape = self.tensors[name]
        if (tensor.dtype, tensor.device, tensor.shape) == (dtype, device, shape):
            return None
        return Violation(
            "tensors",
            f"{name} was {dtype} {tuple(shape)} on {device} and is {tensor.dtype} {tuple(tensor.shape)} on "
            f"{tensor.device}",
        )


def names_violation(names: set[str]) -> Violation:
    """Parameters of these names were added or removed."""
    return Violation("tensors", f"parameters were added or removed: {', '.join(sorted(names))}")


def unchanged_violation(name: str, changes: str) -> Violation:
    """A tensor that may not change has changed."""
    return Violation("unchanged", f"{name} was changed, and the method may change {changes!r} only")


def _buffer_digests(model: nn.Module) -> dict[str, str]:
    """Digests of the buffers that no checkpoint holds, such as the frequencies of rotary embeddings."""
    persistent = model.state_dict(keep_vars=True).keys()
    return {name: tensor_digest(buffer) for name, buffer in model.named_buffers() if name not in persistent}


def _check_watch(watch: Watch, *, prunes: bool) -> Iterator[Violation]:
    if printed := watch.stdout.getvalue():
        first = printed.strip().partition("\n")[0][:60]
        yield Violation("stdout", f"{len(printed)} characters were printed to stdout, beginning with {first!r}")
    for name, zeros, requested in watch.unfinished[:1] if prunes else ():
        yield Violation(
            "order", f"{name} held {zeros} zeros where {requested} were asked for when the next layer was asked for"
        )


def _count_hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(
        sum(len(getattr(module, kind)) for kind in kinds) + ("forward" in vars(module)) for module in model.modules()
    )


def _generators_digest() -> str:
    """SHA-256 (hex) of the state of the global generators of torch, numpy and Python."""
    state = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state.update(torch.cuda.get_rng_state().numpy().tobytes())
    state.update(repr(random.getstate()).encode())
    state.update(repr(np.random.get_state()).encode())
    return state.hexdigest()
