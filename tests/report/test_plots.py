"""What plots show, from records; and how they are drawn."""

import itertools
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from prunebench.records.record import Record
from prunebench.report.plots import charts, pareto
from prunebench.report.plots import matplotlib_svg as draw
from prunebench.report.plots.axes import alike, sparsity_axis
from prunebench.report.plots.cost_plots import cost_plots
from prunebench.report.plots.perplexity_plots import perplexity_plots
from prunebench.report.plots.plot import Axis, HorizontalLine, Plot, Series, legend_entries
from prunebench.report.scenes import Scenes
from prunebench.report.styles import COLOURS, MARKERS, method_styles, style_number
from tests.helpers.records import PROTOCOL, record


def series_of(plot: Plot) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for series in plot.series:
        found.setdefault(series.label, []).append(series)
    return found


def sized(zeros: float, value: float, *, parameters: int = 4000, model: str = "stories", **cell: Any) -> Record:
    """A record with 2000 prunable weights of four bytes in one matrix."""
    method, sparsity = ("dense", "0") if zeros == 0 else ("wanda", str(zeros))
    found = record(method, sparsity, value=value, model=model, **cell)
    assert found.sparsity is not None
    count = type(next(iter(found.sparsity.matrices.values())))(numel=2000, zeros=round(2000 * zeros))
    facts = found.sparsity.model_copy(
        update={
            "parameters": parameters,
            "parameter_bytes": 4 * parameters,
            "whole_model": 2000 * zeros / parameters,
            "matrices": {"layers.0.w": count},
        }
    )
    return found.model_copy(update={"sparsity": facts})


class TestStyles:
    NAMES = ("alps", "elsa", "elsa-l", "gmp", "magnitude", "sparsegpt", "wanda", "admm")

    def test_a_style_follows_from_the_name_alone(self) -> None:
        alone, among = method_styles([record("wanda")]), method_styles([record(name) for name in self.NAMES])
        assert alone["wanda"] == among["wanda"] == style_number("wanda")

    def test_the_methods_that_come_with_it_have_colours_and_markers_of_their_own(self) -> None:
        numbers = [style_number(name) for name in self.NAMES]
        assert len({number % COLOURS for number in numbers}) == len({number % MARKERS for number in numbers}) == 8
        assert (len(draw.COLOURS), len(draw.MARKERS)) == (COLOURS, MARKERS)

    def test_budgets_of_one_method_share_its_colour(self) -> None:
        styles = method_styles([record(name) for name in ("elsa 1M", "elsa 2M", "elsa")])
        assert {number % COLOURS for number in styles.values()} == {style_number("elsa") % COLOURS}
        assert len(set(styles.values())) == 3

    def test_no_two_methods_of_a_report_look_alike_while_there_are_styles(self) -> None:
        styles = method_styles([record(f"m{number}") for number in range(COLOURS * MARKERS)])
        assert len(set(styles.values())) == COLOURS * MARKERS

    def test_methods_stand_in_the_order_in_which_they_were_started(self) -> None:
        found = [
            record("a", started="2026-01-02"),
            record("b", started="2026-01-01"),
            record("c", started="2026-01-03"),
        ]
        assert list(method_styles(found)) == ["b", "a", "c"]
        assert list(method_styles(found, ["c"])) == ["c", "b", "a"]


