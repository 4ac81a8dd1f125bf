"""Tuning: from a grid to trials, from their records to the options of the suite's cells, and what is refused."""

import itertools
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from prunebench.errors import MethodError, SuiteError, UsageError
from prunebench.records.record import Effort, PerplexityFacts, Record
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite, suite_from
from prunebench.suite.planning import plan
from prunebench.suite.tuning import TunedPlan, plan_tuned
from tests.helpers.records import PROTOCOL, record

Write = Callable[..., Path]
RHO = "rho: [1.0, 2.0, 3.0]"


@pytest.fixture
def planned(write_suite: Write, world: Path) -> Callable[..., TunedPlan]:
    """Plan a suite of method entries, in which TEXT is a validation text."""

    def tuned(methods: str, *overrides: str, only: tuple[str, ...] = (), **lines: str) -> TunedPlan:
        path = write_suite(methods=f"methods: [{methods.replace('TEXT', text_of(world))}]", **lines)
        return plan_tuned(load_suite(path, overrides), only=only)

    return tuned


def text_of(world: Path) -> str:
    return f"text: {{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}"


def tried(cell: Cell, nll: float = 1.0, *, ok: bool = True, tokens: int = 0) -> Record:
    """The record of a trial, made up."""
    facts = PerplexityFacts(value=math.exp(min(nll, 700)), nll=nll, tokens=100, dropped_tokens=0, stderr=0.1)
    found = record(sparsity=str(cell.sparsity))
    return found.model_copy(
        update={
            "cell": found.cell.model_copy(update={"id": cell.id}),
            "status": "ok" if ok else "failed",
            "perplexity": {PROTOCOL: facts} if ok else {},
            "effort": (Effort(stage=0, backward_tokens=tokens),),
            "cost": found.cost.model_copy(update={"prune_seconds": 2.0}),
        }
    )


def with_losses(cells: Iterable[Cell], losses: Iterable[float]) -> list[Record]:
    return [tried(cell, nll) for cell, nll in zip(cells, losses, strict=True)]


