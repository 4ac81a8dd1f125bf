"""What perplexity is measured on: token sequences, and the name of the protocol that cut them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from prunebench.data.corpus import Corpus
from prunebench.data.tokens import tokenised
from prunebench.errors import CorpusError, suggest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Windows = Literal["stream", "document", "paper"]


@dataclass(frozen=True)
class Sequences:
    """Token sequences to score; in each the first token is context and every later one is predicted.

    Args:
        tokens: int64, each of shape (length,), length at least 2.
        dropped_tokens: tokens of the corpus that no sequence holds: a stream's tail, what a document has over
            ``seqlen``, documents of one token.
    """

    tokens: tuple["Tensor", ...]
    dropped_tokens: int


@dataclass(frozen=True)
class Protocol:
    """A perplexity as the papers measure it: documents joined to one text, tokenised once, cut into full windows.

    Args:
        name: in the record and in tables.
        separator: between documents.
        seqlen: tokens per window; seqlen - 1 of them are predicted.
        documents: how many are read, from the first on; None for all.
        windows: how many are scored, from the first on; None for all.
    """

    name: str
    separator: str
    seqlen: int
    documents: int | None = None
    windows: int | None = None


# By corpus. GPTQ's evaluation, which SparseGPT, Wanda, ALPS and ELSA took over.
PAPER_PROTOCOLS = {
    "wikitext2": Protocol("wikitext2/paper-2048", "\n\n", 2048),
    "c4": Protocol("c4/paper-256x2048", " ", 2048, documents=1100, windows=256),
}


def protocol_name(corpus: str, windows: Windows, seqlen: int | None) -> str:
    """What a perplexity is called, so that figures measured differently never meet in a table.

    Args:
        corpus: the corpus's name.
        windows: how it is cut; "paper" stands for the corpus's entry in ``PAPER_PROTOCOLS``.
        seqlen: tokens per window, or scored at most per document (None: whole documents).

    Raises:
        CorpusError: there is no such protocol.
    """
    if windows == "paper":
        return _paper(corpus, seqlen).name
    if windows == "stream" and seqlen is None:
        raise CorpusError(f"perplexity on {corpus}: 'windows: stream' needs a 'seqlen'; set one or use 'document'")
    return f"{corpus}/{windows}" if seqlen is None else f"{corpus}/{windows}-{seqlen}"


def evaluation_sequences(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", *, seqlen: int | None, windows: Windows
) -> Sequences:
    """Cut a corpus into the sequences of a protocol.

    Args:
        corpus: the text; blank documents are left out, except where a paper's protocol joins them.
        tokenizer: the model's own.
        seqlen: tokens per window of a stream, of which seqlen - 1 are predicted; for documents the most tokens of one
            that are scored, BOS not counted, None for all.
        windows: "stream": documents, each with its special tokens, joined and cut into full windows. "document": BOS
            (EOS for a model without; nothing where there is neither, so that the first token is context) and the
            document. "paper": see ``PAPER_PROTOCOLS``.

    Raises:
        CorpusError: there is no such protocol, or not even one sequence.
    """
    protocol_name(corpus.name, windows, seqlen)
    if windows == "document":
        return _documents(corpus, tokenizer, seqlen)
    if windows == "paper":
        paper = _paper(corpus.name, seqlen)
        text = paper.separator.join(islice(corpus.documents(), paper.documents))
        return _stream(corpus.name, tokenised([text], tokenizer, special=True), paper.seqlen, paper.windows)
    assert seqlen is not None
    return _stream(corpus.name, tokenised(corpus.documents(), tokenizer, special=True), seqlen)


def _paper(corpus: str, seqlen: int | None) -> Protocol:
    if corpus not in PAPER_PROTOCOLS:
        raise CorpusError(f"no paper's protocol for corpus {corpus!r}: {suggest(corpus, PAPER_PROTOCOLS)}")
    paper = PAPER_PROTOCOLS[corpus]
    if seqlen not in (None, paper.seqlen):
        raise CorpusError(f"protocol {paper.name} has windows of {paper.seqlen} tokens: leave out 'seqlen: {seqlen}'")
    return paper


def _stream(name: str, documents: Iterable[list[int]], seqlen: int, limit: int | None = None) -> Sequences:
    import torch

    pieces = [torch.tensor(ids) for ids in documents]
    stream = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)
    count = min(len(stream) // seqlen, limit or len(stream))
    if seqlen < 2 or count == 0:
        raise CorpusError(
            f"corpus {name} has {len(stream)} tokens, too few for one window of at least 2: "
            f"set 'seqlen' (it is {seqlen}) between 2 and {len(stream)}"
        )
    return Sequences(tuple(stream[: count * seqlen].view(count, seqlen)), len(stream) - count * seqlen)


def _documents(corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", seqlen: int | None) -> Sequences:
    import torch

    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    prefix = [] if start is None else [start]
    sequences: list[Tensor] = []
    dropped = 0
    for ids in tokenised(corpus.documents(), tokenizer, special=False):
        if len(ids) < 2:
            dropped += len(ids)
            continue
        # Without a prefix the first token is context, so one more is needed to score ``seqlen`` of them.
        scored = ids if seqlen is None else ids[: seqlen + 1 - len(prefix)]
        dropped += len(ids) - len(scored)
        sequences.append(torch.tensor(prefix + scored))
    if not sequences:
        raise CorpusError(f"corpus {corpus.name} has no document of at least 2 tokens: use 'windows: stream'")
    return Sequences(tuple(sequences), dropped)
