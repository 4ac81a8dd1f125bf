"""Pools: the tokens that calibration windows are drawn from, and what each draw was taken from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Windows, and the text that they were drawn from.

    Args:
        windows: int64, (windows, seqlen), a copy.
        text: the pieces of text that the draw was made from: number → tokens that it holds. A pool has pieces as it
            likes, the whole of it say, or documents.
    """

    windows: Tensor
    text: Mapping[int, int]


class Pool(Protocol):
    """Where calibration windows come from. A draw depends on the text, the arguments and nothing else."""

    def windows(self, nsamples: int, seqlen: int, generator: torch.Generator) -> Draw:
        """The windows of layer-wise methods: ``nsamples``, or fewer where the pool holds fewer.

        Args:
            nsamples: how many.
            seqlen: tokens in a window.
            generator: the only source of randomness.
        """

    def batch(self, first: int, size: int, seqlen: int, generator: torch.Generator) -> Draw:
        """Windows drawn with replacement.

        Args:
            first: how many windows all earlier batches have together.
            size: how many there are.
            seqlen: tokens in a window.
            generator: the only source of randomness.
        """

    @property
    def version(self) -> str:
        """A text that differs once the tokens were written to."""


class TokenPool:
    """A pool whose tokens are all in memory.

    Args:
        tokens: int64. One dimension: a stream, from which windows are cut anywhere. Two dimensions (documents,
            seqlen): the windows themselves.

    Raises:
        ValueError: it holds no window.
    """

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def windows(self, nsamples: int, seqlen: int, generator: torch.Generator) -> Draw:
        """Different windows: documents, or pieces of the stream that do not overlap."""
        if self.tokens.numel() < seqlen:
            raise ValueError(f"calibration text of {self.tokens.numel()} tokens is shorter than one window of {seqlen}")
        tokens = self.tokens
        windows = tokens if tokens.dim() == 2 else tokens[: len(tokens) // seqlen * seqlen].view(-1, seqlen)
        drawn = torch.randperm(len(windows), generator=generator)[:nsamples]
        return Draw(windows[drawn].clone(), self._text)

    def batch(self, first: int, size: int, seqlen: int, generator: torch.Generator) -> Draw:
        """Documents, or windows that begin anywhere in the stream."""
        return Draw(with_replacement(self.tokens, size, seqlen, generator), self._text)

    @property
    def version(self) -> str:
        """Changes with each write."""
        return f"{id(self.tokens)} {self.tokens._version}"

    @property
    def _text(self) -> dict[int, int]:
        return {0: self.tokens.numel()}


def with_replacement(tokens: Tensor, size: int, seqlen: int, generator: torch.Generator) -> Tensor:
    """Windows drawn with replacement from a stream, or from windows; see ``TokenPool``.

    Returns:
        int64, (size, seqlen).
    """
    if tokens.dim() == 2:
        return tokens[torch.randint(len(tokens), (size,), generator=generator)]
    starts = torch.randint(len(tokens) - seqlen + 1, (size, 1), generator=generator)
    return tokens[starts + torch.arange(seqlen)]