class TestTrials:
    def test_each_combination_is_a_cell_measured_on_the_validation_text_alone(self, planned: Any) -> None:
        found = planned(f"dense, {{name: alps, tune: {{grid: {{{RHO}, iterations: [5, 6]}}, TEXT}}}}")
        assert [cell.method for cell in found.cells] == ["dense", "alps", "alps"]
        every = list(itertools.product((1.0, 2.0, 3.0), (5, 6)))
        for sparsity in ("0.5", "2:4"):
            cells = [cell for cell in found.trials if str(cell.sparsity) == sparsity]
            assert [(cell.options["rho"], cell.options["iterations"]) for cell in cells] == every
            assert [cell.method for cell in cells] == [f"alps rho={rho} iterations={n}" for rho, n in every]
        assert len(found.trials) == 12
        for cell in found.trials:
            assert [facts.facts["protocol"] for facts in cell.evaluations] == ["calibration/stream-16"]
            assert cell.tuning is None

    def test_one_seed_unless_more_are_asked_for(self, planned: Any) -> None:
        seeds = {"seeds": "seeds: [3, 4]"}
        assert {cell.seed for cell in planned(f"{{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}", **seeds).trials} == {
            3
        }
        two = planned(f"{{name: alps, tune: {{grid: {{{RHO}}}, seeds: [8, 9], TEXT}}}}", **seeds)
        assert [cell.seed for cell in two.trials] == [8, 9] * 6
        assert {cell.seed for cell in two.cells} == {3, 4}

    def test_fewer_than_all_are_a_draw_that_is_always_the_same(self, planned: Any) -> None:
        grid = "grid: {rho: [1, 2, 3, 4, 5, 6, 7, 8, 9]}"
        rows = [
            [cell.options["rho"] for cell in planned(f"{{name: alps, tune: {{{grid}, trials: 4, TEXT}}}}").trials]
            for _ in range(2)
        ]
        assert rows[0] == rows[1]
        assert len(set(rows[0])) == 4  # of each of two sparsities
        assert rows[0][:4] == sorted(rows[0][:4])

    def test_sparsities_of_trials(self, planned: Any) -> None:
        found = planned(f"{{name: alps, tune: {{grid: {{{RHO}}}, sparsities: [0.6], TEXT}}}}")
        assert [str(cell.sparsity) for cell in found.trials] == ["0.6"] * 3
        assert [str(cell.sparsity) for cell in found.cells] == ["0.5", "2:4"]

    def test_a_suite_without_tuning_has_the_cells_that_it_had(self, write_suite: Write) -> None:
        suite = load_suite(write_suite())
        found = plan_tuned(suite)
        assert found.trials == ()
        assert found.chosen([]) == (plan(suite), [])

    def test_only(self, planned: Any) -> None:
        methods = (
            f"wanda, {{name: alps, label: a, tune: {{grid: {{{RHO}}}, TEXT}}}}, "
            "{name: alps, label: b, options: {iterations: 7}, tune: {like: a}}"
        )
        assert planned(methods, only=("wanda",)).trials == ()
        like = planned(methods, only=("b",))
        assert {cell.method for cell in like.cells} == {"b"}
        assert {cell.method for cell in like.trials} == {f"a rho={rho}" for rho in (1.0, 2.0, 3.0)}

    def test_what_set_reaches(self, planned: Any) -> None:
        methods = (
            f"{{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}, "
            "{name: wanda, then: retrain, label: w, tune: {grid: {retrain.lr: [0.1, 0.2], retrain.steps: [1]}, TEXT}}"
        )
        found = planned(
            methods,
            "methods.alps.tune.grid.rho=[7, 8]",
            "methods.alps.tune.grid.damping=[last]",
            "methods.alps.tune.sparsities=[0.9]",
            "methods.w.tune.grid.retrain.lr=[1e-4]",
            "methods.w.tune.trials=1",
        )
        options = [(str(cell.sparsity), cell.options["rho"]) for cell in found.trials if cell.plugin == "alps"]
        assert options == [("0.9", 7.0), ("0.9", 8.0)]
        then = [cell.then[0].options for cell in found.trials if cell.plugin == "wanda"]
        assert [(each["lr"], each["steps"]) for each in then] == [(1e-4, 1)] * 2

    def test_a_suite_is_the_same_after_it_was_written_as_json(self, write_suite: Write, world: Path) -> None:
        methods = (
            f"methods: [{{name: alps, tune: {{grid: {{{RHO}}}, {text_of(world)}}}}}, "
            "{name: alps, label: b, tune: {like: alps}}]"
        )
        suite = load_suite(write_suite(methods=methods))
        assert suite_from(suite, folder=Path("/nowhere")) == suite
        assert suite_from(suite.model_dump(mode="json"), folder=Path("/nowhere")) == suite


