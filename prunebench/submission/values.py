"""The figures of a record against the arrays beside it: perplexities, accuracies, and the sample of the mask."""

import math
import re
from collections.abc import Mapping

import numpy as np

from prunebench.evaluation.perplexity import summarise
from prunebench.pruning.sparsity import NM, PatternError, parse_pattern
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE
from prunebench.submission.finding import Finding

AGREES = 1e-6  # relative; both are computed in float64
STORED = ("acc", "exact_match")  # metrics whose answers are kept beside a record
SAMPLE_AGREES = 0.05  # the sample holds every so many-th row, whose share of zeros may differ from the whole
LARGEST_SAMPLE = 1 << 24  # bytes, far above that of any model; it is unpacked to eight times as many
GROUPS = (2, 4, 8)  # m of n:m whose groups end where bytes do


def value_findings(record: Record, arrays: Mapping[str, np.ndarray]) -> list[Finding]:
    """What does not follow from a record's arrays.

    Args:
        record: it.
        arrays: by name, as they were read.
    """
    faults = [*_perplexities(record, arrays), *_answers(record, arrays), *_mask(record, arrays)]
    return [Finding(record.cell.id, fault) for fault in faults]


def _perplexities(record: Record, arrays: Mapping[str, np.ndarray]) -> list[str]:
    faults = []
    for protocol, told in record.perplexity.items():
        losses, counts = (arrays.get(f"perplexity/{protocol}/{part}") for part in ("losses", "counts"))
        if losses is None or counts is None:
            faults.append(f"the losses of {protocol} are missing")
            continue
        if len(losses) != len(counts) or not len(losses) or counts.dtype.kind not in "iu" or counts.min() < 1:
            faults.append(f"{protocol}: {len(losses)} losses and {len(counts)} counts are no sequences")
            continue
        if losses.min() < 0:
            faults.append(f"{protocol}: a loss is below zero")
        found = summarise(losses, counts, protocol=protocol, dropped_tokens=0)
        if told.tokens != found.tokens:
            faults.append(f"{protocol}: it says {told.tokens} tokens, its counts give {found.tokens}")
        for name in ("value", "nll", "stderr"):
            said, given = getattr(told, name), getattr(found, name)
            if not np.isclose(said, given, rtol=AGREES, atol=0, equal_nan=True):
                faults.append(f"{protocol}: its {name} is {said:.8g}, its losses give {given:.8g}")
        window = re.search(r"/(?:stream|paper|random)(?:-bos)?-(?:\d+x)?(\d{1,9})$", protocol)
        if window and not (counts == int(window[1]) - 1).all():
            faults.append(
                f"{protocol}: its windows predict {counts.min()} to {counts.max()} tokens, not {window[1]} - 1"
            )
    return faults


def _answers(record: Record, arrays: Mapping[str, np.ndarray]) -> list[str]:
    faults = []
    groups = record.zero_shot.get("groups") or {}
    for task, entry in (record.zero_shot.get("results") or {}).items():
        for key, told in entry.items():
            metric, comma, filtered = key.partition(",")
            if task in groups or not comma or metric.endswith("_stderr") or not metric.startswith(STORED):
                continue
            name = metric if filtered == "none" else key
            answers = arrays.get(f"zero_shot/{task}/{name}")
            if answers is None:
                faults.append(f"the answers to {task} ({name}) are missing")
                continue
            questions = (record.zero_shot.get("n-samples", {}).get(task) or {}).get("effective")
            if questions is not None and len(answers) != questions:
                faults.append(f"{task}: it says {questions} questions, its answers are {len(answers)}")
            elif not len(answers) or answers.min() < 0 or answers.max() > 1:
                faults.append(f"{task}: its answers ({name}) are not between 0 and 1")
            elif not isinstance(told, int | float) or not math.isclose(told, answers.mean(), abs_tol=AGREES):
                faults.append(f"{task}: its {name} is {told}, its answers give {answers.mean():.6f}")
    return faults


def _mask(record: Record, arrays: Mapping[str, np.ndarray]) -> list[str]:
    if record.cell.sparsity == DENSE or record.sparsity is None:
        return []
    mask = arrays.get("mask")
    if mask is None:
        return ["the sample of its mask is missing"]
    if mask.dtype != np.uint8 or not 0 < len(mask) <= LARGEST_SAMPLE:
        return ["the sample of its mask is none"]
    try:
        pattern = parse_pattern(record.cell.sparsity)
    except PatternError as error:
        return [str(error)]
    bits = np.unpackbits(mask)
    brought = record.method is not None and record.method.brought
    if isinstance(pattern, NM) and pattern.m in GROUPS and not brought:
        broken = int((bits.reshape(-1, pattern.m).sum(1) > pattern.n).sum())
        if broken:
            return [f"the sample of its mask breaks {pattern} in {broken} of {len(bits) // pattern.m} groups"]
    share = 1 - bits.mean()
    if abs(share - record.sparsity.reached) > SAMPLE_AGREES:
        return [f"the sample of its mask holds {share:.3f} zeros, and reached is {record.sparsity.reached:.3f}"]
    return []
