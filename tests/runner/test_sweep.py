"""From cells to records: resuming, failing."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import pytest

from prunebench import hookimpl
from prunebench.errors import CorpusError, OutputError, UsageError
from prunebench.pruning import account, note, trace
from prunebench.records.record import SCHEMA, CellFacts, Failure, Record
from prunebench.records.store import read_arrays, read_record, write_record
from prunebench.registry import entry_points as plugins
from prunebench.runner.in_process import InProcess
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay

Write = Callable[..., Path]


def cells_of(path: Path, **options: Any) -> tuple[Cell, ...]:
    return plan(load_suite(path), **options)


@dataclass(frozen=True)
class Raises:
    @hookimpl
    def prune(self) -> None:
        raise RuntimeError("out of\nideas")


@dataclass(frozen=True)
class DoesNothing:
    @hookimpl
    def prune(self) -> None: ...


@dataclass(frozen=True)
class Talks:
    """Prunes by magnitude, and says much about it."""

    changes: ClassVar[str] = "prunable"
    inner: str = "magnitude"

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        plugins.load_method(self.inner).cls().prune(model, sparsity)
        note("a thing was adjusted", layer="x")
        note("a thing was adjusted", layer="y")
        account(state_bytes=1234)
        for step in range(5000):
            trace(step, loss=1 / (step + 1))


@pytest.fixture
def extra_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.entry_points
    extra = [
        EntryPoint(c.__name__.lower(), f"{__name__}:{c.__name__}", plugins.GROUP) for c in (Raises, DoesNothing, Talks)
    ]

    def entry_points(group: str) -> EntryPoints:
        return EntryPoints([*real(group=group), *(extra if group == plugins.GROUP else [])])

    monkeypatch.setattr(plugins, "entry_points", entry_points)


class TestRun:
    def test_records_hold_what_they_must(self, write_suite: Write, tmp_path: Path) -> None:
        cells = cells_of(write_suite())
        records = run_suite(cells, tmp_path / "out", SilentDisplay())
        assert [record.cell.id for record in records] == [cell.id for cell in cells]
        assert {record.status for record in records} == {"ok"}
        for cell, record in zip(cells, records, strict=True):
            path = tmp_path / "out" / f"{cell.id}.json"
            written = read_record(path)
            assert written.digest is not None
            assert len(written.arrays) == 1
            assert written == record
            facts = record.perplexity["test/stream-16"]
            arrays = read_arrays(path)
            losses, counts = (arrays[f"perplexity/test/stream-16/{part}"] for part in ("losses", "counts"))
            assert math.isclose(facts.value, math.exp(losses.sum() / counts.sum()))
            assert facts.tokens == counts.sum() == 15 * len(losses)
            assert record.cost.tokens_seen == (8 * 16 if cell.method == "wanda" else 0)
            assert record.environment["model_digest"] == cell.model_digest
        dense, half = records[0], records[1]
        assert dense.sparsity is not None
        assert dense.sparsity.reached == 0
        assert half.sparsity is not None
        assert half.sparsity.reached == 0.5
        assert half.sparsity.requested == 0.5
        assert 0 < half.sparsity.whole_model < 0.5
        assert dense.environment["weights_digest"] != half.environment["weights_digest"]
        assert not list((tmp_path / "out").glob(".*"))

    def test_cells_whose_record_is_there_are_skipped(self, write_suite: Write, tmp_path: Path) -> None:
        cells, out = cells_of(write_suite()), tmp_path / "out"
        first = run_suite(cells, out, SilentDisplay())
        (out / f"{cells[1].id}.json").unlink()
        (out / f"{cells[2].id}.json").write_text("{torn")
        display = SilentDisplay()
        second = run_suite(cells, out, display)
        assert display.begun == [cells[1].id, cells[2].id]
        assert display.existing == len(cells) - 2
        assert second[0] == first[0]
        assert [record.perplexity for record in second] == [record.perplexity for record in first]
        display = SilentDisplay()
        run_suite(cells, out, display, fresh=True)
        assert len(display.begun) == len(cells)

    @pytest.mark.usefixtures("extra_methods")
    def test_a_failing_cell_is_a_failed_record_and_the_sweep_goes_on(self, write_suite: Write, tmp_path: Path) -> None:
        cells = cells_of(
            write_suite(methods="methods: [raises, doesnothing, magnitude]", sparsities="sparsities: [0.5]")
        )
        raises, nothing, magnitude = run_suite(cells, tmp_path / "out", SilentDisplay())
        assert (raises.status, nothing.status, magnitude.status) == ("failed", "failed", "ok")
        assert raises.error is not None
        assert raises.error.type == "RuntimeError"
        assert raises.error.message.startswith(f"out of ideas ({Path(__file__).name}, line ")
        assert nothing.error is not None
        assert nothing.error.type == "ContractError"
        assert "holds 0 zeros where 512 of 1024 were asked for" in nothing.error.message
        display = SilentDisplay()
        run_suite(cells, tmp_path / "out", display)
        assert display.begun == [cells[0].id, cells[1].id]  # failed cells are tried again

    def test_a_failed_attempt_leaves_a_good_record_as_it_was(self, write_suite: Write, tmp_path: Path) -> None:
        cells, out = cells_of(write_suite(methods="methods: [magnitude]", sparsities="sparsities: [0.5]")), tmp_path
        run_suite(cells, out / "out", SilentDisplay())
        before = {path.name: path.read_bytes() for path in (out / "out").iterdir()}

        class Fails(InProcess):
            def run(self, cell: Cell, output: Path, *args: Any, **options: Any) -> Record:
                error = Failure(type="RuntimeError", message="out of ideas")
                facts = CellFacts.model_validate(cell.model_dump(mode="json"))
                failed = Record(schema_version=SCHEMA, cell=facts, status="failed", error=error)
                return read_record(write_record(output, failed, {}))

        (record,) = run_suite(cells, out / "out", SilentDisplay(), fresh=True, executor=Fails())
        assert record.status == "failed"
        after = {path.name: path.read_bytes() for path in (out / "out").iterdir()}
        assert after.keys() - before.keys() == {f"{cells[0].id}.failed.json"}
        assert {name: after[name] for name in before} == before
        display = SilentDisplay()
        assert run_suite(cells, out / "out", display)[0].status == "ok"
        assert display.begun == []
        run_suite(cells, out / "out", display, fresh=True)
        assert {path.name for path in (out / "out").iterdir()} == before.keys()

    def test_a_pattern_that_does_not_fit_fails_its_cell_only(self, write_suite: Write, tmp_path: Path) -> None:
        records = run_suite(
            cells_of(write_suite(methods="methods: [magnitude]", sparsities="sparsities: [3:7, 0.5]")),
            tmp_path / "out",
            SilentDisplay(),
        )
        assert [record.status for record in records] == ["failed", "ok"]
        assert records[0].error is not None
        assert "q_proj: pattern 3:7 does not fit 32 inputs" in records[0].error.message

    @pytest.mark.usefixtures("extra_methods")
    def test_what_a_method_tells_of_itself_is_recorded(self, write_suite: Write, tmp_path: Path) -> None:
        cells = cells_of(write_suite(methods="methods: [talks]", sparsities="sparsities: [0.5]"))
        (record,) = run_suite(cells, tmp_path / "out", SilentDisplay())
        assert record.notes == {"a thing was adjusted": 2}
        assert record.cost.state_bytes == 1234
        assert 100 < len(record.trace) <= 256
        assert record.trace[1]["step"] - record.trace[0]["step"] == record.trace[-1]["step"] - record.trace[-2]["step"]
        assert record.trace[0] == {"step": 0, "loss": 1}

    def test_the_same_text_for_both_is_noted(self, write_suite: Write, world: Path, tmp_path: Path) -> None:
        path = write_suite(
            methods="methods: [wanda]",
            sparsities="sparsities: [0.5]",
            calibration=f"calibration: {{corpus: {world / 'test.jsonl'}, nsamples: 500, seqlen: 16}}",
        )
        (record,) = run_suite(cells_of(path), tmp_path / "out", SilentDisplay())
        assert record.notes == {
            "calibration and perplexity use the same text": 1,
            "calibration text holds fewer windows than nsamples": 1,
        }

    @pytest.mark.parametrize(
        ("calibration", "evaluation", "message"),
        [
            (100_000, 16, r"calibration.*seqlen"),
            (16, 100_000, r"test.*seqlen"),
            (65, 16, "calibration: a window of 65 tokens is longer than the context of model, 64: set its seqlen"),
            (16, 66, "test/stream-66: a window of 65 tokens is longer than the context of model, 64: set its seqlen"),
        ],
    )
    def test_a_window_that_does_not_fit(
        self, write_suite: Write, world: Path, tmp_path: Path, calibration: int, evaluation: int, message: str
    ) -> None:
        path = write_suite(
            calibration=f"calibration: {{corpus: {world / 'calibration.jsonl'}, seqlen: {calibration}}}",
            evaluations=f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: {evaluation}}}]",
        )
        with pytest.raises(CorpusError, match=message):
            run_suite(cells_of(path), tmp_path / "out", SilentDisplay())
        assert not list((tmp_path / "out").iterdir())

    def test_a_task_whose_data_is_not_there(self, write_suite: Write, tmp_path: Path) -> None:
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "lost.yaml").write_text(
            "task: lost\ndataset_path: json\ndataset_kwargs: {data_files: {test: nowhere.jsonl}}\ntest_split: test\n"
            "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: 0\ndoc_to_choice: [a, b]\n"
        )
        path = write_suite(evaluations="evaluations: [{name: zero_shot, tasks: [lost], include_path: tasks}]")
        with pytest.raises(UsageError, match="lost"):
            run_suite(cells_of(path), tmp_path / "out", SilentDisplay())
        assert not list((tmp_path / "out").iterdir())

    def test_a_folder_that_cannot_be_written(self, write_suite: Write, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"cannot write to the output folder .*choose another with --output"):
            run_suite(cells_of(write_suite()), tmp_path / "file" / "out", SilentDisplay())

    def test_a_run_repeats_bit_for_bit(self, write_suite: Write, tmp_path: Path) -> None:
        cells = cells_of(write_suite(methods="methods: [wanda, sparsegpt]"))
        first, second = (run_suite(cells, tmp_path / name, SilentDisplay()) for name in ("one", "two"))
        for one, two in zip(first, second, strict=True):
            assert one.perplexity == two.perplexity
            assert one.environment["weights_digest"] == two.environment["weights_digest"]

    def test_a_model_that_breaks_is_a_result(self, write_suite: Write, world: Path, tmp_path: Path) -> None:
        """Infinite perplexity is written as valid JSON and read back."""
        from safetensors.torch import load_file, save_file

        shutil.copytree(world / "model", tmp_path / "broken")
        weights = load_file(tmp_path / "broken" / "model.safetensors")
        weights["model.norm.weight"] *= 1e30
        save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
        (record,) = run_suite(
            cells_of(write_suite(models="models: [./broken]", methods="methods: [dense]")),
            tmp_path / "out",
            SilentDisplay(),
        )
        assert record.status == "ok"
        assert math.isinf(record.perplexity["test/stream-16"].value)
        text = (tmp_path / "out" / f"{record.cell.id}.json").read_text()
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert math.isinf(read_record(tmp_path / "out" / f"{record.cell.id}.json").perplexity["test/stream-16"].value)
