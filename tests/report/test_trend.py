"""Trends over commits: steps that are there are found, and none where there is none."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from prunebench.records.store import write_record
from prunebench.report.trend.series import Metric, Sample, noise_of, read_commits, trends
from prunebench.report.trend.shown import trend_plots
from prunebench.report.trend.steps import find_steps, noise_between_neighbours, penalty_of
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.records import PROTOCOL, record

COMMITS, STEP = 50, 0.03


def history(rng: np.random.Generator, at: int, step: float, noise: float, seeds: int) -> list[list[Sample]]:
    """Logarithms of perplexities of 50 commits; the level rises at one of them."""
    levels = math.log(12) + np.where(np.arange(COMMITS) >= at, math.log1p(step), 0.0)
    return [[Sample(float(level + rng.normal(0, noise)), 0.008) for _ in range(seeds)] for level in levels]


def places(points: list[list[Sample]]) -> list[int]:
    means = [sum(sample.value for sample in samples) / len(samples) for samples in points]
    noise, freedom = noise_of(points)
    return [step.index for step in find_steps(means, noise, freedom=freedom)]


class TestSteps:
    @pytest.mark.parametrize(("noise", "seeds"), [(0.005, 3), (0.01, 3), (0.005, 1), (0.008, 1)])
    def test_a_step_of_three_percent_is_found(self, noise: float, seeds: int) -> None:
        """Measured over 1000 histories: 99.7 to 100 % found within one commit, 93.4 to 100 % at the very commit."""
        rng, trials, found = np.random.default_rng(1), 100, 0
        for _ in range(trials):
            at = int(rng.integers(5, COMMITS - 4))
            found += any(abs(place - at) <= 1 for place in places(history(rng, at, STEP, noise, seeds)))
        assert found >= 0.95 * trials

    @pytest.mark.parametrize(("noise", "seeds"), [(0.005, 3), (0.02, 3), (0.008, 1)])
    def test_no_step_is_found_where_there_is_none(self, noise: float, seeds: int) -> None:
        """Measured over 1000 histories: none, or one."""
        rng = np.random.default_rng(2)
        assert sum(bool(places(history(rng, 0, 0.0, noise, seeds))) for _ in range(150)) <= 1

    def test_the_pieces_are_the_best_of_all(self) -> None:
        """Against every way to cut a short series."""
        rng = np.random.default_rng(3)
        for _ in range(20):
            x, noise = rng.normal(0, 1, 9) + np.repeat(rng.normal(0, 6, 3), 3), rng.uniform(0.5, 1.5, 9)

            def cost(cuts: tuple[int, ...], x: np.ndarray = x, noise: np.ndarray = noise) -> float:
                bounds = [0, *cuts, 9]
                total = len(cuts) * penalty_of(9, 0.001)
                for start, end in pairwise(bounds):
                    piece, weight = x[start:end], 1 / noise[start:end] ** 2
                    total += float((weight * (piece - np.average(piece, weights=weight)) ** 2).sum())
                return total

            ways = [tuple(i + 1 for i in range(8) if bits >> i & 1) for bits in range(256)]
            assert tuple(step.index for step in find_steps(x, noise)) == min(ways, key=cost)

    def test_up_and_down_again(self) -> None:
        values = np.repeat([1.0, 1.03, 1.0], [20, 5, 25])
        found = find_steps(values, [0.004] * COMMITS)
        assert [step.index for step in found] == [20, 25]
        assert [round(step.change, 6) for step in found] == [0.03, -0.03]

    def test_too_short(self) -> None:
        assert find_steps([1.0], [0.1]) == []
        assert find_steps([1.0, 2.0], [0.01, 0.01])[0].index == 1

    def test_neighbours_tell_the_noise_despite_steps(self) -> None:
        rng = np.random.default_rng(4)
        values = rng.normal(0, 0.02, 2000) + np.repeat([0.0, 1.0, -1.0, 2.0], 500)
        assert noise_between_neighbours(values) == pytest.approx(0.02, rel=0.1)

    def test_the_noise_of_records(self) -> None:
        one = [[Sample(1.0, 0.01)], [Sample(1.0, 0.03)], [Sample(1.0)]]
        assert noise_of(one) == ([0.01, 0.03, 0.03], math.inf)
        several = [[Sample(1.0, 0.5), Sample(1.2, 0.5)], [Sample(1.1, 0.5), Sample(1.3, 0.5)]]  # spread √0.02 in both
        noise, freedom = noise_of(several)
        assert noise == pytest.approx([0.1, 0.1])
        assert freedom == 2

    @pytest.mark.parametrize(("commits", "seeds"), [(2, 2), (3, 2), (5, 3), (8, 1), (20, 1)])
    def test_noise_that_few_numbers_tell(self, commits: int, seeds: int) -> None:
        """As times have it: no standard errors. With the normal distribution 1 to 7 % of these had a step."""
        rng, told = np.random.default_rng(5), 0
        for _ in range(400):
            told += bool(places([[Sample(x) for x in rng.normal(0, 0.05, seeds)] for _ in range(commits)]))
        assert told <= 3

    def test_a_step_among_times(self) -> None:
        rng = np.random.default_rng(6)
        values = [*rng.normal(0, 0.02, 12), *rng.normal(0.2, 0.02, 12)]
        assert places([[Sample(x)] for x in values]) == [12]

    def test_noise_that_nothing_tells(self) -> None:
        few = [[Sample(0.0)], [Sample(0.1)], [Sample(0.2)]]
        assert all(map(math.isnan, noise_of(few)[0]))
        assert places(few) == []
        assert noise_of([[Sample(1.0, math.inf)]] * 3 + [[Sample(1.0, 0.2)]])[0] == [0.2] * 4


def folders(tmp_path: Path, levels: list[float], *, seeds: int = 1) -> list[Path]:
    """A results folder for each commit, named so that their order is not that of time."""
    made = []
    for number, level in enumerate(levels):
        folder = tmp_path / f"{(number * 7) % len(levels):02d}"
        for seed in range(seeds):
            started = f"2026-01-{1 + number // 24:02d}T{number % 24:02d}:00:00+00:00"
            one = record(value=level * (1 + 0.001 * seed), seed=seed, started=started)
            environment = one.environment | {"git_commit": f"{number:08x}" + "0" * 32}
            write_record(folder, one.model_copy(update={"environment": environment, "arrays": {}}), {})
        made.append(folder)
    return sorted(made)


class TestCommand:
    def test_a_step_is_told_with_its_commit(self, tmp_path: Path) -> None:
        made = folders(tmp_path / "history", [10.0] * 6 + [11.0] * 6, seeds=2)
        result = prunebench("trend", *made, "--output", tmp_path / "plots")
        assert result.exit_code == 0, result.output
        (line,) = [line for line in result.stdout.splitlines() if "worse" in line and "00000006" in line]
        assert "+10.0 %" in line
        (plot,) = (tmp_path / "plots").iterdir()
        assert b"<svg" in plot.read_bytes()

    def test_as_json(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0] * 5 + [9.0] * 5, seeds=2)
        (found,) = json.loads(prunebench("trend", *made, "--json").stdout)
        assert [point["commit"] for point in found["points"]] == [f"{number:08x}" for number in range(10)]
        (step,) = found["steps"]
        assert (step["commit"], step["worse"]) == ("00000005", False)
        assert step["change"] == pytest.approx(-0.1)
        assert found["of"] == PROTOCOL

    def test_a_step_below_the_smallest_is_not_told(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0] * 5 + [10.05] * 5, seeds=2)
        for smallest, number in ((1, 0), (0.1, 1)):
            (found,) = json.loads(prunebench("trend", *made, "--json", "--smallest", smallest).stdout)
            assert len(found["steps"]) == number

    def test_another_text_is_another_series(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0, 10.0])
        other = record(value=12.0, started="2026-03-01T00:00:00+00:00")
        evaluations = tuple(part | {"digest": "c" * 64} for part in other.cell.evaluations)
        for number in range(2):
            cell = other.cell.model_copy(update={"evaluations": evaluations})
            write_record(tmp_path / f"x{number}", other.model_copy(update={"cell": cell, "arrays": {}}), {})
        found = json.loads(prunebench("trend", *made, tmp_path / "x0", tmp_path / "x1", "--json").stdout)
        assert [len(series["points"]) for series in found] == [2, 2]

    def test_plots_keep_the_order(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0, 11.0, 12.0])
        for in_order, values in ((False, [10, 11, 12]), (True, [12, 10, 11])):
            commits = read_commits([made[2], made[0], made[1]], in_order=in_order, leave_out=pytest.fail)
            (plot,) = trend_plots(trends(commits, Metric.PERPLEXITY, 0.01), commits)
            assert [y for _, y in plot.series[0].points] == pytest.approx(values)
            assert [x for x, _ in plot.series[0].points] == [0, 1, 2]
            assert [name for _, name in plot.x.ticks] == [commit.name for commit in commits]

    def test_other_metrics(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0, 10.0])
        for metric in ("accuracy", "time", "memory"):
            found = json.loads(prunebench("trend", *made, "--metric", metric, "--json").stdout)
            assert {series["metric"] for series in found} == {metric}

    def test_failed_cells_are_told(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0, 11.0, 12.0], seeds=2)
        for number, seeds in ((1, [1]), (3, [0, 1])):  # one seed of a commit, and all of a last one
            for seed in seeds:
                failed = record(seed=seed, error="no memory", started=f"2026-01-01T0{number}:30:00+00:00")
                environment = failed.environment | {"git_commit": f"{number:08x}" + "0" * 32}
                folder = tmp_path / f"{number * 7 % 3:02d}" if number < 3 else tmp_path / "new"
                for path in folder.glob(f"*--{seed}--*.json"):
                    path.unlink()
                write_record(folder, failed.model_copy(update={"environment": environment, "arrays": {}}), {})
        result = prunebench("trend", *made, tmp_path / "new")
        assert "Trends of perplexity; 3 failed cells left out" in result.stdout
        assert result.stdout.count("failed at 00000003") == 1
        rows = [line.split() for line in result.stdout.splitlines() if "ContractError: no memory" in line]
        assert [(row[0], row[4]) for row in rows] == [("00000001", "1"), ("00000003", "0"), ("00000003", "1")]
        (series,) = json.loads(prunebench("trend", *made, tmp_path / "new", "--json").stdout)
        assert series["ended"] == "00000003"
        assert [(cell["commit"], cell["seed"]) for cell in series["failed"]] == [
            ("00000001", 1),
            ("00000003", 0),
            ("00000003", 1),
        ]
        commits = read_commits([*made, tmp_path / "new"], leave_out=pytest.fail)
        (plot,) = trend_plots(trends(commits, Metric.PERPLEXITY, 0.01), commits)
        assert plot.series[0].label.endswith(", failed at 00000003")

    def test_a_cell_that_another_record_has_well_is_not_told(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0, 11.0])
        write_record(made[1], record(error="once", started="2025-12-01T00:00:00+00:00"), {})
        assert "failed" not in prunebench("trend", *made).stdout

    def test_of_another_text_a_series_tells_nothing(self, tmp_path: Path) -> None:
        """A failed cell that would have measured another protocol is listed, and belongs to no series."""
        made = folders(tmp_path, [10.0, 11.0])
        failed = record(error="no memory", seed=1)
        other = failed.cell.model_copy(update={"evaluations": ({"name": "perplexity", "protocol": "c4/stream-2048"},)})
        write_record(made[1], failed.model_copy(update={"cell": other}), {})
        result = prunebench("trend", *made, "--json")
        assert json.loads(result.stdout)[0]["failed"] == []
        assert "1 failed cell left out" in result.stderr

    def test_wrong_input(self, tmp_path: Path) -> None:
        made = folders(tmp_path, [10.0, 10.0])
        assert "is no history" in one_line(prunebench("trend", made[0]))
        assert "did you mean 'memory'" in one_line(prunebench("trend", *made, "--metric", "memori"))
        assert f"valid: {PROTOCOL}" in one_line(prunebench("trend", *made, "--of", "nothing"))
        assert "there is no results folder" in one_line(prunebench("trend", *made, tmp_path / "nowhere"))
