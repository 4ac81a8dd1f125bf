"""Calibration data: the tokens that a method may use, drawn as windows and as random batches."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Self

import torch
from torch import Tensor, nn

from prunebench.pruning.callbacks import note
from prunebench.pruning.pools import Pool, TokenPool


class CalibrationData:
    """Calibration text as tokens, with a count of the tokens that were taken.

    Args:
        pool: the whole calibration split, as a pool (``prunebench.pruning.pools``) or as its tokens. One dimension: a
            stream of tokens, from which windows are cut anywhere. Two dimensions (documents, seqlen): the windows
            themselves.
        nsamples: how many windows a layer-wise method sees; fewer if the pool holds fewer.
        seqlen: tokens in a window.
        seed: the only source of randomness.
        teacher: makes the dense model; None where there is none to be had.

    Raises:
        ValueError: the pool holds no window.
    """

    def __init__(
        self,
        pool: Tensor | Pool,
        *,
        nsamples: int,
        seqlen: int,
        seed: int,
        teacher: Callable[[], nn.Module] | None = None,
    ) -> None:
        self._pool: Pool = TokenPool(pool) if isinstance(pool, Tensor) else pool
        drawn = self._pool.windows(nsamples, seqlen, _generator(seed))
        self._windows, self._text_of_windows = drawn.windows, dict(drawn.text)
        self._text_of_batches: dict[int, int] = {}
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

        Of a text longer than memory holds, one part after another is drawn from, as many windows from each as it holds;
        after the last part the first follows.

        Args:
            batch_size: windows per batch.
            start: number of the first batch; batch t is the same whatever ``start`` is, so that a run can be resumed.

        Yields:
            LongTensor (batch_size, seqlen).
        """
        for step in count(start):
            drawn = self._pool.batch(step * batch_size, batch_size, self.seqlen, _generator(self.seed, step + 1))
            self._text_of_batches.update(drawn.text)
            self._batch_tokens += drawn.windows.numel()
            yield drawn.windows

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
        return f"{windows} {self.seed} {self.seqlen} {id(self._pool)} {self._pool.version}"

    def state(self) -> list[int]:
        """The counts so far, for ``restore``."""
        text = [number for piece in self._text_of_batches.items() for number in piece]
        return [int(self._counted_windows), self._batch_tokens, *text]

    def restore(self, state: list[int]) -> None:
        """Continue from the counts of an interrupted run."""
        counted, self._batch_tokens, *text = state
        self._counted_windows = bool(counted)
        self._text_of_batches = dict(zip(text[::2], text[1::2], strict=True))

    @property
    def tokens_seen(self) -> int:
        """Tokens taken so far; the windows count once, however often they are read."""
        return self._batch_tokens + (self._windows.numel() if self._counted_windows else 0)

    @property
    def passes(self) -> float:
        """Tokens taken so far, divided by those of the text that they were drawn from: above 1 some must repeat.

        Of ``windows: random`` the text are the documents that were drawn, of a text longer than memory holds the parts
        that were reached, else all of it.
        """
        text = self._text_of_batches | (self._text_of_windows if self._counted_windows else {})
        return self.tokens_seen / sum(text.values()) if text else 0.0


def note_repeated_text(data: CalibrationData) -> None:
    """Note it where a method took more tokens than there are in the text that it drew from."""
    if data.passes > 1:
        note("calibration text was passed over more than once: see cost.passes", passes=f"{data.passes:.3g}")


def _generator(seed: int, stream: int = 0) -> torch.Generator:
    """A generator for each (seed, stream), independent of the others."""
    mixed = (seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator().manual_seed(mixed)