class TestPerplexity:
    RECORDS = (
        record("dense", "0", value=5.0),
        record("a", "0.9", value=9.0),
        record("a", "0.5", value=6.0, seed=0),
        record("a", "0.5", value=8.0, seed=1),
        record("a", "2:4", value=7.0),
        record("b", "0.5", value=math.inf),
    )

    def test_lines_over_fractions_and_marks_over_patterns(self) -> None:
        """In times the dense model's, which is 5; patterns are dots of a plot of their own, a row for each method."""
        plot, dots = perplexity_plots(Scenes.of(list(self.RECORDS)).texts)
        assert plot.y == Axis("perplexity, times dense (5.000)", "log", cut=10.0)
        (line,) = series_of(plot)["a"]
        assert line.points == ((50.0, 1.4), (90.0, 1.8))
        assert line.line
        assert plot.x.ticks == ((50.0, "50"), (90.0, "90"))
        assert series_of(plot)["b"][0].points == ((50.0, math.inf),)
        assert {rule.label: rule.y for rule in plot.lines} == {"dense 5.000": 1.0, "floor 7.500": 1.5}
        assert dots.sideways
        assert (dots.y.ticks, dots.series[0].points) == (((0.0, "a"),), ((1.4, 0.0),))
        assert dots.panel.endswith("2:4")

    def test_without_a_dense_model_it_is_the_perplexity(self) -> None:
        (plot,) = perplexity_plots(Scenes.of([record("a", value=6.0), record("b", value=600.0)]).texts)
        assert plot.y == Axis("perplexity", "log")

    def test_what_collapsed_is_cut_and_its_number_written(self) -> None:
        found = [record("dense", "0", value=5.0), record("a", "0.9", value=9.0), record("b", "0.9", value=5000.0)]
        (plot,) = perplexity_plots(Scenes.of(found).texts)
        assert ">1000</text>" in draw.to_svg(plot, "p")
        (alone,) = perplexity_plots(Scenes.of([found[0], found[2]]).texts)
        assert alone.y.cut is None

    def test_bars_are_the_interval_over_seeds(self) -> None:
        plot, _ = perplexity_plots(Scenes.of(list(self.RECORDS)).texts)
        low, high = (5 * end for end in series_of(plot)["a"][0].bars[0])
        # Student's t with one degree of freedom: 12.706 · √2 / √2
        assert high == pytest.approx(7 + 12.706, abs=1e-3)
        assert low == pytest.approx(0.7)  # below zero, which a log axis does not have: a tenth of the mean
        assert all(math.isnan(end) for end in series_of(plot)["a"][0].bars[1])

    def test_a_method_looks_the_same_in_every_plot(self) -> None:
        records = [record("b"), record("a"), record("b", model="other")]
        plots = perplexity_plots(Scenes.of(records).texts)
        a, b = style_number("a"), style_number("b")
        assert a != b
        assert [{s.label: s.style for s in plot.series} for plot in plots] == [{"a": a, "b": b}, {"b": b}]


def test_patterns_stand_apart_on_the_axis() -> None:
    _, places = sparsity_axis(["2:4", "0.5", "0.7", "1:4"])
    assert places == {"0.5": 50.0, "0.7": 70.0, "2:4": 80.0, "1:4": 90.0}
    assert sparsity_axis([])[1] == {}


class TestPareto:
    def test_sizes(self) -> None:
        found = sized(0.9, 10.0)
        assert pareto.nonzero_parameters(found) == 2200
        # 2000 · 4 dense, 200 · 4 values, 2000 / 8 bytes of mask
        assert pareto.sparse_bytes(found) == 8000 + 800 + 250
        assert pareto.sparse_bytes(sized(0, 5.0)) == 16000
        # One zero in a hundred does not pay for the mask.
        assert pareto.sparse_bytes(sized(0.01, 5.0)) == 16000

    def test_the_front_holds_what_nothing_beats(self) -> None:
        records = [
            sized(0, 5.0),
            sized(0.5, 6.0),
            sized(0.9, 30.0),
            sized(0, 8.0, parameters=2500, model="small", model_digest="22"),
        ]
        ((protocol, candidates),) = pareto.comparable_families(Scenes.of(records).texts)
        assert protocol == PROTOCOL
        assert [c.perplexity for c in pareto.pareto_front(candidates, "nonzero")] == [30.0, 8.0, 6.0, 5.0]
        worse = [*records, sized(0.7, 40.0)]
        ((_, candidates),) = pareto.comparable_families(Scenes.of(worse).texts)
        assert 40.0 not in [c.perplexity for c in pareto.pareto_front(candidates, "nonzero")]

    def test_dense_models_of_the_family_are_on_the_plot(self) -> None:
        records = [sized(0, 5.0), sized(0.5, 6.0), sized(0, 8.0, parameters=2500, model="small", model_digest="22")]
        by_count, by_bytes = pareto.pareto_plots(Scenes.of(records).texts)
        (dense,) = series_of(by_count)["dense models"]
        assert (dense.points, dense.names) == (((2500, 8.0), (4000, 5.0)), ("small", "stories"))
        assert by_bytes.x.label == "KiB"

    def test_another_tokenizer_is_another_family(self) -> None:
        other = sized(0.5, 6.0, model="other")
        facts = other.perplexity[PROTOCOL].model_copy(update={"tokens": 5})
        records = [sized(0, 5.0), other.model_copy(update={"perplexity": {PROTOCOL: facts}})]
        assert len(pareto.comparable_families(Scenes.of(records).texts)) == 2


