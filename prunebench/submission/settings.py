"""Records against the suite that a submission came from: each was asked for, with the settings that it says."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunebench.errors import UsageError
from prunebench.files import irregular
from prunebench.pruning.sparsity import Pattern, PatternError, parse_pattern
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE
from prunebench.submission.finding import Finding
from prunebench.suite.file import load_suite
from prunebench.suite.method_entries import MethodEntry
from prunebench.suite.schema import Suite

_TEXT = ("nsamples", "seqlen", "windows", "split", "field", "noise")


def read_suite(folder: Path, name: str) -> tuple[Suite | None, list[Finding]]:
    """The suite of a submission, which is read as YAML and not planned: nothing that it names is loaded."""
    path = folder / name
    if Path(name).name != name or irregular(path) or not path.is_file():
        return None, [Finding(name, "there is no such suite file in the folder: add the suite that was run")]
    try:
        return load_suite(path), []
    except UsageError as error:
        return None, [Finding(name, str(error))]


def setting_findings(record: Record, suite: Suite) -> list[Finding]:
    """What a record says that its suite does not ask for."""
    return [Finding(record.cell.id, fault) for fault in _faults(record, suite)]


def _faults(record: Record, suite: Suite) -> Iterator[str]:
    cell = record.cell
    source = str((cell.model_extra or {}).get("source"))
    if not any(model.name == cell.model and _one_model(model.id, source) for model in suite.models):
        yield f"the suite has no model {cell.model!r} from {source}"
    entries = [entry for entry in suite.methods if entry.title == cell.method]
    if not entries:
        yield f"the suite has no method {cell.method!r}"
    elif not any(_asks(entry, suite, record) for entry in entries):
        yield (
            f"the suite does not ask for {cell.method} at {cell.sparsity} with seed {cell.seed}, allocation "
            f"{cell.allocation} and the calibration and options that it says"
        )
    with suppress(PatternError):  # told where its zeros are looked at
        sparsity = parse_pattern(cell.sparsity)
        yield from _evaluation_faults(record, suite, sparsity)


def _evaluation_faults(record: Record, suite: Suite, sparsity: Pattern) -> Iterator[str]:
    cell = record.cell
    asked = [entry.model_dump(mode="json") for entry in suite.evaluations if entry.is_for(cell.model, sparsity)]
    for facts in cell.evaluations:
        if not any(_is(entry, facts) for entry in asked):
            name = facts.get("protocol", facts.get("name"))
            yield f"the suite does not ask for {name} with the settings that it says"
    if len(cell.evaluations) < len(asked):
        yield f"the suite asks for {len(asked)} evaluations, and it has {len(cell.evaluations)}"


def _asks(entry: MethodEntry, suite: Suite, record: Record) -> bool:
    cell = record.cell
    if cell.sparsity != DENSE and cell.sparsity not in map(str, entry.sparsities or suite.sparsities):
        return False
    if cell.sparsity != DENSE and cell.allocation not in {a.title for a in entry.allocation or suite.allocation}:
        return False
    if cell.seed not in (entry.seeds or suite.seeds) or entry.names != tuple(stage.plugin for stage in cell.stages):
        return False
    given = [entry.options, *(stage.options for stage in entry.then)]
    for options, stage in zip(given, cell.stages, strict=True):
        tuned = entry.tune is not None
        if not tuned and any(stage.options.get(name) != _plain(value) for name, value in options.items()):
            return False
    asked = suite.calibration.model_dump(mode="json")
    if entry.calibration is not None:
        changes = entry.calibration.model_dump(mode="json", exclude_none=True)
        asked |= ({"field": None, "noise": None} if "corpus" in changes else {}) | changes
    return _one_text(asked["corpus"], cell.calibration) and all(
        cell.calibration.get(name) == asked[name] for name in _TEXT
    )


def _is(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether facts are those of an evaluation, in all that both name; a local file is known by its name."""
    if entry["name"] != facts.get("name"):
        return False
    corpus = entry.get("corpus")
    if corpus is not None and not _one_text(corpus, facts):
        return False
    names = (entry.keys() & facts.keys()) - {"corpus", "include_path", "batch_size", "models", "label"}
    # Facts leave out what is not asked for.
    missing = (name for name in ("limit", "noise") if entry.get(name) is not None and name not in facts)
    return all(_plain(entry[name]) == _plain(facts[name]) for name in names) and not any(missing)


def _one_model(asked: str, source: str) -> bool:
    """Whether a suite's model is that of a record; a folder, which is elsewhere on every machine, by its name."""
    if Path(source).is_absolute():
        return Path(asked).name == Path(source).name
    return asked.partition("@")[0] == source.partition("@")[0]


def _one_text(corpus: str, facts: Mapping[str, Any]) -> bool:
    return Path(corpus).name == Path(str(facts.get("source"))).name


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
