"""``run`` and ``plan`` of a suite that tunes: trials in a folder of their own, the choice, what comes of failures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunebench as pb
from prunebench.records.record import Record
from prunebench.records.store import read_records
from prunebench.runner.in_process import InProcess
from tests.helpers.command_line import one_line, prunebench

Write = Callable[..., Path]


@pytest.fixture
def tuned(write_suite: Write, world: Path) -> Write:
    """Write a suite in which magnitude pruning, retrained, is tuned over these learning rates; 1e30 diverges."""

    def write(rates: str = "1e-6, 1e-2, 1e-4", more: str = "", **lines: str) -> Path:
        text = f"text: {{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}"
        stage = "{name: retrain, options: {steps: 3, batch_size: 2}}"
        tune = f"tune: {{grid: {{retrain.lr: [{rates}]}}, {text}}}"
        methods = f"methods: [dense, {{name: magnitude, then: {stage}, label: mine, {tune}}}{more}]"
        return write_suite(methods=methods, **{"sparsities": "sparsities: [0.5]", **lines})

    return write


def run(suite: Path, out: Path, *words: object) -> Any:
    return prunebench("run", suite, "--output", out, *words)


def by_rate(folder: Path) -> dict[float, Record]:
    return {found.cell.stages[1].options["lr"]: found for found in read_records(folder) if found.cell.sparsity != "0"}


def loss(found: Record) -> float:
    (facts,) = found.perplexity.values()
    return facts.value


class TestRun:
    def test_from_trials_to_tables(self, tuned: Write, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run(suite := tuned(), out)
        assert result.exit_code == 0, result.output
        trials = by_rate(out / "trials")
        assert set(trials) == {1e-6, 1e-2, 1e-4}
        assert {name for found in trials.values() for name in found.perplexity} == {"calibration/stream-16"}
        best = min(trials, key=lambda rate: loss(trials[rate]))
        assert best == 1e-2  # not the first, which the plan holds before
        (cell,) = (found.cell for found in read_records(out) if found.cell.method == "mine")
        assert cell.stages[1].options["lr"] == best
        assert cell.tuning is not None
        assert (cell.tuning.trials, cell.tuning.text, cell.tuning.sparsity) == (3, "calibration/stream-16", "0.5")
        seconds = sum(found.cost.prune_seconds or 0 for found in trials.values())
        assert cell.tuning.seconds == pytest.approx(seconds)
        told = " ".join(result.stdout.split())
        assert "options tuned on calibration/stream-16: 3 trials of 96 training tokens each at 0.5 for mine" in told
        assert "trials took besides: mine" in told
        assert "model mine 0.5: retrain.lr=0.01, the best of 3 trials at 0.5" in result.stderr
        assert "mine retrain.lr" not in result.stdout

        again = run(suite, out)
        assert again.stderr.count("0 to run") == 2
        assert again.stdout == result.stdout
        assert " ".join(prunebench("report", out).stdout.split()).count("options tuned on") == told.count(
            "options tuned"
        )

    def test_interrupted_trials_go_on(self, tuned: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out, runs, real = tmp_path / "out", [0], InProcess.run

        def interrupted(*words: Any, **options: Any) -> Any:
            runs[0] += 1
            if runs[0] == 3:
                raise KeyboardInterrupt
            return real(*words, **options)

        monkeypatch.setattr(InProcess, "run", interrupted)
        first = run(suite := tuned(), out)
        assert first.exit_code == 130
        assert f"the records so far are in {out}" in first.stderr
        assert set(by_rate(out / "trials")) == {1e-6, 1e-2}
        assert not list(out.glob("*.json"))
        before = {path: path.read_bytes() for path in (out / "trials").glob("*.json")}
        second = run(suite, out)
        assert second.exit_code == 0
        assert "3 cells: 1 to run, 2 already there" in second.stderr
        assert {path: path.read_bytes() for path in before} == before
        assert len(read_records(out)) == 2

    def test_a_trial_that_fails_is_not_chosen_and_the_others_go_on(self, tuned: Write, tmp_path: Path) -> None:
        result = run(tuned("1e30, 1e-6, 1e-2"), tmp_path / "out")
        assert result.exit_code == 0
        assert "1 of 3 trials failed and were not chosen; the same command tries them again" in result.stderr
        (cell,) = (found.cell for found in read_records(tmp_path / "out") if found.cell.method == "mine")
        assert cell.stages[1].options["lr"] == 1e-2
        assert cell.tuning is not None
        assert cell.tuning.trials == 3

    def test_if_all_fail_one_line_says_so_and_the_other_methods_are_there(self, tuned: Write, tmp_path: Path) -> None:
        result = run(tuned("1e30, 1e31"), tmp_path / "out")
        assert result.exit_code == 1
        line = "mine at 0.5 on model is left out: none of its 2 trials ran well; see their records in trials/"
        assert result.stderr.splitlines().count(line) == 1
        assert [found.cell.method for found in read_records(tmp_path / "out")] == ["dense"]
        alone = run(tuned("1e30, 1e31"), tmp_path / "alone", "--only", "mine")
        assert alone.exit_code == 1
        assert alone.stderr.splitlines().count(line) == 1
        assert "Traceback" not in alone.stderr

    def test_only_another_method_runs_no_trial(self, tuned: Write, tmp_path: Path) -> None:
        assert run(tuned(), tmp_path / "out", "--only", "dense").exit_code == 0
        assert not (tmp_path / "out" / "trials").exists()

    def test_another_grid_with_the_same_choice_keeps_the_record_and_tells_of_the_new_trials(
        self, tuned: Write, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        run(tuned("1e-2, 1e-6"), out)
        second = run(tuned("1e-2, 1e-6, 1e-5, 1e-4"), out)
        assert "4 cells: 2 to run, 2 already there" in second.stderr
        assert "2 cells: 0 to run, 2 already there" in second.stderr
        told = [found.cell.tuning.trials for found in read_records(out) if found.cell.tuning is not None]
        assert told == [4]
        run(tuned(), out, "--set", "methods.mine.tune=null", "--set", "methods.mine.then.options.lr=0.01")
        assert [found.cell.tuning for found in read_records(out)] == [None, None]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("methods.mine.tune.grid.rho=[1.0]", "has no option 'rho'"),
            ("methods.mine.tune.grid={}", "there is nothing to try"),
            ("methods.mine.tune.text.corpus=TEST", "is one that the suite measures on: tune on another text"),
        ],
    )
    @pytest.mark.parametrize("command", ["run", "plan"])
    def test_a_wrong_request_runs_nothing(
        self, tuned: Write, world: Path, tmp_path: Path, command: str, change: str, message: str
    ) -> None:
        change = change.replace("TEST", str(world / "test.jsonl"))
        out = tmp_path / "out"
        result = prunebench(command, tuned(), "--output", out, "--set", change)
        assert result.exit_code == 2
        assert message in one_line(result)
        assert not out.exists()

    def test_shards(self, tuned: Write, tmp_path: Path) -> None:
        suite, whole = tuned(more=", wanda"), tmp_path / "whole"
        run(suite, whole)
        folders = [tmp_path / "one", tmp_path / "two"]
        for number, folder in enumerate(folders, start=1):
            result = run(suite, folder, "--shard", f"{number}/2")
            assert result.exit_code == 0
            told = f"--shard {number}/2 holds {3 - number} of 3 trials, {number} of which have no record here"
            assert told in result.stderr
            assert not list(folder.glob("*.json"))
        joined = tmp_path / "joined"
        parts = [folder / "trials" for folder in folders]
        assert prunebench("merge", *parts, "--output", joined / "trials").exit_code == 0
        for number in (1, 2):
            assert run(suite, joined, "--shard", f"{number}/2").exit_code == 0
        names = [sorted(path.name for path in folder.glob("*.json")) for folder in (whole, joined)]
        assert len(names[0]) == 3
        assert names[0] == names[1]


class TestPlan:
    def test_before_and_after_the_trials(self, tuned: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        suite, out = tuned("1e-6, 1e-2"), Path("out")
        monkeypatch.chdir(tmp_path)
        words = ("plan", suite, "--output", out, "--no-forecast")
        before = prunebench(*words)
        assert before.exit_code == 0, before.output
        assert f"2 trials, 0 already in {out / 'trials'}" in before.stdout
        assert f"2 cells, 0 already in {out}" in before.stdout
        assert "to run: with the options" in before.stdout
        cells = json.loads(prunebench(*words, "--json").stdout)
        assert [(cell["method"], cell["trial"], cell["reason"]) for cell in cells] == [
            ("mine retrain.lr=1e-06", True, None),
            ("mine retrain.lr=0.01", True, None),
            ("dense", False, None),
            ("mine", False, "with the options that the trials choose"),
        ]
        run(suite, out)
        after = prunebench(*words)
        assert f"2 trials, 2 already in {out / 'trials'}" in after.stdout
        assert f"2 cells, 2 already in {out}" in after.stdout
        assert "model mine 0.5: retrain.lr=0.01, the best of 2 trials at 0.5" in after.stderr
        cells = json.loads(prunebench(*words, "--json").stdout)
        assert [cell["record"] for cell in cells] == ["ok"] * 4
        assert cells[-1]["then"][0]["options"]["lr"] == 1e-2

    def test_forecasts_of_trials_lie_beside_their_records(self, tuned: Write, tmp_path: Path) -> None:
        out = tmp_path / "out"
        words = ("plan", tuned("1e-6, 1e-2"), "--output", out, "--forecast", "--seconds", "0.5")
        assert prunebench(*words).exit_code == 0
        counts = [len((folder / "forecasts.jsonl").read_text().splitlines()) for folder in (out, out / "trials")]
        assert counts == [2, 2]


class TestProgram:
    def test_plan_and_run(self, tuned: Write, tmp_path: Path) -> None:
        suite, out = tuned("1e-6, 1e30, 1e-2"), tmp_path / "out"
        labels = ["mine retrain.lr=1e-06", "mine retrain.lr=1e+30", "mine retrain.lr=0.01", "dense", "mine"]
        before = pb.plan(suite, output=out)
        assert [cell.method for cell in before] == labels
        assert before[-1].tuning is None
        results = pb.run(suite, out, in_process=True)
        assert [found.cell.method for found in results] == ["dense", "mine"]
        after = pb.plan(suite, output=out)
        assert [cell.method for cell in after] == labels
        assert after[-1].then[0].options["lr"] == 1e-2
        assert after[-1].id == results[-1].cell.id
        assert after[-1].tuning == results[-1].cell.tuning

    def test_what_is_left_out_is_warned_of(self, tuned: Write, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="mine at 0.5 on model is left out"):
            results = pb.run(tuned("1e30"), tmp_path / "out", in_process=True)
        assert [found.cell.method for found in results] == ["dense"]


def test_a_control_is_tuned_and_its_trials_tokens_are_told(write_suite: Write, world: Path, tmp_path: Path) -> None:
    text = f"text: {{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}"
    stage = "then: [{name: retrain, options: {steps: 2, batch_size: 2}}]"
    suite = write_suite(
        methods=(
            f"methods: [dense, {{name: dense, {stage}, tune: {{grid: {{retrain.lr: [1.0e-4, 1.0e-2]}}, {text}}}}}, "
            f"{{name: magnitude, {stage}, tune: {{like: dense+retrain}}}}]"
        ),
        sparsities="sparsities: [0.5]",
    )
    result = prunebench("run", suite, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    trials = read_records(tmp_path / "out" / "trials")
    assert {found.cell.sparsity for found in trials} == {"0"}
    lowest = min(trials, key=loss).cell.stages[1].options["lr"]
    cells = {found.cell.method: found.cell for found in read_records(tmp_path / "out")}
    for name in ("dense+retrain", "magnitude+retrain"):
        assert cells[name].stages[1].options["lr"] == lowest
        assert cells[name].tuning is not None
        assert cells[name].tuning.tokens == (2 * 2 * 16,) * 2
    told = " ".join(result.stdout.split())
    assert "2 trials of 64 training tokens each at 0 for dense+retrain" in told
    assert "magnitude+retrain as dense+retrain" in told
