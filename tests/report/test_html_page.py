"""The HTML report: one file that needs nothing else, the same from the same records, and true to any records."""

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import PublishedFigure, Record
from prunebench.records.store import read_record, write_record
from prunebench.report.output.html_page import to_html
from prunebench.report.sections import report_sections
from prunebench.report.styles import COLOURS, style_number
from tests.helpers.records import PROTOCOL, record

SHIFTED = "shifted/document-256"


class Page(HTMLParser):
    """What a page refers to, what runs in it, its sections, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.addresses.append(value or "")
            if name == "id":
                self.identifiers.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rich_records() -> list[Record]:
    """A dense model and two methods at two sparsities and a pattern, with everything a record can hold."""
    dense = [record("dense", "0", value=5.24)]
    pruned = [
        record(method, sparsity, seed, value=value + seed / 10)
        for seed in (0, 1)
        for method, sparsity, value in (
            ("wanda", "0.5", 6.0),
            ("wanda", "0.9", 60.0),
            ("other", "0.5", 6.5),
            ("other", "2:4", 7.0),
        )
    ]
    traced = pruned[0].model_copy(
        update={"trace": tuple({"step": float(step), "loss": 2.0 / (1 + step)} for step in range(5))}
    )
    noted = pruned[1].model_copy(update={"notes": {"damping raised": 3}})
    everything = [*dense, traced, noted, *pruned[2:], record("broken", "0.9", error="holds 0 zeros")]
    return [shifted(found) if found.perplexity else found for found in everything]


def shifted(found: Record) -> Record:
    """The record with a second text, on which everything is twice as bad."""
    facts = found.perplexity[PROTOCOL]
    twice = facts.model_copy(update={"value": 2 * facts.value})
    return found.model_copy(update={"perplexity": {**found.perplexity, SHIFTED: twice}})


@pytest.fixture(scope="module")
def source() -> str:
    """The page of the rich records."""
    return to_html(rich_records(), "a")


class TestPage:
    def test_the_same_records_give_the_same_bytes(self, source: str) -> None:
        assert source == to_html(rich_records(), "a")

    def test_it_asks_for_nothing(self, source: str) -> None:
        page = Page(source)
        assert all(address.startswith("#") or address == "data:," for address in page.addresses)
        assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.identifiers)
        assert not {"img", "iframe", "object", "embed", "audio", "video", "base", "form"} & set(page.tags)
        assert not re.search(r"@import|url\((?!#)", source)
        assert "default-src 'none'" in source
        assert page.handlers == []

    def test_identifiers_are_unique(self, source: str) -> None:
        identifiers = Page(source).identifiers
        assert len(identifiers) == len(set(identifiers))

    def test_names_are_text_wherever_they_stand(self) -> None:
        evil = '<script>alert(1)</script><img src="https://x.example/y" onerror="alert(2)">$x_1$ --> %} {{ 7*7 }}'
        records = [
            record(evil, model=evil, allocation=evil, options={evil: evil}),
            record(evil, "0.9", model=evil, allocation=evil).model_copy(
                update={"notes": {evil: 1}, "trace": ({"step": 0.0, evil: 1.0}, {"step": 1.0, evil: 2.0})}
            ),
            record("b", "0.9", model=evil, error=evil),
        ]
        page = Page(to_html(records, evil))
        assert page.tags.count("script") == 1
        assert "img" not in page.tags
        assert page.handlers == []
        assert all(address.startswith("#") or address == "data:," for address in page.addresses)
        assert "<script>alert(1)</script>" in page.text
        assert "{{ 7*7 }}" in page.text

    def test_colours_are_the_readers(self, source: str) -> None:
        drawn = "".join(re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL))
        colours = {f"var(--series-{style_number(method) % COLOURS})" for method in ("wanda", "other")}
        assert {*colours, "var(--line)"} <= set(re.findall(r"var\(--[a-z]+(?:-\d)?\)", drawn))
        assert "currentColor" in drawn
        assert not re.search(r"#[0-9a-f]{6}\b", drawn)

    def test_amounts_carry_what_they_are_sorted_by(self) -> None:
        source = to_html([record(value=math.inf), record("slow", value=9.5)], "a")
        assert re.search(r'<td class="number" data-sort="9.5">9.500</td>', source)
        assert re.search(r'<td class="number" data-sort="Infinity">inf</td>', source)


class TestSections:
    def test_every_section_from_records(self) -> None:
        published = PublishedFigure(
            corpus="tinystories_eval", seqlen=256, protocol=PROTOCOL, perplexity=6.0, source="a paper"
        )
        records = rich_records()
        records[1] = records[1].model_copy(
            update={"cell": records[1].cell.model_copy(update={"published": (published,)})}
        )
        older = record("wanda", "0.5", started="2025-01-01")
        names = [section.name for section in report_sections([older, *records])]
        assert names == [
            "summary", "failed", "perplexity", "pareto", "cost", "robustness", "zero-shot", "convergence", "layers",
            "published", "notes", "provenance", "cells",
        ]  # fmt: skip
        text = Page(to_html([older, *records], "results")).text
        for words in ("ContractError", "holds 0 zeros", "damping raised", "a paper", "ee55", "torch 2.13.0"):
            assert words in text, words
        assert "Left out: a later record of the same cell is there" in text

    def test_the_summary_says_what_is_best_and_how_far_from_dense(self, tmp_path: Path) -> None:
        (summary, *_) = report_sections(
            [record("dense", "0", value=5.0), record("a", value=6.0), record("b", value=8.0)]
        )
        told = " ".join(point for paragraph in summary.paragraphs for point in (paragraph.lead, *paragraph.points))
        assert "3 cells of 1 model, 2 pruning methods, 1 sparsity and 1 seed: all ran." in told
        assert (
            "At 0.5 the lowest is a with 1.20 times dense (training not measured, 1 seed); whether that is more than "
            "noise is not known." in told
        )

    @pytest.mark.parametrize(
        ("gap", "words"),
        [
            (
                1e-4,
                "At 0.5 the best is a with 6.000 (training not measured, 3 seeds); b cannot be told from it.",
            ),
            (3.0, "At 0.5 the best is a with 6.000 (training not measured, 3 seeds)."),
        ],
    )
    def test_the_summary_tells_ties_from_the_evidence(self, tmp_path: Path, gap: float, words: str) -> None:
        noise = np.random.default_rng(0)
        losses = noise.normal(90, 20, 40)
        counts = np.full(40, 50)
        written = []
        for seed in (0, 1, 2):
            records = record("a", value=6.0, seed=seed), record("b", value=6.0 + gap, seed=seed)
            for found, shift in zip(records, (0.0, 50 * math.log(1 + gap / 6)), strict=True):
                arrays = {
                    f"perplexity/{PROTOCOL}/losses": losses + shift + noise.normal(0, 1, 40),
                    f"perplexity/{PROTOCOL}/counts": counts,
                }
                written.append(read_record(write_record(tmp_path, found, arrays)))
        (summary, *_) = report_sections(written, array_store=ArrayStore(tmp_path))
        assert words in [paragraph.lead for paragraph in summary.paragraphs]

    def test_robustness_is_relative_to_the_dense_model_on_the_same_text(self) -> None:
        (found,) = [section for section in report_sections(rich_records()) if section.name == "robustness"]
        (table,) = found.tables
        assert table.headers == ("method", "training", "trained on", "sparsity", PROTOCOL, SHIFTED)
        assert ("wanda", "not measured", "–", "0.5", "6.050 (×1.155)", "12.10 (×1.155)") in table.rows


def inf_and_nan() -> list[Record]:
    return [record("a", value=math.inf), record("b", value=math.nan), record("dense", "0", value=math.nan)]


def bare() -> list[Record]:
    content = record().model_dump(by_alias=True)
    content |= {"sparsity": None, "perplexity": {}, "zero_shot": {}, "cost": {}, "environment": {}, "notes": {}}
    content["cell"] |= {"evaluations": [], "calibration": {}, "options": {}}
    return [Record.model_validate(content)]


def odd_sparsities() -> list[Record]:
    return [record("a", "2:0"), record("a", "half"), record("a", "1:4"), record("b", "0.25")]


def old() -> list[Record]:
    """Records from before parameters and floors were told."""
    found = record()
    assert found.sparsity is not None
    return [found.model_copy(update={"sparsity": found.sparsity.model_copy(update={"parameters": None})})]


def mixed() -> list[Record]:
    return [record(model="b", calibration={"corpus": "c4"}), record(), record(model_digest="ff99")]


@pytest.mark.parametrize("records", [inf_and_nan, bare, odd_sparsities, lambda: [record(error="x")]])
def test_any_records_make_a_page(records: Callable[[], list[Record]]) -> None:
    found = records()
    page = Page(to_html(found, "results"))
    assert "Summary" in page.text
    for one in found:
        assert one.cell.id in page.text


@pytest.mark.parametrize(
    ("records", "plotted"),
    [
        (lambda: [record("dense", "0")], {"pareto"}),
        (
            lambda: [record(seed=seed, value=10.0) for seed in range(3)],
            {"perplexity", "pareto", "cost", "zero-shot", "layers"},
        ),
        (mixed, {"perplexity", "pareto", "cost", "zero-shot", "layers"}),
        (old, {"perplexity", "cost", "zero-shot", "layers"}),
        (bare, set()),
    ],
)
def test_a_section_plots_what_the_records_have(records: Callable[[], list[Record]], plotted: set[str]) -> None:
    assert {section.name for section in report_sections(records()) if section.plots} == plotted


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_is_not_ranked(value: float) -> None:
    (summary, *_) = report_sections([record("a", value=value), record("b", value=7.0), record("dense", "0", value=5.0)])
    (verdict,) = [paragraph.lead for paragraph in summary.paragraphs if paragraph.lead.startswith("At")]
    assert verdict.startswith("At 0.5 the lowest is b with 1.40 times dense")