class TestOtherCharts:
    def test_time_at_every_sparsity_and_the_rest_where_most_methods_are(self) -> None:
        records = [record("a", "0.5"), record("b", "0.5"), record("a", "0.9"), record("b", "0.9"), record("a", "0.95")]
        plots = cost_plots(Scenes.of(records).first)
        assert [(plot.x.label, plot.panel.split(" at ")[1].split(",")[0]) for plot in plots] == [
            ("prune time (s)", "0.5"),
            ("prune time (s)", "0.9"),
            ("prune time (s)", "0.95"),
            ("tokens seen", "0.9"),
            ("peak memory (MiB)", "0.9"),
        ]
        assert series_of(plots[-1])["a"][0].points == ((640.0, 10.0),)

    def test_cost_is_against_times_dense(self) -> None:
        records = [record("dense", "0", value=5.0), record("a", "0.9", value=10.0)]
        plot = cost_plots(Scenes.of(records).first)[0]
        assert series_of(plot)["a"][0].points[0][1] == 2.0

    def test_zero_shot_with_intervals(self) -> None:
        plots = charts.zero_shot_plots(Scenes.of([record("dense", "0"), record("a"), record("b")]).tasks)
        assert [plot.panel.partition(",")[0] for plot in plots] == ["arc_easy", "piqa"]
        (series,) = series_of(plots[0])["a"]
        assert series.points[0][1] == 25.0
        assert series.bars[0] == pytest.approx((19.508, 31.434), abs=1e-3)  # Wilson's interval of 50 of 200
        assert plots[0].lines == (HorizontalLine("dense 25.0", 25.0),)
        assert series.points[0][0] < series_of(plots[0])["b"][0].points[0][0]

    def test_plots_of_the_same_quantities_share_their_limits(self) -> None:
        records = [record("dense", "0", value=5.0), record("a", value=6.0)]
        records += [record("dense", "0", value=10.0, model="m2"), record("a", value=90.0, model="m2")]
        own, other = perplexity_plots(Scenes.of(records).texts)
        assert own.y.label != other.y.label, "each names its dense perplexity"
        assert alike([own, other]) == [[own, other]]
        alone, together = draw.to_svg(own, "p"), draw.to_svg(own, "p", [own, other])
        assert ">5</text>" not in alone
        assert ">5</text>" in together
        assert alike([own, replace(other, x=Axis("steps"))]) == [[own], [replace(other, x=Axis("steps"))]]

    def test_lines_are_named_where_they_reach_the_right_end(self) -> None:
        def drawn(*series: Series) -> str:
            return draw.to_svg(Plot("n", "t", "p", Axis("x"), Axis("y"), series), "p")

        short, whole = Series("short", 0, ((0.0, 1.0), (5.0, 2.0))), Series("whole", 1, ((0.0, 1.0), (10.0, 3.0)))
        assert ">whole</text>" in drawn(short, whole)
        assert ">short</text>" not in drawn(short, whole)
        (named,) = [part for part in drawn(short, whole).split("data-series=") if ">whole</text>" in part]
        assert named.startswith('"whole"'), "so that it fades with its line"
        assert f">{'w' * 40}</text>" not in drawn(short, replace(whole, label="w" * 40)), (
            "it would take the plot's place"
        )
        assert ">whole</text>" not in drawn(replace(whole, line=False)), "points have no end"
        assert ">whole</text>" not in drawn(replace(whole, names=("a", "b"))), "which has names of its own"
        seeds = [replace(whole, points=((0.0, 1.0), (10.0, 3.0 + n))) for n in range(3)]
        assert drawn(*seeds).count(">whole</text>") == 1, "three seeds have one name"
        many = [Series(f"m{n}", n, ((0.0, 1.0), (10.0, float(n)))) for n in range(9)]
        assert ">m1</text>" not in drawn(*many)
        near = [replace(each, points=((0.0, 1.0), (10.0, 2 + n / 1000))) for n, each in enumerate(many[:4])]
        heights = sorted(float(y) for y in re.findall(r' y="([\d.]+)"[^>]*>m\d</text>', drawn(*near, many[7])))
        assert len(heights) == 5
        assert min(b - a for a, b in itertools.pairwise(heights)) > 9, "none lies on another"

    def test_any_trace_of_any_method(self) -> None:
        rows = ({"step": 0.0, "gap": 1.0, "extra": 1.0}, {"step": 5.0, "gap": 0.001, "extra": math.nan, "once": 1.0})
        traced = record("mine").model_copy(update={"trace": rows})
        gap, extra = charts.trace_plots(Scenes.of([traced, record("other")]).settings)
        assert (gap.y, extra.y) == (Axis("gap", "log"), Axis("extra"))
        assert gap.series[0].points == ((0.0, 1.0), (5.0, 0.001))
        assert gap.series[0].label == "mine at 0.5"  # what is told once is no line

    def test_one_line_for_each_way_of_sharing_zeros(self) -> None:
        alike = [record("a"), record("b")]
        (plot,) = charts.layer_plots(Scenes.of(alike).settings)
        (series,) = plot.series
        assert (series.label, series.style) == ("every method", None)
        assert series.points == ((0.0, 90.0), (1.0, 90.0))
        assert plot.x.ticks == ((0.0, "0"),)
        other = sized(0.5, 6.0)
        (plot,) = charts.layer_plots(Scenes.of([*alike, other]).settings)
        assert {series.label for series in plot.series} == {"several methods", "wanda"}


