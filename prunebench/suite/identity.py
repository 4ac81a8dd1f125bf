"""Why a cell is to be run although something like it ran before, and whether its code is still what was planned."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunebench.errors import MethodError, quoted
from prunebench.records.record import Record
from prunebench.registry.entry_points import code_of, doubt_of, wrapper_codes
from prunebench.suite.cell import Cell

MISSING = object()
UNKNOWN = ("the record is of another version of prunebench", 99)
SHOWN = 3  # differences that a line tells


def refuse_changed_code(cell: Cell) -> None:
    """Refuse a cell whose method, allocation or wrappers were edited after the suite was planned.

    Its id stands for the code of then. Asked after they were imported, so that what was imported is what is compared.

    Raises:
        MethodError: the code of one, or its stated revision, is another.
    """
    stages = [(cell.plugin, cell.code, cell.plugin_file)]
    stages += [(stage.plugin, stage.code, stage.plugin_file) for stage in cell.then]
    for plugin, code, file in stages:
        _refuse_other(plugin, code, code_of("method", plugin, [Path(file)] if file else []))
    if (rule := cell.allocation_rule) is not None:
        files = [Path(rule.plugin_file)] if rule.plugin_file else []
        _refuse_other(rule.name, rule.code, code_of("allocation", rule.name, files))
    if cell.code is not None:  # planned by this version, which knows of wrappers
        planned, now = cell.wrappers or {}, wrapper_codes(map(Path, cell.wrapper_files))
        for name in {*planned, *now}:
            _refuse_other(name, planned.get(name, "not installed"), now.get(name, "not installed"))


def refuse_changed_evaluation(facts: Mapping[str, Any]) -> None:
    """The same of an evaluation.

    Args:
        facts: what the cell holds of it.

    Raises:
        MethodError: its code, or its stated revision, is another.
    """
    files = [Path(facts["plugin_file"])] if facts.get("plugin_file") else []
    _refuse_other(facts["name"], facts.get("code"), code_of("evaluation", facts["name"], files))


def _refuse_other(name: str, planned: str | None, now: str) -> None:
    if planned not in (None, now):
        raise MethodError(
            f"the code of {name!r} was edited after the suite was planned ({planned} → {now}): run the suite again"
        )


def reason_to_run(cell: Cell, records: Iterable[Record]) -> str | None:
    """Why a cell runs although a folder holds records of its key.

    Args:
        cell: to be run; its own record is missing or tells of a failure.
        records: of the folder.

    Returns:
        One line, as "code of mine changed"; None where there is no record of the key.
    """
    similar = [record for record in records if tuple(record.cell.key) == cell.key]
    if any(record.cell.id == cell.id for record in similar):
        return "it failed before"
    similar.sort(key=lambda record: str(record.environment.get("started")), reverse=True)  # of equals the newest tells
    lines = [_differences(record, cell) for record in similar]
    if not lines:
        return None
    return "; ".join([min(lines, key=lambda line: line[1])[0], *_disbelieved(cell)])


def _disbelieved(cell: Cell) -> Iterator[str]:
    """Stated revisions that do not count, so that what identifies the code is a digest."""
    known: list[tuple[str, str, str | Path | None]] = [("method", cell.plugin, cell.plugin_file)]
    known += [("method", stage.plugin, stage.plugin_file) for stage in cell.then]
    if (rule := cell.allocation_rule) is not None:
        known.append(("allocation", rule.name, rule.plugin_file))
    known += [("evaluation", one.name, one.facts.get("plugin_file")) for one in cell.evaluations]
    for kind, name, file in dict.fromkeys(known):
        if why := doubt_of(kind, name, [Path(file)] if file else []):
            yield f"the revision that {name} states does not count, since {why}"


def _differences(record: Record, cell: Cell) -> tuple[str, int]:
    """What differs between a record's cell and another of its key: a line, and how many differences there are."""
    content = record.cell.model_dump(mode="json")
    try:
        before = Cell.model_validate({name: value for name, value in content.items() if name in Cell.model_fields})
        old = before.identity
    except (ValidationError, MethodError):
        return UNKNOWN
    told = list(_told(old, cell.identity))
    if not told:
        return UNKNOWN
    more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return "; ".join(told[:SHOWN]) + more, len(told)


