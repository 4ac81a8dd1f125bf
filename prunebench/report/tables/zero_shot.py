"""Zero-shot tables, from lm-eval's own results."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.grouping import (
    DENSE,
    Setting,
    baselines_of,
    group_by,
    method_order,
    records_by_setting,
    sparsity_order,
)
from prunebench.report.intervals import over_seeds, wilson
from prunebench.report.tables.best import best_accuracies, chance_of, marks_caption
from prunebench.report.tables.table import Table, caption, seeds_text

# Metrics that are fractions of questions: shown in percent and averaged over tasks.
SHARE_METRICS = ("acc", "exact_match", "em", "f1")
# Metrics whose per-question answers are stored in the arrays of a record.
STORED_METRICS = ("acc", "exact_match")
INTERVAL_STDERRS = 1.96  # standard errors to each side of a 95 % interval


@dataclass(frozen=True)
class Score:
    """One task's result.

    Args:
        value: mean over seeds.
        stderr: standard error over questions, as lm-eval gives it; None if it gives none.
        low, high: 95 % interval of a share of questions; NaN for another metric, or if their number is unknown.
    """

    value: float
    stderr: float | None
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Column:
    """A column of a zero-shot table: one task, measured with one metric on one set of questions."""

    task: str
    metric: str
    shots: str
    questions: str
    version: str

    @property
    def share(self) -> bool:
        """Whether the metric is a fraction of questions, shown in percent."""
        return self.metric.startswith(SHARE_METRICS)

    @property
    def has_stored_answers(self) -> bool:
        """Whether per-question answers are stored, so that paired tests are possible."""
        return self.metric.startswith(STORED_METRICS)

    def header(self, others: Iterable["Column"]) -> str:
        """The task, and whatever else distinguishes the column from the others.

        Args:
            others: all columns of the table.
        """
        same_task = [other for other in others if other.task == self.task]
        parts = [self.task]
        if self.metric != "acc":
            parts.append(self.metric)
        if len({other.shots for other in same_task}) > 1 or self.shots not in ("0", ""):
            parts.append(f"{self.shots}-shot")
        if len({other.questions for other in same_task}) > 1:
            parts.append(f"{self.questions} questions")
        if len({other.version for other in same_task}) > 1:
            parts.append(f"version {self.version}")
        return parts[0] if len(parts) == 1 else f"{parts[0]} ({', '.join(parts[1:])})"


def requested_entries(record: Record) -> dict[str, dict[str, Any]]:
    """lm-eval's results of the requested tasks and groups, by name; of all tasks if a requested tag has none."""
    results: dict[str, Any] = record.zero_shot.get("results") or {}
    available = results | (record.zero_shot.get("groups") or {})
    requested = [str(task) for evaluation in record.cell.evaluations for task in evaluation.get("tasks", ())]
    return {task: available[task] for task in requested} if requested and set(requested) <= set(available) else results


def scores(record: Record) -> dict[Column, Score]:
    """Scores of the requested tasks: accuracy if a task has it, else the first of its metrics."""
    return _scores(record, requested_entries(record))


def task_scores(record: Record) -> dict[Column, Score]:
    """Scores of every single task, including members of groups but not the groups."""
    groups = record.zero_shot.get("groups") or {}
    return _scores(record, {k: v for k, v in (record.zero_shot.get("results") or {}).items() if k not in groups})


def _scores(record: Record, entries: dict[str, dict[str, Any]]) -> dict[Column, Score]:
    columns = {}
    for task, entry in entries.items():
        metrics = {
            key.partition(",")[0]: (key, value)
            for key, value in reversed(entry.items())
            if "," in key and "_stderr," not in key and isinstance(value, int | float)
        }
        ranked = ["acc", *(record.zero_shot.get("higher_is_better", {}).get(task) or {}), *reversed(metrics)]
        metric = next((name for name in ranked if name in metrics), None)
        if metric is None:
            continue
        key, value = metrics[metric]
        stderr = entry.get(f"{metric}_stderr,{key.partition(',')[2]}")
        questions = (record.zero_shot.get("n-samples", {}).get(task) or {}).get(
            "effective", entry.get("sample_len", "")
        )
        shots, version = (record.zero_shot.get(part, {}).get(task, "") for part in ("n-shot", "versions"))
        columns[Column(task, metric, str(shots), str(questions), str(version))] = Score(
            float(value), float(stderr) if isinstance(stderr, int | float) else None
        )
    return columns


