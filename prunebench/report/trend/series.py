"""Series over commits from results folders: one folder is one commit, one series what is comparable throughout."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from prunebench.errors import UsageError
from prunebench.records.record import Record
from prunebench.records.store import read_records
from prunebench.report.compare.seed_spread import pooled_spread
from prunebench.report.grouping import Setting, group_by, latest_records, protocol_digests
from prunebench.report.tables.scores import file_digests, task_scores
from prunebench.report.trend.failed import FailedCell, failed_cells
from prunebench.report.trend.steps import (
    FEWEST,
    LEVEL,
    Step,
    find_steps,
    freedom_of_neighbours,
    noise_between_neighbours,
)

Key = tuple[Setting, str, str, str, str]
"""Setting, method, sparsity, protocol or task, and what tells its texts or questions apart."""

SMALLEST_NOISE = 1e-4  # of the logarithm, or in shares: machines round in other ways


class Metric(StrEnum):
    """What a trend follows."""

    PERPLEXITY = "perplexity"
    ACCURACY = "accuracy"
    TIME = "time"
    MEMORY = "memory"

    @property
    def relative(self) -> bool:
        """Whether a change is relative; that of an accuracy is a difference of shares."""
        return self is not Metric.ACCURACY


@dataclass(frozen=True)
class Commit:
    """One results folder.

    Args:
        name: the first digits of the git commit that its records name, else the folder's name.
        started: when its last cell began, as its records say.
        records: all of them.
    """

    name: str
    started: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Trend:
    """One measure of one cell over commits.

    Args:
        model, method, sparsity: of the cell.
        of: the protocol or task; empty for time and memory.
        metric: what was measured.
        commits: of the points.
        values: of the points: means over seeds, geometric where changes are relative.
        noise: standard error of each point, relative or in shares; NaN if unknown.
        freedom: its degrees of freedom.
        steps: changes of level, of logarithms where changes are relative.
        failed: the cells that are missing from it because they failed.
        ended: the latest commit, if all of its cells failed; None where it has a value.
    """

    model: str
    method: str
    sparsity: str
    of: str
    metric: Metric
    commits: tuple[Commit, ...]
    values: tuple[float, ...]
    noise: tuple[float, ...]
    freedom: float
    steps: tuple[Step, ...]
    failed: tuple[FailedCell, ...] = ()
    ended: str | None = None

    def level(self, value: float) -> float:
        """The value that a step's level stands for."""
        return math.exp(value) if self.metric.relative else value

    def change(self, step: Step) -> float:
        """A step's change: relative, or a difference of shares."""
        return math.expm1(step.change) if self.metric.relative else step.change

    def worse(self, step: Step) -> bool:
        """Whether a step is a change for the worse."""
        return (step.change > 0) == self.metric.relative


def read_commits(folders: Sequence[Path], *, in_order: bool = False, leave_out: Callable[[str], None]) -> list[Commit]:
    """Read the history: one results folder for each commit.

    Args:
        folders: at least two of them.
        in_order: whether they are given in their order; else they are sorted by the time at which they ran.
        leave_out: called with a message for each record that is not whole.

    Raises:
        UsageError: there are fewer than two.
        RecordError: one is no results folder.
    """
    if len(folders) < 2:
        raise UsageError(f"{len(folders)} results folder is no history: name one for each commit, two or more")
    commits = []
    for folder in folders:
        records = read_records(folder, leave_out)
        latest = max(records, key=lambda record: str(record.environment.get("started") or ""))
        commit = str(latest.environment.get("git_commit") or "")[:8]
        name = commit or folder.resolve().name
        commits.append(Commit(name, str(latest.environment.get("started") or ""), tuple(records)))
    return commits if in_order else sorted(commits, key=lambda commit: commit.started)


def trends(commits: Sequence[Commit], metric: Metric, smallest: float) -> list[Trend]:
    """All series of a metric that have two points or more.

    Args:
        commits: in their order.
        metric: what to follow.
        smallest: the smallest step that is told, relative or in shares.
    """
    found, examples = dict[Key, dict[int, list[Sample]]](), dict[Key, Record]()
    for number, commit in enumerate(commits):
        shown, _ = latest_records([record for record in commit.records if record.status == "ok"])
        for record in shown:
            for what, sample in _SAMPLES[metric](record).items():
                key = (Setting.of(record), record.cell.method, record.cell.sparsity, *what)
                found.setdefault(key, {}).setdefault(number, []).append(sample)
                examples[key] = record
    series = {key: points for key, points in found.items() if len(points) > 1}
    failed = left_out(commits)
    made = []
    for key, points in series.items():
        trend = _trend(key, points, commits, metric, smallest, len(series))
        own = tuple(cell for cell in failed if cell.belongs(examples[key], trend.of))
        made.append(replace(trend, failed=own, ended=own[-1].commit if own and own[-1].at > max(points) else None))
    return made


