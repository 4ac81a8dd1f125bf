"""Records are read back or refused; tables are made from them alone, in every format."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench import text
from prunebench.errors import OutputError, RecordError
from prunebench.records.record import PublishedFigure, Record
from prunebench.records.store import read_record, read_records, record_to_json, write_record
from prunebench.report.grouping import method_styles
from prunebench.report.output.text_tables import (
    escape_latex,
    escape_markdown,
    numeric_columns,
    to_latex,
    to_markdown,
    to_terminal,
)
from prunebench.report.output.tidy import COLUMNS, measurements, to_csv, to_plain_json, write_parquet
from prunebench.report.sections import all_tables, report_sections
from prunebench.report.tables.cost import cost_tables
from prunebench.report.tables.other_texts import other_text_tables
from prunebench.report.tables.perplexity import perplexity_tables
from prunebench.report.tables.table import Table
from prunebench.report.tables.zero_shot import zero_shot_tables
from tests.helpers.paths import GOLDEN_RECORD
from tests.helpers.records import PROTOCOL, record, resealed

Change = dict[str, Any]


def cells_of(table: Table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(table.headers[1:], row[1:], strict=True)) for row in table.rows}


class TestRecord:
    def test_the_golden_record_reads_and_is_written_as_it_was(self, tmp_path: Path) -> None:
        golden = read_record(GOLDEN_RECORD)
        assert golden.perplexity[PROTOCOL].value == 12.345
        assert golden.cell.key == ("stories", "wanda", "0.9", "uniform", 0, "tinystories_calib")
        path = write_record(tmp_path, golden, {})
        assert path.name == "stories--wanda--0.9--s0--0123456789.json"
        assert read_record(path).model_copy(update={"digest": None}) == golden.model_copy(update={"digest": None})

    def test_keys_of_a_later_version_survive(self, tmp_path: Path) -> None:
        content = json.loads(record_to_json(read_record(GOLDEN_RECORD)))
        content["later"] = {"a": 1}
        content["cost"]["joules"] = 3.5
        written = write_record(tmp_path, Record.model_validate(content), {})
        assert json.loads(written.read_text()) | {"digest": None} == content | {"digest": None}
        assert read_record(written).model_extra == {"later": {"a": 1}}

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('{"schema": 1, "cell": {', "is not valid JSON (Expecting property name"),
            ("", "is not valid JSON"),
            ('{"a": 1}', "is no record of prunebench: it has no schema number"),
            ("[1, 2]", "is no record of prunebench"),
            ('{"schema": 99}', "has schema 99, newer than 2: update prunebench"),
            ('{"schema": 0}', "has schema 0, where 2 is valid: run the suite again"),
            ('{"schema": true}', "is no record of prunebench"),
            ('{"schema": 1}', "has no digest, so nobody knows whether it is whole; fetch it again"),
            ('{"schema": 1, "digest": 7}', "has no digest"),
            ('{"schema": 1, "digest": "00"}', "was altered after it was written"),
            (resealed({"schema": 1}), "is no valid record: cell: Field required"),
        ],
    )
    def test_what_is_no_record_is_refused_in_one_line(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "x.json"
        path.write_text(content)
        with pytest.raises(RecordError) as caught:
            read_record(path)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2

    def test_a_folder_without_records(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="holds no records: run a suite first"):
            read_records(tmp_path)
        with pytest.raises(OutputError, match="there is no results folder"):
            read_records(tmp_path / "nowhere")

    def test_two_records_of_one_id(self, tmp_path: Path) -> None:
        content = json.loads(GOLDEN_RECORD.read_text())
        for name in ("a", "b"):
            (tmp_path / f"{name}.json").write_text(resealed(content))
        assert len(read_records(tmp_path)) == 1
        content["perplexity"][PROTOCOL]["value"] = "NaN"
        for name in ("a", "b"):
            (tmp_path / f"{name}.json").write_text(resealed(content))
        assert len(read_records(tmp_path)) == 1
        content["perplexity"][PROTOCOL]["value"] = 7.0
        (tmp_path / "b.json").write_text(resealed(content))
        with pytest.raises(RecordError, match=r"a\.json and .*b\.json are both the record of .*, and disagree"):
            read_records(tmp_path)


class TestPerplexity:
    def test_methods_by_sparsities_with_the_dense_value_in_the_caption(self) -> None:
        records = [
            record("dense", "0", value=5.2401),
            record("wanda", "2:4", value=61.514),
            record("wanda", "0.9", value=9330.4),
            record("wanda", "0.70", value=16.5),
            record("magnitude", "0.9", value=1.234e6),
        ]
        (table,) = perplexity_tables(records)
        assert table.caption == (
            f"Perplexity of stories on {PROTOCOL}; dense 5.240; calibrated on tinystories_calib; one seed"
        )
        assert table.headers == ("method", "0.70", "0.9", "2:4")
        assert table.rows == (
            ("magnitude", "–", "1.23e+06", "–"),
            ("wanda", "16.50", "9330", "61.51"),
        )

    def test_seeds_are_averaged_and_counted(self) -> None:
        records = [record(seed=seed, value=value) for seed, value in enumerate((10.0, 11.0, 12.0))]
        (table,) = perplexity_tables([*records, record("magnitude", value=20.0)])
        assert cells_of(table) == {"magnitude": {"0.5": "20.00"}, "wanda": {"0.5": "11.00 ± 1.00"}}
        assert "the dense model was not measured" in table.caption
        assert "mean ± standard deviation over 3 seeds (one where ± is missing)" in table.caption

    def test_a_failed_seed_is_told_and_not_averaged_away(self) -> None:
        (table,) = perplexity_tables([record(seed=0), record(seed=1, error="x"), record("magnitude", error="x")])
        assert cells_of(table) == {"magnitude": {"0.5": "failed"}, "wanda": {"0.5": "10.00 (1 failed)"}}

    @pytest.mark.parametrize(("value", "shown"), [(math.inf, "inf"), (math.nan, "nan")])
    def test_what_is_not_finite_is_shown_as_such(self, value: float, shown: str) -> None:
        (table,) = perplexity_tables([record(value=value), record(seed=1)])
        assert table.rows == (("wanda", shown),)

    def test_dense_alone_is_a_table_too(self) -> None:
        (table,) = perplexity_tables([record("dense", "0", value=5.24)])
        assert table.rows == (("dense", "5.240"),)

    def test_methods_keep_the_order_asked_for(self) -> None:
        (table,) = perplexity_tables([record(name) for name in ("a", "b", "c", "d")], order=["c", "missing", "b"])
        assert [row[0] for row in table.rows] == ["c", "b", "a", "d"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"allocation": "owl"}, "allocation owl"),
            ({"calibration": {"corpus": "c4"}}, "calibrated on c4"),
            ({"dtype": "bfloat16"}, "bfloat16"),
            ({"model_digest": "ff99"}, "weights ff99"),
            ({"evaluations": [{"name": "perplexity", "protocol": PROTOCOL, "digest": "ee77"}]}, "(text ee77)"),
        ],
    )
    def test_a_table_mixes_nothing(self, change: Change, words: str) -> None:
        first, second = perplexity_tables([record(value=10.0), record("other", value=20.0, **change)])
        assert first.rows == (("wanda", "10.00"),)
        assert second.rows == (("other", "20.00"),)
        assert words in second.caption
        assert words not in first.caption

    def test_the_dense_model_stands_beside_every_calibration_text(self) -> None:
        records = [record("dense", "0", value=5.24), record(), record(calibration={"corpus": "c4"})]
        captions = [table.caption for table in perplexity_tables(records)]
        assert len(captions) == 2
        assert all("dense 5.240" in caption for caption in captions)

    def test_another_checkpoint_has_another_dense_model(self) -> None:
        _, second = perplexity_tables([record("dense", "0"), record(), record(model_digest="ff99")])
        assert "the dense model was not measured" in second.caption

    def test_two_models_have_two_tables(self) -> None:
        tables = all_tables([record(model="b"), record(model="a")])
        assert [table.caption.split(" on ")[0] for table in tables if "Perplexity" in table.caption] == [
            "Perplexity of b",
            "Perplexity of a",
        ]

    def test_two_records_of_one_cell_are_not_two_seeds(self) -> None:
        old, new = record(value=10.0, started="2026-01-01"), record(value=20.0, started="2026-02-01")
        tables = all_tables([new, old])
        assert tables[0].rows == (("wanda", "20.00"),)
        assert tables[-1].caption == "Left out: a later record of the same cell is there"
        assert tables[-1].rows == ((old.cell.id, "2026-01-01"),)


class TestZeroShot:
    def test_accuracies_with_errors_and_their_mean(self) -> None:
        (table,) = zero_shot_tables([record(sparsity="0.9"), record(sparsity="0.5"), record("dense", "0")])
        assert table.headers == ("method", "sparsity", "arc_easy", "piqa", "mean")
        assert [row[:2] for row in table.rows] == [("dense", "0"), ("wanda", "0.5"), ("wanda", "0.9")]
        # √(3² + 4²) / 2
        assert table.rows[0][2:] == ("25.0 ± 3.0", "55.0 ± 4.0", "40.0 ± 2.5")
        assert "percent" in table.caption

    def test_seeds_do_not_shrink_the_error_of_the_same_questions(self) -> None:
        (table,) = zero_shot_tables([record(), record(seed=1)])
        assert table.rows[0][2:] == ("25.0 ± 3.0", "55.0 ± 4.0", "40.0 ± 2.5")
        assert table.caption.endswith("mean over 2 seeds")

    def test_failed_and_missing(self) -> None:
        half = record("half", evaluations=[{"name": "zero_shot", "tasks": ["arc_easy"]}])
        (table,) = zero_shot_tables([record(), record("broken", error="x"), half])
        shown = {row[0]: row[2:] for row in table.rows}
        assert shown["broken"] == ("failed", "failed", "failed")
        assert shown["half"] == ("25.0 ± 3.0", "–", "–")

    def test_another_number_of_questions_is_another_column(self) -> None:
        other = record("other")
        other.zero_shot["n-samples"]["piqa"]["effective"] = 50
        (table,) = zero_shot_tables([record(), other])
        assert {"piqa (200 questions)", "piqa (50 questions)"} <= set(table.headers)

    def test_a_group_stands_for_its_members(self) -> None:
        grouped = record(evaluations=[{"name": "zero_shot", "tasks": ["piqa", "blimp"]}])
        grouped.zero_shot["results"]["blimp_wh"] = {"acc,none": 0.7, "acc_stderr,none": 0.02}
        grouped.zero_shot["groups"]["blimp"] = {"acc,none": 0.6, "acc_stderr,none": 0.01, "sample_len": 400}
        (table,) = zero_shot_tables([grouped])
        assert table.headers == ("method", "sparsity", "piqa", "blimp", "mean")
        assert table.rows[0][3] == "60.0 ± 1.0"

    def test_a_tag_stands_for_its_tasks(self) -> None:
        (table,) = zero_shot_tables([record(evaluations=[{"name": "zero_shot", "tasks": ["my_tag"]}])])
        assert table.headers == ("method", "sparsity", "arc_easy", "piqa", "mean")

    def test_other_metrics_are_named_and_only_shares_are_averaged(self) -> None:
        mixed = record(evaluations=[{"name": "zero_shot", "tasks": ["arc_easy", "piqa", "gsm8k", "text"]}])
        mixed.zero_shot["results"] |= {
            "gsm8k": {"alias": "gsm8k", "exact_match,strict": 0.1, "exact_match_stderr,strict": 0.01},
            "text": {"alias": "text", "word_perplexity,none": 1234.5, "word_perplexity_stderr,none": "N/A"},
        }
        mixed.zero_shot["n-shot"] |= {"gsm8k": 5}
        (table,) = zero_shot_tables([mixed])
        assert table.headers[2:] == (
            "arc_easy", "piqa", "gsm8k (exact_match, 5-shot)", "text (word_perplexity)", "mean"
        )  # fmt: skip
        assert table.rows[0][4:] == ("10.0 ± 1.0", "1234", "30.0 ± 1.7")


class TestOtherTables:
    def test_cost_from_least_to_most(self) -> None:
        quick, slow = record(sparsity="0.5"), record(sparsity="0.9")
        slow = slow.model_copy(
            update={"cost": slow.cost.model_copy(update={"prune_seconds": 200.0, "state_bytes": 2048})}
        )
        (table,) = cost_tables([quick, slow, record("dense", "0"), record("other", error="x")])
        assert table.caption.endswith("x86_64, threads: 2")
        assert cells_of(table) == {
            "wanda": {
                "cells": "2",
                "prune time": "2.5 s to 3 min 20 s",
                "tokens seen": "32.8 k",
                "peak memory": "640 MiB",
                "method state": "2 KiB",
            }
        }

    def test_failures_and_notes(self) -> None:
        noted = record().model_copy(update={"notes": {"damping raised": 3}})
        more = record(seed=1).model_copy(update={"notes": {"damping raised": 1}})
        tables = all_tables([noted, more, record("broken", error="holds 0 zeros")])
        failed, notes = tables[-2:]
        assert failed.rows == (("stories", "broken", "0.5", "0", "ContractError", "holds 0 zeros"),)
        assert notes.rows == (("stories", "wanda", "damping raised", "2", "4"),)


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

    def test_markdown(self) -> None:
        shown = to_markdown([self.TABLE])
        assert shown.startswith("**50% of a_b**\n\n| method")
        assert r"| x\|y_z\* \[bold\]\[31m&amp;\$ |" in shown
        assert escape_markdown("_a_ __b <i> `c`") == r"\_a\_ \_\_b &lt;i> \`c\`"

    def test_latex(self) -> None:
        shown = to_latex([self.TABLE])
        for part in (
            r"\begin{table}",
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


@pytest.mark.parametrize(
    ("show", "value", "shown"),
    [
        (text.number, 5.24, "5.240"),
        (text.number, 123.456, "123.5"),
        (text.number, 32273.02, "32273"),
        (text.number, 3.2e8, "3.20e+08"),
        (text.seconds, 1.7e-5, "<0.001 s"),
        (text.seconds, 0.0123, "0.012 s"),
        (text.seconds, 59.7, "1 min 00 s"),
        (text.seconds, 7500, "2 h 05 min"),
        (text.count, 9999, "9999"),
        (text.count, 2_097_152, "2.1 M"),
        (text.size, 3.5e9, "3.26 GiB"),
        (text.printable, "a\x1b]0;x\x07\u202e\u200b\n\tb\ud800", "a]0;x b"),
    ],
)
def test_numbers_and_names(show: Callable[[Any], str], value: Any, shown: str) -> None:
    assert show(value) == shown


@pytest.mark.parametrize(
    ("show", "value"),
    [
        (text.number, 5.24),
        (text.number, 1.23e6),
        (text.number, math.inf),
        (text.seconds, 0.42),
        (text.seconds, 200.0),
        (text.seconds, 7500.0),
        (text.count, 512.0),
        (text.count, 2.1e6),
        (text.size, 640.0 * (1 << 20)),
        (text.size, 3.25 * (1 << 30)),
    ],
)
def test_a_column_is_sorted_by_the_amounts_it_shows(show: Callable[[float], str], value: float) -> None:
    assert text.sort_key(show(value)) == value
    assert text.sort_key(f"{show(value)} ± 1.5") == value
    assert text.sort_key(f"{show(value)} to 7 s") == value


@pytest.mark.parametrize(
    ("entry", "value"), [("2:4", 0.5), ("1:4", 0.75), ("–", None), ("failed", None), ("2:0", None)]
)
def test_amounts_of_patterns_and_of_what_is_missing(entry: str, value: float | None) -> None:
    assert text.sort_key(entry) == value


def on_two_texts(method: str, sparsity: str, digest: str, value: float) -> Record:
    made = record(method, sparsity)
    asked = {"name": "perplexity", "protocol": "shifted", "digest": digest}
    cell = made.cell.model_copy(update={"evaluations": (*made.cell.evaluations, asked)})
    found = made.perplexity | {"shifted": made.perplexity[PROTOCOL].model_copy(update={"value": value})}
    return made.model_copy(update={"cell": cell, "perplexity": found})


def test_two_texts_of_one_name_have_a_column_each() -> None:
    records = [on_two_texts("dense", "0", "d1", 10.0), on_two_texts("a", "0.5", "d1", 12.0)]
    records.append(on_two_texts("b", "0.5", "d2", 99.0))
    (table,) = other_text_tables(records, method_styles(records))
    assert table.headers[-2:] == ("shifted (text d1)", "shifted (text d2)")
    assert [row[-2:] for row in table.rows] == [("10.00 (×1.000)", "–"), ("12.00 (×1.200)", "–"), ("–", "99.00")]


def test_every_form_of_the_report_tells_of_plugins_measures_texts_and_published_figures() -> None:
    figure = PublishedFigure(corpus="c4", seqlen=8, protocol=None, perplexity=7.0, source="a paper")
    made = on_two_texts("a", "0.5", "d1", 12.0).model_copy(update={"measures": {"speed": {"tokens_per_second": 123.0}}})
    made = made.model_copy(update={"cell": made.cell.model_copy(update={"published": (figure,)})})
    paged = [table.caption for section in report_sections([made]) for table in section.tables]
    for captions in (paged, [table.caption for table in all_tables([made])]):
        for words in ("tokens_per_second", "on several texts", "Published figures"):
            assert any(words in caption for caption in captions), (words, captions)


@pytest.mark.parametrize("entry", ["<0.001 s", "inf (×inf)", "inf (1 failed)", "nan (1 failed)", "failed"])
def test_an_odd_amount_leaves_a_column_of_numbers(entry: str) -> None:
    assert numeric_columns(Table("t", ("a", "b"), ((entry, "x"), ("0.42", "y")))) == [True, False]


def test_parquet_makes_its_folder(tmp_path: Path) -> None:
    write_parquet([record()], path := tmp_path / "new" / "x.parquet")
    assert path.exists()
