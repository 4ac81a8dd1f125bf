"""Schema 2, and records of schema 1 read as such."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prunebench.records.cell_facts import CellFacts
from prunebench.records.record import SCHEMA, TRACEBACK_LIMIT, Effort, Failure, MethodFacts, Record
from prunebench.records.store import check_arrays, read_arrays, read_record, read_records, record_to_json, write_record
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import ROOT
from tests.helpers.records import record

OLD = sorted((ROOT / "tests" / "fixtures" / "schema1").glob("*.json"))
Write = Callable[..., Path]


class TestSchema1:
    def test_a_record_is_read_with_its_arrays(self) -> None:
        assert OLD
        for path in OLD:
            content, found = json.loads(path.read_bytes()), read_record(path)
            assert found.schema_version == SCHEMA == 2
            check_arrays(path, found)
            assert found.arrays == {content["arrays_digest"]: f"{content['cell']['id']}.npz"}
            (stage,) = found.cell.stages
            cell = content["cell"]
            assert stage.model_dump() == {
                "method": cell["method"], "plugin": cell["plugin"], "options": cell["options"], "code": None,
            }  # fmt: skip
            kind = "n:m" if ":" in cell["sparsity"] else "unstructured"
            assert found.cell.pattern.model_dump() == {"kind": kind, "text": cell["sparsity"]}

    def test_nothing_that_it_says_is_lost(self) -> None:
        for path in OLD:
            content = json.loads(path.read_bytes())
            again = json.loads(record_to_json(read_record(path)))
            for part in content.keys() - {"schema", "arrays_digest", "digest"}:
                assert _contains(again[part], content[part]), part

    def test_written_again_it_is_of_schema_2_and_keeps_its_arrays(self, tmp_path: Path) -> None:
        path = OLD[0]
        for file in (path, path.with_suffix(".npz")):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        before = read_arrays(path)
        written = write_record(tmp_path, read_record(tmp_path / path.name), {})
        assert json.loads(written.read_bytes())["schema"] == 2
        after = read_arrays(written)
        assert {name: array.tolist() for name, array in after.items()} == {n: a.tolist() for n, a in before.items()}
        assert len(read_records(tmp_path)) == 1


def _contains(after: Any, before: Any) -> bool:
    """Whether all that stands in a piece of JSON still does; mappings may have more keys."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(
            name in after and _contains(after[name], before[name]) for name in before
        )
    if isinstance(before, list):
        return len(after) == len(before) and all(map(_contains, after, before))
    return bool(after == before)


class TestSchema2:
    def test_what_may_be_said(self, tmp_path: Path) -> None:
        made = record().model_copy(
            update={
                "method": MethodFacts(changes="all", takes_data=True, training="end-to-end"),
                "effort": (Effort(stage=0, forward_tokens=10, backward_tokens=10, flops=6e18, seconds=1.5),),
                "chance": {"piqa": 0.5},
                "measured": "reloaded",
            }
        )
        found = read_record(write_record(tmp_path, made, {}))
        assert found.model_copy(update={"digest": None}) == made.model_copy(update={"digest": None})

    @pytest.mark.parametrize(
        "change",
        [{"measured": "trusted"}, {"chance": {"x": 1.5}}, {"effort": [{"stage": -1}]}, {"arrays": {"x": "y"}},
         {"method": {"changes": "all", "takes_data": True, "training": "much"}}],
    )  # fmt: skip
    def test_what_may_not(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Record.model_validate(record().model_dump(by_alias=True) | change)

    def test_a_traceback_keeps_its_end(self) -> None:
        long = "first line\n" * TRACEBACK_LIMIT + "where it happened"
        kept = Failure(type="E", message="m", traceback=long).traceback
        assert kept is not None
        assert len(kept) == TRACEBACK_LIMIT
        assert kept.endswith("where it happened")

    def test_a_run_says_what_a_cell_is(self, write_suite: Write, tmp_path: Path) -> None:
        cells = plan(load_suite(write_suite(methods="methods: [{name: sparsegpt, label: s}]")))
        records = run_suite(cells, tmp_path / "out", SilentDisplay())
        for cell, found in zip(cells, records, strict=True):
            assert json.loads((tmp_path / "out" / f"{cell.id}.json").read_bytes())["schema"] == 2
            (stage,) = found.cell.stages
            assert (stage.method, stage.plugin, stage.options) == ("s", "sparsegpt", cell.options)
        assert [found.cell.pattern.kind for found in records] == ["unstructured", "n:m"]

    def test_a_run_says_what_guessing_reaches(self, write_suite: Write, tmp_path: Path) -> None:
        entry = "evaluations: [{name: zero_shot, tasks: [tinyworld_agreement, tinyworld_recall], limit: 2}]"
        cells = plan(load_suite(write_suite(methods="methods: [dense]", evaluations=entry)))
        (found,) = run_suite(cells, tmp_path / "out", SilentDisplay())
        assert found.chance == {"tinyworld_agreement": 0.5, "tinyworld_recall": 0.25}


class TestId:
    @pytest.fixture
    def cell(self, write_suite: Write) -> Cell:
        return plan(load_suite(write_suite(methods="methods: [sparsegpt]")))[0]

    @pytest.mark.parametrize(
        "change",
        [{"version": "9.9"}, {"distribution": "other"}, {"plugin_file": "/somewhere/x.py"}, {"revision": "abc"},
         {"source": "/elsewhere"}, {"device": "cuda"}, {"trust_remote_code": False}],
    )  # fmt: skip
    def test_what_changes_no_outcome_does_not_enter_it(self, cell: Cell, change: dict[str, Any]) -> None:
        assert cell.model_copy(update=change).id == cell.id

    @pytest.mark.parametrize(
        "change",
        [{"code": "revision 2"}, {"trust_remote_code": True}, {"seed": 1}, {"model_digest": "x"}, {"dtype": "y"}],
    )
    def test_what_may_change_one_does(self, cell: Cell, change: dict[str, Any]) -> None:
        assert cell.model_copy(update=change).id != cell.id

    def test_an_option_that_is_none_is_as_if_it_were_not_there(self, cell: Cell) -> None:
        """So that a later version can add one, to methods and evaluations alike."""
        later = cell.model_copy(update={"options": cell.options | {"added": None}})
        assert later.id == cell.id
        assert cell.model_copy(update={"options": cell.options | {"added": False}}).id != cell.id
        (evaluation,) = cell.evaluations
        measured = evaluation.model_copy(update={"added": None})
        assert cell.model_copy(update={"evaluations": (measured,)}).id == cell.id

    def test_a_cell_read_back_from_its_record_has_the_same_id(self, cell: Cell) -> None:
        content = cell.model_dump(mode="json")
        assert Cell.model_validate(content).id == cell.id == CellFacts.model_validate(content).id
