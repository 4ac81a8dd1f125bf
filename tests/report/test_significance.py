"""The marks of a table and the intervals: textbook formulas, identities, and tables drawn under no difference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prunebench.report.intervals import benjamini_hochberg, difference, mean_losses, over_seeds, wilson
from prunebench.report.noise import fit
from prunebench.report.paired import accuracy_change
from prunebench.report.significance import best

SEQUENCES = 141


def table(*means: float, seeds: int = 3, spread: float = 0.01, n: int = SEQUENCES, seed: int = 0) -> dict[str, dict]:
    """Losses of methods 0, 1, … with these means; noise of 1 % between seeds and of 0.05 nats a sequence."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.5, n)
    return {
        str(m): {s: mean + hard + rng.normal(0, spread) + rng.normal(0, 0.05, n) for s in range(seeds)}
        for m, mean in enumerate(means)
    }


class TestBest:
    def test_a_clear_lead(self) -> None:
        assert best(table(1.3, 1.3, 1.5, 1.7)) in (
            {"0": "best", "1": "tie", "2": "worse", "3": "worse"},
            {"0": "tie", "1": "best", "2": "worse", "3": "worse"},
        )

    def test_one_seed_says_nothing_of_methods(self) -> None:
        assert best(table(1.3, 9.0, seeds=1)) == {"0": "unmarked", "1": "unmarked"}

    def test_one_seed_is_judged_by_the_spread_of_the_others(self) -> None:
        losses = table(1.3, 1.5, 1.31, spread=0.03)
        losses["1"] = {0: losses["1"][0]}
        losses["2"] = {0: losses["2"][0]}
        assert best(losses) == {"0": "best", "1": "worse", "2": "tie"}

    def test_a_deterministic_method_has_the_same_losses_under_each_seed(self) -> None:
        losses = table(1.3, 1.5, 1.33)
        for name in ("1", "2"):
            losses[name] = dict.fromkeys((0, 1, 2), losses[name][0])
        assert best(losses)["1"] == "worse"
        only = {name: losses[name] for name in ("1", "2")}
        assert best(only) == {"1": "worse", "2": "best"}

    def test_one_seed_beside_deterministic_methods_is_unmarked(self) -> None:
        losses = table(1.3, 1.5, 1.7)
        losses["0"] = {0: losses["0"][0]}
        for name in ("1", "2"):
            losses[name] = dict.fromkeys((0, 1, 2), losses[name][0])
        assert best(losses) == {"0": "unmarked", "1": "best", "2": "worse"}

    @pytest.mark.parametrize("broken", [math.inf, math.nan])
    def test_losses_that_are_not_finite_are_worse(self, broken: float) -> None:
        losses = table(1.3, 1.3)
        losses["1"][2] = np.where(np.arange(SEQUENCES) == 3, broken, losses["1"][2])
        assert best(losses) == {"0": "best", "1": "worse"}
        losses["0"] = losses["1"]
        assert best(losses) == {"0": "unmarked", "1": "unmarked"}

    def test_a_collapsed_method_does_not_hide_the_others(self) -> None:
        """Perplexity 10⁴ beside 3.7, its seeds apart by nats: no part of what is known of the others' seeds."""
        found = best(table(1.3, 1.5, 9.2) | {"3": {s: np.full(SEQUENCES, 9.0 + s) for s in range(3)}})
        assert found == {"0": "best", "1": "worse", "2": "worse", "3": "worse"}

    def test_nothing_to_compare(self) -> None:
        assert best({}) == {}
        assert best(table(1.3)) == {"0": "unmarked"}
        assert set(best(table(1.3, 9.0, n=1)).values()) == {"unmarked"}
        assert best({**table(1.3, 1.5), "none": {}})["none"] == "unmarked"

    def test_two_equal_methods_are_a_best_and_a_tie(self) -> None:
        losses = table(1.3)
        assert sorted(best({"a": losses["0"], "b": losses["0"]}).values()) == ["best", "tie"]

    def test_other_sequences_are_refused(self) -> None:
        losses = table(1.3, 1.3)
        losses["1"][0] = losses["1"][0][1:]
        with pytest.raises(ValueError, match="same sequences"):
            best(losses)
        with pytest.raises(ValueError, match="weights"):
            best(table(1.3, 1.3), weights=np.ones(3))

    def test_the_unit_and_the_names_do_not_matter(self) -> None:
        losses = table(1.3, 1.31, 1.35, 1.5)
        found = best(losses)
        assert best({n: {s: 7 * a for s, a in of.items()} for n, of in losses.items()}) == found
        assert best({n: {s + 5: a + 1 for s, a in of.items()} for n, of in losses.items()}) == found
        assert best(losses) == found

    def test_other_seeds_are_compared_without_pairing(self) -> None:
        losses = table(1.3, 1.5, seeds=4)
        apart = {"0": {s: losses["0"][s] for s in (0, 1)}, "1": {s: losses["1"][s] for s in (2, 3)}}
        assert best(apart) == best({"0": apart["0"], "1": {0: losses["1"][2], 1: losses["1"][3]}})
        assert best(apart) == {"0": "best", "1": "worse"}

    def test_weights_decide_which_mean_is_lowest(self) -> None:
        first, second = np.zeros(200), np.zeros(200)
        first[::2], second[1::2] = 1.0, 1.1
        losses = {"first": {0: first, 1: first}, "second": {0: second, 1: second}}
        assert best(losses)["first"] == "best"
        weights = np.where(np.arange(200) % 2, 1.0, 9.0)
        assert best(losses, weights=weights)["second"] == "best"

    def test_equal_methods_are_rarely_called_worse(self) -> None:
        """In at most 5 % of tables: of 60, more than 8 have a probability of 0.4 %."""
        wrong = sum("worse" in best(table(*[1.3] * 8, spread=0.03, seed=seed)).values() for seed in range(60))
        assert wrong <= 8

    def test_a_lead_of_three_spreads_is_found(self) -> None:
        """At least 80 %; the limit is three standard errors of 40 tables lower, their methods fully dependent."""
        found = [best(table(1.3, *[1.39] * 7, spread=0.03, seed=seed)) for seed in range(40)]
        assert np.mean([mark == "worse" for marks in found for name, mark in marks.items() if name != "0"]) >= 0.62


