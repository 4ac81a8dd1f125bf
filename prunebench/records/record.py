"""The record: everything that is known about a cell that ran, as a versioned pydantic model."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

SCHEMA = 1

# A cell's id is part of file names: it may not contain a path.
CellId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=200)]

# The parts of a record that take what evaluations find: label → name → value.
SECTIONS = ("perplexity", "zero_shot", "measures")

# Names in a results folder: saved models as ordinary checkpoints and in the compact form; forecasts made by ``plan``.
MODELS_FOLDER, SPARSE_FOLDER, FORECASTS_FILE = "models", "sparse", "forecasts.jsonl"


Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _check_evaluation(evaluation: dict[str, Any]) -> dict[str, Any]:
    tasks = evaluation.get("tasks", [])
    if not isinstance(tasks, list | tuple) or not all(isinstance(task, str) for task in tasks):
        raise ValueError("tasks are no list of names")
    if evaluation.get("name") == "zero_shot" and not tasks:
        raise ValueError("zero_shot has no tasks")
    return evaluation


def _check_zero_shot(outcome: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Check the parts of lm-eval's results that reports read: each maps tasks to mappings."""
    for part in ("results", "groups", "higher_is_better", "n-samples"):
        for task, entry in outcome.get(part, {}).items():
            if not isinstance(entry, dict):
                raise ValueError(f"{part} of {task!r} is no mapping")
    return outcome


def _replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which plugins and file names may hold and which cannot be written as UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_replace_surrogates)]


class _RecordPart(BaseModel):
    """Base of the parts of a record. Unknown keys are preserved: an older version loses nothing of a newer record."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings", populate_by_name=True)


class PublishedFigure(_RecordPart):
    """A perplexity that somebody else published for a cell.

    Args:
        corpus: the text that it was measured on.
        seqlen: window length in tokens; null if unknown.
        protocol: the protocol of prunebench that measures the same; null if there is none or it is unknown.
        perplexity: the published value.
        source: where it was published.
        note: anything else worth knowing.
    """

    corpus: str
    seqlen: int | None
    protocol: str | None
    perplexity: float
    source: str
    note: str = ""


class CellFacts(_RecordPart):
    """The cell as it ran; see ``prunebench.suite.cell.Cell``.

    Args:
        id: a readable slug and a short hash of everything that can change the outcome; the name of the record's file.
        key: model, method, sparsity, allocation, seed, calibration corpus: what tables and comparisons match cells by.
        model: the model's label.
        revision: commit on the hub; null for a local folder or a builtin.
        method: the label of the method's entry, else its name.
        options: all of the method's options, defaults included.
        sparsity: as requested, "0.9" or "2:4"; "0" for a baseline.
        allocation: how the zeros are distributed over the layers.
        seed: the only source of randomness.
        calibration: corpus, split, nsamples, seqlen, windows and digest of the calibration text.
        evaluations: what was measured, each with its protocol, tasks or options.
        published: published figures for the cell.
    """

    id: CellId
    key: tuple[str, str, str, str, int, str]
    model: str
    revision: str | None
    method: str
    options: dict[str, Any]
    sparsity: str
    allocation: str
    seed: int
    calibration: dict[str, Any]
    evaluations: tuple[Annotated[dict[str, Any], AfterValidator(_check_evaluation)], ...]
    published: tuple[PublishedFigure, ...] = ()


class Failure(_RecordPart):
    """What ended a failed cell.

    Args:
        type: the exception's class; ``WorkerKilled``, ``WorkerEnded``, ``TimeLimit`` or ``MemoryLimit`` where the
            process that ran the cell died or was ended.
        message: the error message, one line.
        signal: if the process died, the signal that killed it.
        progress: if the process died, its last reported progress.
        stderr: if the process died, the last lines that it wrote to standard error.
    """

    type: _Text
    message: _Text
    signal: str | None = None
    progress: str | None = None
    stderr: _Text | None = None


class MethodFacts(_RecordPart):
    """What a method's class declares about it.

    Args:
        changes: "prunable", "all" or "nothing": which parameters it may change. One that changes all trains the model.
        takes_data: whether it uses calibration text.
    """

    changes: str
    takes_data: bool


class MatrixCount(_RecordPart):
    """Number of weights of one matrix, and how many of them are zero.

    Args:
        numel: number of weights.
        zeros: number of zeros.
    """

    numel: Count
    zeros: Count


class SparsityFacts(_RecordPart):
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


class PerplexityFacts(_RecordPart):
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


class Cost(_RecordPart):
    """What pruning and evaluation cost: seconds of wall clock, bytes of memory, calibration tokens.

    Args:
        prune_seconds: duration of the call of the method.
        evaluate_seconds: duration of all evaluations.
        peak_bytes: peak memory while pruning: allocated on CUDA, resident on the CPU.
        tokens_seen: calibration tokens that the method used.
        state_bytes: weights and optimiser state of the pruned matrices, if the method reports it.

    Further keys, if known: ``allocate_seconds``, the duration of the allocation; ``expert_tokens``, for each module of
    experts the calibration tokens that each expert saw.
    """

    prune_seconds: Seconds | None = None
    evaluate_seconds: Seconds | None = None
    peak_bytes: Count | None = None
    tokens_seen: Count | None = None
    state_bytes: Count | None = None


class SavedFacts(_RecordPart):
    """Bytes of a saved model's weights.

    Args:
        dense_bytes: size of the ordinary checkpoint, zeros included.
        sparse_bytes: size of the compact form (``prunebench.models.sparse``).
        bound_bytes: lower bound for masks and values: entropy of the mask plus the kept values.
    """

    dense_bytes: Count
    sparse_bytes: Count
    bound_bytes: Count


class Record(_RecordPart):
    """The outcome of one cell. Per-sequence and per-question arrays are in a file of their own (``arrays``).

    Args:
        schema: version of this format, an integer.
        cell: what ran.
        method: what the method's class declares about it.
        status: ok or failed.
        error: what ended a failed cell; null for a successful one.
        sparsity: zeros, counted by the runner.
        perplexity: perplexities by protocol.
        zero_shot: lm-eval's own results, groups, versions, n-shot, n-samples and higher_is_better, untouched.
        measures: results of evaluation plugins: label → name → number.
        cost: time, memory and tokens of pruning and evaluation.
        saved: bytes of the saved model, if it was saved.
        notes: adjustments that the method or the runner made, with counts.
        trace: a thinned curve of an iterative method: step, loss, residuals …
        environment: versions, device, threads, commit, wrappers, digests of model, calibration text and pruned weights.
        arrays_digest: SHA-256 of the file of arrays; null if there is none.
        digest: SHA-256 of all of the above: the record as JSON without this key, keys sorted, no white space. Both are
            computed when a record is written; a record that does not match is not read.
    """

    schema_version: int = Field(alias="schema")
    cell: CellFacts
    status: Literal["ok", "failed"]
    error: Failure | None = None
    method: MethodFacts | None = None
    sparsity: SparsityFacts | None = None
    perplexity: dict[str, PerplexityFacts] = {}
    zero_shot: Annotated[dict[str, dict[str, Any]], AfterValidator(_check_zero_shot)] = {}
    measures: dict[str, dict[str, float]] = {}
    cost: Cost = Cost()
    saved: SavedFacts | None = None
    notes: dict[Annotated[str, BeforeValidator(_replace_surrogates)], Count] = {}
    trace: tuple[dict[str, float], ...] = ()
    environment: dict[str, Any] = {}
    arrays_digest: str | None = None
    digest: str | None = None


class Forecast(_RecordPart):
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
