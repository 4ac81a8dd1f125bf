"""Names come from suites, records and plugins: whatever they hold, none steers a terminal or a page."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.records.store import read_record, write_record
from prunebench.report.compare import formats as compare_formats
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Tolerances
from prunebench.report.output import text_tables as render
from prunebench.report.output import tidy
from prunebench.report.output.files import write_plots
from prunebench.report.output.html_page import to_html
from prunebench.report.output.model_card import model_card
from prunebench.report.sections import all_tables
from prunebench.runner.progress import outcome_text
from prunebench.text import printable
from tests.helpers.records import record

STEERING = "\x1b[2J\x07\x9b31m\u202e\u2066\u200b\u2028\r\n\t\x00\x7f\ufeff\uffff\U000e0041"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;]]>-->$x^{\\input{x}%`|*_#[a](javascript:b)"
NASTY = f"=1+1{STEERING}{MARKUP}"


def nasty(sparsity: str, failed: bool = False) -> Record:
    """A record in which every name is nasty."""
    made = record(NASTY, sparsity, model=NASTY, allocation=NASTY, error=NASTY if failed else None)
    facts = made.cell.model_dump()
    facts |= {"calibration": {"corpus": NASTY, "source": NASTY, "windows": NASTY}, "plugin": NASTY, "version": NASTY}
    facts |= {"options": {NASTY: NASTY}, "source": NASTY, "distribution": NASTY, "dtype": NASTY, "revision": NASTY}
    facts["key"] = (NASTY, NASTY, sparsity, NASTY, 0, NASTY)
    facts["evaluations"] = [{"name": "perplexity", "protocol": NASTY, "corpus": NASTY, "source": NASTY},
                            {"name": "zero_shot", "tasks": [NASTY]}]  # fmt: skip
    entry = {f"{NASTY},none": 0.5, f"{NASTY}_stderr,none": 0.1, "acc,none": 0.5}
    changes = {
        "perplexity": {NASTY: next(iter(record().perplexity.values()))},
        "zero_shot": {"results": {NASTY: entry}, "versions": {NASTY: NASTY}, "n-shot": {NASTY: NASTY}},
        "measures": {NASTY: {NASTY: 0.5}},
        "notes": {NASTY: 2},
        "environment": dict.fromkeys(made.environment, NASTY) | {"versions": {NASTY: NASTY}},
        "sparsity": {"requested": 0.5, "reached": 0.5, "whole_model": 0.4, "parameters": 10,
                     "matrices": {NASTY: {"numel": 10, "zeros": 5}}},
    }  # fmt: skip
    if failed:
        changes = {"notes": {NASTY: 2}}
    return Record.model_validate(made.model_dump() | changes | {"cell": facts, "schema": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for made in (nasty("0.5"), nasty("0.9"), nasty("2:4", failed=True)):
        path = write_record(tmp_path, made, {})
        assert read_record(path).cell.method == NASTY
    return tmp_path


@pytest.fixture
def records() -> list[Record]:
    return [nasty("0.5"), nasty("0.9"), nasty("2:4", failed=True)]


def assert_plain(text: str) -> None:
    for sign in text.replace("\n", ""):
        assert unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), repr(sign)


TEXTS: dict[str, Callable[[list[Record]], str]] = {
    "table": lambda r: render.to_terminal(all_tables(r)),
    "markdown": lambda r: render.to_markdown(all_tables(r)),
    "latex": lambda r: render.to_latex(all_tables(r)),
    "csv": tidy.to_csv,
    "json": lambda r: json.dumps(tidy.to_plain_json(r)),
    "card": lambda r: model_card(r[0]),
    "html": lambda r: to_html(r, NASTY),
    "lines": lambda r: "\n".join(outcome_text(one, 1.0) for one in r),
    "comparison": lambda r: compare_formats.comparison_to_terminal(compared(r), 100),
    "comparison as markdown": lambda r: compare_formats.comparison_to_markdown(compared(r)),
    "comparison as junit": lambda r: compare_formats.comparison_to_junit(compared(r)),
    "comparison as json": lambda r: json.dumps(compare_formats.comparison_to_json(compared(r))),
}


def compared(records: list[Record]):  # type: ignore[no-untyped-def]
    nowhere = ArrayStore(Path("/nonexistent"))
    return compare_records(records, records[:2], nowhere, nowhere, Tolerances())


@pytest.mark.parametrize("style", TEXTS)
def test_no_format_lets_control_characters_through(style: str, records: list[Record]) -> None:
    text = TEXTS[style](records)
    assert_plain(text)
    assert "alert(1)" in text or "alert\\(1" in text  # the name itself is there


@pytest.mark.parametrize("style", ["markdown", "comparison as markdown", "card"])
def test_markdown_holds_no_markup_of_theirs(style: str, records: list[Record]) -> None:
    body = TEXTS[style](records).rpartition("\n---\n")[2]  # a card has YAML in front
    assert "<script" not in body
    assert "<img" not in body
    assert "[a](" not in body


def test_latex(records: list[Record]) -> None:
    assert "\\input{x}" not in TEXTS["latex"](records)


def test_csv_holds_no_formulas(records: list[Record]) -> None:
    rows = list(csv.DictReader(io.StringIO(tidy.to_csv(records))))
    assert {row["method"][:5] for row in rows} == {"'=1+1"}
    assert all(not entry.startswith(("=", "+", "@")) for row in rows for entry in row.values() if entry)
    assert {row["method"][:4] for row in tidy.to_plain_json(records)} == {"=1+1"}  # programs read them as they are


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.attributes, self.tags = 0, set[str](), set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_page_has_one_script_and_no_handlers(records: list[Record]) -> None:
    page = Tags(to_html(records, NASTY))
    assert page.scripts == 1
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)


def test_junit_is_xml(records: list[Record]) -> None:
    ElementTree.fromstring(TEXTS["comparison as junit"](records))


def test_plots_for_papers(records: list[Record], tmp_path: Path) -> None:
    for path in write_plots(records, tmp_path / "plots", "svg"):
        assert path.parent == tmp_path / "plots"
        assert_plain(path.read_text())
        ElementTree.parse(path)


def test_plain() -> None:
    assert printable(NASTY).startswith("=1+1[2J31m <script>")
    assert_plain(printable(NASTY))
    assert printable("é 日本 😀 e\u0301") == "é 日本 😀 e\u0301"
