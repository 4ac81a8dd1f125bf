"""Perplexity of a model on token sequences."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from prunebench.data.corpora import corpus_file, find_corpus, fresh_corpus, perplexity_floor
from prunebench.data.corpus import Corpus
from prunebench.errors import CorpusError
from prunebench.evaluation.interface import Expected, Result, Shared, Stopwatch
from prunebench.evaluation.protocols import Sequences, Windows, evaluation_sequences, protocol_name
from prunebench.pruning.callbacks import note, track
from prunebench.pruning.hidden_states import run_block_by_block
from prunebench.pruning.offload import store_of
from prunebench.records.evaluation_facts import text_sentence

if TYPE_CHECKING:
    from torch import LongTensor, Tensor
    from transformers import PreTrainedModel

MAX_LOGIT_BYTES = 1 << 29
MAX_BATCH_TOKENS = 8192
LOSS_ROWS = 512  # positions whose logits are copied to float32 at a time


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a corpus under a named protocol.

    Args:
        corpus: as in ``prunebench.data.corpora.find_corpus``.
        split: by default test (c4: validation); a local file has none.
        seqlen: tokens in a window, or scored of a document; None (documents only) scores all of it.
        windows: ``stream``, ``document``, ``paper``, ``stream-bos``, ``paper-bos`` or ``paper-random``; see
            ``prunebench.evaluation.protocols``.
        field: of a file's or the hub's records that holds the text; None for ``text``, else ``messages``.
        limit: how many windows or documents are scored, from the first on; None for all.
        noise: the share of letters and digits that are changed; None for none.
    """

    corpus: str
    split: str | None = None
    seqlen: int | None = None
    windows: Windows = "stream"
    field: str | None = None
    limit: int | None = None
    noise: float | None = None

    revision: ClassVar[int] = 1
    section: ClassVar[str] = "perplexity"
    needs_whole_model: ClassVar[bool] = False

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The evaluation that a cell holds."""
        later = {name: facts[name] for name in ("field", "limit", "noise") if name in facts}
        return cls(facts["source"], facts["split"], facts["seqlen"], facts["windows"], **later)

    def resolve(self, files: Sequence[Path]) -> dict[str, Any]:
        """The corpus found, and the protocol's name.

        Args:
            files: plugin files, whose corpora stand beside the installed ones.

        Raises:
            CorpusError: there is no such corpus or protocol.
        """
        corpus = find_corpus(self.corpus, self.split, "perplexity", files, self.field, self.noise)
        file = corpus_file(self.corpus, files)
        facts = {
            "protocol": protocol_name(corpus.name, self.windows, self.seqlen, self.limit),
            "corpus": corpus.name,
            "source": self.corpus,
            "split": self.split,
            "seqlen": self.seqlen,
            "windows": self.windows,
            "digest": corpus.digest,
            **({"corpus_file": str(file)} if file else {}),
            **({"makes_text": True} if corpus.makes_text else {}),
            **({"field": self.field} if self.field else {}),
            **({"limit": self.limit} if self.limit else {}),
            **({"noise": self.noise} if self.noise else {}),
            **({"apply_chat_template": True} if corpus.templated else {}),
        }
        return facts if corpus.code is None else {**facts, "corpus_code": corpus.code}

    def entry(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def sentence(self, facts: Mapping[str, Any]) -> str:
        """The protocols, and what a perplexity is."""
        return text_sentence()

    def label(self, facts: Mapping[str, Any]) -> str:
        """The protocol's name."""
        return str(facts["protocol"])

    def sequences(self, tokenizer: Any, facts: Mapping[str, Any], shared: Shared, model_digest: str) -> Sequences:
        """The corpus, tokenised once for each model.

        Raises:
            CorpusError: it is shorter than one window.
        """

        def cut() -> Sequences:
            corpus = find_corpus(self.corpus, self.split, "perplexity", _corpus_files(facts), self.field, self.noise)
            corpus = corpus.given(tokenizer=tokenizer) if corpus.wants else corpus
            return self._cut(corpus, tokenizer)

        return shared.get(("sequences", model_digest, facts["digest"], facts["protocol"]), cut)

    def _cut(self, corpus: Corpus, tokenizer: Any) -> Sequences:
        return evaluation_sequences(corpus, tokenizer, seqlen=self.seqlen, windows=self.windows, limit=self.limit)

    def floor(self, facts: Mapping[str, Any], shared: Shared) -> float | None:
        """What a model that knew the corpus's source would reach, computed once.

        A part of a text has none, nor has one with noise.
        """
        if self.limit is not None or self.noise is not None:
            return None
        key = ("floor", facts["digest"], facts["protocol"])
        return shared.get(
            key, lambda: perplexity_floor(self.corpus, self.split, self.windows, self.seqlen, _corpus_files(facts))
        )

    def prepare(self, tokenizer: Any, facts: Mapping[str, Any], shared: Shared, model_digest: str) -> int:
        """Tokenise the corpus; the longest window, whose last token is only predicted."""
        self.floor(facts, shared)
        return max(map(len, self.sequences(tokenizer, facts, shared, model_digest).tokens)) - 1

    def measure(
        self, model: Any, tokenizer: Any, facts: Mapping[str, Any], shared: Shared, model_digest: str
    ) -> Result:
        """The perplexity, and the loss of each sequence."""
        protocol = facts["protocol"]
        sequences = self.sequences(tokenizer, facts, shared, model_digest)
        result = perplexity(model, sequences, protocol=protocol)
        note_missing_bos(model, tokenizer, sequences)
        values = {
            "value": result.value,
            "nll": result.nll,
            "tokens": result.tokens,
            "dropped_tokens": result.dropped_tokens,
            "stderr": result.stderr,
            "floor": self.floor(facts, shared),
        }
        arrays = {f"{protocol}/losses": result.losses, f"{protocol}/counts": result.counts}
        return Result({protocol: values}, arrays)

    def verify(
        self,
        model: Any,
        tokenizer: Any,
        dense: Any,
        fresh_seed: int,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
        shared: Shared,
        model_digest: str,
    ) -> dict[str, dict[str, Any]]:
        """The perplexity on as much text from another seed, and whether it tells the same; see ``verified``."""
        protocol = facts["protocol"]
        corpus = fresh_corpus(self.corpus, self.split, fresh_seed, _corpus_files(facts), self.noise)
        if corpus is None:
            return {}
        usual = self.sequences(tokenizer, facts, shared, model_digest)
        fresh = self._cut(corpus, tokenizer)
        pruned = summarise(
            arrays[f"{protocol}/losses"], arrays[f"{protocol}/counts"], protocol=protocol, dropped_tokens=0
        )
        found = verified(
            (pruned, perplexity(dense, usual, protocol=protocol)),
            (perplexity(model, fresh, protocol=protocol), perplexity(dense, fresh, protocol=protocol)),
        )
        return {protocol: {"seed": fresh_seed, **found}}

    def forecast(
        self,
        model: Any,
        tokenizer: Any,
        stopwatch: Stopwatch,
        facts: Mapping[str, Any],
        shared: Shared,
        model_digest: str,
    ) -> Expected:
        """The time by the stopwatch; of each sequence a float64, and a count that compresses well."""
        sequences = self.sequences(tokenizer, facts, shared, model_digest)
        return Expected(
            stopwatch(partial(perplexity, model, sequences, protocol=facts["protocol"])), 9 * len(sequences.tokens)
        )

    def tokens_on_disk(self, facts: Mapping[str, Any], shared: Shared, model_digest: str) -> int:
        """All tokens; tokenised already. Rows of a batch are as long as the longest, little more than themselves."""
        return sum(map(len, self.sequences(None, facts, shared, model_digest).tokens))