class TestNoise:
    def test_the_seed_variance_is_that_between_the_means(self) -> None:
        (seeds,) = table(1.3).values()
        noise = fit([seeds], paired=False)
        means = [array.mean() for array in seeds.values()]
        assert noise.own[0] == pytest.approx(np.var(means, ddof=1))
        assert noise.means[0] == pytest.approx(np.mean(means))

    def test_variances_that_are_alike_are_pooled_and_others_are_not(self) -> None:
        rng = np.random.default_rng(0)
        flat = np.zeros(10)

        def of(spreads: list[float]) -> float:
            return fit(
                [{s: flat + 1 + spread * z for s, z in enumerate(rng.normal(size=5))} for spread in spreads]
            ).prior

        assert np.median([of([0.01] * 8) for _ in range(9)]) > 10
        assert np.median([of([0.001, 0.1] * 4) for _ in range(9)]) < 2
        assert of([0.01, 0.01]) == 0

    @pytest.mark.parametrize(("correlation", "n"), [(0.0, 40), (0.3, 141), (0.6, 141), (0.6, 1000)])
    def test_the_variance_of_the_mean_under_autocorrelation(self, correlation: float, n: int) -> None:
        """Of an AR(1) process of variance 1: (1 + 2 Σ (1 - k/n) ρᵏ) / n. The estimate is hardly lower."""
        rng, found = np.random.default_rng(0), []
        for _ in range(60):
            noise = rng.normal(size=n + 50)
            for i in range(1, n + 50):
                noise[i] = correlation * noise[i - 1] + math.sqrt(1 - correlation**2) * noise[i]
            found.append(fit([{0: noise[50:]}], paired=False).text[0, 0])
        lags = np.arange(1, n)
        true = (1 + 2 * ((1 - lags / n) * correlation**lags).sum()) / n
        assert 0.9 < np.mean(found) / true < 1.7


