"""Sweeps of all methods, killed at random moments and resumed: `python -m tests.faults.campaign --kills 200`.

A sweep is run once without interruption. Then it is run again and again in a fresh folder, each time killed (`kill -9`:
the runner, one of its workers, or all) until it comes to its end, and its records are held against the first's. The
moments are drawn so that most fall into cells and not into the start of the program, and by what the first sweep took,
so that a slow or busy machine gets on as well.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from prunebench.records.record import Record
from prunebench.records.store import read_arrays, read_record

SUITE = """
name: campaign
models: [builtin/tinyworld-llama-300k]
calibration: {corpus: builtin/tinyworld, nsamples: 64, seqlen: 128}
sparsities: [0.8]
methods:
  - dense
  - magnitude
  - wanda
  - sparsegpt
  - admm
  - alps
  - {name: elsa, options: {steps: 48, interval: 4, batch_size: 4, lr: 0.01}}
  - {name: elsa, label: elsa-two-state, options: {steps: 48, interval: 4, batch_size: 4, lr: 0.01, layout: two-state}}
  - {name: elsa-l, options: {steps: 48, interval: 4, batch_size: 4, lr: 0.01}}
evaluations:
  - {name: perplexity, corpus: builtin/tinyworld, seqlen: 128}
  - {name: zero_shot, tasks: [tinyworld_agreement, tinyworld_recall], limit: 100}
"""
WHOM = ("runner", "worker", "both")


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions: of each record all but costs, environment and digests; its arrays."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        record: Record = read_record(path)
        content = record.model_dump(mode="json", exclude={"cost", "environment", "measured"}, by_alias=True)
        for digest in ("digest", "arrays"):
            content.pop(digest, None)
        for stage in content["effort"]:
            del stage["seconds"]
        found[record.cell.id] = {
            **content,
            "weights_digest": record.environment.get("weights_digest"),
            "tokens_seen": record.cost.tokens_seen,
            "arrays": {name: array.tolist() for name, array in read_arrays(path).items()},
        }
    return found


def start(suite: Path, output: Path, workers: int = 1) -> subprocess.Popen[str]:
    """A sweep that keeps its state twice a second."""
    code = "from prunebench.cli.app import main; main()"
    words = [sys.executable, "-c", code, "run", str(suite), "-o", str(output), "--checkpoint-every", "0.5", "--json"]
    words += ["--workers", str(workers)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PRUNEBENCH_IN_PROCESS": ""}
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)


def kill(process: subprocess.Popen[str], whom: str, dice: random.Random) -> bool:
    """Kill it; whether there was something to kill."""
    workers = []
    try:
        workers = psutil.Process(process.pid).children()
        if whom != "worker":
            process.kill()
        struck = workers if whom == "both" else dice.sample(workers, min(1, len(workers)))
        for worker in struck if whom != "runner" else ():
            os.killpg(worker.pid, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        return False
    if whom == "runner":
        psutil.wait_procs(workers, timeout=30)
    return whom != "worker" or bool(workers)


def struck(
    said: Iterable[str],
    process: subprocess.Popen[str],
    dice: random.Random,
    patience: float,
    budget: int,
    kills: Counter[str],
) -> int:
    """Kill a sweep within ``patience`` seconds, its worker perhaps several times; how many kills there were."""
    done = 0
    while done < budget and dice.random() > 0.05:
        into_a_cell = dice.random() < 0.9
        if into_a_cell and not any(line.rstrip().endswith("…") for line in said):
            return done  # no cell began any more
        time.sleep(dice.uniform(0, patience))
        whom = dice.choice(WHOM)
        if process.poll() is not None or not kill(process, whom, dice):
            return done
        done += 1
        kills[whom] += 1
        if whom != "worker":
            return done
    return done


def _heard(process: subprocess.Popen[str], heard: list[str]) -> Iterator[str]:
    assert process.stderr is not None
    for line in process.stderr:
        heard.append(line)
        yield line


def interrupted(
    suite: Path,
    output: Path,
    dice: random.Random,
    patience: float,
    budget: int,
    kills: Counter[str],
    workers: int = 1,
) -> int:
    """Run a sweep to its end with kills on the way, at most ``budget``; how many there were."""
    done = 0
    for _ in range(10_000):
        process = start(suite, output, workers)
        heard: list[str] = []
        said = _heard(process, heard)
        done += struck(said, process, dice, patience, budget - done, kills)
        for _ in said:
            pass
        code = process.wait()
        if code == 0:
            return done
        if code == 2:
            raise SystemExit(f"the sweep refused to go on: {''.join(heard)}")
    raise SystemExit("the sweep never came to its end")


def differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The parts of one cell's outcome that differ, NaN being equal to NaN."""
    return [
        part
        for part in sorted({*mine, *theirs})
        if json.dumps(mine.get(part), sort_keys=True) != json.dumps(theirs.get(part), sort_keys=True)
    ]


def main() -> int:
    """Run the campaign and say what was found; 1 where anything was lost or is different."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="of the sweeps that are killed")
    parser.add_argument("--suite", type=Path, help="in place of the campaign's own")
    args = parser.parse_args()
    dice, kills = random.Random(args.seed), Counter[str]()
    lost = different = sweeps = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = args.suite or folder / "suite.yaml"
        if args.suite is None:
            suite.write_text(SUITE)
        started = time.monotonic()
        process = start(suite, folder / "whole")
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"the uninterrupted sweep failed: {said}")
        expected = outcome(folder / "whole")
        patience = 1.5 * (time.monotonic() - started) / len(expected)  # so that a kill may fall into the cell after
        while kills.total() < args.kills:
            output = folder / f"sweep-{sweeps}"
            interrupted(suite, output, dice, patience, args.kills - kills.total(), kills, args.workers)
            found = outcome(output)
            lost += len(expected.keys() - found.keys())
            for cell in expected.keys() & found.keys():
                if parts := differing(expected[cell], found[cell]):
                    different += 1
                    sys.stdout.write(f"{cell}: {', '.join(parts)}\n")
            if left := [path.name for path in output.glob(".*")]:
                sys.stdout.write(f"left behind: {', '.join(left)}\n")
            sweeps += 1
            sys.stdout.write(
                f"{time.monotonic() - began:.0f} s: {sweeps} sweeps of {len(expected)} cells, {kills.total()} kills "
                f"({', '.join(f'{whom} {count}' for whom, count in sorted(kills.items()))}), "
                f"{lost} lost, {different} different\n"
            )
            sys.stdout.flush()
    return int(bool(lost or different))


if __name__ == "__main__":
    sys.exit(main())