class TestDrawing:
    PLOT = Plot(
        name="x",
        title="Perplexity of <b>$a_1$</b>",
        panel="p",
        x=Axis("tokens", "log"),
        y=Axis("perplexity", "log"),
        series=(
            Series("a", 0, ((0.0, 3.0), (10.0, 4.0), (1e6, math.inf)), bars=((2.0, 4.0), (math.nan, math.nan))),
            Series("</text><script>", 12, ((100.0, 400.0),), names=("#222288;",), line=False, faint=True),
        ),
        lines=(
            HorizontalLine("dense 2.5", 2.5),
            HorizontalLine("floor 2.4", 2.4),
            HorizontalLine("broken inf", math.inf),
        ),
    )

    def test_the_same_plot_is_the_same_bytes(self) -> None:
        assert draw.to_svg(self.PLOT, "p") == draw.to_svg(self.PLOT, "p")
        for style in ("svg", "pdf"):
            assert draw.to_file(self.PLOT, style) == draw.to_file(self.PLOT, style)  # type: ignore[arg-type]

    def test_labels_are_text(self) -> None:
        drawn = draw.to_svg(self.PLOT, "p")
        assert ">#222288;</text>" in drawn  # a colour's name in a label stays one
        assert "<script>" not in drawn
        file = draw.to_file(self.PLOT, "svg").decode()
        assert "Perplexity of &lt;b&gt;$a_1$&lt;/b&gt;" in file
        assert "&lt;/text&gt;&lt;script&gt;" in file

    def test_a_file_has_the_colours_of_paper_and_no_date(self) -> None:
        file = draw.to_file(self.PLOT, "svg").decode()
        assert draw.COLOURS[0] in file
        assert "var(--" not in file
        assert "dc:date" not in file
        assert b"CreationDate" not in draw.to_file(self.PLOT, "pdf")

    def test_a_legend_is_never_wider_than_its_file(self) -> None:
        names = ["the front", *(f"a method with a name of {n} words" for n in range(7)), "dense models"]
        plot = Plot(
            "x", "t", "p", Axis("x"), Axis("y"), tuple(Series(n, i, ((1.0, 2.0),)) for i, n in enumerate(names))
        )
        drawn = draw.to_file(plot, "svg").decode()
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawn)[1])  # type: ignore[index]
        starts = [float(x) for x in re.findall(r'<text[^>]*x="([\d.]+)"[^>]*>a method with', drawn)]
        assert len(starts) == 7
        assert max(starts) + 160 < width

    def test_a_zero_has_a_place_on_a_log_axis(self) -> None:
        ticks = re.findall(r"text-anchor: middle[^>]*>([^<]+)<", draw.to_svg(self.PLOT, "p"))
        assert ticks[0] == "0"
        assert "tokens" in ticks

    def test_nothing_finite_is_drawn_too(self) -> None:
        plot = Plot("x", "t", "p", Axis("x"), Axis("y", "log"), (Series("a", 0, ((1.0, math.nan),)),))
        assert "nan</text>" in draw.to_svg(plot, "p")

    @pytest.mark.parametrize(
        ("low", "high", "ticks"),
        [(2.4, 400, [5, 10, 20, 50, 100, 200]), (1, 1e6, None), (2.49, 2.51, None), (1e-3, 1.0, None)],
    )
    def test_ticks_are_few_round_and_within(self, low: float, high: float, ticks: list[float] | None) -> None:
        found = draw.log_ticks(low, high)
        assert ticks is None or found == ticks
        assert 2 <= len([tick for tick in found if low <= tick <= high]) <= 7

    def test_a_legend_names_each_look_once(self) -> None:
        entries = legend_entries([self.PLOT, self.PLOT])
        assert [entry.label for entry in entries] == ["a", "</text><script>"]
        assert not any(entry.faint for entry in entries)

    def test_methods_beyond_the_colours_have_other_dashes(self) -> None:
        looks = {(look % len(draw.COLOURS), look // len(draw.COLOURS)) for look in range(40)}
        assert len(looks) == 40
        drawn = {draw.to_legend_sample(Series("a", look, ((0.0, 0.0),)), "s") for look in (0, 8, 16)}
        assert len(drawn) == 3
