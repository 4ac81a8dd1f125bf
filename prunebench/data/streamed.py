"""Calibration text that is longer than memory holds: one part of it after another."""

from typing import TYPE_CHECKING, Literal

from prunebench.data.corpus import Corpus
from prunebench.data.tokens import Part, read_part
from prunebench.pruning.pools import Draw, TokenPool, with_replacement

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class StreamedPool:
    """A pool over all parts of a corpus (``prunebench.data.tokens.read_part``), of which two are in memory.

    The windows of layer-wise methods come from the first part; where they are more than it holds, from those after it
    too. Batches are drawn from one part at a time: from the first until it was drawn from as often as it holds windows,
    then from the second, and so on; after the last part the first follows. A batch is drawn from the part that its
    first window falls into, so that it depends on its number alone. A last part shorter than a window is left out.

    A part that is not in memory is read from the corpus again, with no file left open in between: the pool may be used
    by several processes that were forked from the one that made it.

    Args:
        corpus: the text.
        tokenizer: the model's own.
        seqlen: tokens per window.
        windows: "stream" or "document".
        first: the first part.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        seqlen: int,
        windows: Literal["stream", "document"],
        first: Part,
    ) -> None:
        self._corpus, self._tokenizer, self._seqlen, self._kind = corpus, tokenizer, seqlen, windows
        self._first = TokenPool(first.tokens)
        self._current = (0, first.tokens)
        self._ends = [first.end]
        self._holds = [first.tokens.numel() // seqlen]
        self._complete = first.last

    def windows(self, nsamples: int, seqlen: int, generator: "torch.Generator") -> Draw:
        """Different windows of the first part, and of others if need be; see ``TokenPool.windows``."""
        import torch

        drawn: list[Tensor] = []
        text: dict[int, int] = {}
        number = 0
        while nsamples > 0 and (number < len(self._holds) or (not self._complete and self._read_on())):
            tokens = self._part(number)
            drawn.append(TokenPool(tokens).windows(nsamples, seqlen, generator).windows)
            text[number] = tokens.numel()
            nsamples -= len(drawn[-1])
            number += 1
        return Draw(torch.cat(drawn), text)

    def batch(self, first: int, size: int, seqlen: int, generator: "torch.Generator") -> Draw:
        """Windows of the part that window number ``first`` falls into."""
        number = self._number_of(first)
        tokens = self._part(number)
        return Draw(with_replacement(tokens, size, seqlen, generator), {number: tokens.numel()})

    @property
    def version(self) -> str:
        """That of the first part: the others are read again where they are needed."""
        return self._first.version

    def _number_of(self, window: int) -> int:
        """The number of the part that a window falls into; reads on until it is known."""
        number = 0
        while True:
            if number == len(self._holds) and (self._complete or not self._read_on()):
                window, number = window % sum(self._holds), 0
            if window < self._holds[number]:
                return number
            window -= self._holds[number]
            number += 1

    def _part(self, number: int) -> "Tensor":
        if number == 0:
            return self._first.tokens
        if self._current[0] != number:
            self._current = (number, self._read(self._ends[number - 1]).tokens)
        return self._current[1]

    def _read_on(self) -> bool:
        """Read the part after the last one that is known; False where there is none."""
        part = self._read(self._ends[-1])
        self._complete = part.last
        if part.tokens.numel() < self._seqlen:
            return False
        self._current = (len(self._holds), part.tokens)
        self._holds.append(part.tokens.numel() // self._seqlen)
        self._ends.append(part.end)
        return True

    def _read(self, begin: int) -> Part:
        return read_part(self._corpus, self._tokenizer, seqlen=self._seqlen, windows=self._kind, begin=begin)
