"""The conformance kit in pytest: one test for each rule of the contract.

```python
@pytest.mark.method("my-method", power=2.0)  # options that make it quick
def test_contract(verdict):
    assert verdict.holds, verdict
```

Several marks check several methods. The method runs when the first of its rules is asked for.
"""

from typing import TYPE_CHECKING

import pytest

from prunebench.contract.rules import RULES

if TYPE_CHECKING:
    from prunebench.testing import Conformance, Verdict

_found = pytest.StashKey[dict[str, "Conformance"]]()


def pytest_configure(config: pytest.Config) -> None:
    """Say what the mark is for."""
    config.addinivalue_line(
        "markers", "method(name, **options): check this pruning method; the test asks for the fixture 'verdict'"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each method and rule."""
    marks = list(metafunc.definition.iter_markers("method"))[::-1]
    if marks and "verdict" in metafunc.fixturenames:
        cases = [(mark.args[0], mark.kwargs, rule) for mark in marks for rule in RULES]
        metafunc.parametrize("verdict", cases, indirect=True, ids=[f"{name}-{rule}" for name, _, rule in cases])


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> "Verdict":
    """Whether the marked method keeps one rule of the contract; skips where the rule does not apply."""
    from prunebench.testing import check

    if not hasattr(request, "param"):
        raise pytest.UsageError("the fixture 'verdict' needs a mark above its test: @pytest.mark.method('my-method')")
    name, options, rule = request.param
    kept = request.config.stash.setdefault(_found, {})
    key = f"{name} {sorted(options.items())}"
    if key not in kept:
        kept[key] = check(name, options)
    found = kept[key].verdicts[rule]
    if not found.tried and found.holds:
        pytest.skip(f"the rule {rule!r} does not apply to {name}, or could not be looked at")
    return found
