"""The suite that one record came from, made from what the record says, so that its cell can be run again."""

import shlex
from typing import Any

import yaml

from prunebench.records.evaluation_facts import entry_of, names_of
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE

FOR_DENSE = 0.5  # a suite names a sparsity; a baseline is planned once, whatever it is

_CALIBRATION = ("split", "nsamples", "seqlen", "windows", "field", "noise")
_MODEL = ("dtype", "tokenizer", "attn_implementation")
TRUST = "trust_remote_code"  # never in a suite made from a record: whoever runs it decides what code may run


def recipe(record: Record) -> str:
    """A suite file in YAML of the one cell of a record.

    A local model or text is named by the path that it had, and an allocation from a file cannot be named at all; a
    comment says so. Another says what needs code that comes with a model or with tasks; the suite lets none run.
    """
    cell, extra = record.cell, record.cell.model_extra or {}
    model = {"id": extra.get("source", cell.model), "label": cell.model} | _given(extra, _MODEL)
    if extra.get("device") == "disk":
        model["device"] = "disk"
    first, *others = cell.stages
    method: dict[str, Any] = {"name": first.plugin, "label": cell.method, "options": first.options}
    if others:
        method["then"] = [{"name": stage.plugin, "options": stage.options} for stage in others]
    content: dict[str, Any] = {
        "name": cell.id,
        "description": f"Made from the record of {cell.id}",
        "models": [model],
        "calibration": {"corpus": cell.calibration.get("source", cell.calibration.get("corpus"))}
        | _given(cell.calibration, _CALIBRATION),
        "sparsities": [FOR_DENSE if cell.sparsity == DENSE else cell.sparsity],
        "seeds": [cell.seed],
        "methods": [method],
        "evaluations": [
            {key: value for key, value in entry_of(facts).items() if key != TRUST} for facts in cell.evaluations
        ],
    }
    rule = _rule(record)
    comments = [f"# {line}" for line in notes(record)]
    if rule.get("name") not in (None, "file"):
        content["allocation"] = {"name": rule["name"], "label": cell.allocation, "options": rule.get("options", {})}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join([*comments, text])


def notes(record: Record) -> list[str]:
    """What a suite made from a record does not say, a line each."""
    extra = record.cell.model_extra or {}
    lines = []
    if files := _files(record):
        lines.append(f"It ran with plugin files that are not here: {', '.join(files)}")
    distribution, version = extra.get("distribution"), extra.get("version")
    if distribution not in (None, "prunebench") and not files:
        lines.append(f"Its method is from the package {distribution} {version}")
    if _rule(record).get("name") == "file":
        lines.append("Its allocation was read from a file that is not here; this suite shares zeros out uniformly")
    if record.cell.tuning is not None:
        lines.append("Its options were chosen by trials, which are not repeated here")
    if needing := foreign_code(record):
        lines.append(
            f"{' and '.join(needing)} ran with {TRUST}: true, which lets code that others wrote run with all your "
            "rights; read that code, and add the key yourself if you trust it"
        )
    return [" ".join(line.split()) for line in lines]


def foreign_code(record: Record) -> list[str]:
    """What of a cell ran with ``trust_remote_code``: the model, or tasks by their titles."""
    model = [f"The model {record.cell.model}"] if (record.cell.model_extra or {}).get(TRUST) else []
    tasks = [", ".join(names_of(facts)) for facts in record.cell.evaluations if facts.get(TRUST)]
    return [*model, *tasks]


def command(record: Record, path: str) -> str:
    """The command that runs the cell of a record again.

    Args:
        record: it.
        path: of the file with its ``recipe``.
    """
    # Quoted: readers paste the command into a shell, and the names are whatever a contributed record says.
    plugins = "".join(f" --plugin {shlex.quote(file.rpartition('/')[2])}" for file in dict.fromkeys(_files(record)))
    return f"prunebench run {path}{plugins}"


def _files(record: Record) -> list[str]:
    """The plugin files that a cell ran with."""
    extra = record.cell.model_extra or {}
    others = extra.get("wrapper_files")
    texts = (record.cell.calibration, *record.cell.evaluations)
    files = [extra.get("plugin_file"), *(others if isinstance(others, list | tuple) else ())]
    files += [part.get(key) for part in texts for key in ("plugin_file", "corpus_file")]
    return list(dict.fromkeys(str(file) for file in files if file))


def _rule(record: Record) -> dict[str, Any]:
    """What shares out the zeros; empty for all alike."""
    rule = (record.cell.model_extra or {}).get("allocation_rule")
    return rule if isinstance(rule, dict) else {}


def _given(facts: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What is said of some names; None and False are what a suite has by default."""
    return {name: facts[name] for name in names if facts.get(name) not in (None, False)}