MISSED = 0.5  # nats per token that a model loses without BOS from which it is told


def note_missing_bos(model: "PreTrainedModel", tokenizer: Any, sequences: Sequences) -> None:
    """Note where a model needs BOS at the start of what it reads (Gemma), and the windows have none.

    Two windows are scored once more, with BOS in the place of their first token, and compared on the tokens predicted.

    Args:
        model: as it was measured; nothing is asked of one on disk.
        tokenizer: its own.
        sequences: on which it was measured.
    """
    import torch

    bos = getattr(tokenizer, "bos_token_id", None)
    found = [tokens for tokens in sequences.tokens if len(tokens) > 2 and bos is not None and int(tokens[0]) != bos][:2]
    if not found or store_of(model) is not None:
        return
    without = with_bos = 0.0
    with torch.no_grad():
        for window in found:
            tokens: Any = window.clone().to(model.device)[None]
            without += float(_token_losses(model, tokens, tokens.shape[1])[:, 1:].mean())
            tokens[0, 0] = bos
            with_bos += float(_token_losses(model, tokens, tokens.shape[1])[:, 1:].mean())
    if (without - with_bos) / len(found) > MISSED:
        note(f"windows have no BOS at their start, without which this model loses over {MISSED} nats a token")


def _corpus_files(facts: Mapping[str, Any]) -> list[Path]:
    return [Path(facts["corpus_file"])] if facts.get("corpus_file") else []


