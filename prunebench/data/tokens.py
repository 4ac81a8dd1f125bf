"""Tokens of a corpus: document by document, and the pool from which calibration windows are drawn."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from prunebench.data.corpus import Corpus
from prunebench.errors import CorpusError

if TYPE_CHECKING:
    from torch import LongTensor
    from transformers import PreTrainedTokenizerBase

# Calibration reads no more of a corpus than this: 128 MiB of int64, eight times what any paper's method takes.
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
    """
    texts = (text for text in documents if text.strip())
    while chunk := list(itertools.islice(texts, batch)):
        yield from tokenizer(chunk, add_special_tokens=special, return_attention_mask=False, verbose=False)["input_ids"]


def calibration_pool(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", *, seqlen: int, windows: Literal["stream", "document"]
) -> "LongTensor":
    """The tokens from which calibration windows are drawn.

    Args:
        corpus: the text; read up to ``POOL_TOKENS`` tokens.
        tokenizer: the model's own; each document has the special tokens that it adds.
        seqlen: tokens per window.
        windows: "stream": all documents joined; "document": the first ``seqlen`` tokens of each one that has them.

    Returns:
        int64, (tokens,) for "stream" and (documents, seqlen) for "document".

    Raises:
        CorpusError: the corpus has too few tokens for one window.
    """
    import torch

    documents: list[torch.Tensor] = []
    total = longest = 0
    for ids in tokenised(corpus.documents(), tokenizer, special=True):
        longest = max(longest, len(ids))
        if windows == "stream" or len(ids) >= seqlen:
            documents.append(torch.tensor(ids if windows == "stream" else ids[:seqlen]))
            total += len(documents[-1])
        if total >= POOL_TOKENS:
            break
    if total < seqlen:
        have = f"{total} tokens" if windows == "stream" else f"no document of over {longest} tokens"
        raise CorpusError(f"corpus {corpus.name} has {have}, too few for one window: lower 'seqlen' (it is {seqlen})")
    join = torch.cat if windows == "stream" else torch.stack
    pool: LongTensor = join(documents)  # type: ignore[assignment]
    return pool
