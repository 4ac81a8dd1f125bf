"""The page in a real browser: it can be asked, its address keeps the view, and it is right without JavaScript."""

import re
from pathlib import Path
from typing import Any

import pytest

from prunebench.records.record import Record
from prunebench.report.output.html_page import to_html
from tests.helpers.records import record


def study() -> list[Record]:
    found = []
    for model in ("small", "small-wide"):
        found.append(record("dense", "0", value=4.0, model=model))
        for method, value in (("wanda", 6.0), ("elsa 1k", 5.0), ("elsa-l", 5.5)):
            found += [
                record(method, s, value=value + number, model=model) for number, s in enumerate(("0.5", "0.9", "2:4"))
            ]
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(to_html(study(), "study"), encoding="utf-8")
    return path.as_uri()


def heat(page: Any) -> list[list[str]]:
    """The first table, as it is seen."""
    rows = page.locator("#summary table").first.locator("tbody tr:visible")
    return [[cell.strip() for cell in row.locator("td:visible").all_text_contents()] for row in rows.all()]


def captions(page: Any) -> list[str]:
    return list(page.locator("#summary caption:visible").all_text_contents())


def test_it_filters_by_model_method_and_sparsity_and_the_address_keeps_it(page: Any, file: str) -> None:
    page.goto(file)
    assert len(captions(page)) == 2
    page.select_option("select[name=model]", "small")
    assert [re.search(r"perplexity of (\S+)", text)[1] for text in captions(page)] == ["small"]  # type: ignore[index]
    page.select_option("select[name=method]", "wanda")
    assert [row[0] for row in heat(page)] == ["wanda"]
    page.select_option("select[name=sparsity]", "0.9")
    assert heat(page)[0][2] == "1.75"
    assert "model=small&method=wanda&sparsity=0.9" in page.url
    again = page.context.new_page()
    again.goto(page.url)
    assert heat(again) == heat(page)
    again.close()
    page.click("#filters button")
    assert len(captions(page)) == 2
    assert "=" not in page.url


def test_a_name_in_a_legend_isolates_its_method(page: Any, file: str) -> None:
    page.goto(file)
    page.click("#perplexity .legend button:has-text('elsa 1k')")
    faint = page.locator("#perplexity figure").first.locator("[data-series].away")
    assert {part.get_attribute("data-series") for part in faint.all()} == {"wanda", "elsa-l"}
    assert [row[0] for row in heat(page)] == ["elsa 1k"]
    page.click("#perplexity .legend button:has-text('elsa 1k')")
    assert faint.count() == 0


def test_a_filter_that_matches_nothing_says_so(page: Any, file: str) -> None:
    page.goto(file)
    page.fill("input[name=text]", "no such thing")
    assert "Nothing matches" in page.inner_text("#told")
    page.fill("input[name=text]", "")
    assert page.inner_text("#told") == ""


def test_values_show_under_the_pointer(page: Any, file: str) -> None:
    page.goto(file)
    page.locator("#perplexity [data-series='wanda'] use").first.hover(force=True)
    assert page.inner_text("#tip").startswith("wanda: 50, 1.5")


def test_sorting_and_sections_survive_in_the_address(page: Any, file: str) -> None:
    page.goto(file)
    button = page.locator("#summary table").first.locator("th button").nth(2)
    button.click()
    button.click()
    before = heat(page)
    assert [row[2] for row in before] == ["1.50", "1.38", "1.25"]
    page.click("nav a[href='#cells']")
    page.wait_for_function("location.hash.startsWith('#cells&sort0=2:descending')")
    assert page.locator("#cells details").get_attribute("open") is not None
    page.reload()
    assert heat(page) == before


def test_what_is_seen_is_what_is_downloaded(page: Any, file: str) -> None:
    page.goto(file + "#model=small&sparsity=0.9")
    contents = {}
    for name in ("CSV", "LaTeX"):
        with page.expect_download() as started:
            page.locator("#summary .scroll:visible .tools button", has_text=name).first.click()
        contents[name] = Path(started.value.path()).read_text(encoding="utf-8")
    assert contents["CSV"].splitlines()[0] == "method,training,0.9,trained on,prune time,FLOPs"
    assert contents["CSV"].splitlines()[1].startswith("elsa 1k,not measured,1.50")
    assert "\\begin{tabular}{" in contents["LaTeX"]
    assert "\\toprule" in contents["LaTeX"]
    with page.expect_download() as started:
        page.locator("#perplexity figure .tools button").first.click()
    drawn = Path(started.value.path()).read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in drawn
    assert "var(--" not in drawn


def test_without_javascript_everything_is_there(browser: Any, file: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file)
    assert not page.locator("#filters").is_visible()
    assert page.locator("#summary table").first.is_visible()
    assert page.locator("#perplexity svg").first.is_visible()
    page.locator("#cells summary").click()
    assert page.locator("#cells table").is_visible()
    context.close()


def test_a_hostile_address_does_nothing(page: Any, file: str) -> None:
    page.goto(file + "#model=%E0%A4%A&method=<img src=x onerror=alert(1)>&sort9=1:x&sort0=99:ascending&x=y&__proto__=1")
    assert len(captions(page)) == 2
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(browser: Any, file: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = browser.new_context(color_scheme=scheme).new_page()
    page.goto(file)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()
