"""What the README shows works as it stands, and every suite in the repository can be planned."""

import re
from pathlib import Path

import pytest

from prunebench.cell import plan
from prunebench.plugins import MethodClass, plugin_manager
from prunebench.pruning import Unstructured, prunable
from prunebench.suite import Suite, load_suite
from prunebench.yaml import read_yaml
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found
    return found[1]


def test_the_method_of_the_readme_prunes() -> None:
    scope: dict[str, type] = {}
    exec(code("python"), scope)
    method = MethodClass("mine", scope["Mine"], "mine", "1")
    assert method.option_docs == {"power": "p."}
    model, sparsity = tiny.llama(), Unstructured(0.6)
    plugin_manager(method, {"power": 2.0}).hook.prune(model=model, data=tiny.calibration(), sparsity=sparsity)
    for layer, target in prunable(model, sparsity):
        assert int((layer.weight == 0).sum()) == target.zeros


def test_the_suite_of_the_readme_is_one() -> None:
    suite = Suite.model_validate(read_yaml(code("yaml")))
    assert suite.sparsities[-1] == "2:4"


@pytest.mark.parametrize("path", sorted((ROOT / "suites").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_can_be_planned(path: Path) -> None:
    cells = plan(load_suite(path))
    assert cells[0].sparsity == "0"
    assert len({cell.id for cell in cells}) == len(cells)
