"""What perplexity is measured on: token sequences, and the name of the protocol that cut them."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from prunebench.data.corpus import Corpus
from prunebench.data.random_windows import StoredDocuments, draw_long, longest_of
from prunebench.data.tokens import tokenised
from prunebench.errors import CorpusError, suggest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Windows = Literal["stream", "document", "paper", "stream-bos", "paper-bos", "paper-random"]
BOS = "-bos"


@dataclass(frozen=True)
class Sequences:
    """Token sequences to score; in each the first token is context and every later one is predicted.

    Args:
        tokens: int64, each of shape (length,), length at least 2.
        dropped_tokens: tokens of the corpus that no sequence holds: a stream's tail, what a document has over
            ``seqlen``, documents of one token, tokens in whose place BOS stands. Where documents are drawn, of those;
            under a limit, of what was read.
    """

    tokens: tuple["Tensor", ...]
    dropped_tokens: int


@dataclass(frozen=True)
class Protocol:
    """A perplexity as papers measure it: documents joined to one text, tokenised once, cut into full windows.

    Args:
        name: in the record and in tables.
        separator: between documents; None where windows are drawn from single documents.
        seqlen: tokens per window; seqlen - 1 of them are predicted.
        documents: how many are read, from the first on; None for all.
        windows: how many are scored, from the first on; None for all.
    """

    name: str
    separator: str | None
    seqlen: int
    documents: int | None = None
    windows: int | None = None


# By corpus. The evaluation of GPTQ's later loaders, which SparseGPT, Wanda and ELSA took over. The figures of ELSA have
# (seqlen - 1) / seqlen in their exponent besides, and for Gemma BOS in each window ("paper-bos"). ALPS has the same on
# WikiText-2; on C4 it draws 256 windows of documents ("paper-random"), as GPTQ's first loader did.
PAPER_PROTOCOLS = {
    "wikitext2": Protocol("wikitext2/paper-2048", "\n\n", 2048),
    "c4": Protocol("c4/paper-256x2048", " ", 2048, documents=1100, windows=256),
}

# The tokenised validation document is drawn by Python's generator from seed 0, again while it has no more tokens than a
# window, and then the place of the window, the last one left out.
RANDOM_PROTOCOLS = {"c4": Protocol("c4/random-256x2048", None, 2048, windows=256)}


def protocol_name(corpus: str, windows: Windows, seqlen: int | None, limit: int | None = None) -> str:
    """What a perplexity is called, so that figures measured differently never meet in a table.

    Args:
        corpus: the corpus's name.
        windows: how it is cut; "paper" stands for the corpus's entry in ``PAPER_PROTOCOLS``, "paper-random" for that in
            ``RANDOM_PROTOCOLS``; "-bos" puts BOS in the place of each window's first token.
        seqlen: tokens per window, or scored at most per document (None: whole documents).
        limit: how many windows or documents are scored, from the first on (None: all).

    Raises:
        CorpusError: there is no such protocol.
    """
    if limit is not None and (windows.startswith("paper") or seqlen is None):
        why = "says itself how much is scored" if windows.startswith("paper") else "needs a 'seqlen' beside a 'limit'"
        raise CorpusError(
            f"perplexity on {corpus}: 'windows: {windows}' {why}: leave out 'limit: {limit}', or use windows or "
            "documents of a 'seqlen'"
        )
    if windows.startswith("paper"):
        return _paper(corpus, seqlen, windows).name
    if windows.startswith("stream") and seqlen is None:
        raise CorpusError(f"perplexity on {corpus}: 'windows: {windows}' needs a 'seqlen'; set one or use 'document'")
    if seqlen is None:
        return f"{corpus}/{windows}"
    return f"{corpus}/{windows}-{seqlen}" if limit is None else f"{corpus}/{windows}-{limit}x{seqlen}"


def evaluation_sequences(
    corpus: Corpus,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    seqlen: int | None,
    windows: Windows,
    limit: int | None = None,
) -> Sequences:
    """Cut a corpus into the sequences of a protocol.

    Args:
        corpus: the text; blank documents are left out, except where a paper's protocol joins them.
        tokenizer: the model's own.
        seqlen: tokens per window of a stream, of which seqlen - 1 are predicted; for documents the most tokens of one
            that are scored, BOS not counted, None for all.
        windows: "stream": documents, each with its special tokens, joined and cut into full windows. "document": BOS
            (EOS for a model without; nothing where there is neither, so that the first token is context) and the
            document. "paper" and "paper-random": see ``PAPER_PROTOCOLS`` and ``RANDOM_PROTOCOLS``. "stream-bos" and
            "paper-bos": the same windows, with BOS in the place of the first token of each, as ELSA's authors do for
            Gemma; the tokens that are predicted are the same.
        limit: of streams and documents: how many are scored, from the first on; the rest of the corpus is not read.

    Raises:
        CorpusError: there is no such protocol, or not even one sequence, or no BOS to put at the start.
    """
    protocol_name(corpus.name, windows, seqlen, limit)
    special = not corpus.templated
    if windows == "document":
        return _documents(corpus, tokenizer, seqlen, limit)
    if windows.endswith(BOS) and tokenizer.bos_token_id is None:
        raise CorpusError(
            f"perplexity on {corpus.name}: the model's tokenizer has no BOS, which 'windows: {windows}' puts at the "
            f"start of each window: use 'windows: {windows.removesuffix(BOS)}' for this model"
        )
    if windows.startswith("paper"):
        paper = _paper(corpus.name, seqlen, windows)
        if paper.separator is None:
            return _random(corpus, tokenizer, paper)
        text = paper.separator.join(islice(corpus.documents(), paper.documents))
        cut = _stream(corpus.name, tokenised([text], tokenizer, special=special), paper.seqlen, paper.windows)
    else:
        assert seqlen is not None
        documents = tokenised(corpus.documents(), tokenizer, special=special)
        if limit is not None:
            documents = _no_more_than(limit * seqlen, documents)
        cut = _stream(corpus.name, documents, seqlen, limit)
    return _begun_with(int(tokenizer.bos_token_id), cut) if windows.endswith(BOS) else cut


def _paper(corpus: str, seqlen: int | None, windows: Windows) -> Protocol:
    protocols = RANDOM_PROTOCOLS if windows == "paper-random" else PAPER_PROTOCOLS
    if corpus not in protocols:
        raise CorpusError(f"no paper's protocol for corpus {corpus!r}: {suggest(corpus, protocols)}")
    paper = protocols[corpus]
    if windows.endswith(BOS):
        paper = replace(paper, name=paper.name.replace("/paper-", f"/paper{BOS}-"))
    if seqlen and paper.windows is None and paper.separator is not None:  # the whole text: LLaMA-2 gets 4096 tokens
        return replace(paper, name=paper.name.replace(str(paper.seqlen), str(seqlen)), seqlen=seqlen)
    if seqlen not in (None, paper.seqlen):
        raise CorpusError(f"protocol {paper.name} has windows of {paper.seqlen} tokens: leave out 'seqlen: {seqlen}'")
    return paper


def _begun_with(bos: int, cut: Sequences) -> Sequences:
    """The same windows, each with BOS in the place of its first token."""
    windows = [tokens.clone() for tokens in cut.tokens]
    replaced = sum(int(tokens[0]) != bos for tokens in windows)
    for tokens in windows:
        tokens[0] = bos
    return Sequences(tuple(windows), cut.dropped_tokens + replaced)


def _random(corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", paper: Protocol) -> Sequences:
    documents = StoredDocuments(corpus.documents(), tokenizer, paper.seqlen, special=not corpus.templated)
    generator = random.Random(0)
    windows: list[Tensor] = []
    held: dict[int, set[int]] = {}
    while len(windows) < (paper.windows or 1):
        number = draw_long(documents, paper.seqlen, lambda end: generator.randint(0, end - 1))
        if number is None:
            raise CorpusError(
                f"corpus {corpus.name} has no document of over {paper.seqlen} tokens, which {paper.name} draws from; "
                f"its longest has {longest_of(documents)}: use 'windows: paper'"
            )
        begin = generator.randint(0, documents.length(number) - paper.seqlen - 1)
        windows.append(documents.tokens(number)[begin : begin + paper.seqlen].clone())
        held.setdefault(number, set()).update(range(begin, begin + paper.seqlen))
    dropped = sum(documents.length(number) - len(places) for number, places in held.items())
    return Sequences(tuple(windows), dropped)


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


def _no_more_than(count: int, documents: Iterable[list[int]]) -> Iterator[list[int]]:
    """The documents up to that with the last of ``count`` tokens."""
    for ids in documents:
        if count <= 0:
            return
        count -= len(ids)
        yield ids


def _documents(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", seqlen: int | None, limit: int | None
) -> Sequences:
    import torch

    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    prefix = [] if start is None or corpus.templated else [start]  # a chat template writes its own
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
        if len(sequences) == limit:
            break
    if not sequences:
        raise CorpusError(f"corpus {corpus.name} has no document of at least 2 tokens: use 'windows: stream'")
    return Sequences(tuple(sequences), dropped)
