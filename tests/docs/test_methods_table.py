"""The table of what methods need, against what they do on a tiny model."""

from typing import Any

import pytest
import torch

from prunebench.pruning import CalibrationData
from prunebench.pruning.hidden_states import HiddenStates
from prunebench.pruning.nested import HELD, held
from prunebench.pruning.sparsity import parse_pattern
from prunebench.registry.describe import describe_all
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.testing.models import prune_by_magnitude
from tests.helpers import tiny
from tests.helpers.modules import module_from
from tests.helpers.paths import DOCS
from tests.revisions import MODELS, QUICK

# Needed with an option only, which the trial below does not set.
OPTIONAL = {("elsa", "walks"), ("elsa-l", "walks"), ("retrain", "dense model")}
METHODS = [
    method["name"]
    for method in describe_all()
    if method["distribution"] == "prunebench" and not load_method(method["name"]).brought
]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """By method, the entries of its row."""
    lines = module_from(DOCS / "macros.py", "prunebench_docs_table").MACROS["needs"]().splitlines()[2:]
    entries = [[entry.strip() for entry in line.strip("|").split("|")] for line in lines]
    return {name.partition("]")[0].strip("["): row for name, *row in entries}


def test_every_method_has_a_row(rows: dict[str, list[str]]) -> None:
    assert sorted(rows) == sorted(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_what_it_says_is_what_the_method_does(
    name: str, rows: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def watched(owner: Any, attribute: str, what: str) -> None:
        original = getattr(owner, attribute)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.add(what)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, attribute, call)

    watched(torch.Tensor, "backward", "gradients")
    watched(torch.autograd, "grad", "gradients")
    watched(HiddenStates, "__init__", "walks")
    for attribute in ("windows", "batches", "teacher"):
        original = CalibrationData.__dict__[attribute]
        what = "dense model" if attribute == "teacher" else "data"

        def read(self: Any, original: Any = original, what: str = what) -> Any:
            seen.add(what)
            return original.__get__(self, CalibrationData)

        monkeypatch.setattr(CalibrationData, attribute, property(read))
    method, make = load_method(name), MODELS.get(name, tiny.llama)
    pattern = parse_pattern("0.5" if "unstructured" in method.patterns else "2:4")
    model = make()
    if method.after:
        prune_by_magnitude(model, pattern)
    asked = held(pattern) if method.mask == HELD else pattern
    hook = plugin_manager(method, QUICK.get(name, {})).hook
    hook.prune(model=model, data=tiny.calibration(teacher=make), sparsity=asked)
    data, gradients, walks, dense, trains, patterns, place = rows[name]
    found = {"data": data, "gradients": gradients, "walks": walks, "dense model": dense}
    said = {what for what, entry in found.items() if entry == "yes"}
    assert seen <= said
    assert {(name, what) for what in said - seen} <= OPTIONAL
    assert (trains != "–") <= (gradients == "yes")
    assert patterns == ("any" if len(method.patterns) == 2 else ", ".join(method.patterns))
    assert place.startswith("after another") == method.after
    assert ("masks held" in place) == (method.mask == HELD)
