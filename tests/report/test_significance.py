"""Differences and noise: against textbook formulas, and under no difference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.report.significance import (
    MAX_UNITS,
    PairedBootstrap,
    accuracy_change,
    benjamini_hochberg,
    best_and_ties,
    mean_accuracy_change,
    over_seeds,
)

COUNTS = np.random.default_rng(0).integers(20, 200, size=300)


def losses(seed: int = 1, nll: float = 1.0, noise: float = 0.1, counts: np.ndarray = COUNTS) -> np.ndarray:
    """Summed losses with a spread between sequences that all models share, and noise of this model's own."""
    hardness = np.random.default_rng(99).normal(0, 0.5, len(counts))
    return counts * (nll + hardness + np.random.default_rng(seed).normal(0, noise, len(counts)))


class TestSeeds:
    def test_students_interval(self) -> None:
        found = over_seeds([10.0, 12.0, 14.0])
        assert (found.n, found.mean, found.spread) == (3, 12.0, 2.0)
        half = 4.302652729911275 * 2 / math.sqrt(3)  # t of 2 degrees of freedom at 97.5 %
        assert (found.low, found.high) == pytest.approx((12 - half, 12 + half))

    def test_one_seed_has_no_spread(self) -> None:
        found = over_seeds([3.0])
        assert (found.n, found.mean) == (1, 3.0)
        assert math.isnan(found.spread)
        assert math.isnan(found.low)

    def test_what_is_not_finite_has_no_interval(self) -> None:
        found = over_seeds([3.0, math.inf])
        assert found.mean == math.inf
        assert math.isnan(found.high)


class TestPerplexity:
    def test_the_ratio_is_that_of_the_perplexities(self) -> None:
        a, b = losses(1), losses(2, nll=1.02)
        found = PairedBootstrap(COUNTS).ratio(a, b)
        assert found.value == pytest.approx(math.exp((b.sum() - a.sum()) / COUNTS.sum()))
        assert found.low < found.value < found.high

    def test_the_interval_is_that_of_the_ratio_estimator(self) -> None:
        a, b = losses(1), losses(2, nll=1.02)
        d, n, tokens = b - a, len(COUNTS), COUNTS.sum()
        error = math.sqrt(n / (n - 1) * np.square(d - d.sum() / tokens * COUNTS).sum()) / tokens
        found = PairedBootstrap(COUNTS).ratio(a, b)
        assert math.log(found.high / found.low) == pytest.approx(2 * 1.96 * error, rel=0.05)

    def test_pairing_sees_what_the_spread_between_sequences_would_hide(self) -> None:
        base, worse = losses(1, noise=0.01), losses(2, nll=1.02, noise=0.01)
        unpaired = losses(1).std() / COUNTS.mean() / math.sqrt(len(COUNTS))
        assert unpaired > 0.02  # a difference of 2 % is less than one standard error of either
        assert PairedBootstrap(COUNTS).ratio(base, worse).p < 0.001

    def test_no_difference(self) -> None:
        found = PairedBootstrap(COUNTS).ratio(losses(), losses())
        assert (found.value, found.low, found.high, found.p) == (1, 1, 1, 1)

    def test_swapping_the_sides_inverts_the_ratio(self) -> None:
        boot = PairedBootstrap(COUNTS)
        there, back = boot.ratio(losses(1), losses(2)), boot.ratio(losses(2), losses(1))
        assert there.value * back.value == pytest.approx(1)
        assert there.low * back.high == pytest.approx(1)
        assert there.p == back.p

    def test_the_same_draws_every_time(self) -> None:
        first, second = (PairedBootstrap(COUNTS, seed=3).ratio(losses(1), losses(2)) for _ in range(2))
        assert first == second

    def test_false_alarms_are_as_rare_as_stated(self) -> None:
        boot = PairedBootstrap(COUNTS, resamples=1999)
        alarms = sum(boot.ratio(losses(2 * i), losses(2 * i + 1)).p <= 0.05 for i in range(400))
        assert 400 * 0.02 < alarms < 400 * 0.09

    def test_many_sequences_are_drawn_in_groups(self) -> None:
        counts = np.random.default_rng(5).integers(1, 50, size=3 * MAX_UNITS + 7)
        a, b = losses(1, counts=counts), losses(2, nll=1.05, counts=counts)
        found = PairedBootstrap(counts, resamples=999).ratio(a, b)
        assert found.value == pytest.approx(math.exp((b - a).sum() / counts.sum()))
        assert found.p < 1e-6

    def test_one_difference_among_a_thousand_tests_is_found(self) -> None:
        """The count of resamples alone would stop at 2 / 10,000, which adjusted for 1000 tests is 0.2."""
        p = PairedBootstrap(COUNTS).ratio(losses(1, noise=0.02), losses(2, nll=1.02, noise=0.02)).p
        assert benjamini_hochberg([p, *np.linspace(0.01, 1, 999)])[0] < 0.001
        assert p == pytest.approx(0, abs=1e-6)

    def test_every_sequence_worse_by_the_same_is_a_difference(self) -> None:
        assert PairedBootstrap(COUNTS).ratio(losses(1), losses(1) + 0.01 * COUNTS).p < 0.001

    def test_a_difference_must_stand_out_among_the_seeds_too(self) -> None:
        base = np.stack([losses(noise=0)] * 3)
        erratic = np.stack([losses(nll=nll, noise=0) for nll in (0.8, 1.1, 1.2)])
        steady = np.stack([losses(nll=nll, noise=0) for nll in (1.03, 1.031, 1.032)])
        boot = PairedBootstrap(COUNTS)
        assert boot.ratio(base[0], erratic.mean(axis=0)).p < 0.01
        assert boot.ratio(base, erratic).p > 0.3
        assert boot.ratio(base, steady).p < 0.01
        assert boot.ratio(base[0], steady) == boot.ratio(base, steady)

    def test_a_broken_model_is_worse(self) -> None:
        broken = losses()
        broken[3] = math.nan
        boot = PairedBootstrap(COUNTS)
        assert (boot.ratio(losses(), broken).value, boot.ratio(losses(), broken).p) == (math.inf, 0)
        assert (boot.ratio(broken, losses()).value, boot.ratio(broken, losses()).p) == (0, 0)
        assert boot.ratio(broken, broken).p == 1
        assert math.isnan(boot.ratio(broken, broken).value)

    def test_what_is_not_paired_is_refused(self) -> None:
        boot = PairedBootstrap(COUNTS)
        with pytest.raises(ValueError, match="not paired"):
            boot.ratio(losses(), losses()[1:])
        with pytest.raises(ValueError, match="losses for"):
            boot.ratio(losses()[1:], losses()[1:])
        with pytest.raises(ValueError, match="not paired"):
            boot.ratio(np.stack([losses()] * 2), np.stack([losses()] * 3))


