"""The code of "write a method that trains" and "write a recovery stage"."""

from typing import Any

import pytest

from prunebench.registry.method_class import MethodClass
from prunebench.registry.plugin_files import plugins_in
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.suite.tuning import plan_tuned
from prunebench.testing import check
from tests.helpers.paths import ROOT
from tests.helpers.text import code_lines

EXAMPLES = ROOT / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [
        ("taylor", {"steps": 3, "batch_size": 2}, 30),
        ("refit", {"epochs": 1}, 25),
        ("tuned-norms", {"steps": 3, "batch_size": 2}, 28),
    ],
)
def test_each_keeps_the_contract_in_few_lines(name: str, options: dict[str, Any], lines: int) -> None:
    file = EXAMPLES / f"{name.replace('-', '_')}.py"
    method = MethodClass(name, plugins_in(file)["method"][name], file.name, "", file)
    found = check(method, options, architectures=["llama", "mixtral"], patterns=["0.5", "2:4"])
    assert found.holds, [str(verdict) for verdict in found.verdicts.values() if not verdict.holds]
    assert found.verdicts["resumes"].tried == found.verdicts["memory"].tried == 1
    assert found.verdicts["held"].tried == (6 if name == "tuned-norms" else 0)
    assert code_lines(file) <= lines


def test_the_suite_is_one() -> None:
    cells = plan(load_suite(EXAMPLES / "stages.yaml"), plugin_files=[EXAMPLES / "tuned_norms.py"])
    assert {cell.method for cell in cells} == {"dense", "control", "wanda", "wanda+retrain", "wanda+tuned-norms"}
    assert sum(cell.method == "wanda+tuned-norms" for cell in cells) == 3


def test_the_suite_that_tunes_is_one() -> None:
    planned = plan_tuned(load_suite(EXAMPLES / "tuned.yaml"))
    # Three values for each of two methods at two sparsities; the control takes those of one of them.
    assert len(planned.trials) == 3 * 2 * 2
    # Two baselines, of which the control takes data, and three seeds of three methods at two sparsities.
    assert len(planned.cells) == 1 + 3 + 3 * 3 * 2
    assert {cell.evaluations[0].facts["split"] for cell in planned.trials} == {"validation"}
    assert {search.like for search in planned.searches.values()} == {None, "wanda+retrain"}
