"""A few of the trials of ``python -m tests.fuzz``; those that once went wrong are tests of their own elsewhere."""

from pathlib import Path

import pytest

from tests.fuzz.small import small_suite
from tests.fuzz.trials import Trials


@pytest.mark.parametrize(
    ("trial", "examples"),
    [("suite as bytes", 60), ("suite", 60), ("override", 20), ("plan", 12), ("record as bytes", 80), ("record", 80),
     ("report", 4), ("arrays", 8), ("site", 8), ("submission", 12), ("trend", 6)],
)  # fmt: skip
def test_whatever_is_read_is_used_or_refused(trial: str, examples: int, tmp_path: Path) -> None:
    assert list(Trials(tmp_path, small_suite(tmp_path)).run(examples, seed=7, only=trial)) == []