def mcnemar(lost: int, won: int) -> float:
    """Two-sided: twice the smaller tail of Binomial(lost + won, 1/2)."""
    n = lost + won
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1)) / 2**n
    return min(1.0, 2 * tail)


class TestAccuracy:
    @given(st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]), min_size=2, max_size=60))
    def test_mcnemar(self, answers: list[tuple[int, int]]) -> None:
        base, other = (np.array(side, dtype=float) for side in zip(*answers, strict=True))
        found = accuracy_change(base, other)
        assert found.value == pytest.approx(other.mean() - base.mean())
        assert found.p == pytest.approx(mcnemar(answers.count((1, 0)), answers.count((0, 1))))
        assert found.low <= found.value <= found.high

    def test_seeds(self) -> None:
        base = np.zeros((3, 100))
        steady, erratic = base.copy(), base.copy()
        steady[:, :20] = 1
        erratic[0, :60] = 1
        assert accuracy_change(base, steady).p == pytest.approx(mcnemar(0, 20))
        assert accuracy_change(base, erratic).p > 0.3
        assert accuracy_change(base[0], erratic[0]).p < 1e-9

    def test_other_questions_are_refused(self) -> None:
        with pytest.raises(ValueError, match="not paired"):
            accuracy_change(np.zeros(3), np.zeros(4))


class TestTable:
    @given(st.lists(st.floats(0, 1), max_size=20))
    def test_the_step_up_procedure(self, p_values: list[float]) -> None:
        """Reject the k smallest, k the largest with p(k) ≤ k/m · q."""
        adjusted, m = benjamini_hochberg(p_values), len(p_values)
        for q in (0.01, 0.05, 0.2):
            ranks = [k for k, p in enumerate(sorted(p_values), start=1) if p <= k / m * q * (1 + 1e-9)]
            limit = sorted(p_values)[ranks[-1] - 1] if ranks else -1.0
            for p, shown in zip(p_values, adjusted, strict=True):
                if abs(shown - q) > 1e-9:
                    assert (shown <= q) == (p <= limit)

    def test_the_best_and_its_ties_are_marked(self) -> None:
        p = {(0, 1): 0.5, (0, 2): 0.001, (1, 2): 1e-9}
        columns = [[5.0, 5.1, 9.0], [math.nan, 7.0, 3.0], [math.nan, math.nan, 2.0]]
        marked = best_and_ties(columns, lambda column, best, other: p[min(best, other), max(best, other)])
        assert marked == [{0, 1}, {2}, set()]

    def test_the_highest_may_be_best_and_what_is_broken_never_is(self) -> None:
        assert best_and_ties([[0.4, 0.8]], lambda *_: 0.0, higher=True) == [{1}]
        assert best_and_ties([[math.inf, 8.0]], lambda *_: 1.0) == [{1}]
        assert best_and_ties([[math.inf, math.inf]], lambda *_: 1.0) == [set()]
        assert best_and_ties([], lambda *_: 1.0) == []

    def test_a_large_table_of_equals_marks_all_of_them(self) -> None:
        """Without the adjustment nearly every table of 140 tests would call some entry worse."""
        rng = np.random.default_rng(0)
        columns = [[10.0] * 8 for _ in range(20)]
        tables = [best_and_ties(columns, lambda *_: float(rng.uniform())) for _ in range(100)]
        assert sum(any(len(column) < 8 for column in table) for table in tables) <= 12


@pytest.mark.parametrize("sequences", [1, 2, 3, 5, 8])
def test_few_sequences_prove_little(sequences: int) -> None:
    """Two models that differ by noise alone; no p-value may lie below 2^(1 - n)."""
    rng = np.random.default_rng(0)
    bootstrap = PairedBootstrap(np.full(sequences, 100), resamples=499)
    found = [bootstrap.ratio(*rng.normal(100, 3, (2, sequences))).p for _ in range(200)]
    assert min(found) >= 2.0 ** (1 - sequences)
    assert np.mean(np.array(found) <= 0.05) <= 0.1


def test_a_mean_over_tasks_that_changes_by_the_same_for_every_question() -> None:
    lost = mean_accuracy_change([(np.ones(100), np.zeros(100))] * 2)
    assert (lost.value, lost.p) == (-1, 0)
    assert mean_accuracy_change([(np.ones(100), np.ones(100))] * 2).p == 1
    assert mean_accuracy_change([(np.ones(1), np.zeros(1))] * 2).p == 1