class TestIntervals:
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

    def test_seeds_alone_give_welchs_test(self) -> None:
        first, second = [1.30, 1.33, 1.37], [1.41, 1.40, 1.45, 1.50]
        sides = [{s: np.full(50, value) for s, value in enumerate(values)} for values in (first, second)]
        found, expected = difference(*sides), stats.ttest_ind(second, first, equal_var=False)
        interval = expected.confidence_interval()
        assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
        found, expected = difference(*sides, alike=True), stats.ttest_ind(second, first)
        assert found.p == pytest.approx(expected.pvalue)

    def test_the_difficulty_of_a_sequence_cancels(self) -> None:
        losses = table(1.3, 1.33, seeds=1, spread=0.0)
        found = difference(losses["0"], losses["1"])
        assert found.low < found.value < found.high
        assert found.p < 0.05
        (alone, _) = mean_losses([losses["0"], losses["1"]])
        assert alone.high - alone.low > 3 * (found.high - found.low)

    def test_no_difference(self) -> None:
        (losses,) = table(1.3).values()
        found = difference({0: losses[0]}, {0: losses[0]})
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)

    @pytest.mark.parametrize(
        ("n", "draw"),
        [
            (5, lambda rng, n: rng.normal(size=n)),
            (20, lambda rng, n: rng.normal(size=n)),
            (20, lambda rng, n: rng.exponential(size=n) - 1),
        ],
    )
    def test_coverage_of_few_sequences(self, n: int, draw) -> None:  # type: ignore[no-untyped-def]
        """95 %; of 400 intervals, fewer than 92 % have a probability of 0.5 %."""
        rng, zero = np.random.default_rng(0), {0: np.zeros(n)}
        found = [difference(zero, {0: draw(rng, n)}) for _ in range(400)]
        assert np.mean([interval.low <= 0 <= interval.high for interval in found]) >= 0.92

    def test_wilson(self) -> None:
        """200 of 200: n / (n + z²)."""
        assert wilson(1.0, 200) == pytest.approx((200 / (200 + 1.959964**2), 1.0), abs=1e-6)
        for share, count in ((0.5, 10), (0.1, 50), (0.0, 7)):
            expected = stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
            assert wilson(share, count) == pytest.approx((expected.low, expected.high))
        assert all(math.isnan(end) for end in wilson(0.5, 0))


def mcnemar(lost: int, won: int) -> float:
    """Two-sided: twice the smaller tail of Binomial(lost + won, 1/2)."""
    n = lost + won
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1)) / 2**n
    return min(1.0, 2 * tail)


class TestAccuracy:
    @given(st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]), min_size=2, max_size=60))
    def test_mcnemar(self, answers: list[tuple[int, int]]) -> None:
        base, other = (np.array(side, dtype=float) for side in zip(*answers, strict=True))
        found = accuracy_change({0: base}, {0: other})
        assert found.value == pytest.approx(other.mean() - base.mean())
        assert found.p == pytest.approx(mcnemar(answers.count((1, 0)), answers.count((0, 1))))
        assert found.low <= found.value <= found.high

    def test_seeds(self) -> None:
        rng = np.random.default_rng(0)
        order = rng.permutation(100)
        base = {s: (order < 50 + s).astype(float) for s in range(3)}
        steady = {s: (order < 70 + s).astype(float) for s in range(3)}
        erratic = {s: (order < (90, 52, 53)[s]).astype(float) for s in range(3)}
        assert accuracy_change(base, steady).p < 0.01
        assert accuracy_change(base, erratic).p > 0.1

    def test_other_questions_are_refused(self) -> None:
        with pytest.raises(ValueError, match="not paired"):
            accuracy_change({0: np.zeros(3)}, {0: np.zeros(4)})


class TestFalseDiscoveries:
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
