"""Entries whose methods follow one another: cells, ids, labels, seeds, and what is refused before anything runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench.errors import DeviceError, MethodError, SuiteError
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.identity import refuse_changed_code
from prunebench.suite.planning import plan

Write = Callable[..., Path]
RETRAIN = "{name: retrain, options: {steps: 3}}"


def cells_of(write: Write, methods: str, **options: Any) -> tuple[Cell, ...]:
    return plan(load_suite(write(methods=f"methods: [{methods}]", sparsities="sparsities: [0.5]")), **options)


def test_labels_stages_and_what_may_change(write_suite: Write) -> None:
    both, named, three = cells_of(
        write_suite,
        f"{{name: wanda, then: [{RETRAIN}]}}, {{name: wanda, then: perp, label: mine}}, "
        f"{{name: magnitude, then: [perp, {RETRAIN}]}}",
    )
    assert [cell.method for cell in (both, named, three)] == ["wanda+retrain", "mine", "magnitude+perp+retrain"]
    assert [stage.method for stage in both.stages] == ["wanda", "retrain"]
    assert [stage.plugin for stage in three.stages] == ["magnitude", "perp", "retrain"]
    assert both.stages[1].options["steps"] == 3
    assert both.stages[1].options["batch_size"] == 8
    assert both.changes == named.changes == three.changes == "all"
    assert [method.mask for method in three.methods] == [None, "held", "held"]


def test_a_cell_is_plain_json(write_suite: Write) -> None:
    (cell,) = cells_of(write_suite, f"{{name: wanda, then: [{RETRAIN}]}}")
    text = cell.model_dump_json(exclude={"id", "key"})
    assert Cell.model_validate_json(text) == cell
    assert Cell.model_validate_json(text).id == cell.id


def test_a_cell_of_one_stage_says_nothing_of_stages(write_suite: Write) -> None:
    (alone,) = cells_of(write_suite, "wanda")
    (empty,) = cells_of(write_suite, "{name: wanda, then: []}")
    assert alone.id == empty.id
    assert "then" not in alone.model_dump(mode="json")
    assert "then" not in alone.identity


def test_an_id_depends_on_the_stages_their_options_and_their_code(write_suite: Write) -> None:
    label = "label: same"
    rows = [
        f"{{name: wanda, {label}}}",
        f"{{name: wanda, {label}, then: [{RETRAIN}]}}",
        f"{{name: wanda, {label}, then: [{{name: retrain, options: {{steps: 4}}}}]}}",
        f"{{name: wanda, {label}, then: [perp]}}",
        f"{{name: wanda, {label}, then: [{RETRAIN}, perp]}}",
    ]
    cells = [cells_of(write_suite, row)[0] for row in rows]
    assert len({cell.id for cell in cells}) == len(rows)
    assert len({cell.key for cell in cells}) == 1
    cell = cells[1]
    edited = cell.model_copy(update={"then": (cell.then[0].model_copy(update={"code": "other"}),)})
    assert edited.id != cell.id
    with pytest.raises(MethodError, match="the code of 'retrain' was edited after the suite was planned"):
        refuse_changed_code(edited)
    moved = cell.model_copy(update={"then": (cell.then[0].model_copy(update={"version": "9"}),)})
    assert moved.id == cell.id


def test_several_seeds_where_any_stage_takes_data(write_suite: Write) -> None:
    path = write_suite(
        methods=f"methods: [magnitude, {{name: magnitude, then: [{RETRAIN}]}}]",
        sparsities="sparsities: [0.5]",
        seeds="seeds: [0, 1]",
    )
    assert [(cell.method, cell.seed) for cell in plan(load_suite(path))] == [
        ("magnitude", 0),
        ("magnitude+retrain", 0),
        ("magnitude+retrain", 1),
    ]


def test_the_control_is_planned_at_sparsity_0_alone(write_suite: Write) -> None:
    path = write_suite(
        methods=f"methods: [dense, {{name: dense, then: [{RETRAIN}], seeds: [3, 4]}}]",
        sparsities="sparsities: [0.5, 2:4]",
    )
    cells = plan(load_suite(path))
    assert [(cell.method, str(cell.sparsity), cell.seed, cell.changes) for cell in cells] == [
        ("dense", "0", 0, "nothing"),
        ("dense+retrain", "0", 3, "all"),
        ("dense+retrain", "0", 4, "all"),
    ]


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            "retrain",
            r"the method 'retrain' only follows another: write it into that one's entry, as \{name: METHOD, th",
        ),
        ("{name: perp, then: [retrain]}", "the method 'perp' only follows another"),
        ("{name: dense, then: [perp]}", "the method 'perp' cannot follow 'dense', which prunes nothing: after a base"),
        ("{name: dense, then: [retrain, perp]}", "the method 'perp' cannot follow 'dense', which prunes nothing"),
        ("{name: dense, then: [wanda]}", "the method 'wanda' cannot follow 'dense': its class does not say what it d"),
        ("{name: wanda, then: [sparsegpt]}", "'sparsegpt' cannot follow 'wanda': its class does not say what it does"),
        ("{name: wanda, then: [retrian]}", "unknown method 'retrian': did you mean 'retrain'"),
        ("{name: wanda, then: [{name: retrain, options: {rank: 3}}]}", "the method 'retrain' has no option 'rank'"),
        ("{name: wanda, options: {steps: 3}, then: [retrain]}", "the method 'wanda' has no option 'steps'"),
        ("{name: wanda, then: [{name: retrain, options: {steps: -1}}]}", "'retrain' refuses its options: steps -1"),
    ],
)
def test_what_cannot_stand_there_is_refused_in_one_line(write_suite: Write, methods: str, message: str) -> None:
    with pytest.raises(MethodError, match=message) as told:
        cells_of(write_suite, methods)
    assert "\n" not in str(told.value)


def test_an_unknown_key_of_a_stage_is_refused(write_suite: Write) -> None:
    with pytest.raises(SuiteError, match="unknown key 'label'"):
        cells_of(write_suite, "{name: wanda, then: [{name: retrain, label: mine}]}")
    with pytest.raises(SuiteError, match=r"two methods are called 'wanda\+perp'"):
        cells_of(write_suite, "{name: wanda, then: [perp]}, {name: wanda, then: [{name: perp, options: {rank: 2}}]}")


FOLLOWERS = '''
from dataclasses import dataclass
from typing import Any, ClassVar
from prunebench import hookimpl

@dataclass(frozen=True)
class Refines:
    """Moves masks, and changes the matrices alone."""

    mask: ClassVar = "moves"
    patterns: ClassVar[tuple[str, ...]] = ("n:m",)

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None: ...
'''


def test_a_stage_narrows_the_patterns_and_a_device(write_suite: Write, tmp_path: Path) -> None:
    file, told = tmp_path / "followers.py", []
    file.write_text(FOLLOWERS)
    path = write_suite(methods="methods: [{name: magnitude, then: [refines]}]", sparsities="sparsities: [0.5, 2:4]")
    (cell,) = plan(load_suite(path), plugin_files=[file], tell=told.append)
    assert str(cell.sparsity) == "2:4"
    assert cell.changes == "prunable"
    assert told == ["magnitude+refines is for n:m sparsity: skipped at 0.5"]
    with pytest.raises(
        DeviceError, match=r"'magnitude\+refines' has several stages, and device 'disk' of 'model' does"
    ):
        plan(load_suite(path), plugin_files=[file], device="disk")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('mask: ClassVar = "keeps"', "says mask = 'keeps': valid: held, moves"),
        ("after: ClassVar = True", "says after = True and not what it does with the mask: add mask = 'held'"),
        ('after: ClassVar = "yes"', "says after = 'yes': give True or False"),
        ("control: ClassVar = 1", "says control = 1: give True or False"),
    ],
)
def test_what_a_class_says_wrongly_is_refused(write_suite: Write, tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "followers.py"
    file.write_text(FOLLOWERS.replace('mask: ClassVar = "moves"', line))
    with pytest.raises(MethodError, match=message):
        cells_of(write_suite, "{name: magnitude, then: [refines]}", plugin_files=[file])
