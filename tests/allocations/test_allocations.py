"""Allocations: the budget to the weight, the papers' rules, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prunebench.allocations import allocate, make_allocation
from prunebench.allocations.budget import apportion, budget_of, sizes_of, spread
from prunebench.allocations.global_magnitude import kth_smallest
from prunebench.contract.checks import Snapshot
from prunebench.errors import AllocationError, UsageError
from prunebench.pruning import NM, Allocated, Pattern, Unstructured, prunable
from prunebench.pruning.callbacks import use_observer
from prunebench.registry.entry_points import ALLOCATIONS, load_method, sources
from prunebench.registry.manager import plugin_manager
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver, SilentDisplay

Write = Callable[..., Path]
NAMES = ("owl", "owl-layer", "magnitude-global", "file")


def named(name: str, model: nn.Module, ratio: float) -> Any:
    """One of ``NAMES`` with options that make it differ from the uniform one."""
    if name == "owl-layer":
        return make_allocation("owl", {"per": "layer", "lmda": 0.15})
    if name == "file":
        sizes = sizes_of(model)
        rise = {layer: -0.1 * place for place, layer in enumerate(sizes)}
        patterns = spread(rise, sizes, Unstructured(ratio))
        return make_allocation("file", {"layers": {layer: round(p.ratio, 4) for layer, p in patterns.items()}})
    return make_allocation(name, {})


def zeros_of(patterns: dict[str, Pattern], sizes: dict[str, int]) -> dict[str, int]:
    return {name: patterns[name].zeros((1, size)) for name, size in sizes.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_oss"])
@pytest.mark.parametrize("ratio", [0.03, 0.5, 0.777, 0.95])
def test_every_allocation_meets_the_budget_and_every_method_the_allocation(
    name: str, architecture: str, ratio: float
) -> None:
    model, pattern = tiny.MODELS[architecture](), Unstructured(ratio)
    sizes = sizes_of(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    sparsity = allocate(named(name, model, ratio), model, tiny.calibration(), pattern)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert isinstance(sparsity, Allocated)
    counts = {layer.name: target.zeros for layer, target in prunable(model, sparsity)}
    assert sum(counts.values()) == budget_of(sizes, pattern) == int(ratio * sum(sizes.values()) + 0.5)
    assert len({round(counts[layer] / size, 3) for layer, size in sizes.items()}) > 1
    for method in ("magnitude", "wanda", "sparsegpt"):
        model.load_state_dict(before)
        snapshot = Snapshot.of(model, sparsity, "prunable")
        plugin_manager(load_method(method), {}).hook.prune(model=model, data=tiny.calibration(), sparsity=sparsity)
        facts = snapshot.verify(model)
        assert {layer: count.zeros for layer, count in facts.matrices.items()} == counts


def test_uniform_is_the_pattern_itself() -> None:
    for pattern in (Unstructured(0.7), NM(2, 4)):
        assert allocate(make_allocation("uniform", {}), tiny.llama(), tiny.calibration(), pattern) is pattern


@pytest.mark.parametrize("name", sorted(set(sources(ALLOCATIONS)) - {"uniform"}))
def test_nm_is_refused(name: str) -> None:
    rule = make_allocation(name, {"layers": {}} if name == "file" else {})
    with pytest.raises(AllocationError, match="2:4 fixes the zeros of every group"):
        allocate(rule, tiny.llama(), tiny.calibration(), NM(2, 4))


class TestBudget:
    @given(
        parts=st.lists(st.tuples(st.floats(-2, 2), st.integers(2, 10_000)), min_size=1, max_size=30),
        ratio=st.floats(0, 0.95).map(lambda x: round(x, 3)),
    )
    def test_the_budget_is_met_and_ratios_differ_as_wanted(self, parts: list[tuple[float, int]], ratio: float) -> None:
        wanted = {f"l{i}": want for i, (want, _) in enumerate(parts)}
        sizes = {f"l{i}": size for i, (_, size) in enumerate(parts)}
        pattern = Unstructured(ratio)
        if budget_of(sizes, pattern) > sum(sizes.values()) - len(sizes):
            return
        counts = zeros_of(spread(wanted, sizes, pattern), sizes)
        assert sum(counts.values()) == budget_of(sizes, pattern)
        assert all(0 <= counts[name] < size for name, size in sizes.items())
        # Where nothing was cut off, each is within one weight of wanted + the same constant.
        inside = [name for name, size in sizes.items() if 1 < counts[name] < size - 2]
        low = max((counts[name] - 1 - wanted[name] * sizes[name]) / sizes[name] for name in inside) if inside else 0
        high = min((counts[name] + 1 - wanted[name] * sizes[name]) / sizes[name] for name in inside) if inside else 0
        assert low <= high + 1e-9

    def test_the_largest_remainders_get_one_more(self) -> None:
        sizes = dict.fromkeys("abc", 10)
        assert zeros_of(apportion({"a": 2.4, "b": 3.9, "c": 1.7}, sizes, 8), sizes) == {"a": 2, "b": 4, "c": 2}

    def test_what_a_full_layer_cannot_take_the_others_share(self) -> None:
        sizes = {"a": 100, "b": 100, "c": 4}
        counts = zeros_of(apportion({"a": 130.0, "b": 20.0, "c": 1.0}, sizes, 151), sizes)
        assert counts["a"] == 99
        assert sum(counts.values()) == 151
        assert 20 <= counts["b"] < 100
        assert 1 <= counts["c"] < 4

    def test_a_ratio_that_is_cut_off_is_noted_and_made_up_for(self) -> None:
        observer, sizes = RecordingObserver(), {"a": 100, "b": 100}
        with use_observer(observer):
            counts = zeros_of(spread({"a": 0.9, "b": 0.0}, sizes, Unstructured(0.7)), sizes)
        assert counts == {"a": 99, "b": 41}
        assert observer.notes == [("an allocation's ratio would have left [0, 1)", {"layer": "a"})]

    def test_more_zeros_than_layers_can_lose_are_refused(self) -> None:
        with pytest.raises(AllocationError, match="leave one of 2 layers without any weight"):
            spread({"a": 0, "b": 0}, {"a": 10, "b": 10}, Unstructured(0.97))


class TestOWL:
    def ratios(self, model: nn.Module, **options: Any) -> dict[str, float]:
        rule = make_allocation("owl", options)
        return {name: p.ratio for name, p in rule(model, tiny.calibration(), Unstructured(0.7)).items()}

    def test_it_is_the_papers(self) -> None:
        """Recomputed from scratch: scores of whole blocks side by side, the authors' scaling, equal blocks."""
        model, data, lmda = tiny.llama(), tiny.calibration(), 0.08
        inputs: dict[str, list[Tensor]] = {}
        handles = [
            module.register_forward_pre_hook(lambda m, args, name=name: inputs.setdefault(name, []).append(args[0]))
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        ]
        with torch.no_grad():
            model(input_ids=data.windows, use_cache=False)
        for handle in handles:
            handle.remove()
        shares = []
        for block in range(3):
            scores = torch.cat(
                [
                    (model.get_submodule(name).weight.abs() * inputs[name][0].flatten(0, 1).norm(dim=0)).flatten()
                    for name in inputs
                    if name.startswith(f"model.layers.{block}.")
                ]
            )
            shares.append(float((scores > 5 * scores.mean()).double().mean()))
        D = np.array(shares)
        density = (D - D.min()) / (D.max() - D.min()) * 2 * lmda
        expected = 1 - (density - density.mean() + 0.3)
        assert len(set(shares)) == 3
        for name, ratio in self.ratios(model).items():
            assert ratio == pytest.approx(expected[int(name.split(".")[2])], abs=2e-3)

    def test_blocks_with_more_outliers_keep_more(self) -> None:
        model = tiny.llama()
        for layer, _ in prunable(model, Unstructured(0.5)):
            if ".1." in layer.name:
                layer.weight[1] *= 40
        ratios = self.ratios(model)
        outlying = {name: ratio for name, ratio in ratios.items() if ".1." in name}
        assert max(outlying.values()) < min(ratios[name] for name in ratios if name not in outlying)
        assert max(ratios.values()) - min(ratios.values()) == pytest.approx(0.16, abs=2e-3)

    def test_per_layer_each_matrix_has_its_own(self) -> None:
        assert len({round(ratio, 2) for ratio in self.ratios(tiny.llama(), per="layer", lmda=0.2).values()}) > 5

    def test_no_difference_no_spread(self) -> None:
        for ratio in self.ratios(tiny.llama(), M=1e9).values():
            assert ratio == pytest.approx(0.7, abs=2e-3)  # a weight more or less


