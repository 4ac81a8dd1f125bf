"""Entries that differ in their training budget are one line of one plot and one row of one table."""

from typing import Any

import pytest

from prunebench.records.record import Effort, MethodFacts, Record
from prunebench.report.lines import budget_lines, sparsities_with_lines
from prunebench.report.plots.budget_plots import budget_plots
from prunebench.report.scenes import Scenes
from prunebench.report.sections import report_sections
from prunebench.report.tables.budget_lines import budget_tables
from tests.helpers.records import record

TUNING = {"trials": 6, "tokens": [64] * 6, "seconds": 1.0, "text": "x/stream-128", "sparsity": "0.9"}


def trained(
    method: str, tokens: int, value: float, options: dict[str, Any] | None = None, sparsity: str = "0.9", **facts: Any
) -> Record:
    """A record whose training was counted."""
    plugin = method.partition(" ")[0]
    found = record(method, sparsity, value=value, plugin=plugin, options=options or {}, **facts)
    effort = Effort(stage=0, forward_tokens=tokens + 9, backward_tokens=tokens, flops=1e9, seconds=1.0)
    how = MethodFacts(changes="all", takes_data=True, training="end-to-end" if tokens else "none")
    return found.model_copy(update={"method": how, "effort": (effort,)})


def tuned(method: str, tokens: int, value: float, **options: Any) -> Record:
    """One whose ``lmda`` trials chose."""
    tuning = TUNING | {"options": {"lr": options["lr"], "lmda": options["lmda"]}}
    return trained(method, tokens, value, options, tuning=tuning)


def study() -> list[Record]:
    return [
        record("dense", "0", value=3.0),
        trained("train 1k", 1000, 2.9, {"steps": 1}, "0"),
        trained("train 4k", 4000, 2.8, {"steps": 4}, "0"),
        trained("wanda", 0, 9.0),
        trained("elsa 4k", 4000, 3.5, {"steps": 4, "lr": 0.1, "rho": 2}),
        trained("elsa 1k", 1000, 4.5, {"steps": 1, "lr": 0.2, "rho": 2}),
        trained("gmp", 1000, 5.0, {"steps": 1}),
    ]


def test_entries_that_differ_in_steps_and_rate_are_one_line() -> None:
    (scene,) = Scenes.of(study()).texts
    lines = {line.label: [(b.method, b.tokens) for b in line.budgets] for line in budget_lines(scene, "0.9")}
    assert lines == {
        "wanda": [("wanda", 0)],
        "elsa": [("elsa 1k", 1000), ("elsa 4k", 4000)],
        "gmp": [("gmp", 1000)],
        "train": [("train 1k", 1000), ("train 4k", 4000)],
    }
    assert sparsities_with_lines(scene) == ["0.9"]


def test_what_trials_chose_does_not_tell_entries_apart_but_any_other_option_does() -> None:
    found = [
        tuned("elsa 1k", 1000, 4.0, lr=0.1, lmda=0.02),
        tuned("elsa 4k", 4000, 3.0, lr=0.2, lmda=0.1),
        trained("elsa 8k", 8000, 2.5, {"lr": 0.2, "lmda": 0.1, "rho": 5}),
    ]
    (scene,) = Scenes.of(found).texts
    assert [[b.method for b in line.budgets] for line in budget_lines(scene, "0.9")] == [
        ["elsa 1k", "elsa 4k"],
        ["elsa 8k"],
    ]


def test_two_entries_of_one_budget_are_two_lines() -> None:
    found = [trained("elsa a", 1000, 4.0, {"lr": 0.1}), trained("elsa b", 1000, 5.0, {"lr": 0.2})]
    (scene,) = Scenes.of(found).texts
    assert [line.label for line in budget_lines(scene, "0.9")] == ["elsa a", "elsa b"]
    assert not budget_plots([scene])


def test_where_options_do_not_tell_lines_apart_labels_do() -> None:
    found = [trained(f"elsa {kind} {tokens}", tokens, 4.0) for kind in ("a", "b") for tokens in (1000, 4000)]
    (scene,) = Scenes.of(found).texts
    assert [line.label for line in budget_lines(scene, "0.9")] == ["elsa a", "elsa b"]


def test_the_plots() -> None:
    perplexity, accuracy = budget_plots(Scenes.of(study()).texts)
    found = {series.label: series for series in perplexity.series}
    assert found["elsa"].points == ((1000, 1.5), (4000, 3.5 / 3))  # times the dense model's 3.0
    assert perplexity.x.ticks == ((1000, "1000"), (4000, "4000"))
    assert found["elsa"].line
    assert found["wanda"].points == ((0, 3.0),)
    assert found["train (dense)"].style is None
    assert [rule.label for rule in perplexity.lines] == ["dense 3.000"]
    assert accuracy.y.label == "mean accuracy (%)"
    (elsa,) = (series for series in accuracy.series if series.label == "elsa")
    assert [tokens for tokens, _ in elsa.points] == [1000, 4000]


def test_the_table_has_a_column_for_each_budget() -> None:
    (table,) = budget_tables(Scenes.of(study()).texts)
    assert table.headers == ("method", "one-shot", "1000", "4000")
    assert {row[0]: row[1:] for row in table.rows} == {
        "wanda": ("9.000", "–", "–"),
        "elsa": ("–", "4.500", "3.500"),
        "gmp": ("–", "5.000", "–"),
        "train (dense)": ("–", "2.900", "2.800"),
    }


@pytest.mark.parametrize("records", [study()[:4], [trained("elsa 1k", 1000, 4.0)]])
def test_without_several_budgets_there_is_no_section(records: list[Record]) -> None:
    assert "budgets" not in {section.name for section in report_sections(records)}
    assert "budgets" in {section.name for section in report_sections(study())}
