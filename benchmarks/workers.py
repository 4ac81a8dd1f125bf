"""What several workers are worth: one sweep by one worker and by several, a thread each, and whether they agree.

    python benchmarks/workers.py [--suite suites/extreme.yaml] [--workers 2] [--only wanda ...]

By default the one-shot cells of ``suites/extreme.yaml``. Both sweeps are whole commands, from their start to their
tables, one after the other; the load of the machine is printed before each. Records are compared in every key but
costs, environment and digests (of the weights they are compared).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ONE_SHOT = ("dense", "magnitude", "wanda", "sparsegpt", "admm", "alps")


def sweep(suite: Path, output: Path, workers: int, only: list[str]) -> float:
    """Seconds that a command takes."""
    words = [sys.executable, "-m", "prunebench", "run", str(suite), "-o", str(output), "--workers", str(workers)]
    for method in only:
        words += ["--only", method]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    began = time.perf_counter()
    subprocess.run(
        [*words, "--json"], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    took = time.perf_counter() - began
    sys.stdout.write(f"{workers} worker{'s' if workers > 1 else ''}: {took:.1f} s (load before: {load})\n")
    sys.stdout.flush()
    return took


def main() -> int:
    """Run both; 1 where records differ."""
    sys.path.insert(0, str(ROOT))
    from tests.faults.campaign import differing, outcome

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "extreme.yaml")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=list(ONE_SHOT))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        one, several = Path(name) / "one", Path(name) / "several"
        seconds = [sweep(args.suite, one, 1, args.only), sweep(args.suite, several, args.workers, args.only)]
        here, there = outcome(one), outcome(several)
    different = [cell for cell in {*here, *there} if differing(here.get(cell, {}), there.get(cell, {}))]
    sys.stdout.write(f"{seconds[1] / seconds[0]:.2f} of the time; {len(here)} cells, {len(different)} different\n")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
