"""The record: what is told of a cell that ran, versioned."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

SCHEMA = 1

# A cell's id names files: it can lead nowhere else.
CellId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=200)]

# In a results folder beside the records: saved models, as they are and compact; what ``plan`` foretold.
MODELS, SPARSE, FORECASTS = "models", "sparse", "forecasts.jsonl"


Amount = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _names_its_tasks(evaluation: dict[str, Any]) -> dict[str, Any]:
    tasks = evaluation.get("tasks", [])
    if not isinstance(tasks, list | tuple) or not all(isinstance(task, str) for task in tasks):
        raise ValueError("tasks are no list of names")
    if evaluation.get("name") == "zero_shot" and not tasks:
        raise ValueError("zero_shot has no tasks")
    return evaluation


def _tells_of_tasks(outcome: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """lm-eval's own, as far as reports rest on it: in these parts each task has a mapping."""
    for part in ("results", "groups", "higher_is_better", "n-samples"):
        for task, entry in outcome.get(part, {}).items():
            if not isinstance(entry, dict):
                raise ValueError(f"{part} of {task!r} is no mapping")
    return outcome


def _whole_characters(value: Any) -> Any:
    """Text that can be written: what a plugin or a file's name brings may hold halves of characters."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


_Words = Annotated[str, BeforeValidator(_whole_characters)]


class _Part(BaseModel):
    """Unknown keys are kept, so that an older reader loses nothing of a newer record."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings", populate_by_name=True)


class PublishedFigure(_Part):
    """What somebody else published for a cell: a perplexity.

    Args:
        corpus: what it was measured on.
        seqlen: in windows of how many tokens.
        protocol: the protocol of ours that measures the same; None where there is none, or nobody said.
        perplexity: the figure.
        source: where it stands.
        note: what else is known of it.
    """

    corpus: str
    seqlen: int | None
    protocol: str | None
    perplexity: float
    source: str
    note: str = ""


