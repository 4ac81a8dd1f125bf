"""Scores of zero-shot tasks, from lm-eval's own results, with intervals."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prunebench.records.cell_facts import task_titles
from prunebench.records.record import Record
from prunebench.report.intervals import over_seeds, wilson

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
    requested = [task for evaluation in record.cell.evaluations for task in task_titles(evaluation)]
    return {task: available[task] for task in requested} if requested and set(requested) <= set(available) else results


def scores(record: Record) -> dict[Column, Score]:
    """Scores of the requested tasks: accuracy if a task has it, else the first of its metrics."""
    return _scores(record, requested_entries(record))


def task_scores(record: Record) -> dict[Column, Score]:
    """Scores of every single task, including members of groups but not the groups."""
    groups = record.zero_shot.get("groups") or {}
    return _scores(record, {k: v for k, v in (record.zero_shot.get("results") or {}).items() if k not in groups})


def file_digests(record: Record) -> dict[str, str]:
    """By task, the digest of its task files, empty for lm-eval's own; a member of a group has those of all tasks."""
    requested = [evaluation for evaluation in record.cell.evaluations if "tasks" in evaluation]
    by_task = {
        task: str(evaluation.get("digest") or "") for evaluation in requested for task in task_titles(evaluation)
    }
    of_all = " ".join(sorted(str(evaluation.get("digest") or "") for evaluation in requested))
    return dict.fromkeys(map(str, record.zero_shot.get("results") or {}), of_all) | by_task


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
