"""Tables keep apart what trained differently: rows in groups, marks in each and over all, budgets in sight."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Effort, MethodFacts, Record
from prunebench.records.store import read_record, write_record
from prunebench.report.budgets import budget, described, group_of, trained_tokens, training_of
from prunebench.report.output.frame import frame_rows
from prunebench.report.output.html_page import to_html
from prunebench.report.output.text_tables import to_latex, to_markdown, to_terminal
from prunebench.report.output.tidy import to_csv
from prunebench.report.plots.perplexity_plots import perplexity_plots
from prunebench.report.scenes import Scenes
from prunebench.report.summary import verdict
from prunebench.report.tables.best import GROUPED_CAPTION
from prunebench.report.tables.other_texts import other_text_tables
from prunebench.report.tables.perplexity import perplexity_tables
from prunebench.report.tables.table import Table
from tests.helpers.records import PROTOCOL, record

COUNTS = np.full(200, 40)
NOISE = np.random.default_rng(0).normal(0, 0.02, (3, 5, 200))  # of seeds, methods, sequences


def trained(method: str, training: str, tokens: int, **facts: object) -> Record:
    """A record of schema 2: ``training`` as it was counted, ``tokens`` backward."""
    found = record(method, **facts)  # type: ignore[arg-type]
    effort = Effort(stage=0, forward_tokens=2 * tokens + 100, backward_tokens=tokens, flops=1e9, seconds=1.0)
    how = MethodFacts(changes="all", takes_data=True, training=training)  # type: ignore[arg-type]
    return found.model_copy(update={"method": how, "effort": (effort,)})


def old(method: str, tokens_seen: int) -> Record:
    """A record of schema 1."""
    found = record(method)
    return found.model_copy(update={"cost": found.cost.model_copy(update={"tokens_seen": tokens_seen})})


ROWS = (  # method, training, tokens, nats per token
    ("alps", "none", 0, 1.10),
    ("elsa", "end-to-end", 524_288, 1.00),
    ("fitted", "block", 131_072, 1.05),
    ("gmp", "end-to-end", 524_288, 1.03),
    ("wanda", "none", 0, 1.20),
)


@pytest.fixture
def several(tmp_path: Path) -> tuple[list[Record], ArrayStore]:
    found = []
    for seed, noise in enumerate(NOISE):
        for number, (method, training, tokens, nll) in enumerate(ROWS):
            losses = COUNTS * (nll + noise[number])
            value = float(np.exp(losses.sum() / COUNTS.sum()))
            arrays = {f"perplexity/{PROTOCOL}/losses": losses, f"perplexity/{PROTOCOL}/counts": COUNTS}
            made = trained(method, training, tokens, value=value, seed=seed)
            found.append(read_record(write_record(tmp_path, made, arrays)))
    return found, ArrayStore(tmp_path)


def of(records: list[Record], *methods: str) -> list[Record]:
    return [record for record in records if record.cell.method in methods]


def test_what_old_records_tell() -> None:
    """One that took no text was not trained on any; of another nothing is known."""
    assert (training_of(old("magnitude", 0)), trained_tokens(old("magnitude", 0))) == ("one-shot", 0)
    assert (training_of(old("elsa", 4096)), trained_tokens(old("elsa", 4096))) == ("not measured", None)
    assert described([old("elsa", 4096)]) == "training not measured"


def test_a_row_is_what_trained_the_most_in_it() -> None:
    cells = [trained("mixed", "none", 0), trained("mixed", "end-to-end", 64, sparsity="0.9")]
    assert group_of(cells) == "end to end"
    assert budget(cells) == "0 to 64"
    assert budget([*cells, old("mixed", 4096)]) == "–"


def test_rows_stand_in_groups(several: tuple[list[Record], ArrayStore]) -> None:
    (table,) = perplexity_tables(Scenes.of(several[0]).texts)
    assert [row[:3] for row in table.rows] == [
        ("alps", "one-shot", "0"),
        ("wanda", "one-shot", "0"),
        ("fitted", "block-wise", "131 k"),
        ("elsa", "end to end", "524 k"),
        ("gmp", "end to end", "524 k"),
    ]


def test_the_best_of_each_group_and_over_all(several: tuple[list[Record], ArrayStore]) -> None:
    (table,) = perplexity_tables(Scenes.of(several[0]).texts, several[1])
    assert {table.rows[row][0] for row, _ in table.marked} == {"alps", "elsa"}  # fitted has nobody to compete with
    assert {table.rows[row][0] for row, _ in table.over_all} == {"elsa"}
    assert {table.headers[column] for _, column in table.marked | table.over_all} == {"0.5"}
    assert GROUPED_CAPTION in table.caption


def test_one_group_has_one_kind_of_mark(several: tuple[list[Record], ArrayStore]) -> None:
    (table,) = perplexity_tables(Scenes.of(of(several[0], "elsa", "gmp")).texts, several[1])
    assert {table.rows[row][0] for row, _ in table.marked} == {"elsa"}
    assert not table.over_all
    assert "†" not in table.caption


def test_every_format_shows_both_marks() -> None:
    table = Table(
        "c", ("method", "0.5"), (("a", "1.0"), ("b", "2.0")), frozenset({(0, 1), (1, 1)}), frozenset({(0, 1)})
    )
    assert "†*1.0" in to_terminal([table])
    assert "**1.0** †" in to_markdown([table])
    assert r"\textbf{1.0}$^\dagger$" in to_latex([table])
    for shown in (to_terminal, to_markdown, to_latex):
        assert shown([table]).count("2.0") == 1


def test_the_page_shows_both_marks(several: tuple[list[Record], ArrayStore]) -> None:
    page = to_html(several[0], "t", array_store=several[1])
    assert page.count("</strong> †</td>") == 1
    assert "trained on" in page


def test_the_verdict_names_budgets_and_seeds(several: tuple[list[Record], ArrayStore]) -> None:
    (scene,) = Scenes.of(several[0]).texts
    said = verdict(scene, several[1])
    assert said.startswith("At 0.5 the best is elsa with ")
    assert "(trained end to end on 524 k tokens, 3 seeds)" in said
    assert "; the best one-shot method is alps with " in said
    assert "; the best block-wise method is fitted with " in said
    assert said.count(". ") == 0  # one sentence


def test_the_verdict_within_a_group_names_one_method(several: tuple[list[Record], ArrayStore]) -> None:
    (scene,) = Scenes.of(of(several[0], "elsa", "gmp")).texts
    assert "gmp" not in verdict(scene, several[1])


def test_legends_name_what_a_line_was_trained_on(several: tuple[list[Record], ArrayStore]) -> None:
    (plot,) = perplexity_plots(Scenes.of(several[0]).texts)
    assert {series.label for series in plot.series} >= {"alps", "elsa (524 k tokens)", "fitted (131 k tokens)"}


def test_programs_read_numbers(several: tuple[list[Record], ArrayStore]) -> None:
    rows = [row for row in csv.DictReader(io.StringIO(to_csv(several[0]))) if row["method"] == "elsa"]
    assert {row["training"] for row in rows} == {"end to end"}
    numbers = {row["measure"]: float(row["value"]) for row in rows if not row["of"]}
    assert (numbers["trained_tokens"], numbers["forward_tokens"], numbers["flops"]) == (524_288, 1_048_676, 1e9)
    framed = next(row for row in frame_rows(several[0]) if row["method"] == "fitted")
    assert (framed["training"], framed["trained_tokens"]) == ("block-wise", 131_072)


def test_tables_of_several_texts_are_grouped_too(tmp_path: Path) -> None:
    made = []
    for seed, noise in enumerate(NOISE):
        for number, (method, training, tokens, nll) in enumerate(ROWS):
            losses = COUNTS * (nll + noise[number])
            found = trained(method, training, tokens, seed=seed)
            asked = {"name": "perplexity", "protocol": "shifted", "digest": "d1"}
            cell = found.cell.model_copy(update={"evaluations": (*found.cell.evaluations, asked)})
            perplexity = found.perplexity | {"shifted": found.perplexity[PROTOCOL]}
            arrays = {
                f"perplexity/{name}/{what}": array
                for name in (PROTOCOL, "shifted")
                for what, array in (("losses", losses), ("counts", COUNTS))
            }
            found = found.model_copy(update={"cell": cell, "perplexity": perplexity})
            made.append(read_record(write_record(tmp_path, found, arrays)))
    (table,) = other_text_tables(Scenes.of(made).settings, ArrayStore(tmp_path))
    assert [row[0] for row in table.rows] == ["alps", "wanda", "fitted", "elsa", "gmp"]
    assert {(table.rows[row][0], column) for row, column in table.marked} == {
        (method, column) for method in ("alps", "elsa") for column in (4, 5)
    }
    assert {(table.rows[row][0], column) for row, column in table.over_all} == {("elsa", 4), ("elsa", 5)}
    assert GROUPED_CAPTION in table.caption
