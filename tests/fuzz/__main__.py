"""The long form: ``python -m tests.fuzz --examples 10000 [--seed 0] [--only suite]``; exit code 1 where it finds."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.small import small_suite
from tests.fuzz.trials import Trials


def main() -> int:
    """Run trials and say what went wrong."""
    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    words.add_argument("--examples", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", help="one kind of trial")
    asked = words.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = 0
        for finding in Trials(Path(folder), small_suite(Path(folder))).run(asked.examples, asked.seed, asked.only):
            found += 1
            sys.stdout.write(f"{finding.trial} {asked.seed}/{finding.seed}: {finding.how}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{asked.examples} examples, {found} findings, {time.monotonic() - began:.0f} s\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
