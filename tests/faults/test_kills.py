"""A short form of the campaign: killed a few times, a sweep comes to the same records."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.faults import campaign
from tests.helpers.observers import SilentDisplay

METHODS = """methods:
  - {name: sparsegpt, sparsities: [0.5]}
  - {name: elsa-l, options: {steps: 400, interval: 4, lr: 0.01}, sparsities: [0.5]}
"""


@pytest.mark.slow
def test_killed_at_random_nothing_is_lost_and_nothing_different(
    write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    suite, kills = write_suite(methods=METHODS), Counter[str]()
    run_suite(plan(load_suite(suite)), tmp_path / "whole", SilentDisplay())
    done = campaign.interrupted(suite, tmp_path / "killed", random.Random(1), 4, budget=2, kills=kills)
    assert done == kills.total() >= 1
    whole, killed = campaign.outcome(tmp_path / "whole"), campaign.outcome(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert not [part for cell in whole for part in campaign.differing(whole[cell], killed[cell])]
    assert not list((tmp_path / "killed").glob(".*"))
