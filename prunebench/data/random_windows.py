"""``windows: random``: a random long document and a random place in it, as the loaders of the literature draw them.

The rule of SparseGPT's, Wanda's and ALPS's loaders for C4: draw a document among all, with replacement; tokenise it
with the special tokens that the tokenizer adds; if it has no more tokens than a window, draw again; take the window
that begins at a random token of it. So every long document is as likely as every other, however long it is, and windows
may overlap. In their loaders the last place, at which the window ends with the document, is never drawn
(``randint(0, tokens - seqlen - 1)``, both ends included); here it is as likely as the others.

Here a generator for the windows of layer-wise methods and one for each batch, all from the cell's seed, give for each
window one ``torch.randint(documents, (1,))`` until a document is long enough, and one ``torch.randint(places, (1,))``.
Documents are numbered as the corpus has them, blank ones included. What is kept in memory changes no draw.
"""

import os
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, Protocol

from prunebench.data import tokens as limits
from prunebench.data.tokens import tokenised
from prunebench.errors import CorpusError
from prunebench.pruning.pools import Draw

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class Documents(Protocol):
    """Documents by their number in the corpus, blank ones included."""

    def __len__(self) -> int: ...

    def length(self, number: int) -> int:
        """How many tokens a document has."""

    def tokens(self, number: int) -> "Tensor":
        """The tokens of a document longer than a window, (tokens,)."""


class StoredDocuments:
    """The texts of a corpus in a temporary file, each tokenised when it is asked for.

    In memory are the place and the length of each document, and the tokens of long documents that were asked for last,
    ``POOL_TOKENS`` at most. The file has no name and is gone with its last user; reading moves no position, so that
    processes that were forked may read it at once.

    Args:
        documents: one pass over the texts.
        tokenizer: the model's own.
        seqlen: tokens in a window; only longer documents are kept in memory.
        special: with the special tokens that the tokenizer adds by itself, or without.

    Raises:
        CorpusError: the system's folder for temporary files has no room.
    """

    def __init__(
        self, documents: Iterable[str], tokenizer: "PreTrainedTokenizerBase", seqlen: int, *, special: bool = True
    ) -> None:
        self._tokenizer, self._seqlen, self._special = tokenizer, seqlen, special
        self._places = array("q", [0])
        with _room():
            self._file = TemporaryFile()  # noqa: SIM115 (it lives as long as this object)
        for text in documents:
            content = text.encode("utf-8", "surrogatepass")
            with _room():
                self._file.write(content)
            self._places.append(self._places[-1] + len(content))
        with _room():
            self._file.flush()
        self._lengths = array("q", [-1]) * len(self)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._kept_tokens = 0

    def __len__(self) -> int:
        return len(self._places) - 1

    def length(self, number: int) -> int:
        """Of a document that was tokenised before, from memory."""
        if self._lengths[number] < 0:
            self._tokenise(number)
        return self._lengths[number]

    def tokens(self, number: int) -> "Tensor":
        """From memory, or tokenised again."""
        if number not in self._kept:
            return self._tokenise(number)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _tokenise(self, number: int) -> "Tensor":
        import torch

        begin, end = self._places[number], self._places[number + 1]
        text = os.pread(self._file.fileno(), end - begin, begin).decode("utf-8", "surrogatepass")
        ids: list[int] = next(tokenised([text], self._tokenizer, special=self._special), [])
        self._lengths[number] = len(ids)
        found = torch.tensor(ids, dtype=torch.int64)
        if len(ids) > self._seqlen:
            self._kept[number] = found
            self._kept_tokens += len(ids)
        while self._kept_tokens > limits.POOL_TOKENS and len(self._kept) > 1:
            self._kept_tokens -= len(self._kept.popitem(last=False)[1])
        return found


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"the documents that windows are drawn from do not fit in {gettempdir()}: {error.strerror}; set TMPDIR to "
            "a folder with more room"
        ) from error