def zero_shot_tables(
    records: Sequence[Record], order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> list[Table]:
    """Methods and sparsities × tasks, with standard errors and the unweighted mean; the dense model comes first.

    Args:
        records: records of one model.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays of the records; without them nothing is marked as best.
    """
    with_zero_shot = [record for record in records if _has_zero_shot(record)]
    groups = records_by_setting(with_zero_shot)
    tables = [_table(setting, groups, with_zero_shot, order, array_store) for setting in groups]
    return [table for table in tables if table.headers[2:]]


def _table(
    setting: Setting,
    groups: dict[Setting, list[Record]],
    with_zero_shot: Sequence[Record],
    order: Sequence[str],
    array_store: ArrayStore | None,
) -> Table:
    base = baselines_of(with_zero_shot, setting)
    pruned = [record for record in groups[setting] if record.cell.method not in base]
    cells = group_by(pruned, lambda record: (record.cell.method, record.cell.sparsity))
    rows = {(method, DENSE): [base[method]] for method in method_order(base.values(), order)}
    for method in method_order(pruned, order):
        for sparsity in sparsity_order(sparsity for name, sparsity in cells if name == method):
            rows[method, sparsity] = cells[method, sparsity]
    columns = list(dict.fromkeys(column for group in rows.values() for record in group for column in scores(record)))
    columns = columns or [Column(task, "acc", "", "", "") for task in _skipped_tasks(rows.values())]
    shares = [column for column in columns if column.share]
    contests = [[column] if column.share else [] for column in columns] + ([shares] if len(shares) > 1 else [])
    marked = best_accuracies(
        [
            [_comparable_seeds(group, sparsity, compared) for (_, sparsity), group in rows.items()]
            for compared in contests
        ],
        [sparsity for _, sparsity in rows],
        [[(column.task, column.metric) for column in compared] for compared in contests],
        array_store,
    )
    chance = _chance_row([record for group in rows.values() for record in group], columns, shares)
    by_sparsity = [
        [group for (_, other), group in rows.items() if other == sparsity]
        for sparsity in dict.fromkeys(sparsity for _, sparsity in rows)
        if sparsity != DENSE
    ]
    return Table(
        caption(
            f"Zero-shot tasks of {setting.model}: accuracy in percent (95 % interval)",
            setting.describe(groups),
            seeds_text(rows.values()),
            marks_caption(by_sparsity, marked=bool(marked), evidence=array_store is not None),
            "methods that are not above chance are not marked" if chance else "",
        ),
        ("method", "sparsity", *(column.header(columns) for column in columns), *(["mean"] if len(shares) > 1 else [])),
        (*(tuple((*key, *_entries(group, columns, shares)) for key, group in rows.items())), *chance),
        frozenset((row, 2 + column) for column, row in marked),
    )


def _chance_row(
    records: Sequence[Record], columns: Sequence[Column], shares: Sequence[Column]
) -> tuple[tuple[str, ...], ...]:
    """A row with the accuracy of guessing, where it is known of a task; else none."""
    known = [chance_of(records, [column.task]) if column.share else None for column in columns]
    if all(share is None for share in known):
        return ()
    if len(shares) > 1:
        known.append(chance_of(records, [column.task for column in shares]))
    return (("chance", "", *(text.MISSING if share is None else f"{100 * share:.1f}" for share in known)),)


def _comparable_seeds(group: list[Record], sparsity: str, columns: Sequence[Column]) -> list[Record]:
    """The records of the seeds if each has all the columns, else none: other shots or questions cannot be compared."""
    return group if sparsity != DENSE and all(set(columns) <= set(scores(record)) for record in group) else []


def _entries(records: Sequence[Record], columns: Sequence[Column], shares: Sequence[Column]) -> list[str]:
    """The entries of one row; without a mean if a task is missing, because it could not be compared."""
    width = len(columns) + (len(shares) > 1)
    measured = mean_over_seeds([scores(record) for record in records if record.status == "ok"])
    if not measured:
        return [text.FAILED if any(record.status == "failed" for record in records) else text.MISSING] * width
    entries = [_entry(measured.get(column), share=column.share) for column in columns]
    if len(shares) > 1:
        complete = all(column in measured for column in shares)
        entries.append(
            _entry(mean_over_tasks([measured[column] for column in shares]) if complete else None, share=True)
        )
    return entries


def _skipped_tasks(groups: Iterable[list[Record]]) -> list[str]:
    """Requested tasks without results, such as of a model that is never in memory as a whole."""
    tasks = [
        str(task)
        for group in groups
        for record in group
        if record.status == "ok"
        for evaluation in record.cell.evaluations
        for task in evaluation.get("tasks", ())
    ]
    return list(dict.fromkeys(tasks))


def _has_zero_shot(record: Record) -> bool:
    return any(evaluation.get("name") == "zero_shot" for evaluation in record.cell.evaluations) or bool(
        record.zero_shot
    )


def mean_over_seeds(seeds: Sequence[dict[Column, Score]]) -> dict[Column, Score]:
    """Mean scores over seeds, with Wilson's interval over questions, widened by Student's over the seeds.

    The questions are the same for each seed, so that more seeds do not narrow the interval over them.
    """
    counts = Counter(column for scores_of_seed in seeds for column in scores_of_seed)
    means = {}
    for column in counts:
        entries = [scores_of_seed[column] for scores_of_seed in seeds if column in scores_of_seed]
        errors = [entry.stderr for entry in entries if entry.stderr is not None]
        values = [entry.value for entry in entries]
        mean = statistics.fmean(values)
        stderr = statistics.fmean(errors) if len(errors) == len(entries) else None
        low, high = _interval(values, stderr, column) if column.share else (math.nan, math.nan)
        means[column] = Score(mean, stderr, low, high)
    return means


def _interval(values: Sequence[float], stderr: float | None, column: Column) -> tuple[float, float]:
    """The interval of a mean over seeds; by lm-eval's standard error if the number of questions is unknown."""
    mean = statistics.fmean(values)
    if column.questions.isdigit() and 0 <= mean <= 1:
        low, high = wilson(mean, int(column.questions))
    elif stderr is not None:
        low, high = mean - INTERVAL_STDERRS * stderr, mean + INTERVAL_STDERRS * stderr
    else:
        return math.nan, math.nan
    of_seeds = over_seeds(values)
    half = mean - of_seeds.low if of_seeds.n > 1 else 0.0
    return max(0.0, mean - math.hypot(mean - low, half)), min(1.0, mean + math.hypot(high - mean, half))


def mean_over_tasks(entries: Sequence[Score]) -> Score:
    """Unweighted mean over n tasks; the standard error is √Σse² / n, since the questions of tasks are independent.

    The distances to the ends of the intervals add up in the same way.
    """
    errors = [entry.stderr for entry in entries if entry.stderr is not None]
    known, mean = len(errors) == len(entries), statistics.fmean(entry.value for entry in entries)
    below = math.sqrt(sum((entry.value - entry.low) ** 2 for entry in entries)) / len(entries)
    above = math.sqrt(sum((entry.high - entry.value) ** 2 for entry in entries)) / len(entries)
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(entries) if known else None
    return Score(mean, stderr, mean - below, mean + above)


def _entry(score: Score | None, *, share: bool) -> str:
    if score is None:
        return text.MISSING
    if not share:
        spread = "" if score.stderr is None else f" ± {text.number(score.stderr, like=score.value)}"
        return text.number(score.value) + spread
    spread = "" if math.isnan(score.low) else f" ({100 * score.low:.1f}–{100 * score.high:.1f})"
    return f"{100 * score.value:.1f}{spread}"
