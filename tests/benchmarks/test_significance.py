"""``benchmarks/significance.py``: the rates that docs/reading.md states, on a reduced grid."""

import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest

from prunebench.report.compare.verdict import Verdict
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = ROOT / "benchmarks" / "significance.py"
    spec = spec_from_file_location("benchmarks_significance", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module of a class
    spec.loader.exec_module(module)
    return module


def most(tables: int, rate: float) -> float:
    """The share that a rate stays below in all but 0.1 % of cases."""
    return rate + 3.1 * math.sqrt(rate * (1 - rate) / tables)


@pytest.mark.slow
@pytest.mark.parametrize(
    "facts",
    [
        {"methods": 2, "seeds": 2},
        {"methods": 8, "seeds": 3, "spread": (0.1,)},
        {"methods": 16, "seeds": 5, "spread": (0.01,)},
        {"methods": 8, "seeds": 3, "spread": (0.0,)},
        {"methods": 8, "seeds": 3, "spread": (0.0,), "correlation": 0.6},
        {"methods": 4, "seeds": 2, "sequences": 20, "spread": (0.0,), "correlation": 0.3},
        {"methods": 8, "seeds": 3, "tail": "t3"},
        {"methods": 8, "seeds": 3, "best": 4, "lead": 0.03},
    ],
    ids=str,
)
def test_an_equal_method_is_called_worse_in_five_percent_of_tables(
    simulation: ModuleType, facts: dict[str, object]
) -> None:
    found = simulation.rates(simulation.Model(**facts), simulation.after, 150, seed=1)
    assert found.error <= most(150, 0.05)


@pytest.mark.slow
def test_a_lead_of_three_spreads_is_found(simulation: ModuleType) -> None:
    """At least 80 %. The methods of a table depend on one another: three errors of 150 tables are 8 %."""
    model = simulation.Model(8, 3, own=0.03, best=1, lead=0.09)
    assert simulation.rates(model, simulation.after, 150, seed=1).power >= 0.72


@pytest.mark.slow
def test_the_earlier_procedure_was_wrong_more_often(simulation: ModuleType) -> None:
    """So that the simulation is known to tell."""
    model = simulation.Model(16, 5, spread=(0.01,))
    assert simulation.rates(model, simulation.before, 100).error > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize("tail", ["normal", "skewed"])
def test_coverage(simulation: ModuleType, n: int, tail: str) -> None:
    _, present = simulation.coverage(n, tail, 0.0, 600)
    assert 1 - present <= most(600, 0.05)


@pytest.mark.slow
def test_real_seeds_rarely_alarm_the_gate_and_a_large_change_does(simulation: ModuleType) -> None:
    same, worse = simulation.gate(0.0), simulation.gate(0.3)
    assert sum(same.values()) == sum(worse.values()) >= 100
    assert same[Verdict.REGRESSION] <= 0.02 * sum(same.values())
    assert worse[Verdict.REGRESSION] >= sum(worse.values()) / 2
