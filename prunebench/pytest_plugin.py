"""The conformance kit as a pytest plugin: one test for each rule of the contract.

```python
@pytest.mark.method("my-method", power=2.0)  # options that make it quick
def test_contract(verdict):
    assert verdict.holds, verdict
```

Several marks check several methods. A method is run once, by the first test of its rules, in processes of its own; with
the environment variable ``PRUNEBENCH_IN_PROCESS`` set in that of the tests, to debug it.
"""

import os
from typing import TYPE_CHECKING

import pytest

from prunebench.contract.rules import RULES

if TYPE_CHECKING:
    from prunebench.testing import Conformance, Verdict
    from prunebench.testing.trials import Processes

_RESULTS = pytest.StashKey[dict[str, "Conformance"]]()  # by method and options
_PROCESSES: pytest.StashKey["Processes"] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark ``method``."""
    config.addinivalue_line(
        "markers", "method(name, **options): check this pruning method; the test asks for the fixture 'verdict'"
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the processes that ran methods."""
    if _PROCESSES in config.stash:
        config.stash[_PROCESSES].end()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each marked method and rule."""
    marks = list(metafunc.definition.iter_markers("method"))[::-1]
    if marks and "verdict" in metafunc.fixturenames:
        cases = [(mark.args[0], mark.kwargs, rule) for mark in marks for rule in RULES]
        metafunc.parametrize("verdict", cases, indirect=True, ids=[f"{name}-{rule}" for name, _, rule in cases])


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> "Verdict":
    """Whether the marked method holds to one rule of the contract; skips where the rule does not apply."""
    from prunebench.testing import check, trials

    if not hasattr(request, "param"):
        raise pytest.UsageError("the fixture 'verdict' needs a mark above its test: @pytest.mark.method('my-method')")
    name, options, rule = request.param
    results = request.config.stash.setdefault(_RESULTS, {})
    key = f"{name} {sorted(options.items())}"
    if key not in results:
        if _PROCESSES not in request.config.stash:
            request.config.stash[_PROCESSES] = trials.Processes()
        in_process = bool(os.environ.get("PRUNEBENCH_IN_PROCESS"))
        results[key] = check(name, options, processes=request.config.stash[_PROCESSES], in_process=in_process)
    result = results[key].verdicts[rule]
    if not result.tried and result.holds:
        pytest.skip(f"the rule {rule!r} does not apply to {name}, or could not be looked at")
    return result
