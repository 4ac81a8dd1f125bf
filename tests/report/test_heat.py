"""The first table of a report: times the dense perplexity, sorted, with what it cost."""

import math

import pytest

from prunebench.records.record import Effort, MethodFacts, Record
from prunebench.report.output.html_page import to_html
from prunebench.report.scenes import Scenes
from prunebench.report.tables.heat import heat_table, most_shared, times_text
from prunebench.report.tables.table import Table
from tests.helpers.records import record


def made(method: str, value: float, sparsity: str = "0.9", training: str = "none", seed: int = 0) -> Record:
    found = record(method, sparsity, seed, value)
    effort = Effort(
        stage=0, forward_tokens=10, backward_tokens=0 if training == "none" else 2000, flops=3e12, seconds=2
    )
    how = MethodFacts(changes="all", takes_data=True, training=training)  # type: ignore[arg-type]
    return found.model_copy(update={"method": how, "effort": (effort,)})


RECORDS = [
    record("dense", "0", value=2.0),
    made("poor", 50.0),
    made("good", 4.0),
    made("good", 2.5, "0.5"),
    made("trained", 3.0, training="end-to-end"),
    made("trained", 5.0, training="end-to-end", seed=1),
    made("lost", math.inf),
    record("broken", "0.9", error="x"),
]


def table_of(records: list[Record]) -> Table:
    (scene,) = Scenes.of(records).texts
    found = heat_table(scene)
    assert found is not None
    return found


def test_rows_by_training_and_then_by_result() -> None:
    table = table_of(RECORDS)
    assert table.headers == ("method", "training", "0.5", "0.9", "trained on", "prune time", "FLOPs")
    assert [row[:4] for row in table.rows] == [
        ("good", "one-shot", "1.25", "2.00"),
        ("poor", "one-shot", "–", "25.0"),
        ("lost", "one-shot", "–", "inf"),
        ("trained", "end to end", "–", "2.00"),
        ("broken", "–", "–", "failed"),
    ]
    assert table.rows[3][4] == "2000"
    assert table.rows[3][6] == "3 T"
    assert "(2.000)" in table.caption


def test_the_shade_is_by_the_logarithm_and_ends_at_ten_times() -> None:
    table = table_of(RECORDS)
    shades = {table.rows[row][0]: shade for (row, column), shade in table.heat.items() if column == 3}
    assert shades["poor"] == shades["lost"] == 1.0
    assert shades["good"] == shades["trained"] == pytest.approx(math.log10(2))


def test_without_a_dense_model_or_anything_pruned_there_is_no_such_table() -> None:
    for records in ([made("good", 4.0)], RECORDS[:1], [RECORDS[0], RECORDS[-1]]):
        assert all(heat_table(scene) is None for scene in Scenes.of(records).texts)


def test_the_sparsity_that_most_methods_share_is_the_one_to_sort_by() -> None:
    (scene,) = Scenes.of(RECORDS).texts
    assert most_shared(scene) == "0.9"


def test_times_have_digits_that_can_be_told_apart() -> None:
    assert [times_text(value) for value in (1.0, 9.994, 12.34, 412.0, 2e6, math.inf)] == [
        "1.00", "9.99", "12.3", "412", "2.00e+06", "inf",
    ]  # fmt: skip


def test_the_page_shades_it() -> None:
    page = to_html(RECORDS, "a")
    assert 'class="number heat-9"' in page
    assert ".heat-9" in page
    assert page.index("Times the dense perplexity") < page.index('id="perplexity"')
