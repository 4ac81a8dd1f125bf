"""The record: what is written of a cell, versioned, and read back."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from prunebench.errors import OutputError
from prunebench.reading import MEBIBYTE, content_digest, read_regular, strict_json
from prunebench.writing import why, write_whole

SCHEMA = 1

# What a record and its arrays may take, in bytes: a hundred times what the largest models need.
RECORD_LIMIT, ARRAYS_LIMIT = 256 * MEBIBYTE, 4096 * MEBIBYTE

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


class RecordError(OutputError):
    """A file that is no record of ours.

    Args:
        reason: what is wrong with which file.
        advice: what to do.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason


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
    """The cell as it ran; see ``prunebench.cell.Cell``.

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
        sparse_bytes: of the compact form (``prunebench.sparse``).
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


def write_record(folder: Path, record: Record, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write ``<cell id>.json``, and before it ``<cell id>.npz`` where there are arrays; each all or nothing.

    Args:
        folder: the results folder.
        record: the outcome. One that was read keeps the arrays it has.
        arrays: ``perplexity/<protocol>/losses`` (float64, nats, a sequence each) and ``…/counts`` (int64), and
            ``zero_shot/<task>/<metric>`` (a question each); ``mask``, see ``prunebench.masks.mask_sample``.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / f"{record.cell.id}.json"
    beside = path.with_suffix(".npz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if arrays:
            record = record.model_copy(update={"arrays_digest": _write_arrays(beside, arrays)})
        elif record.arrays_digest is None:
            beside.unlink(missing_ok=True)  # of an outcome that this one replaces
        write_whole(path, sealed(record).encode())
    except OSError as error:
        raise OutputError(f"cannot write the record {path}: {why(error)}") from None
    except ValueError as error:  # as an option nested a hundred deep, which nothing of ours would read again
        raise OutputError(f"cannot write the record {path}: {_first_line(error)}") from None
    return path


def sealed(record: Record) -> str:
    """A record as the JSON of its file, with its digest."""
    text = record.model_copy(update={"digest": None}).model_dump_json(by_alias=True)
    content = strict_json(text.encode())
    del content["digest"]
    digest = content_digest(content)
    return record.model_copy(update={"digest": digest}).model_dump_json(by_alias=True, indent=1) + "\n"


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write a file of arrays; its digest."""
    content = io.BytesIO()
    np.savez_compressed(content, **dict(arrays))  # type: ignore[arg-type]
    write_whole(path, content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()


def read_record(path: Path) -> Record:
    """Read one record.

    Args:
        path: a record's JSON file.

    Raises:
        RecordError: the file is no record, was altered, or is of a newer schema.
    """
    try:
        content = strict_json(read_regular(path, RECORD_LIMIT))
    except OSError as error:
        raise RecordError(f"cannot read the record {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise RecordError(
            f"{path} is no record: it is not valid JSON ({_first_line(error)})", "delete it and run the suite again"
        ) from None
    if not isinstance(content, dict) or type(content.get("schema")) is not int:
        raise RecordError(f"{path} is no record of prunebench: it has no schema number")
    if content["schema"] != SCHEMA:
        newer = content["schema"] > SCHEMA
        advice = f"newer than {SCHEMA}: update prunebench" if newer else f"where {SCHEMA} is valid: run the suite again"
        raise RecordError(f"{path} has schema {content['schema']}, {advice}")
    _check_digest(path, content)
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is no valid record: {place}: {first['msg']}") from None


def _check_digest(path: Path, content: dict[str, Any]) -> None:
    advice = "fetch it again, or delete it and run the suite again"
    if not isinstance(content.get("digest"), str):
        raise RecordError(f"{path} has no digest, so nobody knows whether it is whole", advice)
    try:
        digest = content_digest({name: value for name, value in content.items() if name != "digest"})
    except ValueError as error:
        raise RecordError(f"{path} is no record: {_first_line(error)}", advice) from None
    if digest != content["digest"]:
        raise RecordError(f"{path} was altered after it was written: its digest does not match", advice)


def check_arrays(path: Path, record: Record) -> None:
    """Check, without opening them, that the arrays beside a record are those that it was written with.

    Raises:
        RecordError: they are missing, altered or another record's.
    """
    _arrays_content(path.with_name(f"{record.cell.id}.npz"), record.arrays_digest)


def read_arrays(path: Path, digest: str | None = None) -> dict[str, np.ndarray]:
    """The arrays beside a record (``path`` is the record's); empty where there are none.

    Args:
        path: the record's file.
        digest: of the arrays, as the record says; where it is not given, the record is read for it.

    Raises:
        RecordError: the file is torn, altered or foreign, or missing where the record speaks of one.
    """
    beside = path.with_suffix(".npz")
    if digest is None and os.path.lexists(path):
        digest = read_record(path).arrays_digest
    content = _arrays_content(beside, digest)
    if content is None:
        return {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if sum(entry.file_size for entry in file.zip.infolist()) > ARRAYS_LIMIT:
                raise ValueError("its arrays are larger than any of ours")
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile have a dozen kinds, of which some mean a torn file
        raise RecordError(f"{beside} is no array file of prunebench: {_first_line(error)}", _ARRAYS_ADVICE) from None
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "biuf":
            raise RecordError(f"{beside} is no array file of prunebench: {name!r} is no row of numbers", _ARRAYS_ADVICE)
    return arrays


_ARRAYS_ADVICE = "fetch it again, or run the suite again with --fresh"


def _arrays_content(beside: Path, digest: str | None) -> bytes | None:
    """A file of arrays whose digest is as it should be; None where there is none and none should be."""
    if digest is None and not os.path.lexists(beside):
        return None
    try:
        content = read_regular(beside, ARRAYS_LIMIT)
    except OSError as error:
        raise RecordError(f"cannot read the arrays {beside}: {error.strerror or error}", _ARRAYS_ADVICE) from None
    if digest is None:
        raise RecordError(f"{beside} belongs to no record that is here", "delete it")
    if hashlib.sha256(content).hexdigest() != digest:
        raise RecordError(f"{beside} is no array file of its record: it was altered, or is another's", _ARRAYS_ADVICE)
    return content


def read_records(folder: Path, leave_out: Callable[[str], None] | None = None) -> list[Record]:
    """All records of a results folder, in the order of their file names; a copy of a record counts once.

    Args:
        folder: the results folder.
        leave_out: is told of each file that is no whole record, which is then left out; None raises at the first.

    Raises:
        RecordError: the folder is not there or holds no record; a file in it, or one of arrays, is torn, altered or
            foreign; or two records of one cell's id disagree.
    """
    if not folder.is_dir():
        raise RecordError(f"there is no results folder {folder}: run a suite first")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise RecordError(f"{folder} holds no records: run a suite first")
    found: dict[str, tuple[Path, Record]] = {}
    for path in paths:
        try:
            record = read_record(path)
            check_arrays(path, record)
            other, first = found.setdefault(record.cell.id, (path, record))
            if first.digest != record.digest:
                raise RecordError(
                    f"{other} and {path} are both the record of {record.cell.id}, and disagree: delete one"
                )
        except RecordError as error:
            if leave_out is None:
                raise
            leave_out(f"left out: {error}")
    if not found:
        raise RecordError(f"{folder} holds no whole record: run the suite again")
    return [record for _, record in found.values()]


def write_forecasts(folder: Path, forecasts: Iterable[Forecast]) -> None:
    """Put forecasts beside the records; a later one of a cell replaces an earlier.

    Raises:
        OutputError: the folder cannot be written.
    """
    known = read_forecasts(folder) | {forecast.cell: forecast for forecast in forecasts}
    path = folder / FORECASTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{forecast.model_dump_json()}\n" for forecast in known.values()).encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {why(error)}") from None


def read_forecasts(folder: Path) -> dict[str, Forecast]:
    """The forecasts of a results folder, by cell id; empty where none were made.

    Raises:
        RecordError: the file is not one of forecasts.
    """
    path = folder / FORECASTS
    try:
        lines = read_regular(path, RECORD_LIMIT).decode().splitlines() if os.path.lexists(path) else []
        return {forecast.cell: forecast for forecast in map(Forecast.model_validate_json, lines)}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is no file of forecasts: {_first_line(error)}; delete it and plan again") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
