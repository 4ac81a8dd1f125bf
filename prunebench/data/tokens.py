"""Tokens of a corpus: document by document, and the pool from which calibration windows are drawn."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunebench.data.corpus import Corpus, half_character
from prunebench.errors import CorpusError

if TYPE_CHECKING:
    from torch import LongTensor, Tensor
    from transformers import PreTrainedTokenizerBase

# As much of a text as is in memory at a time: 128 MiB of int64.
POOL_TOKENS = 1 << 24


def tokenised(
    documents: Iterable[str], tokenizer: "PreTrainedTokenizerBase", *, special: bool, batch: int = 512
) -> Iterator[list[int]]:
    """Token ids of each document, in order.

    Args:
        documents: the texts; blank ones are left out.
        tokenizer: the model's own.
        special: with the special tokens that the tokenizer adds by itself (BOS for LLaMA), or without.
        batch: documents passed to the tokenizer at a time.

    Raises:
        CorpusError: a document holds half of a character.
    """
    texts = written(documents)
    while chunk := list(itertools.islice(texts, batch)):
        if half := next(filter(None, map(half_character, chunk)), None):
            raise CorpusError(f"a corpus cannot be tokenised: {half}")
        yield from tokenizer(chunk, add_special_tokens=special, return_attention_mask=False, verbose=False)["input_ids"]


def written(documents: Iterable[str]) -> Iterator[str]:
    """The documents that are not blank."""
    return (text for text in documents if text.strip())


@dataclass(frozen=True)
class Part:
    """A piece of a corpus that fits in memory.

    Args:
        tokens: int64, (tokens,) of a stream, (documents, seqlen) of documents.
        longest: tokens of the longest document.
        end: how many documents that are not blank there are up to its end, from the corpus's beginning on.
        last: whether the corpus was read to its end.
    """

    tokens: "Tensor"
    longest: int
    end: int
    last: bool


def read_part(
    corpus: Corpus,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    seqlen: int,
    windows: Literal["stream", "document"],
    begin: int = 0,
) -> Part:
    """As many documents as have ``POOL_TOKENS`` tokens; the last of them is read whole.

    Args:
        corpus: the text.
        tokenizer: the model's own; each document has the special tokens that it adds.
        seqlen: tokens per window.
        windows: "stream": all documents joined; "document": the first ``seqlen`` tokens of each one that has them.
        begin: how many documents that are not blank come before.
    """
    import torch

    documents: list[torch.Tensor] = []
    total = longest = 0
    end, last = begin, True
    for ids in tokenised(
        itertools.islice(written(corpus.documents()), begin, None), tokenizer, special=not corpus.templated
    ):
        end += 1
        longest = max(longest, len(ids))
        if windows == "stream" or len(ids) >= seqlen:
            documents.append(torch.tensor(ids if windows == "stream" else ids[:seqlen]))
            total += len(documents[-1])
        if total >= POOL_TOKENS:
            last = False
            break
    if not documents:
        return Part(torch.empty((0,) if windows == "stream" else (0, seqlen), dtype=torch.int64), longest, end, last)
    join = torch.cat if windows == "stream" else torch.stack
    return Part(join(documents), longest, end, last)


def first_part(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", *, seqlen: int, windows: Literal["stream", "document"]
) -> Part:
    """The beginning of a corpus; see ``read_part``.

    Raises:
        CorpusError: the corpus has too few tokens for one window.
    """
    part = read_part(corpus, tokenizer, seqlen=seqlen, windows=windows)
    if (total := part.tokens.numel()) < seqlen:
        have = f"{total} tokens" if windows == "stream" else f"no document of over {part.longest} tokens"
        raise CorpusError(f"corpus {corpus.name} has {have}, too few for one window: lower 'seqlen' (it is {seqlen})")
    return part


def calibration_pool(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", *, seqlen: int, windows: Literal["stream", "document"]
) -> "LongTensor":
    """The tokens of a corpus, up to ``POOL_TOKENS``; ``prunebench.data.calibration_text`` goes on where they end.

    Args:
        corpus, tokenizer, seqlen, windows: as in ``read_part``.

    Returns:
        int64, (tokens,) for "stream" and (documents, seqlen) for "document".

    Raises:
        CorpusError: the corpus has too few tokens for one window.
    """
    pool: LongTensor = first_part(corpus, tokenizer, seqlen=seqlen, windows=windows).tokens  # type: ignore[assignment]
    return pool