class TestGlobalMagnitude:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_the_threshold_is_that_of_a_sort(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        matrices = [torch.randn(9, 31, generator=generator).to(dtype) * scale for scale in (1.0, 3.0, 1e-3)]
        matrices[0][0] = 0
        ordered = torch.cat([W.flatten() for W in matrices]).float().abs().sort().values
        for k in (1, 2, 100, 500, ordered.numel()):
            assert kth_smallest(matrices, k) == ordered[k - 1]

    def test_each_matrix_loses_what_lies_below_one_threshold(self) -> None:
        model = tiny.llama()
        weights = {layer.name: layer.weight for layer, _ in prunable(model, Unstructured(0.5))}
        for place, W in enumerate(weights.values()):
            W *= 1 + place / 10
        patterns = make_allocation("magnitude-global", {})(model, tiny.calibration(), Unstructured(0.6))
        everything = torch.cat([W.flatten() for W in weights.values()]).abs().sort().values
        threshold = everything[budget_of(sizes_of(model), Unstructured(0.6)) - 1]
        for name, W in weights.items():
            assert patterns[name].zeros((1, W.numel())) == int((W.abs() <= threshold).sum())

    def test_a_matrix_of_tiny_weights_keeps_one(self) -> None:
        model, observer = tiny.llama(), RecordingObserver()
        first = next(layer for layer, _ in prunable(model, Unstructured(0.5)))
        first.weight.mul_(1e-6)
        with use_observer(observer):
            patterns = make_allocation("magnitude-global", {})(model, tiny.calibration(), Unstructured(0.5))
        assert patterns[first.name].zeros(first.shape) == first.weight.numel() - 1
        assert [where["layer"] for _, where in observer.notes] == [first.name]


class TestFile:
    def write(self, folder: Path, content: object, name: str = "ratios.json") -> Path:
        path = folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def cells(self, write_suite: Write, sparsities: str = "[0.5]") -> tuple[Cell, ...]:
        path = write_suite(
            methods="methods: [magnitude]",
            sparsities=f"sparsities: {sparsities}",
            allocation="allocation: {name: file, path: ratios.json}",
        )
        return plan(load_suite(path))

    def test_what_it_says_is_what_is_pruned(self, write_suite: Write, tmp_path: Path) -> None:
        name = "model.layers.{}.self_attn.{}_proj"
        self.write(tmp_path, {name.format(0, "q"): 0.25, name.format(2, "q"): 0.75, name.format(1, "v"): 0.5})
        (record,) = run_suite(self.cells(write_suite), tmp_path / "out", SilentDisplay())
        assert record.status == "ok", record.error
        assert record.cell.allocation == "ratios"
        assert record.cell.key[3] == "ratios"
        assert record.sparsity is not None
        counts = record.sparsity.matrices
        assert counts[name.format(0, "q")].zeros == 256
        assert counts[name.format(2, "q")].zeros == 768
        assert counts[name.format(1, "q")].zeros == 512
        assert record.sparsity.reached == 0.5

    def test_zero_stays_zero(self) -> None:
        sizes = sizes_of(tiny.llama())
        first, rest = next(iter(sizes)), sum(sizes.values()) - next(iter(sizes.values()))
        ratio = round(0.5 * sum(sizes.values()) / rest, 3)
        rule = make_allocation("file", {"layers": dict.fromkeys(sizes, ratio) | {first: 0.0}})
        patterns = rule(tiny.llama(), None, Unstructured(0.5))
        assert patterns[first].ratio == 0
        assert sum(zeros_of(dict(patterns), sizes).values()) == budget_of(sizes, Unstructured(0.5))

    def test_its_content_enters_the_id_and_its_path_does_not(self, write_suite: Write, tmp_path: Path) -> None:
        self.write(tmp_path, {"model.layers.0.self_attn.q_proj": 0.5})
        one = self.cells(write_suite)
        self.write(tmp_path, "model.layers.0.self_attn.q_proj: 0.50  # the same\n")
        assert [cell.id for cell in self.cells(write_suite)] == [cell.id for cell in one]
        self.write(tmp_path, {"model.layers.0.self_attn.q_proj": 0.501})
        assert [cell.id for cell in self.cells(write_suite)] != [cell.id for cell in one]
        assert str(tmp_path) not in one[0].model_dump_json(include={"allocation", "allocation_rule"})

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, r"cannot read the allocation file .*ratios\.json: No such file"),
            ("- a", "must map names of layers to fractions of zeros"),
            ("{", "is no YAML or JSON"),
            (
                {"model.layers.0.self_attn.q_proj": 1.0},
                "gives model.layers.0.self_attn.q_proj 1.0, which is no fraction",
            ),
            ({"model.layers.0.self_attn.q_proj": True}, "True, which is no fraction"),
            (
                {"model.layer.0.q": 0.5, "x": 0.5},
                r"allocation 'ratios' of model at 0.5: .*layer 'model.layer.0.q' \(and 1 more\) that the model does "
                "not have: its 21 layers are called like 'model.layers.0.self_attn.q_proj'",
            ),
            ({"model.layers.0.self_attn.q_proj": 0.9}, "give 0.5178 of the prunable weights where 0.5 is asked for"),
        ],
    )
    def test_what_is_wrong_is_said_before_anything_runs(
        self, write_suite: Write, tmp_path: Path, content: object, message: str
    ) -> None:
        if content is not None:
            self.write(tmp_path, content)
        with pytest.raises(UsageError, match=message) as caught:
            self.cells(write_suite)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)


