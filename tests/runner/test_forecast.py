"""What cells will cost: short runs carried on, and what is said of them afterwards."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunebench.errors import RecordError
from prunebench.models.loading import load_model
from prunebench.models.source import weight_bytes
from prunebench.pruning import track
from prunebench.records.record import Forecast
from prunebench.records.store import read_forecasts, write_forecasts
from prunebench.report.scenes import Scenes
from prunebench.report.tables.forecasts import forecast_tables
from prunebench.runner import forecast
from prunebench.runner.forecast import forecast_cells
from prunebench.runner.resources import Resources
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.command_line import prunebench
from tests.helpers.observers import SilentDisplay
from tests.helpers.records import record

Write = Callable[..., Path]


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(forecast, "time", SimpleNamespace(perf_counter=made.perf_counter))
    return made


class TestStopwatch:
    @staticmethod
    def work(clock: Clock, steps: int, seen: list[int]) -> None:
        clock.now += 3  # set-up
        for number in track(range(steps), "block"):
            for _ in track(range(4), "batch"):
                clock.now += 0.25
            clock.now += 5 if number == 0 else 0
            seen.append(number)

    def test_the_steps_seen_are_carried_on_to_the_others(self, clock: Clock) -> None:
        seen: list[int] = []
        watch = forecast._Stopwatch(seconds=12)
        assert watch.seconds(lambda: self.work(clock, 100, seen)) == 3 + 5 + 100
        assert len(seen) == 4

    def test_what_is_over_in_time_is_simply_measured(self, clock: Clock) -> None:
        seen: list[int] = []
        assert forecast._Stopwatch(seconds=60).seconds(lambda: self.work(clock, 6, seen)) == 14
        assert len(seen) == 6

    def test_two_steps_are_seen_however_long_they_take(self, clock: Clock) -> None:
        seen: list[int] = []
        assert forecast._Stopwatch(seconds=0.1).seconds(lambda: self.work(clock, 50, seen)) == 3 + 5 + 50
        assert len(seen) == 2

    def test_no_except_clause_of_a_method_holds_it_up(self, clock: Clock) -> None:
        def stubborn() -> None:
            for _ in track(range(10**9), "step"):
                try:
                    self.work(clock, 1, [])
                except Exception:
                    clock.now += 1

        assert forecast._Stopwatch(seconds=20).seconds(stubborn) == 9 * 10**9


class TestForetell:
    def cells(self, write_suite: Write, methods: str = "[dense, magnitude, wanda]", **lines: str) -> tuple[Cell, ...]:
        return plan(load_suite(write_suite(methods=f"methods: {methods}", **lines)))

    def test_one_run_serves_all_sparsities_of_a_kind_and_all_seeds(self, write_suite: Write) -> None:
        cells = self.cells(
            write_suite, "[dense, wanda]", seeds="seeds: [0, 1]", sparsities="sparsities: [0.5, 0.7, 2:4]"
        )
        said: list[str] = []
        found = forecast_cells(cells, Resources(), tell=said.append)
        assert said == ["measuring model …", "measuring dense on model …", *["measuring wanda on model …"] * 2]
        assert [forecast.cell for forecast in found] == [cell.id for cell in cells]
        for made in found:
            assert made.prune_seconds is not None
            assert made.evaluate_seconds is not None
            assert made.peak_bytes is not None

    def test_the_model_on_disk_is_as_before(self, write_suite: Write, tmp_path: Path) -> None:
        cells = self.cells(write_suite, "[magnitude]")
        forecast_cells(cells, Resources())
        assert plan(load_suite(write_suite(methods="methods: [magnitude]"))) == cells

    def test_disk(self, write_suite: Write, tmp_path: Path) -> None:
        cells = self.cells(write_suite)
        forecasts = forecast_cells(cells, Resources(), save_models=True)
        run_suite(cells, tmp_path / "out", SilentDisplay(), save_models=True)
        for cell, made in zip(cells, forecasts, strict=True):
            files = [path for path in (tmp_path / "out").rglob("*") if cell.id in str(path) and path.is_file()]
            weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
            others = sum(path.stat().st_size for path in files if path.parent == tmp_path / "out")
            assert made.disk_bytes == pytest.approx(weights + others, rel=0.25)

    def test_weights_by_the_headers(self, write_suite: Write) -> None:
        (cell,) = self.cells(write_suite, "[dense]")
        source = Resources().model(cell)
        model, _ = load_model(source, dtype="float32", device="cpu")
        assert weight_bytes(source, "float32") == sum(parameter.nbytes for parameter in model.parameters())
        assert weight_bytes(source, "bfloat16") * 2 == weight_bytes(source, "float32")

    def test_a_model_that_does_not_fit_is_not_loaded(self, write_suite: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forecast, "available_bytes", lambda _: 1000)
        monkeypatch.setattr(forecast, "load_model", None)
        said: list[str] = []
        cells = self.cells(write_suite, "[dense, wanda]")
        found = forecast_cells(cells, Resources(), tell=said.append)
        assert len(said) == 2  # once a method
        assert "warning: wanda on model does not fit in the memory of cpu: its weights alone take" in said[1]
        assert all(made.prune_seconds is None and made.peak_bytes for made in found)

    def test_a_method_that_takes_more_than_there_is(self, write_suite: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forecast, "available_bytes", lambda _: 10_000_000)
        said: list[str] = []
        forecast_cells(self.cells(write_suite, "[magnitude]"), Resources(), tell=said.append)
        assert [line for line in said if "does not fit in the memory of cpu: it takes" in line]

    def test_a_method_that_fails_is_told_and_the_others_go_on(
        self, write_suite: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("no such thing\nas luck")

        monkeypatch.setattr(forecast, "_pruning", broken)
        said: list[str] = []
        found = forecast_cells(self.cells(write_suite, "[magnitude]"), Resources(), tell=said.append)
        assert "warning: nothing can be told of magnitude on model: no such thing" in said
        assert found[0].prune_seconds is None
        assert found[0].evaluate_seconds is not None


class TestAfterwards:
    def test_forecasts_are_kept_and_replaced(self, tmp_path: Path) -> None:
        assert read_forecasts(tmp_path) == {}
        write_forecasts(tmp_path, [Forecast(cell="a", prune_seconds=1.0), Forecast(cell="b")])
        write_forecasts(tmp_path, [Forecast(cell="a", prune_seconds=2.0)])
        assert {name: found.prune_seconds for name, found in read_forecasts(tmp_path).items()} == {"a": 2.0, "b": None}
        (tmp_path / "forecasts.jsonl").write_text('{"cell": "a"}\n{"ce')
        with pytest.raises(RecordError, match="is no file of forecasts"):
            read_forecasts(tmp_path)

    def test_foretold_against_measured(self) -> None:
        """The golden record: 2.5 s of pruning, 8.0 s of measuring, 640 MiB."""
        made = [record("a", seed=seed) for seed in (0, 1)]
        measured = (made[0].cost.prune_seconds or 0) + (made[0].cost.evaluate_seconds or 0)
        peak = made[0].cost.peak_bytes or 0
        forecasts = {
            made[0].cell.id: Forecast(
                cell=made[0].cell.id, prune_seconds=measured, evaluate_seconds=0.2 * measured, peak_bytes=peak
            ),
            made[1].cell.id: Forecast(
                cell=made[1].cell.id, prune_seconds=0.0, evaluate_seconds=0.6 * measured, peak_bytes=2 * peak
            ),
        }
        (table,) = forecast_tables(Scenes.of([*made, record("other")]).settings, forecasts)
        assert "time within 30% for 1 of 2 cells, memory within 15% for 1 of 2" in table.caption
        assert table.rows[0][:3] == ("stories", "a", "2")
        assert table.rows[0][5:] == ("0.60 to 1.20", "1.00 to 2.00")
        assert forecast_tables(Scenes.of(made).settings, {}) == []

    def test_plan_run_plan(self, write_suite: Write, tmp_path: Path) -> None:
        suite, out = write_suite(sparsities="sparsities: [0.5]"), tmp_path / "out"
        first = prunebench("plan", suite, "-o", out, "--forecast")
        assert first.exit_code == 0
        assert "3 cells, 0 already in" in first.stdout
        assert "measuring wanda on model" in first.stderr
        prunebench("run", suite, "-o", out)
        again = prunebench("plan", suite, "-o", out, "--forecast")
        assert "Foretold / measured" in again.stdout
        assert "measuring" not in again.stderr
        assert "Foretold / measured" in prunebench("report", out).stdout
        cells = json.loads(prunebench("plan", suite, "-o", out, "--forecast", "--json").stdout)
        assert cells[0]["forecast"]["peak_bytes"] > 0
