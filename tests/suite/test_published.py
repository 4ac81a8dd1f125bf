"""Published figures: read from CSV, kept in the cells' records, and shown beside ours."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.errors import SuiteError
from prunebench.records.published_figures import dense_disagreements
from prunebench.records.record import PublishedFigure, Record
from prunebench.records.store import read_records
from prunebench.report.reproduction import FAIL, reproduction_json, reproductions
from prunebench.report.scenes import Scenes
from prunebench.report.tables.published import HEADERS, published_table
from prunebench.report.tables.table import Table
from prunebench.runner.progress import PlainDisplay
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.suite.published import published_disagreements, read_published
from tests.helpers.records import PROTOCOL, record

HEADER = "model,dataset,seqlen,method,sparsity,perplexity,source,note\n"


def with_figure(found: Record, **changes: object) -> Record:
    facts = {
        "corpus": "tinystories_eval",
        "seqlen": 256,
        "protocol": PROTOCOL,
        "perplexity": 8.0,
        "source": "a paper, table 1",
        "note": "5 seeds",
    }
    figure = PublishedFigure.model_validate(facts | changes)
    return found.model_copy(update={"cell": found.cell.model_copy(update={"published": (figure,)})})


def table_of(records: list[Record]) -> Table:
    return published_table(Scenes.of(records).settings)


class TestReading:
    def write(self, path: Path, content: str) -> Path:
        path.write_text(content)
        return path

    def test_rows(self, tmp_path: Path) -> None:
        file = self.write(
            tmp_path / "x.csv",
            HEADER
            + "owner/big,wikitext2,2048,dense,0,5.47,a paper,\n"
            + 'owner/big,wikitext2,4096,wanda,2:4,6.93,"a paper, table 2",mean of 5\n'
            + "owner/big,mine,,wanda,0.50,7,a paper,\n",
        )
        dense, long, other = read_published(file)
        assert dense.figure.protocol == "wikitext2/paper-2048"
        assert (long.sparsity, long.figure.protocol, long.figure.seqlen) == ("2:4", None, 4096)
        assert (long.figure.source, long.figure.note) == ("a paper, table 2", "mean of 5")
        assert (other.sparsity, other.figure.seqlen) == ("0.5", None)
        assert dense.is_for(("Owner/Big", "label"), ("dense", "dense"), "0")
        assert not dense.is_for(("other",), ("dense",), "0")
        assert not dense.is_for(("owner/big",), ("wanda",), "0")

    def test_a_protocol_may_be_named(self, tmp_path: Path) -> None:
        head = HEADER.replace("note", "protocol")
        (row,) = read_published(self.write(tmp_path / "x.csv", f"{head}m,c4,128,wanda,0.5,7,s,c4/stream-128\n"))
        assert row.figure.protocol == "c4/stream-128"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("model,method\n", "no column 'dataset': published figures need model, dataset"),
            (HEADER + "m,c4,x,wanda,0.5,7,s,\n", "line 2: invalid literal for int"),
            (HEADER + "m,c4,8,wanda,0.5,nan,s,\n", "line 2: perplexity nan is no finite number above 0"),
            (HEADER + "m,c4,8,wanda,1.5,7,s,\n", "line 2: sparsity 1.5 is outside [0, 1)"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, tmp_path: Path, content: str, words: str) -> None:
        with pytest.raises(SuiteError) as caught:
            read_published(self.write(tmp_path / "x.csv", content))
        assert words in str(caught.value)
        assert str(tmp_path / "x.csv") in str(caught.value)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match="cannot read the published figures"):
            read_published(tmp_path / "none.csv")


class TestTable:
    def test_the_same_protocol_compares(self) -> None:
        records = [with_figure(record(value=9.0)), with_figure(record(seed=1, value=11.0))]
        table = table_of(records)
        assert table.headers == HEADERS
        setting = "calibrated on tinystories_calib"
        assert table.rows == (
            (
                "stories",
                "wanda",
                "not measured",
                "–",
                "0.5",
                PROTOCOL,
                "10.00",
                "8.000",
                "1.250",
                "yes",
                setting,
                "a paper, table 1",
                "5 seeds",
            ),
        )

    @pytest.mark.parametrize(
        ("protocol", "verdict"),
        [(None, "no: theirs is tinystories_eval, 2048 tokens"), ("x/paper-2048", "no: theirs is x/paper-2048")],
    )
    def test_another_protocol_is_said_not_to(self, protocol: str | None, verdict: str) -> None:
        (row,) = table_of([with_figure(record(), protocol=protocol, seqlen=2048)]).rows
        assert row[5:10] == (PROTOCOL, "10.00", "8.000", "1.250", verdict)

    def test_what_was_not_measured(self) -> None:
        (row,) = table_of([with_figure(record(), protocol="c4/paper-256x2048", corpus="c4")]).rows
        assert row[5:10] == ("c4, 256 tokens", "–", "8.000", "–", "not measured here")
        (failed,) = table_of([with_figure(record(error="x"))]).rows
        assert failed[9] == "not measured here"


def published_for(found: Record, *figures: PublishedFigure) -> Record:
    return found.model_copy(update={"cell": found.cell.model_copy(update={"published": figures})})


def figure(perplexity: float, source: str, **changes: object) -> PublishedFigure:
    facts = {"corpus": "wikitext2", "seqlen": 2048, "protocol": "wikitext2/paper-2048", "note": ""}
    return PublishedFigure.model_validate({**facts, "perplexity": perplexity, "source": source, **changes})


class TestSeveralSources:
    def test_their_spread_follows_them(self) -> None:
        published = tuple(
            PublishedFigure(corpus="tinystories_eval", seqlen=256, protocol=PROTOCOL, perplexity=value, source=source)
            for value, source in ((8.0, "A"), (10.0, "B"), (20.0, "C"))
        )
        found = record(value=9.0)
        rows = table_of(
            [found.model_copy(update={"cell": found.cell.model_copy(update={"published": published})})]
        ).rows
        assert [row[11] for row in rows] == ["A", "B", "C", "3 sources"]
        assert [row[7] for row in rows] == ["8.000", "10.00", "20.00", "8.000 to 20.00"]
        assert [row[8] for row in rows] == ["1.125", "0.900", "0.450", "0.450 to 1.125"]
        assert rows[-1][12] == "spread 150.0%"

    def test_other_windows_are_no_spread(self) -> None:
        """5.47 and 5.12 are both right, of windows of 2048 and of 4096 tokens; of an unknown length nobody knows."""
        figures = (
            figure(5.47, "A"),
            figure(5.12, "B", seqlen=4096, protocol=None),
            figure(8.79, "C", seqlen=None, protocol=None),
            figure(8.80, "D", seqlen=None, protocol=None),
            figure(5.2, "E", protocol="wikitext2/paper-bos-2048"),
        )
        assert dense_disagreements(figures) == []
        shown = published_for(record(method="dense", sparsity="0"), *figures)
        assert [row[11] for row in table_of([shown]).rows] == ["A", "B", "C", "D", "E"]

    def test_a_dense_model_has_one_perplexity(self) -> None:
        """Up to what is printed: 5.47 and 5.472 agree, 5.47 and 5.52 do not."""
        assert dense_disagreements([figure(5.47, "A"), figure(5.472, "B")]) == []
        (found,) = dense_disagreements([figure(5.47, "A"), figure(5.52, "B"), figure(5.5, "C")])
        assert str(found) == "5.47 (A) and 5.52 (B) on wikitext2/paper-2048, 0.9% apart"
        dense = record(method="dense", sparsity="0")
        published = (figure(5.47, "A"), figure(5.52, "B"))
        table = table_of([dense.model_copy(update={"cell": dense.cell.model_copy(update={"published": published})})])
        assert table.caption == f"Published figures beside ours; sources disagree on {dense.cell.model}, dense: {found}"
        pruned = record()
        table = table_of([pruned.model_copy(update={"cell": pruned.cell.model_copy(update={"published": published})})])
        assert table.caption == "Published figures beside ours"  # of a pruned model sources may well differ

    def test_figures_with_their_exponent_are_compared_without_it(self) -> None:
        """exp(l · 2047/2048) is what they print: 26.97 is 27.01 with ours."""
        theirs = figure(26.97, "A", exponent="2047/2048")
        assert theirs.comparable == pytest.approx(math.exp(math.log(26.97) * 2048 / 2047))
        assert f"{theirs.comparable:.2f}" == "27.01"
        assert dense_disagreements([theirs, figure(27.01, "B")]) == []
        (found,) = dense_disagreements([theirs, figure(29, "B")])
        assert str(found).startswith("26.97 (A, 27.01 with our exponent) and 29 (B) on wikitext2/paper-2048, ")
        (row,) = table_of([with_figure(record(value=9.0), perplexity=8.0, exponent="1/2")]).rows
        assert row[6:10] == ("9.000", "8.000", "0.141", "yes, but for the exponent")
        assert row[12] == "their exponent is 1/2 of ours, with which it would be 64.00; 5 seeds"


class TestDisagreements:
    def rows(self, tmp_path: Path, *lines: str) -> Path:
        path = tmp_path / "figures.csv"
        path.write_text("model,dataset,seqlen,method,sparsity,perplexity,source,exponent\n" + "".join(lines))
        return path

    def test_lines(self, tmp_path: Path) -> None:
        path = self.rows(
            tmp_path,
            "o/Big,wikitext2,2048,dense,0,5.47,A,\n",
            "o/big,wikitext2,2048,dense,0,6.47,B,\n",
            "o/other,wikitext2,2048,dense,0,9.47,B,\n",
            "o/big,wikitext2,2048,wanda,0.5,7,A,\n",
            "o/big,wikitext2,2048,wanda,0.5,8,B,\n",
        )
        assert published_disagreements(read_published(path)) == [
            "o/big, dense: 5.47 (A) and 6.47 (B) on wikitext2/paper-2048, 18.3% apart"
        ]

    def test_a_wrong_exponent_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match=r"line 2: exponent '0\.99' is no fraction, as 2047/2048"):
            read_published(self.rows(tmp_path, "o/big,wikitext2,2048,dense,0,5.47,A,0.99\n"))

    def test_planning_tells_of_them_and_takes_several_files(
        self, write_suite: Callable[..., Path], tmp_path: Path, world: Path
    ) -> None:
        suite = write_suite(methods="methods: [dense]")
        for name, value in (("one.csv", 90), ("two.csv", 95)):
            (tmp_path / name).write_text(f"{HEADER}model,test,16,dense,0,{value},{name},\n")
        suite.write_text(suite.read_text() + "published: [one.csv, two.csv]\n")
        told: list[str] = []
        (cell,) = plan(load_suite(suite), tell=told.append)
        assert [figure.perplexity for figure in cell.published] == [90, 95]
        assert told == [
            "published figures disagree: model, dense: 90 (one.csv) and 95 (two.csv) on test in windows of 16, "
            "5.6% apart"
        ]


def test_a_suite_names_them_and_kept_records_learn_them(
    write_suite: Callable[..., Path], tmp_path: Path, world: Path
) -> None:
    suite, out = write_suite(methods="methods: [dense, magnitude]", sparsities="sparsities: [0.5]"), tmp_path / "out"
    before = plan(load_suite(suite))
    run_suite(before, out, PlainDisplay(io.StringIO()))
    figures = tmp_path / "figures.csv"
    figures.write_text(f"{HEADER}model,test,16,magnitude,0.5,100,a paper,\nmodel,test,16,dense,0,90,a paper,\n")
    suite.write_text(suite.read_text() + "published: figures.csv\n")
    cells = plan(load_suite(suite))
    assert [cell.id for cell in cells] == [cell.id for cell in before]  # they change no outcome
    assert [figure.perplexity for cell in cells for figure in cell.published] == [90, 100]
    run_suite(cells, out, PlainDisplay(io.StringIO()))
    kept = read_records(out)
    assert sorted(figure.perplexity for found in kept for figure in found.cell.published) == [90, 100]
    assert [row[9] for row in table_of(kept).rows] == ["no: theirs is test, 16 tokens"] * 2


def test_a_variant_of_a_method_has_no_figure_of_the_method(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    figures = tmp_path / "figures.csv"
    figures.write_text(f"{HEADER}model,test,16,wanda,0.5,100,a paper,\nmodel,test,16,mine,0.5,90,a paper,\n")
    variants = "methods: [wanda, {name: wanda, label: mine}, {name: wanda, label: other}, {name: wanda, then: swaps}]"
    suite = write_suite(methods=variants, sparsities="sparsities: [0.5]")
    suite.write_text(suite.read_text() + f"published: {figures}\n")
    found = {cell.method: [figure.perplexity for figure in cell.published] for cell in plan(load_suite(suite))}
    assert found == {"wanda": [100], "mine": [90], "other": [], "wanda+swaps": []}


def test_other_allocations_are_no_seeds() -> None:
    told = [with_figure(record(allocation=name, value=value)) for name, value in (("uniform", 10.0), ("owl", 20.0))]
    rows = table_of(told).rows
    assert [row[6] for row in rows] == ["10.00", "20.00"]
    assert ["allocation owl" in row[10] for row in rows] == [False, True]


def test_a_reproduction_does_not_average_over_allocations() -> None:
    measured = (("uniform", 12.0), ("owl", 8.0))  # whose mean is what was published
    told = [with_figure(record(allocation=a, value=v), perplexity=10.0, tolerance=0.02) for a, v in measured]
    rows = reproductions(told)
    assert [(row.allocation, row.ours, row.verdict) for row in rows] == [("uniform", 12.0, FAIL), ("owl", 8.0, FAIL)]


def test_what_is_sent_in_has_passed_only_if_everything_ran_and_is_json() -> None:
    good = with_figure(record(value=10.1), perplexity=10.0, tolerance=0.02, note="read off a figure")
    (row,) = rows = reproductions([good])
    assert (row.published, row.note) == (10.0, "read off a figure")
    assert reproduction_json("paper", rows, [good], complete=True)["passed"]
    assert not reproduction_json("paper", rows, [good], complete=False)["passed"]
    broken = with_figure(record(value=float("nan")), perplexity=10.0, tolerance=0.02)
    outcome = reproduction_json("paper", reproductions([broken]), [broken], complete=True)
    (figure,) = json.loads(json.dumps(outcome, allow_nan=False))["figures"]
    assert (outcome["passed"], figure["ours"], figure["verdict"]) == (False, "nan", FAIL)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "figures.csv"
    path.write_text(f"{HEADER}m,c4,8,wanda,0.5,7,a paper,\n", encoding="utf-8-sig")
    assert [row.model for row in read_published(path)] == ["m"]