class CellFacts(_Part):
    """The cell as it ran; see ``prunebench.suite.cell.Cell``.

    Args:
        id: a readable slug and a short hash of all that can change the outcome; the name of the record's file.
        key: model, method, sparsity, allocation, seed, calibration corpus: what tables and comparisons match on.
        model: the model's label.
        revision: the hub's commit; null for a local folder or a builtin.
        method: the label of the method's entry, else its name.
        options: all of the method's options, defaults included.
        sparsity: as asked, "0.9" or "2:4"; "0" for a baseline.
        allocation: how zeros were shared out among the layers.
        seed: the only source of randomness.
        calibration: corpus, split, nsamples, seqlen, windows and digest of the calibration text.
        evaluations: what was measured, each with its protocol, tasks or options.
        published: what others found for it.
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
    evaluations: tuple[Annotated[dict[str, Any], AfterValidator(_names_its_tasks)], ...]
    published: tuple[PublishedFigure, ...] = ()


class Failure(_Part):
    """What ended a failed cell.

    Args:
        type: the exception's class; ``WorkerKilled``, ``WorkerEnded``, ``TimeLimit`` or ``MemoryLimit`` where the
            process that ran the cell died or was ended.
        message: one line.
        signal: of a process that died, the signal that killed it.
        progress: of a process that died, the last that was heard of it.
        stderr: of a process that died, the last lines that it wrote to standard error.
    """

    type: _Words
    message: _Words
    signal: str | None = None
    progress: str | None = None
    stderr: _Words | None = None


class MethodFacts(_Part):
    """What a method's class says of it, whatever its name.

    Args:
        changes: "prunable", "all" or "nothing": what it may change. One that changes all trains the model.
        takes_data: whether it sees calibration text.
    """

    changes: str
    takes_data: bool


class MatrixCount(_Part):
    """Weights of one matrix, and how many of them are zero.

    Args:
        numel: weights.
        zeros: those that are zero.
    """

    numel: Amount
    zeros: Amount


class SparsityFacts(_Part):
    """Zeros counted by the runner itself.

    Args:
        requested: fraction of zeros asked for (2:4 is 0.5).
        reached: fraction of zeros in the prunable matrices.
        whole_model: fraction of zeros in all parameters.
        parameters: how many there are in all, shared ones once.
        parameter_bytes: what they take as they are, zeros included.
        matrices: each prunable matrix.
    """

    requested: Share
    reached: Share
    whole_model: Share
    parameters: Amount | None = None
    parameter_bytes: Amount | None = None
    matrices: dict[str, MatrixCount]


class PerplexityFacts(_Part):
    """A perplexity under its protocol.

    Args:
        value: exp(nll).
        nll: mean negative log-likelihood, in nats per predicted token.
        tokens: predicted tokens.
        dropped_tokens: tokens of the corpus that were not scored.
        stderr: standard error of value, from the spread between sequences.
        floor: what a model that knew the text's source would reach, where that is known.
    """

    value: float
    nll: float
    tokens: Amount
    dropped_tokens: Amount
    stderr: float
    floor: float | None = None


class Cost(_Part):
    """Seconds of wall clock, bytes, and calibration tokens taken by the method and, where it takes any, the allocation.

    Args:
        prune_seconds: of the call of the method.
        evaluate_seconds: of all evaluations.
        peak_bytes: the most memory in use while pruning: allocated on CUDA, resident on the CPU.
        tokens_seen: calibration tokens that the method took.
        state_bytes: weights and optimiser state of the pruned matrices, where the method tells.

    Further keys where there is something to say: ``allocate_seconds``; ``expert_tokens``, for each module of experts
    the calibration tokens that each expert saw.
    """

    prune_seconds: Seconds | None = None
    evaluate_seconds: Seconds | None = None
    peak_bytes: Amount | None = None
    tokens_seen: Amount | None = None
    state_bytes: Amount | None = None


class SavedFacts(_Part):
    """Bytes of a saved model's weights.

    Args:
        dense_bytes: of the ordinary checkpoint, zeros included.
        sparse_bytes: of the compact form (``prunebench.models.sparse``).
        bound_bytes: fewest that tell its masks and values: entropy of the mask plus the kept values.
    """

    dense_bytes: Amount
    sparse_bytes: Amount
    bound_bytes: Amount


class Record(_Part):
    """One cell's outcome. Statistics need per-sequence and per-question arrays: those lie beside it (``arrays``).

    Args:
        schema: version of this format, an integer.
        cell: what ran.
        method: what the method's class says of it.
        status: ok or failed.
        error: what ended a failed cell; null for one that ran well.
        sparsity: zeros, counted by the runner.
        perplexity: by protocol.
        zero_shot: lm-eval's own results, groups, versions, n-shot, n-samples and higher_is_better, untouched.
        measures: what evaluations of plugins found: label → name → number.
        cost: what pruning and measuring took.
        saved: bytes of the saved model, where it was saved.
        notes: adjustments that the method or the runner made, and how often.
        trace: a thinned curve of an iterative method: step, loss, residuals …
        environment: versions, device, threads, commit, wrappers, digests of model, calibration text and pruned weights.
        arrays_digest: SHA-256 of the file of arrays; null where there is none.
        digest: SHA-256 of all of the above: the record as JSON without this key, keys sorted, no blanks. Both are made
            when a record is written; one that does not match is not read.
    """

    schema_version: int = Field(alias="schema")
    cell: CellFacts
    status: Literal["ok", "failed"]
    error: Failure | None = None
    method: MethodFacts | None = None
    sparsity: SparsityFacts | None = None
    perplexity: dict[str, PerplexityFacts] = {}
    zero_shot: Annotated[dict[str, dict[str, Any]], AfterValidator(_tells_of_tasks)] = {}
    measures: dict[str, dict[str, float]] = {}
    cost: Cost = Cost()
    saved: SavedFacts | None = None
    notes: dict[Annotated[str, BeforeValidator(_whole_characters)], Amount] = {}
    trace: tuple[dict[str, float], ...] = ()
    environment: dict[str, Any] = {}
    arrays_digest: str | None = None
    digest: str | None = None


class Forecast(_Part):
    """What a cell was foretold to cost before it ran; None where nothing could be said.

    Args:
        cell: its id.
        prune_seconds, evaluate_seconds, peak_bytes: as in ``Cost``.
        disk_bytes: of its record, arrays and, where it is saved, model.
    """

    cell: str
    prune_seconds: Seconds | None = None
    evaluate_seconds: Seconds | None = None
    peak_bytes: Amount | None = None
    disk_bytes: Amount | None = None
