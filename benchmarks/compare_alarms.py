"""How often `prunebench compare` cries wolf, and whether it hears one: pairs of runs that differ by their seed alone.

    python benchmarks/compare_alarms.py                      wanda on the smallest embedded model, 12 seeds
    python benchmarks/compare_alarms.py --method sparsegpt --sparsities 0.5 --worse 1.5%

Every seed is run once. In each of 100 pairs one seed's record is held against another's as if it were the same cell: a
regression is a false alarm. Then the same pairs are compared with the second side's losses raised so that its
perplexity is 2 % worse: what is not called a regression is missed. A gate in CI compares equal seeds, whose difference
holds no such noise; these are the harder pairs.
"""

import argparse
import itertools
import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Verdict
from prunebench.runner.progress import display_for
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

SUITE = """
name: alarms
models: [builtin/{model}]
calibration: {{corpus: builtin/tinyworld, nsamples: 64, seqlen: 128}}
sparsities: [{sparsities}]
seeds: [{seeds}]
methods: [{method}]
evaluations: [{{name: perplexity, corpus: builtin/tinyworld, seqlen: 128}}]
"""


class Worsened(ArrayStore):
    """Evidence with every token's loss raised by log(1 + worse)."""

    def __init__(self, folder: Path, worse: float) -> None:
        super().__init__(folder)
        self._rise = math.log1p(worse)

    def read(self, record: Record) -> Mapping[str, np.ndarray]:
        arrays = dict(super().read(record))
        for name in [name for name in arrays if name.endswith("/losses")]:
            arrays[name] = arrays[name] + self._rise * arrays[name.removesuffix("losses") + "counts"]
        return arrays


def as_seed(record: Record, seed: int, worse: float = 0.0) -> Record:
    """The record as if it were of another seed, its perplexity higher by a fraction; its evidence stays its own."""
    model, method, sparsity, allocation, _, corpus = record.cell.key
    key = (model, method, sparsity, allocation, seed, corpus)
    perplexity = {
        name: facts.model_copy(update={"value": facts.value * (1 + worse)}) for name, facts in record.perplexity.items()
    }
    cell = record.cell.model_copy(update={"seed": seed, "key": key})
    return record.model_copy(update={"cell": cell, "perplexity": perplexity})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tinyworld-llama-300k")
    parser.add_argument("--method", default="wanda")
    parser.add_argument("--sparsities", default="0.5, 0.7")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--worse", default="2%")
    parser.add_argument("--output", type=Path, help="keep the records here, and use those that are there")
    given = parser.parse_args()
    worse = float(given.worse.removesuffix("%")) / 100
    with TemporaryDirectory() as temporary:
        suite = Path(temporary) / "alarms.yaml"
        seeds = ", ".join(map(str, range(given.seeds)))
        suite.write_text(SUITE.format(**vars(given) | {"seeds": seeds}))
        output = given.output or Path(temporary) / "records"
        with display_for(sys.stderr) as display:
            records = run_suite(plan(load_suite(suite)), output, display)
        pairs = list(itertools.permutations(range(given.seeds), 2))
        random.Random(0).shuffle(pairs)
        for sparsity in dict.fromkeys(record.cell.sparsity for record in records):
            of = {record.cell.seed: record for record in records if record.cell.sparsity == sparsity}
            values = [math.log(next(iter(record.perplexity.values())).value) for record in of.values()]
            alarms, heard = 0, 0
            for base, head in pairs[: given.pairs]:
                sides = [of[base]], [as_seed(of[head], base)]
                alarms += compare_records(*sides, ArrayStore(output), ArrayStore(output)).count(Verdict.REGRESSION)
                worsened = [of[base]], [as_seed(of[head], base, worse)]
                found = compare_records(*worsened, ArrayStore(output), Worsened(output, worse))
                heard += found.count(Verdict.REGRESSION)
            same = [([record], [as_seed(record, seed, worse)]) for seed, record in of.items()]
            caught = sum(
                compare_records(*sides, ArrayStore(output), Worsened(output, worse)).count(Verdict.REGRESSION)
                for sides in same
            )
            print(  # noqa: T201
                f"{given.method} {sparsity}: seeds spread by {100 * np.std(values, ddof=1):.2f} %; false alarms "
                f"{alarms} of {len(pairs[: given.pairs])}; {given.worse} worse and another seed: {heard} of "
                f"{len(pairs[: given.pairs])} caught; {given.worse} worse and the same seed: {caught} of {len(same)}"
            )


if __name__ == "__main__":
    main()