class TestChoice:
    @pytest.mark.parametrize(
        ("losses", "rho"),
        [
            ([3.0, 1.0, 2.0], 2.0),
            ([1.0, 1.0, 1.0], 1.0),  # of equal ones the first
            ([2.0, 1.0, 1.0], 2.0),
            ([math.nan, math.inf, 9.0], 3.0),
            ([math.inf, 9.0, math.nan], 2.0),
        ],
    )
    def test_the_lowest_loss(self, planned: Any, losses: list[float], rho: float) -> None:
        found = planned(f"{{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}", sparsities="sparsities: [0.5]")
        (cell,), left_out = found.chosen(with_losses(found.trials, losses))
        assert (cell.options["rho"], cell.tuning.options, left_out) == (rho, {"rho": rho}, [])
        assert cell.method == "alps"

    def test_a_loss_is_the_mean_over_seeds_and_all_must_be_there(self, planned: Any) -> None:
        tune = f"grid: {{{RHO}}}, seeds: [0, 1], TEXT"
        found = planned(f"{{name: alps, tune: {{{tune}}}}}", sparsities="sparsities: [0.5]")
        # The best single seed is the first combination's; the best mean the second's. The third would win had it both.
        losses = {1.0: [1.0, 4.0], 2.0: [2.0, 2.0], 3.0: [0.5, 0.5]}
        records = [tried(cell, losses[cell.options["rho"]][cell.seed]) for cell in found.trials]
        assert found.chosen(records)[0][0].options["rho"] == 3.0
        records[-1] = tried(found.trials[-1], ok=False)
        assert found.trials[-1].options["rho"] == 3.0
        assert found.chosen(records)[0][0].options["rho"] == 2.0

    def test_each_model_and_sparsity_has_its_own(self, planned: Any, world: Path) -> None:
        folder = world / "model"
        found = planned(
            f"{{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}",
            models=f"models: [{{id: {folder}, label: one}}, {{id: {folder}, label: two}}]",
        )
        best = {("one", "0.5"): 1.0, ("one", "2:4"): 2.0, ("two", "0.5"): 3.0, ("two", "2:4"): 1.0}
        records = [
            tried(cell, float(cell.options["rho"] != best[cell.model, str(cell.sparsity)])) for cell in found.trials
        ]
        cells, _ = found.chosen(records)
        assert {(cell.model, str(cell.sparsity)): cell.options["rho"] for cell in cells} == best

    def test_another_sparsity_takes_the_choice_of_the_nearest(self, planned: Any) -> None:
        found = planned(
            f"{{name: alps, tune: {{grid: {{{RHO}}}, sparsities: [0.5, 0.9, '2:4'], TEXT}}}}",
            sparsities="sparsities: [0.6, 0.7, 0.95, '4:8']",
        )
        best = {"0.5": 1.0, "0.9": 2.0, "2:4": 3.0}
        records = [tried(cell, float(cell.options["rho"] != best[str(cell.sparsity)])) for cell in found.trials]
        cells, _ = found.chosen(records)
        # 0.7 is as far from 0.5 as from 0.9: the sparser. 4:8 is as sparse as 0.5 and as 2:4: its own kind.
        assert [(str(cell.sparsity), cell.tuning.sparsity) for cell in cells] == [
            ("0.6", "0.5"),
            ("0.7", "0.9"),
            ("0.95", "0.9"),
            ("4:8", "2:4"),
        ]
        assert [cell.options["rho"] for cell in cells] == [1.0, 2.0, 2.0, 3.0]

    def test_a_cell_that_awaits_trials_stays_as_it_is(self, planned: Any) -> None:
        tune = f"tune: {{grid: {{{RHO}}}, TEXT}}"
        found = planned(f"{{name: alps, {tune}}}, {{name: alps, label: other, {tune}}}", sparsities="sparsities: [0.5]")
        ran = [tried(cell, float(cell.options["rho"])) for cell in found.trials if cell.method.startswith("alps")]
        assert found.awaits(ran) == 3
        cells, left_out = found.chosen(ran)
        assert [(cell.method, cell.tuning is not None) for cell in cells] == [("alps", True), ("other", False)]
        assert not left_out

    def test_each_allocation_has_its_own(self, planned: Any) -> None:
        found = planned(
            f"{{name: alps, allocation: [uniform, owl], tune: {{grid: {{{RHO}}}, TEXT}}}}",
            sparsities="sparsities: [0.5]",
        )
        best = {"uniform": 1.0, "owl": 3.0}
        records = [tried(cell, float(cell.options["rho"] != best[cell.allocation])) for cell in found.trials]
        assert {cell.allocation: cell.options["rho"] for cell in found.chosen(records)[0]} == best

    def test_where_none_ran_well_the_cells_are_left_out_and_the_others_stay(self, planned: Any) -> None:
        found = planned(f"dense, {{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}")
        records = [
            tried(cell, math.nan if cell.options["rho"] == 1.0 else 1.0, ok=str(cell.sparsity) == "0.5")
            for cell in found.trials
        ]
        cells, left_out = found.chosen(records)
        assert [(cell.method, str(cell.sparsity)) for cell in cells] == [("dense", "0"), ("alps", "0.5")]
        assert left_out == [
            "alps at 2:4 on model is left out: none of its 3 trials ran well; see their records in trials/"
        ]

    def test_a_chosen_cell_is_the_cell_of_an_entry_with_these_options(self, planned: Any, write_suite: Write) -> None:
        found = planned(f"{{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}", sparsities="sparsities: [0.5]")
        records = [tried(cell, 1 / cell.options["rho"], tokens=7) for cell in found.trials]
        (cell,), _ = found.chosen(records)
        methods = "methods: [{name: alps, options: {rho: 3.0}}]"
        (plain,) = plan(load_suite(write_suite(methods=methods, sparsities="sparsities: [0.5]")))
        assert cell.id == plain.id
        assert cell.model_copy(update={"tuning": None}) == plain
        assert "tuning" not in plain.model_dump(mode="json")
        text = cell.model_dump_json(exclude={"id", "key"})
        assert Cell.model_validate_json(text) == cell
        assert cell.tuning.model_dump() == {
            "trials": 3,
            "tokens": (7, 7, 7),
            "seconds": 6.0,
            "text": PROTOCOL,
            "split": None,
            "sparsity": "0.5",
            "like": None,
            "options": {"rho": 3.0},
        }


