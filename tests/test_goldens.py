"""The ids of cells stay as they were recorded: they decide whether records are still good."""

import json
from pathlib import Path

import pytest

from tests.goldens import invoke, read
from tests.helpers.paths import EMBEDDED_SUITES


@pytest.mark.parametrize("suite", EMBEDDED_SUITES, ids=lambda path: path.stem)
def test_the_cells_of_a_suite_keep_their_ids(suite: Path) -> None:
    cells = json.loads(invoke("plan", str(suite), "--no-forecast", "--json"))
    assert [cell["id"] for cell in cells] == read("ids")[suite.stem]