class TestSuite:
    def test_a_whole_number_is_the_same_option_as_its_fraction(self, write_suite: Write) -> None:
        """So that one allocation has one id however its number is written."""
        ids = [
            {
                c.id
                for c in plan(
                    load_suite(write_suite(sparsities="sparsities: [0.5]", allocation=f"allocation: {entry}"))
                )
            }
            for entry in ("owl", "{name: owl, options: {M: 5}}", "{name: owl, options: {M: 5.0}}")
        ]
        assert ids[0] == ids[1] == ids[2]

    def test_a_baseline_of_two_entries_is_planned_once(self, write_suite: Write) -> None:
        path = write_suite(
            sparsities="sparsities: [0.5, 0.7]",
            methods="methods: [{name: dense, sparsities: [0.5]}, {name: dense, sparsities: [0.7]}]",
        )
        assert [cell.method for cell in plan(load_suite(path))] == ["dense"]

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ({"allocation": "allocation: owk"}, "unknown allocation 'owk': did you mean 'owl'"),
            ({"allocation": "allocation: {name: owl, options: {lambda: 1}}"}, "has no option 'lambda': .*lmda"),
            (
                {"allocation": "allocation: {name: owl, options: {M: lots}}"},
                "option 'M' of 'owl' is 'lots': it must be of type float",
            ),
            ({"allocation": "allocation: {name: owl, options: {lmda: 0.7}}"}, r"lmda 0.7 is outside \[0, 0.5\)"),
            ({"allocation": "allocation: {name: owl, options: {per: row}}"}, "'per' of 'owl' is 'row'"),
            ({"allocation": "allocation: file"}, "needs a path"),
            ({"allocation": "allocation: {name: owl, path: x.json}"}, "needs a path"),
            ({"allocation": "allocation: [owl, {name: owl, options: {M: 3}}]"}, "two allocations are called 'owl'"),
            (
                {"allocation": "allocation: owl", "sparsities": "sparsities: [0.5, 2:4]"},
                "allocation 'owl' of 'magnitude' cannot share out 2:4, .*with allocation: uniform",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, write_suite: Write, lines: dict[str, str], message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            plan(load_suite(write_suite(**{"methods": "methods: [dense, magnitude]", **lines})))
        assert "\n" not in str(caught.value)

    def test_it_is_an_axis(self, write_suite: Write) -> None:
        path = write_suite(
            seeds="seeds: [0, 1]",
            sparsities="sparsities: [0.5]",
            allocation="allocation: [uniform, owl, magnitude-global]",
            methods="methods: [dense, magnitude, {name: wanda, allocation: owl},"
            " {name: wanda, label: nm, sparsities: [2:4], allocation: uniform, seeds: [3]}]",
        )
        cells = plan(load_suite(path))
        assert [(cell.method, cell.allocation, cell.seed) for cell in cells] == [
            ("dense", "uniform", 0),
            # Magnitude takes no data; but OWL does.
            ("magnitude", "uniform", 0),
            ("magnitude", "owl", 0),
            ("magnitude", "owl", 1),
            ("magnitude", "magnitude-global", 0),
            ("wanda", "owl", 0),
            ("wanda", "owl", 1),
            ("nm", "uniform", 3),
        ]
        assert len({cell.id for cell in cells}) == len(cells)
        assert {cell.allocation_rule is None for cell in cells if cell.allocation == "uniform"} == {True}
        owl = cells[2].allocation_rule
        assert owl is not None
        assert owl.options == {"M": 5.0, "lmda": 0.08, "per": "block"}
        assert Cell.model_validate_json(cells[2].model_dump_json(exclude={"id", "key"})) == cells[2]

    def test_it_runs_and_the_record_says_so(self, write_suite: Write, tmp_path: Path) -> None:
        path = write_suite(
            methods="methods: [dense, magnitude]",
            sparsities="sparsities: [0.5]",
            allocation="allocation: [uniform, owl]",
        )
        dense, uniform, owl = run_suite(plan(load_suite(path)), tmp_path / "out", SilentDisplay())
        assert (dense.status, uniform.status, owl.status) == ("ok", "ok", "ok")
        assert owl.sparsity is not None
        assert uniform.sparsity is not None
        assert owl.sparsity.reached == uniform.sparsity.reached == 0.5
        assert owl.sparsity.matrices != uniform.sparsity.matrices
        assert owl.cost.tokens_seen == 8 * 16  # by the allocation
        assert uniform.cost.tokens_seen == 0
        assert (owl.cost.model_extra or {})["allocate_seconds"] > 0
        assert owl.perplexity["test/stream-16"] != uniform.perplexity["test/stream-16"]