class TestLike:
    METHODS = (
        "{name: wanda, then: [{name: retrain, options: {steps: 4}}], label: short, "
        "tune: {grid: {retrain.lr: [0.1, 0.2]}, TEXT}}, "
        "{name: alps, then: [{name: retrain, options: {steps: 9}}], label: long, tune: {like: short}}"
    )

    def test_it_takes_what_the_others_trials_chose_and_nothing_else(self, planned: Any) -> None:
        found = planned(self.METHODS, sparsities="sparsities: [0.5]")
        assert [cell.method for cell in found.trials] == ["short retrain.lr=0.1", "short retrain.lr=0.2"]
        cells, _ = found.chosen(with_losses(found.trials, [2.0, 1.0]))
        assert [(c.method, c.plugin, c.then[0].options["steps"], c.then[0].options["lr"]) for c in cells] == [
            ("short", "wanda", 4, 0.2),
            ("long", "alps", 9, 0.2),
        ]
        assert [cell.tuning.like for cell in cells] == [None, "short"]

    @pytest.mark.parametrize(
        ("methods", "message"),
        [
            ("{name: alps, tune: {like: gmp}}", "'alps' is tuned like 'gmp', which has no grid of its own"),
            ("wanda, {name: alps, tune: {like: wanda}}", "'alps' is tuned like 'wanda', which has no grid of its own"),
            (
                f"{{name: alps, tune: {{grid: {{{RHO}}}, TEXT}}}}, {{name: wanda, tune: {{like: alps}}}}",
                "the method 'wanda' has no option 'rho'",
            ),
            (
                "{name: alps, label: a, sparsities: [0.5], tune: {grid: {rho: [1.0]}, TEXT}}, "
                "{name: alps, label: a, sparsities: ['2:4'], tune: {grid: {rho: [1.0]}, TEXT}}, "
                "{name: alps, label: b, tune: {like: a}}",
                "2 entries of that label have a grid",
            ),
        ],
    )
    def test_what_is_refused(self, planned: Any, methods: str, message: str) -> None:
        with pytest.raises(UsageError, match=re.escape(message)):
            planned(methods)

    def test_a_model_that_the_trials_are_not_for(self, planned: Any, world: Path) -> None:
        folder = world / "model"
        with pytest.raises(SuiteError, match="'b' is tuned by trials none of which is on the model 'two'"):
            planned(
                f"{{name: alps, models: [one], tune: {{grid: {{{RHO}}}, TEXT}}}}, "
                "{name: alps, label: b, tune: {like: alps}}",
                models=f"models: [{{id: {folder}, label: one}}, {{id: {folder}, label: two}}]",
            )


