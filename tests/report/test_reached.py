"""The reached sparsity is told where it is not the one asked for."""

import pytest

from prunebench.records.record import Record
from prunebench.report.reached import reached_caption
from prunebench.report.scenes import Scenes
from prunebench.report.tables.perplexity import perplexity_tables
from tests.helpers.records import record


def reaching(reached: float, **facts: object) -> Record:
    found = record(**facts)  # type: ignore[arg-type]
    assert found.sparsity is not None
    return found.model_copy(
        update={"sparsity": found.sparsity.model_copy(update={"requested": 0.5, "reached": reached})}
    )


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.5,), ""),
        ((0.50004, 0.49996), ""),
        ((0.5009,), "wanda at 0.5 reached 0.5009"),
        ((0.5, 0.4988), "wanda at 0.5 reached 0.4988 to 0.5000"),
    ],
)
def test_only_what_a_table_would_show(shares: tuple[float, ...], told: str) -> None:
    records = [reaching(share, seed=seed) for seed, share in enumerate(shares)]
    assert reached_caption({("wanda", "0.5"): records}) == told


def test_it_stands_in_the_caption_of_perplexities() -> None:
    records = [record("dense", "0"), reaching(0.5009), reaching(0.5, method="sparsegpt")]
    (table, *_) = perplexity_tables(Scenes.of(records).texts)
    assert "wanda at 0.5 reached 0.5009" in table.caption
    assert "sparsegpt at" not in table.caption
