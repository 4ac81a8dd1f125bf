"""The site in a real browser: it is filtered, sorted and searched, its address keeps the view, no script is needed."""

from pathlib import Path
from typing import Any

import pytest

from prunebench.report.site.gather import Source
from prunebench.report.site.page import to_page
from tests.helpers.records import record


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    records = [
        record(method, sparsity, value=value + place, model=model)
        for model in ("small", "large")
        for method, value in (("wanda", 6.0), ("magnitude", 5.0))
        for place, sparsity in enumerate(("0.5", "2:4"))
    ]
    path: Path = tmp_path_factory.mktemp("site") / "index.html"
    path.write_text(to_page([Source(Path("x"), "x", tuple(records))], "Leaderboard"), encoding="utf-8")
    return path.as_uri()


def rows(page: Any) -> list[list[str]]:
    """The first table that is seen."""
    table = page.locator(".board:visible table").first
    return [
        [cell.strip() for cell in row.locator("td").all_text_contents()]
        for row in table.locator("tbody tr:visible").all()
    ]


def told(page: Any, text: str) -> None:
    """Waits until the page has said so."""
    from playwright.sync_api import expect

    expect(page.locator("#told")).to_have_text(text)


def test_filters_and_the_address(page: Any, file: str) -> None:
    page.goto(file)
    assert len(rows(page)) == 8
    page.select_option("select[name=model]", "small")
    page.select_option("select[name=sparsity]", "2:4")
    told(page, "6 rows")  # two of each table
    assert page.url.endswith("#model=small&sparsity=2%3A4")
    assert [row[:3] for row in rows(page)] == [["magnitude", "2:4", "6.000"], ["wanda", "2:4", "7.000"]]
    again = page.context.new_page()
    again.goto(page.url)
    assert rows(again) == rows(page)
    page.click("#filters button")
    told(page, "")
    assert len(rows(page)) == 8


def test_one_protocol_words_and_nothing(page: Any, file: str) -> None:
    page.goto(file)
    title = page.locator("select[name=protocol] option").nth(1).get_attribute("value")
    page.select_option("select[name=protocol]", title)
    told(page, "8 rows")
    assert page.locator(".board:visible").count() == 1
    page.fill("input[name=text]", "WANDA large")
    told(page, "2 rows")
    page.fill("input[name=text]", "nobody")
    told(page, "Nothing matches: change or reset the filters.")
    assert page.locator(".board:visible").count() == 0


def test_a_heading_sorts(page: Any, file: str) -> None:
    page.goto(file)
    heading = page.locator(".board th", has_text="perplexity").first
    for direction, order in (("ascending", 1), ("descending", -1)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        values = [float(row[2]) for row in rows(page)]
        assert values == sorted(values, reverse=order < 0)


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_reads_without_javascript(browser: Any, file: str, width: int) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(file)
    assert not page.locator("#filters").is_visible()
    assert page.locator(".board:visible").count() >= 2
    assert len(rows(page)) == 8
    context.close()
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(file)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()