class TestControl:
    def test_a_baseline_with_a_stage_is_tuned_once_for_all_sparsities(self, planned: Any) -> None:
        found = planned("dense, {name: dense, then: [retrain], tune: {grid: {retrain.lr: [0.1, 0.2, 0.3]}, TEXT}}")
        assert [str(cell.sparsity) for cell in found.trials] == ["0"] * 3
        cells, _ = found.chosen(with_losses(found.trials, [2.0, 1.0, 3.0]))
        assert [(cell.method, str(cell.sparsity)) for cell in cells] == [("dense", "0"), ("dense+retrain", "0")]
        assert cells[1].then[0].options["lr"] == 0.2

    def test_options_of_a_stage_may_stand_inside_its_name(self, planned: Any) -> None:
        flat, nested = (
            planned(f"{{name: wanda, then: [retrain], tune: {{grid: {{{grid}}}, TEXT}}}}")
            for grid in ("retrain.lr: [0.1, 0.2]", "retrain: {lr: [0.1, 0.2]}")
        )
        assert [cell.id for cell in flat.trials] == [cell.id for cell in nested.trials]


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("grid: {}, TEXT", "there is nothing to try"),
        ("TEXT", "there is nothing to try"),
        ("grid: {rho: []}, TEXT", "rho is to be tried with []: give a list of values"),
        ("grid: {rho: 0.1}, TEXT", "rho is to be tried with 0.1: give a list of values"),
        ("grid: {rho: [1, 2, 1]}, TEXT", "rho is to be tried twice with 1"),
        ("grid: {rho: [1, 2]}, trials: 3, TEXT", "3 trials of a grid that has 2 combinations"),
        ("grid: {rho: [1, 2]}, trials: 0, TEXT", "trials"),
        ("grid: {rho: [1, 2]}", "a text is missing"),
        ("grid: {rho: [1, 2]}, like: wanda", "'grid' has no place beside it"),
        ("grids: {rho: [1, 2]}, TEXT", "unknown key 'grids': did you mean 'grid'?"),
        ("grid: {rho: [1, 2]}, text: {corpus: wikitext2, seqlen: 16, models: [model]}", "leave out 'models'"),
        ("grid: {rho: [1, 2]}, text: {corpus: wikitext2, seqlen: 16, sparsities: [0.5]}", "leave out 'sparsities'"),
        ("grid: {rho: [1, 2]}, text: {corpus: wikitext2}", "needs a seqlen"),
        ("grid: {rhoo: [1, 2]}, TEXT", "the method 'alps' has no option 'rhoo'"),
        ("grid: {rho: [1, word]}, TEXT", "word"),
        ("grid: {retrain.lr: [1, 2]}, TEXT", "no method 'retrain' follows in its entry"),
        ("grid: {a: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}, trials: 11, TEXT", "11 trials of a grid"),
    ],
)
def test_what_is_refused(planned: Any, tune: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        planned(f"{{name: alps, tune: {{{tune}}}}}")
    assert "\n" not in str(refused.value)


def test_a_grid_too_large_to_be_meant(planned: Any) -> None:
    values = ", ".join(map(str, range(1, 401)))
    with pytest.raises(SuiteError, match="160000 combinations, more than 100000"):
        planned(f"{{name: alps, tune: {{grid: {{rho: [{values}], iterations: [{values}]}}, trials: 3, TEXT}}}}")


def test_each_combination_is_checked_before_the_first_trial(planned: Any) -> None:
    # Each value is one that the option takes; retrain refuses this learning rate when it is made.
    with pytest.raises(MethodError, match="lr -1"):
        planned("{name: wanda, then: [retrain], tune: {grid: {retrain.lr: [0.1, -1.0]}, TEXT}}")


@pytest.mark.parametrize("seqlen", [16, 12])
def test_a_test_text_is_no_validation_text(planned: Any, world: Path, tmp_path: Path, seqlen: int) -> None:
    copy = tmp_path / "renamed.jsonl"
    copy.write_bytes((world / "test.jsonl").read_bytes())  # by whatever name and protocol
    for file in (world / "test.jsonl", copy):
        text = f"text: {{corpus: {file}, seqlen: {seqlen}}}"
        with pytest.raises(SuiteError, match="is one that the suite measures on: tune on another text"):
            planned(f"{{name: alps, tune: {{grid: {{{RHO}}}, {text}}}}}")


def test_a_path_of_a_validation_text_counts_from_the_suite_file(write_suite: Write, world: Path) -> None:
    path = write_suite(
        methods="methods: [{name: alps, tune: {grid: {rho: [1.0]}, text: {corpus: mine.jsonl, seqlen: 16}}}]"
    )
    (path.parent / "mine.jsonl").write_bytes((world / "calibration.jsonl").read_bytes())
    assert {cell.evaluations[0].facts["protocol"] for cell in plan_tuned(load_suite(path)).trials} == {"mine/stream-16"}