@dataclass(frozen=True, eq=False)
class PerplexityResult:
    """How well a model predicts some sequences, and what that was computed from.

    A model that is broken has a value of NaN or infinity: that is a result, not an error.

    Args:
        protocol: name of how it was measured.
        value: exp(nll).
        nll: mean negative log-likelihood, in nats per predicted token.
        tokens: predicted tokens.
        dropped_tokens: tokens of the corpus that were not scored.
        stderr: standard error of ``value``, from the spread between sequences; NaN for a single one.
        losses: float64, (sequences,): summed negative log-likelihood of each, in nats.
        counts: int64, (sequences,): predicted tokens of each.
    """

    protocol: str
    value: float
    nll: float
    tokens: int
    dropped_tokens: int
    stderr: float
    losses: np.ndarray
    counts: np.ndarray


def perplexity(
    model: "PreTrainedModel", sequences: Sequences, *, protocol: str, max_logit_bytes: int = MAX_LOGIT_BYTES
) -> PerplexityResult:
    """Score every token of every sequence but its first.

    Per-token losses are taken in float32 and summed in float64; the mean is over tokens, not over sequences. Sequences
    of similar length share a batch, padded on the right, which a causal model's real tokens cannot see. A batch holds
    as many rows as its logits fit ``max_logit_bytes`` for; a single sequence beyond that is run several times, each
    time keeping the logits of one piece (``logits_to_keep``), so that softcaps and scales stay the model's business.

    Args:
        model: a causal language model, in eval mode.
        sequences: what to score.
        protocol: name under which the value is kept.
        max_logit_bytes: bytes that the logits of one batch may take, in the model's dtype.

    Returns:
        The perplexity, with losses and counts in the order of ``sequences``.

    Raises:
        CorpusError: a sequence is longer than the model's context.
    """
    import torch

    lengths = np.array([len(tokens) for tokens in sequences.tokens])
    # The last token is only predicted, never read.
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and lengths.max() - 1 > context:
        raise CorpusError(
            f"{protocol}: a sequence of {lengths.max() - 1} tokens is longer than the model's context, "
            f"{context}: set 'seqlen' to at most {context}"
        )
    token_bytes = model.config.get_text_config().vocab_size * model.dtype.itemsize
    losses = np.zeros(len(lengths))
    with torch.no_grad():
        batches = list(_batches(lengths, max(1, max_logit_bytes // token_bytes)))
        texts = [
            torch.nn.utils.rnn.pad_sequence([sequences.tokens[i] for i in rows], batch_first=True) for rows in batches
        ]
        replay = run_block_by_block(model, [tokens[:, :-1] for tokens in texts])
        for number, rows in enumerate(track(batches, "batch")):
            tokens = texts[number]
            piece = max(1, max_logit_bytes // (token_bytes * len(rows)))
            with replay(number):
                loss = _token_losses(model, tokens.to(model.device), piece)  # type: ignore[arg-type]
            real = torch.arange(1, tokens.shape[1]) < torch.from_numpy(lengths[rows])[:, None]
            losses[rows] = torch.where(real, loss.cpu().double(), 0.0).sum(1).numpy()
    return summarise(losses, lengths - 1, protocol=protocol, dropped_tokens=sequences.dropped_tokens)


def summarise(losses: np.ndarray, counts: np.ndarray, *, protocol: str, dropped_tokens: int) -> PerplexityResult:
    """Perplexity and its standard error from summed losses.

    The mean loss is a ratio of two sums over sequences, so its variance is that of the ratio estimator,
    n / (n - 1) · Σ (loss_i - nll · count_i)² / (Σ count_i)², and exp turns it into value · that (the delta method).

    Args:
        losses: float64, (sequences,), in nats.
        counts: int64, (sequences,).
        protocol: name of how they were measured.
        dropped_tokens: tokens not scored.
    """
    n, tokens = len(losses), int(counts.sum())
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        nll = losses.sum() / tokens
        value = np.exp(nll)
        variance = np.float64(n) / (n - 1) * np.square(losses - nll * counts).sum() / tokens**2 if n > 1 else np.nan
        stderr = value * np.sqrt(variance)
    return PerplexityResult(protocol, float(value), float(nll), tokens, dropped_tokens, float(stderr), losses, counts)


Pair = tuple[PerplexityResult, PerplexityResult]
"""Of the pruned model and of the dense one, on one text."""
LIMIT = 4.0  # standard errors


def verified(usual: Pair, fresh: Pair) -> dict[str, Any]:
    """Hold a perplexity on the usual text against one on text that did not exist when the model was pruned.

    What pruning costs, in nats per token against the dense model on the same text, is measured on both texts, so that a
    text that is harder as a whole counts for nothing. ``excess`` is by how much it is higher on the fresh text, and its
    standard error is that of two independent means of paired differences. A model that knows the usual text by heart
    has an excess far above it; by chance a normal variable exceeds ``LIMIT`` standard errors once in 30,000 times.

    Args:
        usual, fresh: the results on either text.
    """
    costs = []
    for pruned, dense in (usual, fresh):
        losses = pruned.losses - dense.losses
        cost = summarise(losses, dense.counts, protocol="", dropped_tokens=0)
        costs.append((cost.nll, cost.stderr / cost.value))  # of the mean loss, not of its exponential
    (before, error), (after, other_error) = costs
    excess, stderr = after - before, float(np.hypot(error, other_error))
    return {
        "value": fresh[0].value,
        "nll": fresh[0].nll,
        "tokens": fresh[0].tokens,
        "stderr": fresh[0].stderr,
        "dense": usual[1].value,
        "dense_fresh": fresh[1].value,
        "excess": excess,
        "excess_stderr": stderr,
        "agrees": not excess > LIMIT * stderr,  # nor can a model that is broken disagree
    }


def _batches(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Indices of sequences, longest first, so that what does not fit in memory fails at once."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, min(max_tokens, MAX_BATCH_TOKENS) // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def _token_losses(model: "PreTrainedModel", tokens: "LongTensor", piece: int) -> "Tensor":
    """Negative log-likelihoods in float32, (batch, length - 1), from logits of ``piece`` positions at a time."""
    import torch

    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        piece = inputs.shape[1]
    parts = []
    for start in range(0, inputs.shape[1], piece):
        positions = torch.arange(start, min(start + piece, inputs.shape[1]), device=tokens.device)
        limit = {} if len(positions) == inputs.shape[1] else {"logits_to_keep": positions}
        logits = model(input_ids=inputs, use_cache=False, **limit).logits
        rows, ids = logits.flatten(0, 1), targets[:, positions].flatten()
        pairs = zip(torch.split(rows, LOSS_ROWS), torch.split(ids, LOSS_ROWS), strict=True)
        losses = [torch.nn.functional.cross_entropy(part.float(), ids, reduction="none") for part, ids in pairs]
        parts.append(torch.cat(losses).view(len(tokens), -1))
    return torch.cat(parts, dim=1)
