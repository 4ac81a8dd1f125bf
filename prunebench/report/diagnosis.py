"""Failure signatures: what the records of a run say of why it went wrong, with the evidence and what to try.

A signature reads the curve that a method traced, what it accounted for and what the runner measured, by the names that
the documentation lists. It knows no method: whatever writes those names is diagnosed.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE

Curve = list[tuple[float, float]]
"""A quantity of one run, as (step, value)."""

FEWEST_POINTS = 4
"""Of a curve, below which nothing is said of where it goes."""
NO_FALL = 0.8
"""A residual that ends at this share of its start, or above, has not fallen."""
JUMP = math.log(1.25)
"""Nats: a projection that raises the perplexity by a quarter and more."""
RESTLESS = 0.6
"""Of the kept weights: a mask that exchanges as many at each update has not settled."""
SHORT_TRAVEL, SHORT_TRAVEL_FALL = 3.0, 0.7
"""Times their rms that weights can move, below which they may not arrive; and the residual that says they did not."""
SHORT_TRAVEL_NOTE = "weights can travel less than"
"""How a note begins that says so in place of ``travel``."""
COLLAPSED_SHARE = 0.1
"""Of what the matrices keep together: a matrix that keeps so much less of itself holds the zeros."""
LARGE_ERROR, OUTLYING_ERROR = 0.5, 4.0
"""Of a layer's output that is lost; and times the median of all layers' loss."""
NEAR_LIMIT = 0.9
"""Of the memory that there is."""
MEMORY_ERRORS = ("MemoryLimit", "MemoryError", "OutOfMemoryError")
DIVERGED_ERRORS = ("FloatingPointError",)

DIVERGENCE, RESIDUAL, PROJECTION = "divergence", "residual does not fall", "loss jumps at the projection"
MASK, TRAVEL = "mask still changes at the end", "weights could not travel"
ZEROS, ERROR = "one layer holds the zeros", "one layer carries the loss"
MEMORY, NO_MEMORY = "memory near the limit", "memory ran out"
_LESS_MEMORY = (
    "Lower the batch size and accumulate gradients, recompute activations, take fewer calibration windows, or run with "
    "device: disk."
)
REMEDIES = {
    DIVERGENCE: "Lower the learning rate, or let it rise in a warm-up.",
    RESIDUAL: "Where it rises, update the mask less often, let the penalty rise from 0, or lower the learning rate. "
    "Where it stays, train longer, or raise the penalty, so that the weights are drawn to the sparse copy.",
    PROJECTION: "Bring the weights nearer to the pattern before it is forced on them: raise the penalty's final value, "
    "or train longer. Retraining with the mask held (then: retrain) makes up for part of it.",
    MASK: "Train longer, let the learning rate fall further, raise the penalty at the end, or choose the mask less "
    "often, so that it settles.",
    TRAVEL: "Raise the learning rate or the number of steps until their product is several times the weights' size.",
    ZEROS: "Bound the sparsity of a single layer, or share the zeros out by allocation: uniform or owl.",
    ERROR: "Keep more of that layer (allocation: owl, or one from a file), take more calibration windows, or look at "
    "its inputs: single large features are a common cause.",
    MEMORY: f"Another run may not fit. {_LESS_MEMORY}",
    NO_MEMORY: _LESS_MEMORY,
}
"""What to try, by signature."""


@dataclass(frozen=True)
class Finding:
    """One failure signature of one record.

    Args:
        signature: its name.
        evidence: the numbers that show it.
        weight: how far it is beyond its limit, to find the worst of several seeds.
    """

    signature: str
    evidence: str
    weight: float = 1.0


def diagnose(record: Record) -> list[Finding]:
    """The failure signatures of a record; none where the run looks as it should, or says nothing of itself.

    Args:
        record: of any method.
    """
    if record.cell.sparsity == DENSE:
        return []
    found = [finding for signature in SIGNATURES if (finding := signature(record)) is not None]
    causes = {finding.signature for finding in found}
    return [finding for finding in found if not (finding.signature == RESIDUAL and TRAVEL in causes)]


def runs(record: Record, quantity: str) -> list[Curve]:
    """The curves of a traced quantity, one for each run: where steps begin anew, another layer or stage begins."""
    curves = [[(step, row[quantity]) for step, row in rows if quantity in row] for rows in _rows(record)]
    return [curve for curve in curves if curve]


def _rows(record: Record) -> list[list[tuple[float, dict[str, float]]]]:
    """The rows of each run, with their steps."""
    found: list[list[tuple[float, dict[str, float]]]] = []
    last = -1.0
    for row in record.trace:
        if not (step := row.get("step", last + 1)) > last or not found:
            found.append([])
        last = step
        found[-1].append((step, row))
    return found


def divergence(record: Record) -> Finding | None:
    """The loss became infinite, or ``primal`` ends about as high as it began in most runs."""
    if record.error is not None and record.error.type in DIVERGED_ERRORS:
        return Finding(DIVERGENCE, record.error.message, math.inf)
    curves = [curve for curve in runs(record, "primal") if len(curve) >= FEWEST_POINTS and curve[0][1] > 0]
    ends = [(curve, _end(curve) / curve[0][1]) for curve in curves]
    risen = [(curve, ratio) for curve, ratio in ends if not ratio < NO_FALL]
    if 2 * len(risen) <= len(ends):
        return None
    curve, ratio = max(risen, key=lambda pair: _rank(pair[1]))
    evidence = f"the residual begins at {curve[0][1]:.3g} and ends at {_end(curve):.3g}"
    if len(ends) > 1:
        evidence += f", and so in {len(risen)} of {len(ends)} runs"
    return Finding(RESIDUAL, evidence, ratio)


def projection_jump(record: Record) -> Finding | None:
    """``projected_loss`` at the end lies far above the last ``loss`` of the same run; another may have followed."""
    curves = [{name: value for _, row in rows for name, value in row.items()} for rows in _rows(record)]
    ends = [(last["loss"], last["projected_loss"]) for last in curves if {"loss", "projected_loss"} <= last.keys()]
    if not ends:
        return None
    loss, projected = ends[-1]
    if not (projected - loss > JUMP or math.isnan(projected)):
        return None
    evidence = f"the loss is {loss:.3g} before the last projection and {projected:.3g} after it"
    return Finding(PROJECTION, evidence, projected - loss)


def restless_mask(record: Record) -> Finding | None:
    """``mask_change`` is still large at the end of the run."""
    curves = [curve for curve in runs(record, "mask_change") if len(curve) >= FEWEST_POINTS]
    if not curves or (change := _end(curves[-1][:-1])) < RESTLESS:
        return None
    return Finding(MASK, f"each of the last updates exchanges {100 * change:.0f} % of the kept weights", change)


def short_travel(record: Record) -> Finding | None:
    """By ``travel``, or by a note, weights could not move far enough, and ``primal``, if traced, says so too."""
    travel = _amount(record, "travel")
    noted = any(note.startswith(SHORT_TRAVEL_NOTE) for note in record.notes)
    if not (travel < SHORT_TRAVEL if travel is not None else noted):
        return None
    falls = [_end(c) / c[0][1] for c in runs(record, "primal") if len(c) >= FEWEST_POINTS and c[0][1] > 0]
    if falls and statistics.median(falls) < SHORT_TRAVEL_FALL:
        return None  # they arrived all the same
    far = "less than three times" if travel is None else f"{travel:.2g} times"
    seen = f", and the residual ends at {100 * statistics.median(falls):.0f} % of its start" if falls else ""
    evidence = f"in the whole run a weight can move by {far} the weights' rms{seen}"
    return Finding(TRAVEL, evidence, -(SHORT_TRAVEL if travel is None else travel))


def layer_collapse(record: Record) -> Finding | None:
    """One matrix is nearly empty while the others are not."""
    counts = {n: c for n, c in record.sparsity.matrices.items() if c.numel} if record.sparsity else {}
    total = sum(count.numel for count in counts.values())
    if not total or (kept := 1 - sum(count.zeros for count in counts.values()) / total) <= 0:
        return None
    shares = {name: 1 - count.zeros / count.numel for name, count in counts.items()}
    name = min(shares, key=shares.__getitem__)
    if shares[name] >= COLLAPSED_SHARE * kept:
        return None
    others = sum(share < COLLAPSED_SHARE * kept for share in shares.values()) - 1
    more = f", and {text.counted(others, 'other matrix', 'other matrices')} like it" if others else ""
    return Finding(
        ZEROS,
        f"{text.printable(name)} keeps {100 * shares[name]:.2g} % of its weights, all matrices together "
        f"{100 * kept:.3g} %{more}",
        kept / max(shares[name], 1e-9),
    )


def layer_error(record: Record) -> Finding | None:
    """By ``layer_error`` one layer loses most of its output while the others do not."""
    found = (record.cost.model_extra or {}).get("layer_error")
    errors = {str(n): float(e) for n, e in found.items() if _is_number(e)} if isinstance(found, dict) else {}
    if len(errors) < FEWEST_POINTS:
        return None
    name, median = max(errors, key=lambda name: _rank(errors[name])), statistics.median(errors.values())
    if not (errors[name] >= LARGE_ERROR and errors[name] >= OUTLYING_ERROR * median) and not math.isnan(errors[name]):
        return None
    return Finding(
        ERROR,
        f"{text.printable(name)} loses {100 * errors[name]:.0f} % of its output, the layers' median is "
        f"{100 * median:.2g} %",
        errors[name] / median if median else math.inf,
    )


def memory_limit(record: Record) -> Finding | None:
    """The peak lies near what the machine has, or the cell ended for want of memory."""
    if record.error is not None and (record.error.type in MEMORY_ERRORS or record.error.signal == "SIGKILL"):
        killed = " (SIGKILL: often the system, when memory runs out)" if record.error.signal == "SIGKILL" else ""
        return Finding(NO_MEMORY, record.error.message + killed, math.inf)
    there, peak = record.environment.get("memory_bytes"), record.cost.peak_bytes
    if not isinstance(there, int) or peak is None or there <= 0 or peak < NEAR_LIMIT * there:
        return None
    return Finding(MEMORY, f"the peak while pruning is {text.size(peak)} of {text.size(there)}", peak / there)


SIGNATURES: Sequence[Callable[[Record], Finding | None]] = (
    divergence,
    projection_jump,
    restless_mask,
    short_travel,
    layer_collapse,
    layer_error,
    memory_limit,
)


def worst(findings: Iterable[Finding]) -> Finding:
    """The finding that is furthest beyond its limit."""
    return max(findings, key=lambda finding: _rank(finding.weight))


def _end(curve: Curve) -> float:
    """Where a curve ends: the median of its last three values; NaN if one is not finite."""
    values = [value for _, value in itertools.islice(reversed(curve), 3)]
    return statistics.median(values) if all(map(math.isfinite, values)) else math.nan


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _amount(record: Record, name: str) -> float | None:
    value = (record.cost.model_extra or {}).get(name)
    return float(value) if value is not None and _is_number(value) else None