def _told(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Each difference of two identities, in words; what explains most comes first."""
    if old.get("code") is None:  # it was made before codes were recorded
        yield "the record does not tell which code made it"
    else:
        yield from _code(f"of {new['method']}", old["code"], new.get("code"))
        yield from _changes("toolkit's revision", old.get("toolkit", 0), new.get("toolkit", 0))
    yield from _listed("options", old["options"], new["options"])
    yield from _stages(old.get("then", []), new.get("then", []))
    old_rule, new_rule = (identity.get("allocation_rule", {}) for identity in (old, new))
    yield from _code(f"of {new_rule.get('name', 'uniform')}", old_rule.get("code"), new_rule.get("code"))
    yield from _listed("options of the allocation", old_rule.get("options", {}), new_rule.get("options", {}))
    yield from _wrappers(old.get("wrappers", {}), new.get("wrappers", {}))
    if old["model_digest"] != new["model_digest"]:
        yield "files of the model changed"
    yield from _text("calibration", old["calibration"], new["calibration"])
    yield from _evaluations(old["evaluations"], new["evaluations"])
    told = {
        "code",
        "toolkit",
        "options",
        "then",
        "allocation_rule",
        "wrappers",
        "model_digest",
        "calibration",
        "evaluations",
    }
    for name in sorted({*old, *new} - told):
        yield from _changes(name, old.get(name, MISSING), new.get(name, MISSING))


def _code(whose: str, old: str | None, new: str | None) -> Iterator[str]:
    if old is None or old == new:
        return
    before, after = (str(code).rpartition(" revision ")[2] for code in (old, new))
    stated = " revision " in old and " revision " in str(new)
    yield f"revision {whose} changed: {before} → {after}" if stated else f"code {whose} changed"


def _stages(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    """Differences in the methods that follow the first one."""
    names = [[stage["plugin"] for stage in stages] for stages in (old, new)]
    if names[0] != names[1]:
        yield from _changes("then", *(", ".join(row) or MISSING for row in names))
        return
    for before, after in zip(old, new, strict=True):
        yield from _code(f"of {after['plugin']}", before.get("code"), after.get("code"))
        yield from _listed(f"options of {after['plugin']}", before["options"], after["options"])


def _changes(name: str, old: object, new: object) -> Iterator[str]:
    if old != new:
        before, after = ("none" if value is MISSING else quoted(value, 30) for value in (old, new))
        yield f"{name} changed: {before} → {after}"


def _listed(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences of two mappings as one."""
    changed = [key for key in dict.fromkeys((*old, *new)) if old.get(key, MISSING) != new.get(key, MISSING)]
    parts = [part.replace(" changed:", "") for key in changed for part in _changes(key, old.get(key), new.get(key))]
    if parts:
        yield f"{name} changed: {', '.join(parts)}"


def _wrappers(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            yield f"wrapper {name} was {'installed' if name in new else 'removed'}"
        else:
            yield from _code(f"of the wrapper {name}", old[name], new[name])


def _text(title: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences in what is read: its code, its content, and how it is read."""
    yield from _code(f"of {new.get('name', new.get('corpus'))}", old.get("code"), new.get("code"))
    yield from _code(f"of {new.get('corpus')}", old.get("corpus_code"), new.get("corpus_code"))
    if old.get("digest") != new.get("digest"):
        yield f"text of {title} changed"
    own = {"code", "corpus_code", "digest"}
    rest = ({key: value for key, value in facts.items() if key not in own} for facts in (old, new))
    yield from _listed(title, *rest)


def _evaluations(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    before, after = ({_title(facts): facts for facts in evaluations} for evaluations in (old, new))
    for title in dict.fromkeys((*before, *after)):
        if title not in before or title not in after:
            yield f"evaluation {title} was {'added' if title in after else 'removed'}"
        else:
            yield from _text(title, before[title], after[title])


def _title(facts: Mapping[str, Any]) -> str:
    """What tells evaluations of a cell apart."""
    tasks = facts.get("tasks")
    own = facts.get("protocol") or facts.get("label") or (", ".join(tasks) if tasks else "")
    return str(own or facts["name"])
