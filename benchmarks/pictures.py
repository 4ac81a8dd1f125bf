"""The pictures of the documentation: the first screen of a report, light and dark, as a browser shows it.

    python benchmarks/pictures.py [RESULTS]

writes ``docs/pictures/report-light.png`` and ``report-dark.png`` from the records of ``results/reference/extreme``.
Needs the package playwright and a Chromium; to be run again when those records change.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from prunebench.records.arrays import ArrayStore
from prunebench.records.store import read_records
from prunebench.report.output.files import write_html

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VIEW = {"width": 1200, "height": 900}


def main() -> None:
    """Make both pictures."""
    from playwright.sync_api import sync_playwright

    results = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "reference" / "extreme"
    pictures = ROOT / "docs" / "pictures"
    pictures.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = write_html(
            read_records(results), results, array_store=ArrayStore(results), path=Path(folder) / "report.html"
        )
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_context(viewport=VIEW, color_scheme=scheme).new_page()  # type: ignore[arg-type]
            page.goto(page_file.as_uri())
            page.screenshot(path=pictures / f"report-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