class HeldDocuments:
    """Documents whose tokens are in memory.

    Args:
        lengths: int64, (documents,): tokens of each.
        tokens: int64: those of the documents longer than a window, one after another.
        seqlen: tokens in a window.
    """

    def __init__(self, lengths: "Tensor", tokens: "Tensor", seqlen: int) -> None:
        self._lengths = lengths
        self._ends = (lengths * (lengths > seqlen)).cumsum(0)
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._lengths)

    def length(self, number: int) -> int:
        """As it was counted."""
        return int(self._lengths[number])

    def tokens(self, number: int) -> "Tensor":
        """A piece of all tokens."""
        end = int(self._ends[number])
        return self._tokens[end - self.length(number) : end]


def held_documents(
    documents: Iterable[str], tokenizer: "PreTrainedTokenizerBase", seqlen: int, *, special: bool = True
) -> tuple["Tensor", "Tensor"]:
    """Lengths and tokens for ``HeldDocuments``, of the first ``POOL_TOKENS`` tokens of a corpus that is read once."""
    import torch

    lengths, long, total = [], [torch.empty(0, dtype=torch.int64)], 0
    for text in documents:
        ids: list[int] = next(tokenised([text], tokenizer, special=special), [])
        lengths.append(len(ids))
        if len(ids) > seqlen:
            long.append(torch.tensor(ids))
        total += len(ids)
        if total >= limits.POOL_TOKENS:
            break
    return torch.tensor(lengths, dtype=torch.int64), torch.cat(long)


def longest_of(documents: Documents) -> int:
    """Tokens of the longest document; all are tokenised for it."""
    return max(map(documents.length, range(len(documents))), default=0)


def draw_long(documents: Documents, seqlen: int, draw: Callable[[int], int]) -> int | None:
    """The number of a document of more than ``seqlen`` tokens: one is drawn until it has them.

    Args:
        documents: what is drawn from.
        seqlen: tokens in a window.
        draw: gives a number below its argument.

    Returns:
        None where there is no such document.
    """
    drawn = 0
    while True:
        if drawn == len(documents) and longest_of(documents) <= seqlen:  # so many in vain: look whether there is any
            return None
        number = draw(len(documents))
        if documents.length(number) > seqlen:
            return number
        drawn += 1


class RandomPool:
    """A pool that draws by the rule above; each draw from its own generator, so that it depends on nothing before.

    Args:
        documents: what is drawn from.
        corpus: its name, for a message.
        seqlen: tokens in a window.

    Raises:
        CorpusError: no document is longer than a window.
    """

    def __init__(self, documents: Documents, corpus: str, seqlen: int) -> None:
        import torch

        self._documents, self._corpus, self._seqlen = documents, corpus, seqlen
        self.windows(1, seqlen, torch.Generator().manual_seed(0))

    def windows(self, nsamples: int, seqlen: int, generator: "torch.Generator") -> Draw:
        """``nsamples`` windows, drawn with replacement as all are."""
        import torch

        def draw(end: int) -> int:
            return int(torch.randint(end, (1,), generator=generator))

        drawn: list[Tensor] = []
        text: dict[int, int] = {}
        for _ in range(nsamples):
            number = draw_long(self._documents, self._seqlen, draw)
            if number is None:
                raise CorpusError(
                    f"corpus {self._corpus} has no document of over {self._seqlen} tokens, which 'windows: random' "
                    f"draws from; its longest has {longest_of(self._documents)}: lower 'seqlen' (it is "
                    f"{self._seqlen}), or use 'windows: stream'"
                )
            tokens = self._documents.tokens(number)
            begin = draw(len(tokens) - seqlen + 1)
            drawn.append(tokens[begin : begin + seqlen])
            text[number] = len(tokens)
        return Draw(torch.stack(drawn), text)

    def batch(self, first: int, size: int, seqlen: int, generator: "torch.Generator") -> Draw:
        """As ``windows``."""
        return self.windows(size, seqlen, generator)

    @property
    def version(self) -> str:
        """Of the documents: what is given out are copies."""
        return str(id(self._documents))
