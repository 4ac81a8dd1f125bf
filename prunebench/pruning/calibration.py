"""Calibration data: the tokens that a method may use, drawn as windows and as random batches."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Self

import torch
from torch import Tensor, nn


class CalibrationData:
    """Calibration text as tokens, with a count of the tokens that were taken.

    Args:
        pool: the whole calibration split. One dimension: a stream of tokens, from which windows are cut anywhere. Two
            dimensions (documents, seqlen): the windows themselves.
        nsamples: how many windows a layer-wise method sees; fewer if the pool holds fewer.
        seqlen: tokens in a window.
        seed: the only source of randomness.
        teacher: makes the dense model; None where there is none to be had.

    Raises:
        ValueError: the pool holds no window.
    """

    def __init__(
        self,
        pool: Tensor,
        *,
        nsamples: int,
        seqlen: int,
        seed: int,
        teacher: Callable[[], nn.Module] | None = None,
    ) -> None:
        if pool.numel() < seqlen:
            raise ValueError(f"calibration text of {pool.numel()} tokens is shorter than one window of {seqlen}")
        self._pool = pool
        self._windows = self._draw_windows(nsamples, seqlen, seed)
        self._counted_windows = False
        self._batch_tokens = 0
        self._make_teacher = teacher
        self._teacher: nn.Module | None = None
        self.seqlen = seqlen
        self.seed = seed

    @classmethod
    def from_windows(cls, windows: Tensor, *, seed: int, teacher: Callable[[], nn.Module] | None = None) -> Self:
        """Windows that were cut already, in the order given; random batches are drawn from them too.

        Args:
            windows: int64, (nsamples, seqlen).
            seed: of the random batches.
            teacher: makes the dense model.
        """
        data = cls(windows, nsamples=len(windows), seqlen=windows.shape[1], seed=seed, teacher=teacher)
        data._windows = windows.clone()
        return data

    def _draw_windows(self, nsamples: int, seqlen: int, seed: int) -> Tensor:
        """``nsamples`` different windows: documents, or pieces of the stream that do not overlap."""
        pool = self._pool
        windows = pool if pool.dim() == 2 else pool[: len(pool) // seqlen * seqlen].view(-1, seqlen)
        drawn = torch.randperm(len(windows), generator=_generator(seed))[:nsamples]
        return windows[drawn].clone()

    @property
    def windows(self) -> Tensor:
        """LongTensor (nsamples, seqlen), the same for every method of a seed."""
        self._counted_windows = True
        return self._windows

    @property
    def nsamples(self) -> int:
        """The number of windows."""
        return len(self._windows)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """Endless random windows, drawn with replacement from the whole calibration split.

        Args:
            batch_size: windows per batch.
            start: number of the first batch; batch t is the same whatever ``start`` is, so that a run can be resumed.

        Yields:
            LongTensor (batch_size, seqlen).
        """
        for step in count(start):
            generator = _generator(self.seed, step + 1)
            if self._pool.dim() == 2:
                batch = self._pool[torch.randint(len(self._pool), (batch_size,), generator=generator)]
            else:
                last = len(self._pool) - self.seqlen
                starts = torch.randint(last + 1, (batch_size, 1), generator=generator)
                batch = self._pool[starts + torch.arange(self.seqlen)]
            self._batch_tokens += batch.numel()
            yield batch

    @property
    def teacher(self) -> nn.Module:
        """The dense model, frozen and in eval mode, on the device of the one that is pruned.

        Made when it is first asked for; it takes as much memory as the model.

        Raises:
            RuntimeError: there is none to be had.
        """
        if self._teacher is None:
            if self._make_teacher is None:
                raise RuntimeError("the dense model is asked for, and this calibration data comes without one")
            self._teacher = self._make_teacher().requires_grad_(False).eval()
        return self._teacher

    @property
    def digest(self) -> str:
        """A text that differs once the windows, the pool or the settings were written to; counts no tokens."""
        windows = hashlib.sha256(self._windows.numpy().tobytes()).hexdigest()
        return f"{windows} {self.seed} {self.seqlen} {id(self._pool)} {self._pool._version}"

    def state(self) -> list[int]:
        """The token counts so far, for ``restore``."""
        return [int(self._counted_windows), self._batch_tokens]

    def restore(self, state: list[int]) -> None:
        """Continue from the token counts of an interrupted run."""
        self._counted_windows, self._batch_tokens = bool(state[0]), state[1]

    @property
    def tokens_seen(self) -> int:
        """Tokens taken so far; the windows count once, however often they are read."""
        return self._batch_tokens + (self._windows.numel() if self._counted_windows else 0)


def _generator(seed: int, stream: int = 0) -> torch.Generator:
    """A generator for each (seed, stream), independent of the others."""
    mixed = (seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator().manual_seed(mixed)
