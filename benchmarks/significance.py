"""How often tables call an equal method worse or miss a better one, and how intervals cover: by simulation.

    python benchmarks/significance.py            the whole grid, some ten minutes on one core
    python benchmarks/significance.py --quick    a part of it in half a minute

Each line is a noise model. "before" is the procedure that the tables used until the marks became a model confidence
set: a paired bootstrap over sequences against the method with the lowest mean, a paired t-test over seeds, and
Benjamini-Hochberg. "wrong" is the share of tables in which a method as good as the best is called worse; "found" the
share of the worse methods that are called so. The gate is measured on the records of results/reference/budget:
every cell with two of its seeds as BASE and the third as HEAD, as it is and with all losses raised.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.records.store import read_records
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.matching import without_seed
from prunebench.report.compare.verdict import Verdict
from prunebench.report.grouping import group_by
from prunebench.report.intervals import difference, mean_losses
from prunebench.report.significance import best

Losses = dict[str, dict[int, np.ndarray]]
SEEDS = Path(__file__).parents[1] / "results" / "reference" / "budget"


@dataclass(frozen=True)
class Model:
    """A noise model: losses in nats per token, of which the best have a mean of 1.3.

    Args:
        methods, seeds, sequences: the size of the table.
        spread: standard deviation between seeds; one value, or one for each method in turn.
        own: standard deviation over sequences that a method has with every seed.
        rest: standard deviation over sequences that a single run has.
        correlation: of neighbouring sequences.
        best: number of methods with the lowest mean; None: all.
        lead: by how much the others are worse.
        tail: "normal", "t3" (heavy tails) or "skewed" (exponential) noise, over seeds and sequences.
    """

    methods: int = 8
    seeds: int = 3
    sequences: int = 141
    spread: tuple[float, ...] = (0.03,)
    own: float = 0.1
    rest: float = 0.0
    correlation: float = 0.0
    best: int | None = None
    lead: float = 0.0
    tail: str = "normal"

    def draw(self, rng: np.random.Generator) -> Losses:
        """The losses of one table."""
        spread = np.resize(self.spread, self.methods)[:, None, None]
        worse = np.arange(self.methods) >= (self.methods if self.best is None else self.best)
        losses = 1.3 + self.lead * worse[:, None, None] + spread * self._noise(rng, (self.methods, self.seeds, 1))
        losses = losses + rng.normal(0, 0.5, self.sequences)
        losses = losses + self.own * self.text(rng, (self.methods, 1))
        losses = losses + (self.rest * self.text(rng, (self.methods, self.seeds)) if self.rest else 0.0)
        return {str(m): {s: losses[m, s] for s in range(self.seeds)} for m in range(self.methods)}

    def _noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if self.tail == "t3":
            return rng.standard_t(3, shape) / math.sqrt(3)
        return rng.exponential(1, shape) - 1 if self.tail == "skewed" else rng.standard_normal(shape)

    def text(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Noise of variance 1 over sequences, (*shape, sequences)."""
        noise = self._noise(rng, (*shape, self.sequences + 50))
        for i in range(1, noise.shape[-1] if self.correlation else 0):
            noise[..., i] = self.correlation * noise[..., i - 1] + math.sqrt(1 - self.correlation**2) * noise[..., i]
        return noise[..., 50:]


@dataclass
class Rates:
    """Counts over simulated tables."""

    tables: int = 0
    wrong: int = 0
    found: int = 0
    worse: int = 0

    def add(self, called_worse: Sequence[bool], best_count: int) -> None:
        """Count one table, the best methods first."""
        self.tables += 1
        self.wrong += any(called_worse[:best_count])
        self.found += sum(called_worse[best_count:])
        self.worse += len(called_worse) - best_count

    @property
    def error(self) -> float:
        """Share of tables with an equal method called worse."""
        return self.wrong / self.tables

    @property
    def power(self) -> float:
        """Share of worse methods called worse."""
        return self.found / self.worse if self.worse else math.nan


def rates(model: Model, procedure: Callable[[Losses], list[bool]], tables: int, seed: int = 0) -> Rates:
    """Simulate tables and count what a procedure says of them."""
    rng, counted = np.random.default_rng(seed), Rates()
    for _ in range(tables):
        counted.add(procedure(model.draw(rng)), model.methods if model.best is None else model.best)
    return counted


def after(losses: Losses) -> list[bool]:
    """Which methods the present procedure calls worse."""
    return [mark == "worse" for mark in best(losses).values()]


@cache
def _resamples(units: int) -> np.ndarray:
    return np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=1999) / units


