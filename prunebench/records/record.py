"""The record: everything that is known about a cell that ran, as a versioned pydantic model."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from prunebench.records.cell_facts import CellFacts as CellFacts
from prunebench.records.cell_facts import CellId, RecordPart, Text, replace_surrogates
from prunebench.records.cell_facts import PublishedFigure as PublishedFigure

SCHEMA = 2
TRACEBACK_LIMIT = 16_000  # characters

# The parts of a record that take what evaluations find: label → name → value.
SECTIONS = ("perplexity", "zero_shot", "measures")

# Names in a results folder: saved models as ordinary checkpoints and in the compact form; forecasts made by ``plan``.
MODELS_FOLDER, SPARSE_FOLDER, FORECASTS_FILE = "models", "sparse", "forecasts.jsonl"
TRIALS_FOLDER = "trials"  # a results folder of its own, in that of a suite that tunes


Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _check_zero_shot(outcome: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Check the parts of lm-eval's results that reports read: each maps tasks to mappings."""
    for part in ("results", "groups", "higher_is_better", "n-samples"):
        for task, entry in outcome.get(part, {}).items():
            if not isinstance(entry, dict):
                raise ValueError(f"{part} of {task!r} is no mapping")
    return outcome


def _check_environment(environment: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(environment.get("versions") or {}, dict):
        raise ValueError("versions are no mapping")
    return environment


def _end_of(text: Any) -> Any:
    """The end of a text that is too long: of a traceback the part that says where it happened."""
    return text[-TRACEBACK_LIMIT:] if isinstance(text, str) else text


class Failure(RecordPart):
    """What ended a failed cell.

    Args:
        type: the exception's class; ``WorkerKilled``, ``WorkerEnded``, ``TimeLimit`` or ``MemoryLimit`` where the
            process that ran the cell died or was ended.
        message: the error message, one line.
        signal: if the process died, the signal that killed it.
        progress: if the process died, its last reported progress.
        stderr: if the process died, the last lines that it wrote to standard error.
        traceback: where the exception was raised, plain text; of a long one the last ``TRACEBACK_LIMIT`` characters.
    """

    type: Text
    message: Text
    signal: str | None = None
    progress: str | None = None
    stderr: Text | None = None
    traceback: Annotated[Text | None, BeforeValidator(_end_of)] = None


class MethodFacts(RecordPart):
    """What a method's class declares about it, and what was measured of it.

    Args:
        changes: "prunable", "all" or "nothing": which parameters it may change. One that changes all trains the model.
        takes_data: whether it uses calibration text.
        training: what it computed gradients through, as counted with the effort: nothing ("none"), one decoder block
            at a time ("block") or several in one backward pass ("end-to-end"); null if not counted.
        brought: whether it brought weights that were pruned elsewhere, so that nothing is known of how.
        cites: what to cite for all of a cell's methods: arXiv numbers, or BibTeX entries.
    """

    changes: str
    takes_data: bool
    training: Literal["none", "block", "end-to-end"] | None = None
    brought: bool = False
    cites: tuple[Text, ...] = ()


class Effort(RecordPart):
    """What one stage, its allocation included, pushed through the model and its copies.

    The harness counts it by hooks in the process that prunes. The method says nothing of it, but code that runs there
    could change it: it is declared, not measured from outside.

    Args:
        stage: number of the stage in ``cell.stages``, from 0.
        forward_tokens, backward_tokens: tokens times passes: those that entered any decoder block, divided by the
            number of blocks. A forward pass that checkpointing repeats counts twice.
        flops: 2·N·forward + 4·N·backward, N the parameters passed through: tables of embeddings are read, not passed
            through, and an expert counts for the tokens that are routed to it.
        seconds: of wall clock, as ``cost.prune_seconds``.
    """

    stage: Count
    forward_tokens: Count | None = None
    backward_tokens: Count | None = None
    flops: Annotated[float, Field(ge=0)] | None = None
    seconds: Seconds | None = None


class MatrixCount(RecordPart):
    """Number of weights of one matrix, and how many of them are zero.

    Args:
        numel: number of weights.
        zeros: number of zeros.
    """

    numel: Count
    zeros: Count


class SparsityFacts(RecordPart):
    """Sparsity of the pruned model, counted by the runner.

    Args:
        requested: requested fraction of zeros (2:4 is 0.5).
        reached: fraction of zeros in the prunable matrices.
        whole_model: fraction of zeros in all parameters.
        parameters: number of all parameters, shared ones counted once.
        parameter_bytes: their size in bytes, zeros included.
        matrices: counts of each prunable matrix.
    """

    requested: Share
    reached: Share
    whole_model: Share
    parameters: Count | None = None
    parameter_bytes: Count | None = None
    matrices: dict[str, MatrixCount]


class PerplexityFacts(RecordPart):
    """A perplexity under its protocol.

    Args:
        value: exp(nll).
        nll: mean negative log-likelihood, in nats per predicted token.
        tokens: predicted tokens.
        dropped_tokens: tokens of the corpus that were not scored.
        stderr: standard error of value, from the spread between sequences.
        floor: the perplexity of a model that knew the source of the text, if that is known.
    """

    value: float
    nll: float
    tokens: Count
    dropped_tokens: Count
    stderr: float
    floor: float | None = None


class VerifiedFacts(RecordPart):
    """A perplexity on text that was made after pruning had ended, and what it says of the usual one.

    Args:
        seed: of the text, drawn when pruning had ended.
        value, nll, tokens, stderr: as in ``PerplexityFacts``, on the fresh text.
        dense, dense_fresh: perplexity of the model before pruning, on the usual and on the fresh text.
        excess: by how much more pruning costs on the fresh text, in nats per token.
        excess_stderr: standard error of that, from the spread between sequences.
        agrees: whether the excess is at most four standard errors.
    """

    seed: Count
    value: float
    nll: float
    tokens: Count
    stderr: float
    dense: float
    dense_fresh: float
    excess: float
    excess_stderr: float
    agrees: bool


class Cost(RecordPart):
    """What pruning and evaluation cost: seconds of wall clock, bytes of memory, calibration tokens.

    Args:
        prune_seconds: duration of the allocation and of the call of the method.
        evaluate_seconds: duration of all evaluations.
        peak_bytes: peak memory while pruning: allocated on CUDA, resident on the CPU.
        tokens_seen: calibration tokens that the method used.
        state_bytes: weights and optimiser state of the pruned matrices, if the method reports it.

    Further keys, if known: ``passes``, ``tokens_seen`` divided by the tokens of the text that they were drawn from, so
    that above 1 some of it was seen more than once; ``allocate_seconds``, the duration of the allocation;
    ``expert_tokens``, for each module of experts the calibration tokens that each expert saw; ``travel`` and
    ``layer_error``, which diagnosis reads.
    """

    prune_seconds: Seconds | None = None
    evaluate_seconds: Seconds | None = None
    peak_bytes: Count | None = None
    tokens_seen: Count | None = None
    state_bytes: Count | None = None


class SavedForm(RecordPart):
    """One form of a saved model.

    Args:
        folder: its name in ``models/`` or ``sparse/``: the cell's id, or where an earlier record's model had that name
            the id and part of the digest.
        digest: SHA-256 of the names and contents of its files, without the model card.
    """

    folder: CellId
    digest: Digest


class SavedFacts(RecordPart):
    """A saved model: bytes of its weights, and where it is.

    Args:
        dense_bytes: size of the ordinary checkpoint, zeros included.
        sparse_bytes: size of the compact form (``prunebench.models.sparse``).
        bound_bytes: lower bound for masks and values: entropy of the mask plus the kept values.
        forms: "models", the ordinary checkpoint, and "sparse", the compact form; empty in records of schema 1.
    """

    dense_bytes: Count
    sparse_bytes: Count
    bound_bytes: Count
    forms: dict[Literal["models", "sparse"], SavedForm] = Field(default_factory=dict)


class Record(RecordPart):
    """The outcome of one cell. Per-sequence and per-question arrays are in a file of their own (``arrays``).

    Args:
        schema: version of this format, an integer.
        cell: what ran.
        method: what the method's class declares about it, and what was measured of it.
        effort: tokens and operations of each stage, if measured.
        status: ok or failed.
        error: what ended a failed cell; null for a successful one.
        sparsity: zeros, counted by the runner.
        perplexity: perplexities by protocol.
        zero_shot: lm-eval's own results, groups, versions, n-shot, n-samples and higher_is_better, untouched.
        chance: by task, the accuracy of guessing, where it is known.
        measures: results of evaluation plugins: label → name → number.
        verified: by protocol, the perplexity on text that was made after pruning, if ``run --verify`` asked for it.
        measured: "reloaded": a fresh process measured the tensors that pruning handed over; "in-process": the process
            that pruned measured, and may have been changed by the method; null if unknown.
        cost: time, memory and tokens of pruning and evaluation.
        saved: bytes of the saved model, if it was saved.
        notes: adjustments that the method or the runner made, with counts.
        trace: a thinned curve of an iterative method: step, loss, residuals …
        environment: versions, device, threads, memory of the device in bytes, commit, wrappers, digests of model,
            calibration text and pruned weights.
        arrays: the files of arrays beside the record: SHA-256 → name. A name begins with the cell's id.
        digest: SHA-256 of all of the above: the record as JSON without this key, keys sorted, no white space. Both are
            computed when a record is written; a record that does not match is not read.
    """

    schema_version: int = Field(alias="schema")
    cell: CellFacts
    status: Literal["ok", "failed"]
    error: Failure | None = None
    method: MethodFacts | None = None
    effort: tuple[Effort, ...] = ()
    sparsity: SparsityFacts | None = None
    perplexity: dict[str, PerplexityFacts] = Field(default_factory=dict)
    zero_shot: Annotated[dict[str, dict[str, Any]], AfterValidator(_check_zero_shot)] = Field(default_factory=dict)
    chance: dict[str, Share] = Field(default_factory=dict)
    measures: dict[str, dict[str, float]] = Field(default_factory=dict)
    verified: dict[str, VerifiedFacts] = Field(default_factory=dict)
    measured: Literal["reloaded", "in-process"] | None = None
    cost: Cost = Cost()
    saved: SavedFacts | None = None
    notes: dict[Annotated[str, BeforeValidator(replace_surrogates)], Count] = Field(default_factory=dict)
    trace: tuple[dict[str, float], ...] = ()
    environment: Annotated[dict[str, Any], AfterValidator(_check_environment)] = Field(default_factory=dict)
    arrays: dict[Digest, str] = Field(default_factory=dict)
    digest: str | None = None

    @model_validator(mode="after")
    def _check_array_names(self) -> Self:
        for name in self.arrays.values():
            if not is_arrays_name(name, self.cell.id):
                raise ValueError(f"{name!r} is no name of a file of arrays of {self.cell.id}")
        for saved in self.saved.forms.values() if self.saved else ():
            if not is_model_name(saved.folder, self.cell.id):
                raise ValueError(f"{saved.folder!r} is no name of a saved model of {self.cell.id}")
        return self


def arrays_name(cell: str, digest: str) -> str:
    """The name of the file of arrays with a digest that belongs to a cell's record."""
    return f"{cell}.{digest[:16]}.npz"


def is_arrays_name(name: str, cell: str) -> bool:
    """Whether a file's name is one of a cell's files of arrays; those of schema 1 are ``<cell id>.npz``."""
    return name.startswith(cell) and re.fullmatch(r"(\.[0-9a-f]{16})?\.npz", name[len(cell) :]) is not None


def is_model_name(name: str, cell: str) -> bool:
    """Whether a folder's name is one of a cell's saved models."""
    return name.startswith(cell) and re.fullmatch(r"(\.[0-9a-f]{16})?", name[len(cell) :]) is not None


class Forecast(RecordPart):
    """The cost predicted for a cell before it ran; None where no prediction was possible.

    Args:
        cell: the cell's id.
        prune_seconds, evaluate_seconds, peak_bytes: as in ``Cost``.
        disk_bytes: size of its record, arrays and, if it is saved, model.
    """

    cell: str
    prune_seconds: Seconds | None = None
    evaluate_seconds: Seconds | None = None
    peak_bytes: Count | None = None
    disk_bytes: Count | None = None
