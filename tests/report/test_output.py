"""Tables and measurements in every format."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.errors import OutputError
from prunebench.records.cell_facts import SuiteFacts
from prunebench.records.record import Record
from prunebench.report.output.html_page import to_html
from prunebench.report.output.text_tables import (
    escape_latex,
    escape_markdown,
    numeric_columns,
    to_latex,
    to_markdown,
    to_terminal,
)
from prunebench.report.output.tidy import COLUMNS, measurements, to_csv, to_plain_json, write_parquet
from prunebench.report.summary import summarise
from prunebench.report.tables.table import Table
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.records import PROTOCOL, record


class TestFormats:
    TABLE = Table("50% of a_b", ("method", "0.5"), (("x|y_z* [bold]\x1b[31m&$", "1.5 ± 0.1"), ("w", "–")))

    def test_terminal(self) -> None:
        shown = to_terminal([self.TABLE])
        assert "\x1b" not in shown
        assert shown.splitlines() == [
            "50% of a_b",
            "",
            "method                     0.5",
            "-------------------  ---------",
            "x|y_z* [bold][31m&$  1.5 ± 0.1",
            "w                            –",
        ]

    def test_a_terminal_wraps_words_and_no_numbers(self) -> None:
        table = Table("c " * 60, ("method", "0.5", "message"), (("wanda", "1.25", "why " * 40),))
        lines = to_terminal([table], width=60).splitlines()
        assert max(len(line.rstrip()) for line in lines) <= 60

    def test_a_terminal_breaks_no_word_number_or_path(self) -> None:
        path = "/a/rather-long/path-of/some-folder/" + "x" * 40 + ".json"
        table = Table(f"records in {path} and elsewhere", ("method", "path"), (("wanda", f"{path} 1.25 ± 0.01 why"),))
        shown = to_terminal([table], width=40)
        assert shown.count(path) == 2
        assert all(line.rstrip() == line or len(line) <= 80 for line in shown.splitlines())

    def test_a_wide_table_is_stacked_and_names_its_rows_again(self) -> None:
        headers = ("method", "sparsity", *(f"task_number_{number}" for number in range(6)))
        rows = tuple(
            (name, at, *(f"{number}.5" for number in range(6))) for name in ("a", "b") for at in ("0.5", "2:4")
        )
        marked = frozenset({(1, 2), (2, 7)})
        shown = to_terminal([Table("c", headers, rows, marked)], width=60)
        lines = shown.splitlines()
        assert max(map(len, lines)) <= 60
        assert sum(line.split()[:2] == ["method", "sparsity"] for line in lines) == 3
        assert sum(line.split()[:2] == ["b", "2:4"] for line in lines) == 3
        assert shown.count("*0.5") == shown.count("*5.5") == 1
        assert all(f"task_number_{number}" in shown for number in range(6))
        assert to_terminal([Table("c", headers, rows, marked)], width=200).count("sparsity") == 1

    def test_text_in_a_part_of_its_own_takes_the_room_there_is(self) -> None:
        headers = ("model", "method", "sparsity", "seed", "error", "message")
        rows = (("a" * 20, "hopeless", "0.5", "0", "RuntimeError", "word " * 30),)
        lines = to_terminal([Table("c", headers, rows)], width=80).splitlines()
        assert 75 <= max(map(len, lines)) <= 80
        assert sum("word" in line for line in lines) == 3  # 150 characters beside a column of 20

    def test_what_is_marked_is_bold_where_a_terminal_can(self) -> None:
        table = Table("c", ("method", "0.5"), (("a", "1.5"), ("b", "12.5")), frozenset({(0, 1)}))
        plain, bold = to_terminal([table]), to_terminal([table], bold=True)
        assert "\x1b" not in plain
        assert bold.count("\x1b[1m*1.5\x1b[0m") == 1
        assert bold.replace("\x1b[1m", "").replace("\x1b[0m", "") == plain, "the columns stand as they did"
        unsafe = Table("c", ("method", "0.5"), (("\x1b[31ma", "1.5"),), frozenset({(0, 0)}))
        assert "\x1b[31m" not in to_terminal([unsafe], bold=True)

    def test_markdown(self) -> None:
        shown = to_markdown([self.TABLE])
        assert shown.startswith("**50% of a_b**\n\n| method")
        assert r"| x\|y_z\* \[bold\]\[31m&amp;\$ |" in shown
        assert escape_markdown("_a_ __b <i> `c`") == r"\_a\_ \_\_b &lt;i> \`c\`"

    def test_latex(self) -> None:
        shown = to_latex([self.TABLE])
        for part in (
            r"\begin{table*}",
            r"\label{tab:50-of-a-b}",
            r"\caption{50\% of a\_b}",
            r"\toprule",
            r"\midrule",
            r"\bottomrule",
            r"1.5 $\pm$ 0.1",
        ):
            assert part in shown
        assert r"\hline" not in shown
        assert escape_latex(r"\{~^#") == r"\textbackslash{}\{\textasciitilde{}\^{}\#"

    def test_parquet_holds_the_same_rows(self, tmp_path: Path) -> None:
        from pyarrow import parquet

        records = [record(value=math.inf), record("broken", error="a,\nb")]
        write_parquet(records, tmp_path / "x.parquet")
        table = parquet.read_table(tmp_path / "x.parquet")
        assert table.to_pylist() == list(measurements(records))
        assert str(table.schema.field("value").type) == "double"
        write_parquet(records, tmp_path / "made" / "x.parquet")
        with pytest.raises(OutputError, match="cannot write"):
            write_parquet(records, tmp_path / "x.parquet" / "y.parquet")

    def test_csv_has_a_row_for_each_measure(self) -> None:
        records = [record(value=math.inf), record("broken", error="a,\nb")]
        rows = list(csv.DictReader(io.StringIO(to_csv(records))))
        assert tuple(rows[0]) == COLUMNS
        assert {"perplexity", "acc", "acc_norm", "sparsity", "prune_seconds", "tokens_seen"} <= {
            row["measure"] for row in rows
        }
        (perplexity,) = [row for row in rows if row["measure"] == "perplexity"]
        assert (perplexity["of"], float(perplexity["value"])) == (PROTOCOL, math.inf)
        assert any(row["status"] == "failed" and row["error"] == "ContractError: a, b" for row in rows)

    def test_json_is_strict(self) -> None:
        rows = to_plain_json([record(value=math.nan)])
        json.dumps(rows, allow_nan=False)
        assert rows[0]["value"] == "NaN"

    def test_a_record_without_measures_is_still_a_row(self) -> None:
        bare = record(error="x").model_copy(update={"sparsity": None, "cost": type(record().cost)()})
        (row,) = measurements([bare])
        assert row["measure"] is None
        assert row["status"] == "failed"


@pytest.mark.parametrize("entry", ["<0.001 s", "inf (×inf)", "inf (1 failed)", "nan (1 failed)", "failed"])
def test_an_odd_amount_leaves_a_column_of_numbers(entry: str) -> None:
    assert numeric_columns(Table("t", ("a", "b"), ((entry, "x"), ("0.42", "y")))) == [True, False]


def test_parquet_makes_its_folder(tmp_path: Path) -> None:
    write_parquet([record()], path := tmp_path / "new" / "x.parquet")
    assert path.exists()


def test_the_first_screen_says_what_the_suite_is_for() -> None:
    """In its own words, once, made harmless; a folder of many suites says none of it."""

    def of(method: str, description: str) -> Record:
        found = record(method)
        facts = SuiteFacts(name="mine", description=description)
        return found.model_copy(update={"cell": found.cell.model_copy(update={"suite": facts})})

    (told,) = [p.lead for p in summarise([of("a", "What <b>is</b> left?"), of("b", "What <b>is</b> left?")], [], None)]
    assert told.startswith("What <b>is</b> left? 2 cells of ")
    assert "What &lt;b&gt;is&lt;/b&gt; left? 2 cells" in to_html([of("a", "What <b>is</b> left?"), of("b", "")], "t")
    many = [of(f"m{n}", f"Suite {n}.") for n in range(4)]
    assert summarise(many, [], None)[0].lead.startswith("4 cells of ")


def test_a_cell_knows_its_suite(write_suite: Callable[..., Path]) -> None:
    """Which is no part of its id: another suite that has the cell finds its record."""
    path = write_suite()
    suite = load_suite(path)
    renamed = suite.model_copy(update={"name": "other", "description": "What for."})
    first, second = plan(suite)[0], plan(renamed)[0]
    assert second.suite == SuiteFacts(name="other", description="What for.")
    assert first.id == second.id
    assert Cell.from_json(second.to_json()).suite == second.suite