def before(losses: Losses) -> list[bool]:
    """Which methods the earlier procedure called worse."""
    stacks = [np.stack(list(seeds.values())) for seeds in losses.values()]
    means = [float(stack.mean()) for stack in stacks]
    lowest = int(np.argmin(means))
    p_values = []
    for stack in stacks:
        differences = stack - stacks[lowest]
        per_sequence, n = differences.mean(axis=0), differences.shape[1]
        drawn = _resamples(n) @ per_sequence
        beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        spread = float(drawn.std())
        p = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
        if not beyond and spread:
            p = min(p, 2 * float(stats.norm.sf(abs(drawn.mean()) / spread)))
        tail = 2 * float(stats.t.sf(abs(drawn.mean()) / (spread * math.sqrt(n / (n - 1))), n - 1)) if spread else 0.0
        by_seed = differences.mean(axis=1)
        error = float(by_seed.std(ddof=1)) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else 0.0
        over_seeds = 2 * float(stats.t.sf(abs(by_seed.mean()) / error, len(by_seed) - 1)) if error > 1e-15 else 0.0
        p_values.append(max(p, 2.0 ** (1 - n), tail, over_seeds))
    others = [index for index in range(len(stacks)) if index != lowest]
    adjusted = stats.false_discovery_control([p_values[index] for index in others])
    called = dict(zip(others, adjusted, strict=True))
    return [called.get(index, 1.0) <= 0.05 for index in range(len(stacks))]


def grid(*, quick: bool) -> list[tuple[str, Model]]:
    """The noise models, with their names."""
    sizes = [(2, 2), (8, 3), (16, 5)] if quick else [(k, s) for k in (2, 3, 4, 7, 8, 12, 16) for s in (2, 3, 5)]
    found = [
        (f"all equal, {k} methods, {s} seeds, spread {100 * spread:g} %", Model(k, s, spread=(spread,)))
        for k, s in sizes
        for spread in ((0.03,) if quick else (0.0, 0.01, 0.1))
    ]
    found += [
        (f"all equal, {n} sequences, autocorrelation {c}", Model(8, 3, n, (spread,), correlation=c))
        for n in ((20, 141) if quick else (5, 10, 20, 141, 1000))
        for c in ((0.6,) if quick else (0.0, 0.3, 0.6))
        for spread in ((0.0,) if quick else (0.0, 0.01))
    ]
    lead = 0.09  # three standard deviations between seeds
    found += [
        ("one leads by 3 spreads", Model(own=0.03, best=1, lead=lead)),
        ("half lead by 3 spreads", Model(own=0.03, best=4, lead=lead)),
        ("one leads by 1.5 spreads", Model(own=0.03, best=1, lead=lead / 2)),
        ("one leads by 3 spreads, noise of every run", Model(own=0.03, rest=0.05, best=1, lead=lead)),
    ]
    if not quick:
        found += [
            ("all but one lead by 3 spreads", Model(own=0.03, best=7, lead=lead)),
            ("two lead by 2 spreads", Model(own=0.03, best=2, lead=0.06)),
            ("heavy tails", Model(tail="t3")),
            ("heavy tails, 20 sequences, no spread", Model(sequences=20, spread=(0.0,), tail="t3")),
            ("skewed", Model(tail="skewed")),
            ("skewed, 20 sequences, no spread", Model(sequences=20, spread=(0.0,), tail="skewed")),
            ("seed and sequence interact", Model(rest=0.2)),
            ("spreads of 1 % and 3 %", Model(spread=(0.01, 0.03))),
            ("spreads of 1 % to 10 %, 5 seeds", Model(seeds=5, spread=(0.01, 0.1, 0.03, 0.05))),
            ("one spread of 10 %, others 1 %", Model(spread=(0.1, *[0.01] * 7))),
            ("2 methods, 2 seeds, spreads of 1 % and 10 %", Model(2, 2, spread=(0.01, 0.1))),
        ]
    return found


def coverage(sequences: int, tail: str, correlation: float, tables: int) -> tuple[float, float]:
    """Shares of 95 % intervals of the difference of two equal runs that hold 0: percentile bootstrap, present.

    The difference of two runs has the noise of one, so that it is skewed if the noise is.
    """
    model = Model(1, 1, sequences, (0.0,), correlation=correlation, tail=tail)
    rng, held = np.random.default_rng(0), [0, 0]
    for _ in range(tables):
        gap = model.own * model.text(rng, (1,))[0]
        low, high = np.quantile(_resamples(len(gap)) @ gap, [0.025, 0.975])
        held[0] += low <= 0 <= high
        found = difference({0: np.zeros(len(gap))}, {0: gap})
        held[1] += found.low <= 0 <= found.high
    return held[0] / tables, held[1] / tables