def left_out(commits: Sequence[Commit]) -> list[FailedCell]:
    """The cells of a history that have no value because they failed."""
    return failed_cells((commit.name, commit.records) for commit in commits)


@dataclass(frozen=True)
class Sample:
    """One seed's value at one commit, with its standard error; NaN if unknown."""

    value: float
    stderr: float = math.nan


def _perplexities(record: Record) -> Mapping[tuple[str, str], Sample]:
    digests = protocol_digests(record)
    return {
        (protocol, digests[protocol]): Sample(math.log(facts.value), facts.stderr / facts.value)
        for protocol, facts in record.perplexity.items()
        if 0 < facts.value < math.inf
    }


def _accuracies(record: Record) -> Mapping[tuple[str, str], Sample]:
    digests = file_digests(record)
    return {
        (
            column.task,
            f"{column.metric} {column.shots} {column.questions} {column.version} {digests.get(column.task, '')}",
        ): Sample(score.value, math.nan if score.stderr is None else score.stderr)
        for column, score in task_scores(record).items()
        if column.share and math.isfinite(score.value)
    }


def _cost(part: str) -> Callable[[Record], Mapping[tuple[str, str], Sample]]:
    def measured(record: Record) -> Mapping[tuple[str, str], Sample]:
        value, machine = getattr(record.cost, part), record.environment.get("device")
        return {("", str(machine)): Sample(math.log(value))} if value else {}

    return measured


_SAMPLES: dict[Metric, Callable[[Record], Mapping[tuple[str, str], Sample]]] = {
    Metric.PERPLEXITY: _perplexities,
    Metric.ACCURACY: _accuracies,
    Metric.TIME: _cost("prune_seconds"),
    Metric.MEMORY: _cost("peak_bytes"),
}


def _trend(
    key: Key,
    points: Mapping[int, Sequence[Sample]],
    commits: Sequence[Commit],
    metric: Metric,
    smallest: float,
    series: int,
) -> Trend:
    setting, method, sparsity, of, _ = key
    values = [sum(sample.value for sample in samples) / len(samples) for samples in points.values()]
    noise, freedom = noise_of(list(points.values()))
    trend = Trend(
        setting.model, method, sparsity, of, metric,
        tuple(commits[number] for number in points),
        tuple(math.exp(value) if metric.relative else value for value in values),
        tuple(noise), freedom, tuple(find_steps(values, noise, LEVEL / series, freedom)),
    )  # fmt: skip
    told = tuple(step for step in trend.steps if abs(trend.change(step)) >= smallest)
    return replace(trend, steps=told)


def noise_of(points: Sequence[Sequence[Sample]]) -> tuple[list[float], float]:
    """The standard error of each point of a series, and its degrees of freedom.

    Where a commit has several seeds, the spread between seeds, pooled over all commits: they share the text. Else the
    standard errors of the records, which is more than the noise between two commits that were measured on one text. No
    less, in either case, than neighbouring points differ, from which alone it comes where neither is known; NaN where
    there are too few of them.

    Args:
        points: the seeds of each point.
    """
    spread = pooled_spread(*([sample.value for sample in samples] for samples in points))
    means = [sum(sample.value for sample in samples) / len(samples) for samples in points]
    least = max(SMALLEST_NOISE, noise_between_neighbours(means))
    if not math.isnan(spread):
        freedom = sum(len(samples) - 1 for samples in points)
        return [max(spread / math.sqrt(len(samples)), least) for samples in points], freedom
    errors = [samples[0].stderr for samples in points]
    known = [error for error in errors if 0 <= error < math.inf]
    if known:
        return [max(error if error in known else max(known), least) for error in errors], math.inf
    return [least if len(points) >= FEWEST else math.nan] * len(points), freedom_of_neighbours(len(points))


def grouped(found: Sequence[Trend]) -> dict[tuple[str, str], list[Trend]]:
    """Series by model and protocol or task: what may share a plot."""
    return group_by(found, lambda trend: (trend.model, trend.of))
