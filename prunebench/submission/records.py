"""Each record of a submission by itself: its identity, how it was measured, its versions, its zeros."""

import re
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from prunebench.errors import CorpusError, SuiteError
from prunebench.evaluation.protocols import protocol_name
from prunebench.pruning.sparsity import PatternError, Unstructured, parse_pattern
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE
from prunebench.submission.finding import Finding
from prunebench.suite.cell import Cell

NAMED = ("prunebench", "torch", "transformers")  # libraries whose versions a record must tell
NEAR = 1e-9  # of shares that are computed from whole numbers


def record_findings(record: Record) -> list[Finding]:
    """What is wrong with a record, from what it says alone."""
    what = [*_identity(record), *_measuring(record), *_versions(record), *_protocols(record), *_zeros(record)]
    return [Finding(record.cell.id, each) for each in what]


def _identity(record: Record) -> list[str]:
    content = record.cell.model_dump(mode="json", by_alias=True)
    try:
        found = Cell.model_validate(content)
    except (ValidationError, SuiteError, ValueError) as error:
        return [f"its cell is none of this version: {str(error).splitlines()[0]}"]
    faults = []
    if found.id != record.cell.id:
        faults.append(f"its settings give the id {found.id}: it was edited, or made by another version")
    if list(found.key) != list(record.cell.key):
        faults.append(f"its key {list(record.cell.key)} is not that of its settings, {list(found.key)}")
    return faults


def _measuring(record: Record) -> list[str]:
    faults = []
    if record.measured != "reloaded":
        faults.append(f"measured is {record.measured!r}: only what was measured in a process of its own is accepted")
    if not record.perplexity and not record.zero_shot and not record.measures:
        faults.append("nothing was measured")
    for name in ("weights_digest", "model_digest", "started", "device"):
        if not record.environment.get(name):
            faults.append(f"its environment tells no {name}")
    for name, entry in record.verified.items():
        if not entry.agrees:
            faults.append(f"{name} is not confirmed on fresh text, as it says itself")
    return faults


def _versions(record: Record) -> list[str]:
    told = record.environment.get("versions")
    versions = told if isinstance(told, dict) else {}
    faults = [f"it tells no version of {name}" for name in NAMED if not versions.get(name)]
    theirs, ours = str(versions.get("prunebench") or ""), version("prunebench")
    if theirs and _numbers(theirs) > _numbers(ours):
        faults.append(f"it was made by prunebench {theirs}, and this is {ours}: update prunebench")
    return faults


def _numbers(text: str) -> list[int]:
    return [int(part[:9]) for part in re.findall(r"\d+", text)[:3]]


def _protocols(record: Record) -> list[str]:
    """Each protocol is what its corpus, windows and length are called, and each perplexity was asked for."""
    faults, asked = [], set()
    for facts in record.cell.evaluations:
        if "protocol" not in facts:
            continue
        told = str(facts["protocol"])
        asked.add(told)
        try:
            name = protocol_name(str(facts.get("corpus")), *map(facts.get, ("windows", "seqlen", "limit")))  # type: ignore[arg-type]
        except (CorpusError, AttributeError, TypeError) as error:
            faults.append(f"the settings of {told} are none: {error}")
            continue
        if name != told:
            faults.append(f"its protocol {told} has the settings of {name}")
    faults += [
        f"the perplexity {name} is of no evaluation of its cell" for name in record.perplexity if name not in asked
    ]
    faults += [f"the evaluation {name} has no perplexity" for name in sorted(asked) if name not in record.perplexity]
    return faults


def _zeros(record: Record) -> list[str]:
    """The zeros counted are those asked for, and add up."""
    counts, extra = record.sparsity, record.cell.model_extra or {}
    if counts is None:
        return ["it tells no zeros"]
    numel, zeros = (sum(getattr(each, part) for each in counts.matrices.values()) for part in ("numel", "zeros"))
    if not numel:
        return ["it counts no matrix"]
    faults = []
    if any(each.zeros > each.numel for each in counts.matrices.values()):
        faults.append("a matrix has more zeros than weights")
    if abs(zeros / numel - counts.reached) > NEAR:
        faults.append(
            f"reached is {counts.reached}, but its matrices hold {zeros} zeros of {numel}, {zeros / numel:.6f}"
        )
    if counts.parameters is not None and zeros > counts.whole_model * counts.parameters + 1:
        faults.append(f"whole_model is {counts.whole_model}, less than the zeros of its matrices")
    if record.cell.sparsity == DENSE or (record.method is not None and record.method.brought):
        return faults
    try:
        pattern = parse_pattern(record.cell.sparsity)
        alike = not isinstance(pattern, Unstructured) or not extra.get("allocation_rule")
        parts: list[tuple[str, Any]] = list(counts.matrices.items()) if alike else []
        short = [name for name, each in parts if each.zeros < pattern.zeros((1, each.numel))]
        if short:
            faults.append(f"{short[0]} holds fewer zeros than {pattern} asks for (and {len(short) - 1} more)")
        elif not parts and zeros < pattern.zeros((1, numel)):
            faults.append(
                f"its matrices hold {zeros} zeros, fewer than {pattern} asks for, {pattern.zeros((1, numel))}"
            )
        if abs(counts.requested - pattern.ratio) > NEAR:
            faults.append(f"requested is {counts.requested}, but its sparsity {pattern} is {pattern.ratio}")
    except PatternError as error:
        faults.append(str(error))
    return faults