def mean_coverage(model: Model, tables: int, seed: int = 0) -> float:
    """Share of the 95 % intervals of mean losses over seeds and sequences that hold the true mean."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(tables):
        held += sum(found.low <= 1.3 <= found.high for found in mean_losses(list(model.draw(rng).values())))
    return held / tables / model.methods


class Raised(ArrayStore):
    """Arrays with every token's loss raised."""

    def __init__(self, folder: Path, nats: float) -> None:
        super().__init__(folder)
        self._nats = nats

    def read(self, record: Record) -> Mapping[str, np.ndarray]:
        arrays = dict(super().read(record))
        for name in [name for name in arrays if name.endswith("/losses")]:
            arrays[name] = arrays[name] + self._nats * arrays[name.removesuffix("losses") + "counts"]
        return arrays


def raised(record: Record, nats: float) -> Record:
    """The record with its perplexities raised likewise."""
    facts = {
        name: part.model_copy(update={"value": part.value * math.exp(nats)}) for name, part in record.perplexity.items()
    }
    return record.model_copy(update={"perplexity": facts})


def gate(worse: float) -> dict[Verdict, int]:
    """Verdicts on real seeds: two seeds of every cell as BASE, the third as HEAD, its perplexity raised."""
    nats, counts = math.log1p(worse), dict.fromkeys(Verdict, 0)
    stores = ArrayStore(SEEDS), Raised(SEEDS, nats)
    cells = group_by([r for r in read_records(SEEDS) if r.status == "ok" and r.cell.sparsity != "0"], without_seed)
    for records in cells.values():
        for head in records if len(records) > 2 else []:
            sides = [record for record in records if record is not head], [raised(head, nats)]
            for cell in compare_records(*sides, *stores).cells:
                for measure in cell.measures:
                    if (measure.name, measure.of) == ("perplexity", "tinyworld/stream-128"):
                        counts[measure.verdict] += 1
    return counts


def gate_before(worse: float) -> tuple[int, int]:
    """Alarms of the earlier gate, which would hold one seed against another as if it were the same: (alarms, pairs)."""
    alarms, pairs = 0, 0
    store = ArrayStore(SEEDS)
    cells = group_by([r for r in read_records(SEEDS) if r.status == "ok" and r.cell.sparsity != "0"], without_seed)
    for records in cells.values():
        for base in records:
            for head in records:
                if base is head:
                    continue
                old, new = (next(iter(part.perplexity.items())) for part in (base, head))
                change = new[1].value * (1 + worse) / old[1].value - 1
                tolerance = 0.03 if base.method is not None and base.method.changes == "all" else 0.01
                name = f"perplexity/{old[0]}/"
                arrays = store.read(base), store.read(head)
                counts = arrays[0][name + "counts"]
                gap = (arrays[1][name + "losses"] - arrays[0][name + "losses"]) + math.log1p(worse) * counts
                drawn = _resamples(len(gap)) @ (gap / counts)
                significant = abs(drawn.mean()) > 1.96 * drawn.std()
                alarms += bool(significant and change > tolerance)
                pairs += 1
    return alarms, pairs


def tell(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", type=int, help="simulated tables for each line")
    given = parser.parse_args()
    tables = given.tables or (40 if given.quick else 500)
    tell(f"{tables} tables a line: a rate of 5 % has a Monte Carlo error of ±{196 * math.sqrt(0.0475 / tables):.1f} %")
    tell(f"{'percent':52} wrong: before  after   found: before  after")
    for name, model in grid(quick=given.quick):
        old, new = rates(model, before, tables), rates(model, after, tables)
        found = f"{100 * old.power:13.1f} {100 * new.power:6.1f}" if new.worse else ""
        tell(f"{name:52} {100 * old.error:13.1f} {100 * new.error:6.1f}  {found}")
    tell(f"\n{'95 % intervals of a difference hold the truth':52}        before  after")
    for n in (5, 20) if given.quick else (5, 20, 141):
        for tail in ("normal", "skewed"):
            for correlation in (0.0, 0.3, 0.6):
                shares = coverage(n, tail, correlation, 5 * tables)
                name = f"{n} sequences, {tail}, autocorrelation {correlation}"
                tell(f"{name:52} {100 * shares[0]:13.1f} {100 * shares[1]:6.1f}")
    share = mean_coverage(Model(), tables)
    tell(f"{'mean losses of 8 methods with 3 seeds':52} {'':13} {100 * share:6.1f}")
    tell("\nThe gate, with real seeds of budget")
    for worse in (0.0, 0.02, 0.1, 0.3):
        alarms, pairs = gate_before(worse)
        counts = ", ".join(f"{count} {verdict.value}" for verdict, count in gate(worse).items() if count)
        tell(f"{100 * worse:3.0f} % worse: before {alarms} regressions of {pairs} pairs; now {counts}")
    table, started = Model(16, 5, 1000).draw(np.random.default_rng(0)), time.perf_counter()
    best(table)
    tell(f"\n16 methods × 5 seeds × 1000 sequences: {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
