"""The regression gate: what it catches, what it lets pass, what it refuses."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from prunebench.records.arrays import ArrayStore
from prunebench.records.store import read_records, write_record
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.formats import comparison_tables, comparison_to_junit, comparison_to_terminal, headline
from prunebench.report.compare.verdict import Comparison, Tolerances, Verdict
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.records import COUNTS, PROTOCOL, kept, record


def compared(base: Path, head: Path, tolerances: Tolerances | None = None) -> Comparison:
    return compare_records(read_records(base), read_records(head), ArrayStore(base), ArrayStore(head), tolerances)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
    return tmp_path / "base", tmp_path / "head"


Sides = tuple[Path, Path]


class TestVerdict:
    def test_the_same_is_no_change(self, sides: Sides) -> None:
        for side in sides:
            kept(side)
            kept(side, "magnitude")
        found = compared(*sides)
        assert (found.exit_code, found.count(Verdict.REGRESSION), len(found.cells)) == (0, 0, 2)
        assert all(measure.change == 0 for cell in found.cells for measure in cell.measures)

    @pytest.mark.parametrize(("worse", "code"), [(0.02, 1), (0.005, 0), (-0.05, 0)])
    def test_two_percent_is_caught_and_half_a_percent_is_not(self, sides: Sides, worse: float, code: int) -> None:
        kept(sides[0])
        kept(sides[1], worse=worse, noise=1)
        found = compared(*sides)
        assert found.exit_code == code
        assert found.count(Verdict.IMPROVEMENT) == (worse < -0.01)

    def test_beyond_the_tolerance_but_not_significant(self, sides: Sides) -> None:
        """Four questions of 200 are two points, and no evidence."""
        kept(sides[0], right=0.5)
        kept(sides[1], right=0.48)
        found = compared(*sides)
        (accuracy, _) = [measure for measure in found.cells[0].measures if measure.name == "accuracy"]
        assert accuracy.change == pytest.approx(-0.02)
        assert found.exit_code == 0

    def test_a_loss_of_answers_is_caught(self, sides: Sides) -> None:
        kept(sides[0], right=0.5)
        kept(sides[1], right=0.4)
        assert compared(*sides).count(Verdict.REGRESSION) == 2

    def test_trained_methods_have_a_wider_tolerance(self, sides: Sides) -> None:
        for side, worse in zip(sides, (0.0, 0.02), strict=True):
            made = kept(side, "x", worse=worse)
            trained = made.model_copy(update={"method": made.method.model_copy(update={"changes": "all"})})  # type: ignore[union-attr]
            write_record(side, trained, ArrayStore(side).read(made))
        assert compared(*sides).exit_code == 0
        assert compared(*sides, Tolerances(trained=1)).exit_code == 1

    def test_a_broken_model_is_a_regression_and_a_repaired_one_is_not(self, sides: Sides) -> None:
        for side in sides:
            made = kept(side)
        broken = {f"perplexity/{PROTOCOL}/losses": np.where(COUNTS > 50, np.nan, COUNTS)}
        write_record(sides[1], record(value=math.nan), dict(ArrayStore(sides[0]).read(made)) | broken)
        found = compared(*sides)
        assert (found.exit_code, found.cells[0].measures[0].change) == (1, math.inf)
        assert "nan" in comparison_to_terminal(found, 200)
        assert compared(sides[1], sides[0]).exit_code == 0
        assert compared(sides[1], sides[1]).exit_code == 0

    def test_a_cell_that_fails_anew(self, sides: Sides) -> None:
        kept(sides[0])
        write_record(sides[1], record(error="holds 0 zeros"), {})
        found = compared(*sides)
        assert found.exit_code == 1
        assert "ContractError: holds 0 zeros" in comparison_tables(found)[0].rows[0]
        assert headline(found) == "1 regression"

    @pytest.mark.parametrize("repaired", [True, False])
    def test_a_cell_that_failed_before_is_not_compared(self, sides: Sides, repaired: bool) -> None:
        write_record(sides[0], record(error="holds 0 zeros"), {})
        if repaired:
            kept(sides[1])
        else:
            write_record(sides[1], record(error="holds 0 zeros"), {})
        found = compared(*sides)
        assert (found.exit_code, headline(found)) == (2, "no regressions")
        suite = ElementTree.fromstring(comparison_to_junit(found))
        assert (suite.get("tests"), suite.get("skipped"), len(suite.findall("testcase/skipped"))) == ("1", "1", 1)
        result = prunebench("compare", *sides)
        assert result.exit_code == 2
        assert "nothing was compared" in result.stderr
        for side in sides:
            kept(side, "magnitude")
        assert (compared(*sides).exit_code, headline(compared(*sides))) == (0, "no regressions, 1 compared cell")

    @pytest.mark.parametrize(("machine", "code"), [("x86_64", 1), ("another", 0)])
    def test_time_and_memory_fail_on_one_machine_alone_and_when_asked(
        self, sides: Sides, machine: str, code: int
    ) -> None:
        slow = kept(sides[0])
        for side, seconds, device in ((sides[0], 2.5, "x86_64"), (sides[1], 5.0, machine)):
            cost = slow.cost.model_copy(update={"prune_seconds": seconds})
            environment = slow.environment | {"device": device, "threads": 2, "platform": "Linux"}
            made = slow.model_copy(update={"cost": cost, "environment": environment})
            write_record(side, made, ArrayStore(sides[0]).read(slow))
        assert compared(*sides).exit_code == 0
        assert compared(*sides, Tolerances(time=0.5)).exit_code == code


class TestFalseAlarms:
    """Pairs that differ by their seed alone: each has noise of its own, on the same sequences and questions."""

    CELLS = 6

    def alarms(self, sides: Sides, worse: float, pairs: int) -> int:
        rng = np.random.default_rng(7)
        total = 0
        for pair in range(pairs):
            for number, side in enumerate(sides):
                for path in side.iterdir():
                    path.unlink()
                for cell in range(self.CELLS):
                    # The seed moves the whole model by 0.3 %, and every sequence by itself.
                    drift = rng.normal(0, 0.003) + worse * number
                    noise = 1000 * pair + 10 * cell + number
                    kept(side, f"m{cell}", worse=drift, noise=noise)
            total += compared(*sides).exit_code == 1
        return total

    def test_seeds_rarely_raise_one(self, sides: Sides) -> None:
        assert self.alarms(sides, worse=0.0, pairs=20) <= 1

    def test_two_percent_always_does(self, sides: Sides) -> None:
        assert self.alarms(sides, worse=0.02, pairs=5) == 5


class TestOtherSeeds:
    """BASE and HEAD have no seed in common: the spread between seeds decides what can be told."""

    @staticmethod
    def runs(folder: Path, seeds: range, worse: float = 0.0, spread: float = 0.003) -> None:
        """Seeds whose perplexities spread by a fraction, evenly on both sides of their mean."""
        middle = (seeds[0] + seeds[-1]) / 2
        for seed in seeds:
            change = (1 + worse) * (1 + spread * (seed - middle)) - 1
            kept(folder, worse=change, noise=seed, seed=seed, right=0.5)

    def test_the_same_spread_is_no_regression(self, sides: Sides) -> None:
        self.runs(sides[0], range(5))
        self.runs(sides[1], range(5, 10))
        found = compared(*sides)
        assert (found.exit_code, len(found.cells), found.only_base, found.only_head) == (0, 1, (), ())
        assert found.cells[0].remarks == ("seeds 0, 1, 2, 3, 4 in BASE, 5, 6, 7, 8, 9 in HEAD: seeds are not paired",)
        assert {measure.verdict for measure in found.cells[0].measures} == {Verdict.UNCHANGED}

    def test_a_change_beyond_the_spread_is_a_regression(self, sides: Sides) -> None:
        self.runs(sides[0], range(3))
        self.runs(sides[1], range(5, 8), worse=0.05)
        found = compared(*sides)
        assert (found.exit_code, found.count(Verdict.REGRESSION)) == (1, 1)

    def test_few_seeds_that_spread_cannot_tell_and_say_how_many_would(self, sides: Sides) -> None:
        self.runs(sides[0], range(2), spread=0.03)
        self.runs(sides[1], range(5, 7), worse=0.02, spread=0.03)
        found = compared(*sides)
        (unclear,) = found.cells[0].with_verdict(Verdict.CANNOT_TELL)
        assert (found.exit_code, found.compared, found.count(Verdict.REGRESSION)) == (2, 0, 0)
        # The standard deviation of two values 3 % apart is 2.1 %: t(2n - 2) · 2.1 % · √(2 / n) ≤ 1 % from n = 36 on.
        assert unclear.seeds_needed in (36, 37)
        assert f"{unclear.seeds_needed} on each side" in comparison_to_terminal(found, 300)
        assert "1 measure with too few seeds to tell" in headline(found)
        result = prunebench("compare", *sides, "--json")
        assert (result.exit_code, json.loads(result.stdout)["cells"][0]["measures"][0]["verdict"]) == (2, "cannot tell")

    def test_one_seed_on_each_side_tells_nothing(self, sides: Sides) -> None:
        kept(sides[0], seed=0)
        kept(sides[1], seed=1, worse=0.5)
        found = compared(*sides)
        assert found.exit_code == 2
        assert {measure.verdict for measure in found.cells[0].with_verdict(Verdict.CANNOT_TELL)} == {
            Verdict.CANNOT_TELL
        }
        assert "unknown; three on each side show the spread" in comparison_to_terminal(found, 300)

    def test_a_method_that_takes_no_data_is_compared_with_any_seed(self, sides: Sides) -> None:
        for side, worse in zip(sides, (0.0, 0.02), strict=True):
            made = kept(side, seed=int(100 * worse), worse=worse)
            facts = made.method.model_copy(update={"takes_data": False})  # type: ignore[union-attr]
            write_record(side, made.model_copy(update={"method": facts}), ArrayStore(side).read(made))
        assert compared(*sides).count(Verdict.REGRESSION) == 1

    def test_where_some_seeds_agree_those_are_compared(self, sides: Sides) -> None:
        self.runs(sides[0], range(3))
        self.runs(sides[1], range(2, 5))
        found = compared(*sides)
        assert [cell.base.cell.seed for cell in found.cells] == [2]
        assert (len(found.only_base), len(found.only_head)) == (2, 2)

    def test_the_spread_of_base_widens_the_tolerance_of_methods_that_train(self, sides: Sides) -> None:
        def trained(side: Path, seed: int, worse: float) -> None:
            made = kept(side, seed=seed, worse=worse, noise=seed)
            facts = made.method.model_copy(update={"changes": "all"})  # type: ignore[union-attr]
            write_record(side, made.model_copy(update={"method": facts}), ArrayStore(side).read(made))

        trained(sides[0], 0, 0.0)
        trained(sides[1], 0, 0.05)
        assert compared(*sides).count(Verdict.REGRESSION) == 1
        for seed, worse in ((1, 0.02), (2, -0.02)):
            trained(sides[0], seed, worse)
        # t(2) · √2 · 2 % = 12 %
        (cell,) = compared(*sides).cells
        assert cell.measures[0].tolerance == pytest.approx(4.303 * math.sqrt(2) * 0.02, rel=0.15)
        assert compared(*sides).exit_code == 0


class TestMatching:
    def test_cells_of_one_side_are_listed(self, sides: Sides) -> None:
        for side, names in zip(sides, (("a", "b"), ("b", "c")), strict=True):
            for name in names:
                kept(side, name)
        found = compared(*sides)
        assert [len(found.cells), len(found.only_base), len(found.only_head)] == [1, 1, 1]
        assert found.exit_code == 0
        assert "1 cell only in BASE, 1 cell only in HEAD" in comparison_to_terminal(found, 120)

    def test_a_changed_option_is_compared_and_told(self, sides: Sides) -> None:
        kept(sides[0], options={"blocksize": 128})
        kept(sides[1], options={"blocksize": 64})
        found = compared(*sides)
        assert found.cells[0].remarks == ("blocksize 128 → 64",)
        assert found.exit_code == 0

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"model_digest": "ff99"}, "the dense model has other weights: aa11 in BASE, ff99 in HEAD"),
            ({"dtype": "bfloat16"}, "the model ran in another format: float32 in BASE, bfloat16 in HEAD"),
            (
                {"evaluations": [{"name": "perplexity", "protocol": PROTOCOL, "digest": "ee77"}]},
                f"{PROTOCOL} is another text: cc33 in BASE, ee77 in HEAD",
            ),
        ],
    )
    def test_what_is_not_comparable_is_refused(self, sides: Sides, change: dict[str, object], words: str) -> None:
        kept(sides[0])
        kept(sides[1], **change)
        found = compared(*sides)
        assert words in found.cells[0].refused
        assert found.exit_code == 2

    def test_another_calibration_text_is_refused(self, sides: Sides) -> None:
        kept(sides[0])
        made = kept(sides[1])
        other = made.model_copy(update={"environment": made.environment | {"calibration_digest": "9999"}})
        write_record(sides[1], other, {})
        assert "the calibration text is another one" in compared(*sides).cells[0].refused[0]

    def test_another_version_of_a_task_is_refused_and_the_rest_compared(self, sides: Sides) -> None:
        kept(sides[0])
        made = kept(sides[1])
        made.zero_shot["versions"]["piqa"] = 2.0
        write_record(sides[1], made, ArrayStore(sides[1]).read(made))
        (cell,) = compared(*sides).cells
        assert cell.refused == ("piqa is another task: version 1.0 in BASE, 2.0 in HEAD",)
        assert {measure.of for measure in cell.measures} >= {PROTOCOL, "arc_easy"}

    def test_a_measure_that_head_drops_is_refused_and_one_that_it_adds_is_told(self, sides: Sides) -> None:
        whole = kept(sides[0])
        less = whole.model_copy(deep=True, update={"perplexity": {}})
        del less.zero_shot["results"]["piqa"]
        write_record(sides[1], less, ArrayStore(sides[0]).read(whole))
        found = compared(*sides)
        assert found.exit_code == 2
        assert found.cells[0].refused == (f"{PROTOCOL} was measured in BASE alone", "piqa was measured in BASE alone")
        found = compared(sides[1], sides[0])
        assert found.exit_code == 0
        assert found.cells[0].remarks == (f"{PROTOCOL} only in HEAD", "piqa only in HEAD")

    def test_changed_files_of_a_group_are_noticed(self, sides: Sides) -> None:
        for side, digest in zip(sides, ("dd44", "ee55"), strict=True):
            made = kept(side)
            asked = [e | {"tasks": ["group"], "digest": digest} if "tasks" in e else e for e in made.cell.evaluations]
            cell = made.cell.model_copy(update={"evaluations": tuple(asked)})
            write_record(side, made.model_copy(update={"cell": cell}), ArrayStore(side).read(made))
        assert compared(sides[0], sides[0]).exit_code == 0
        assert "arc_easy is another task: its files changed" in compared(*sides).cells[0].refused

    def test_a_metric_whose_answers_are_never_kept_is_told(self, sides: Sides) -> None:
        for side in sides:
            made = kept(side)
            made.zero_shot["results"]["piqa"] = {"f1,none": 0.5}
            made.zero_shot["higher_is_better"] = {"piqa": {"f1": True}}
            write_record(side, made, ArrayStore(side).read(made))
        found = compared(*sides)
        assert found.exit_code == 0
        assert found.cells[0].remarks == ("piqa: answers by f1 are not kept, so that nothing tests it",)

    @pytest.mark.parametrize("drop", ["losses", "file"])
    def test_without_evidence_nothing_is_compared(self, sides: Sides, drop: str) -> None:
        for side in sides:
            made = kept(side)
        if drop == "file":
            write_record(sides[1], made.model_copy(update={"arrays": {}}), {})
        else:
            other = dict(ArrayStore(sides[1]).read(made)) | {f"perplexity/{PROTOCOL}/counts": COUNTS + 1}
            write_record(sides[1], made, other)
        found = compared(*sides)
        assert f"{PROTOCOL}: the losses were not kept on both sides" in found.cells[0].refused[0]
        assert found.exit_code == 2

    def test_of_several_records_of_a_cell_the_one_that_can_be_compared(self, sides: Sides) -> None:
        kept(sides[0])
        kept(sides[1], started="2026-02-01")
        kept(sides[1], model_digest="ff99", started="2026-03-01")
        assert compared(*sides).exit_code == 0

    def test_a_record_that_both_folders_have_is_the_old_one_whatever_its_clock_said(self, sides: Sides) -> None:
        for side in sides:
            kept(side, started="2099-01-01")
        kept(sides[1], worse=0.1, started="2026-02-01")
        found = compared(*sides)
        assert found.cells[0].head.environment["started"] == "2026-02-01"
        assert found.exit_code == 1

    def test_of_two_new_records_the_one_with_the_settings_of_base(self, sides: Sides) -> None:
        kept(sides[0], options={"blocksize": 128})
        kept(sides[1], options={"blocksize": 128}, started="2026-02-01", noise=1)
        kept(sides[1], options={"blocksize": 64}, started="2026-03-01", worse=0.1)
        found = compared(*sides)
        assert (found.exit_code, found.cells[0].remarks) == (0, ())

    def test_a_perplexity_that_does_not_follow_from_its_losses_is_refused(self, sides: Sides) -> None:
        kept(sides[0])
        made = kept(sides[1], worse=0.1)
        facts = {PROTOCOL: made.perplexity[PROTOCOL].model_copy(update={"value": 2.5})}
        write_record(sides[1], made.model_copy(update={"perplexity": facts}), ArrayStore(sides[1]).read(made))
        found = compared(*sides)
        assert found.exit_code == 2
        (refused,) = found.cells[0].refused
        assert refused.startswith(f"{PROTOCOL}: {made.cell.id} in HEAD says 2.5, but its losses give ")


class TestCommand:
    @pytest.fixture
    def worse(self, sides: Sides) -> Sides:
        for side, change in zip(sides, (0.0, 0.02), strict=True):
            kept(side, "a<b>&|", worse=change)
            kept(side, "fine")
        kept(sides[0], "gone")
        return sides

    def test_table(self, worse: Sides) -> None:
        result = prunebench("compare", *worse)
        assert result.exit_code == 1
        assert "Regressions" in result.stdout
        assert "+2.0 %" in result.stdout
        assert result.stdout.splitlines()[-1] == "1 regression, 2 compared cells, 1 cell only in BASE"

    def test_markdown(self, worse: Sides) -> None:
        shown = prunebench("compare", *worse, "--format", "markdown").stdout
        assert shown.startswith("### prunebench compare: 1 regression, 2 compared cells, 1 cell only in BASE\n")
        assert r"a&lt;b>&amp;\|" in shown
        assert "<details><summary>All changes</summary>\n\n" in shown

    def test_junit(self, worse: Sides) -> None:
        suite = ElementTree.fromstring(prunebench("compare", *worse, "--format", "junit").stdout)
        assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
            "tests": "3",
            "failures": "1",
            "errors": "0",
            "skipped": "1",
        }
        (failed,) = suite.findall("testcase/failure")
        assert failed.get("message", "").startswith(f"perplexity {PROTOCOL}: ")
        (case,) = [case for case in suite if case.find("failure") is not None]
        assert case.get("name", "").startswith("a<b>&| 0.5 seed 0")

    def test_json(self, worse: Sides) -> None:
        for words in (["--json"], ["--format", "json"]):
            found = json.loads(prunebench("compare", *worse, *words).stdout, parse_constant=pytest.fail)
            assert found["exit_code"] == 1
            judged = [m for cell in found["cells"] for m in cell["measures"] if m["verdict"] == "regression"]
            assert [(m["name"], m["of"]) for m in judged] == [("perplexity", PROTOCOL)]

    def test_a_wider_tolerance_lets_it_pass(self, worse: Sides) -> None:
        assert prunebench("compare", *worse, "--max-perplexity", "3%").exit_code == 0

    def test_refusals(self, sides: Sides) -> None:
        kept(sides[0])
        kept(sides[1], model_digest="ff99")
        result = prunebench("compare", *sides)
        assert result.exit_code == 2
        assert "the dense model has other weights" in result.stdout
        assert result.stderr.startswith("error: some cells cannot be compared")

    def test_nothing_in_common(self, sides: Sides) -> None:
        kept(sides[0], "a")
        kept(sides[1], "b")
        result = prunebench("compare", *sides)
        assert result.exit_code == 2
        assert "nothing was compared" in result.stderr

    @pytest.mark.parametrize("words", [["--max-perplexity", "1"], ["--max-time", "-3%"], ["--max-memory", "much"]])
    def test_a_tolerance_says_its_unit(self, worse: Sides, words: list[str]) -> None:
        result = prunebench("compare", *worse, *words)
        assert result.exit_code == 2
        assert "is no percentage: give one such as 1%" in one_line(result)

    @pytest.mark.parametrize("option", ["--max-accuracy", "--trained"])
    def test_a_tolerance_is_finite(self, worse: Sides, option: str) -> None:
        """NaN is below every minimum, which typer refuses."""
        assert prunebench("compare", *worse, option, "nan").exit_code == 2
        result = prunebench("compare", *worse, option, "inf")
        assert result.exit_code == 2
        assert f"{option} inf is not finite" in one_line(result)

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda folder: shutil.rmtree(folder), "there is no results folder"),
            (lambda folder: [path.unlink() for path in folder.iterdir()], "holds no records"),
            (lambda folder: next(folder.glob("*.json")).write_text('{"schema": 1, "ce'), "is not valid JSON"),
            (lambda folder: next(folder.glob("*.json")).write_text('{"schema": 99}'), "newer than 2"),
            (lambda folder: next(folder.glob("*.npz")).write_bytes(b"PK"), "is no array file"),
        ],
    )
    def test_wrong_input(self, sides: Sides, spoil: Callable[[Path], object], words: str) -> None:
        for side in sides:
            kept(side)
        spoil(sides[1])
        result = prunebench("compare", *sides)
        assert result.exit_code == 2
        assert words in one_line(result)
