"""How often `prunebench trend` finds a step of 3 %, and tells one that is not there: the table of docs/ci.md.

    python benchmarks/trend_steps.py [--histories 1000]

Histories of 50 commits are made up; in each, the perplexity rises at a commit drawn from the 6th to the 46th.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.report.test_trend import COMMITS, STEP, history, places

CASES = ((0.005, 3), (0.01, 3), (0.012, 3), (0.005, 1), (0.008, 1))
"""Noise of one run (of the logarithm), and seeds."""


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=1000, help="of each case")
    trials = parser.parse_args().histories
    for noise, seeds in CASES:
        rng, near, exact, false = np.random.default_rng(11), 0, 0, 0
        for _ in range(trials):
            at = int(rng.integers(5, COMMITS - 4))
            found = places(history(rng, at, STEP, noise, seeds))
            near += any(abs(place - at) <= 1 for place in found)
            exact += at in found
            false += bool(places(history(rng, 0, 0.0, noise, seeds)))
        last = sum(COMMITS - 1 in places(history(rng, COMMITS - 1, STEP, noise, seeds)) for _ in range(trials))
        shares = {"within one commit": near, "at the very commit": exact, "at the last commit": last}
        told = ", ".join(f"{where} {found / trials:.1%}" for where, found in shares.items())
        sys.stdout.write(f"noise {noise:.1%}, seeds {seeds}: {told}; without a step {false} of {trials}\n")


if __name__ == "__main__":
    main()
