"""Mixtures of experts: what each expert sees, and what becomes of one that sees little."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.contract.checks import Snapshot
from prunebench.errors import ContractError
from prunebench.pruning import CalibrationData, FeatureNorm, Hessian, Unstructured, calibrated, prunable
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.sparsity import parse_pattern
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver, SilentDisplay

MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss")
UNSEEN = "an expert's matrix saw no calibration token: its inputs are taken to count alike"
STARVED = "an expert's matrix saw fewer calibration tokens than it has inputs"


def prune(model: Any, method: str, data: CalibrationData, pattern: str = "0.5", **options: Any) -> RecordingObserver:
    observer = RecordingObserver()
    sparsity = parse_pattern(pattern)
    before = Snapshot.of(model, sparsity, "prunable")
    with use_observer(observer):
        plugin_manager(load_method(method), options).hook.prune(model=model, data=data, sparsity=sparsity)
    before.verify(model)
    return observer


@pytest.mark.parametrize("name", MIXTURES)
def test_tokens_of_each_expert_are_those_that_the_router_sends(name: str) -> None:
    model, data, observer = tiny.MODELS[name](), tiny.calibration(), RecordingObserver()
    mlp = model.model.layers[0].mlp
    router = getattr(mlp, "gate", None) or mlp.router
    sent: list[Tensor] = []
    handle = router.register_forward_hook(lambda module, args, output: sent.append(output[-1]))
    with torch.no_grad():
        model(input_ids=data.windows, use_cache=False)
    handle.remove()
    with use_observer(observer):
        statistics = {layer.name: norm for layer, norm, _ in calibrated(model, data, Unstructured(0.5), FeatureNorm)}
    told = observer.amounts["expert_tokens"]
    assert list(told) == [f"model.layers.{block}.mlp.experts" for block in range(3)]
    assert told["model.layers.0.mlp.experts"] == torch.cat(sent).flatten().bincount(minlength=4).tolist()
    assert all(sum(tokens) == 2 * data.windows.numel() for tokens in told.values())
    for expert, tokens in enumerate(told["model.layers.2.mlp.experts"]):
        for kind in ("gate_up_proj", "down_proj"):
            assert statistics[f"model.layers.2.mlp.experts.{expert}.{kind}"].tokens == tokens
    for what, where in observer.notes:
        assert what == STARVED
        assert where["tokens"] == statistics[str(where["layer"])].tokens < where["inputs"]  # type: ignore[operator]


def with_a_lost_expert() -> Any:
    """A model none of whose tokens reach expert 3."""
    model = tiny.MODELS["gpt_oss"]()
    for block in model.model.layers:
        block.mlp.router.bias.detach()[3] = -1e9
    return model


@pytest.mark.parametrize(
    ("method", "options", "per", "slack"),
    [("wanda", {}, "row", 1.0), ("sparsegpt", {"blocksize": 64}, "matrix", 1.0), ("admm", {}, "matrix", 1.05)],
)
def test_an_expert_that_no_token_reaches_is_pruned_by_magnitude(
    method: str, options: dict[str, Any], per: Any, slack: float
) -> None:
    """To be exact: as well as by magnitude, which is the best that weights alone tell; ADMM need not converge to it."""
    model, dense = with_a_lost_expert(), with_a_lost_expert()
    observer = prune(model, method, tiny.calibration(), **options)
    assert observer.messages.count(UNSEEN) == 2 * 3
    assert all(tokens[3] == 0 for tokens in observer.amounts["expert_tokens"].values())
    before = {layer.name: layer.weight for layer, _ in prunable(dense, Unstructured(0.5))}
    for layer, target in prunable(model, Unstructured(0.5)):
        if layer.expert == 3:
            W = before[layer.name]
            by_magnitude = W.masked_fill(~target.mask(W.abs(), per=per), 0)
            assert (layer.weight - W).norm() <= (by_magnitude - W).norm() * slack * (1 + 1e-6)
            if slack == 1:
                torch.testing.assert_close(layer.weight, by_magnitude, rtol=1e-5, atol=1e-6)


def test_an_expert_that_few_tokens_reach_is_noted() -> None:
    data = tiny.calibration(nsamples=1)
    for method in ("wanda", "sparsegpt", "admm"):
        observer = prune(tiny.mixtral(), method, data, pattern="0.7")
        assert set(observer.messages) <= {STARVED, UNSEEN}
        assert len(observer.messages) == 3 * 8


def test_experts_have_a_hessian_each() -> None:
    model = tiny.mixtral()
    statistics = [
        (layer.name, H)
        for layer, H, _ in calibrated(model, tiny.calibration(), Unstructured(0.5), Hessian)
        if layer.expert is not None
    ]
    assert len({id(H) for _, H in statistics}) == len(statistics) == 3 * 8


@pytest.mark.parametrize("spoilt", ["router.weight", "experts.gate_up_proj_bias"])
def test_a_router_or_a_bias_that_changed_is_caught(spoilt: str) -> None:
    model, sparsity = tiny.MODELS["gpt_oss"](), Unstructured(0.5)
    before = Snapshot.of(model, sparsity, "prunable")
    plugin_manager(load_method("magnitude"), {}).hook.prune(model=model, data=tiny.calibration(), sparsity=sparsity)
    model.model.layers[1].mlp.get_parameter(spoilt).detach()[0, 0] += 1
    with pytest.raises(ContractError, match=rf"layers\.1\.mlp\.{spoilt} was changed"):
        before.verify(model)


def test_one_expert_pruned_too_little_is_caught() -> None:
    model, sparsity = tiny.MODELS["gpt_oss"](), Unstructured(0.5)
    before = Snapshot.of(model, sparsity, "prunable")
    plugin_manager(load_method("magnitude"), {}).hook.prune(model=model, data=tiny.calibration(), sparsity=sparsity)
    model.model.layers[1].mlp.experts.down_proj.detach()[2].fill_(1)
    with pytest.raises(ContractError, match=r"experts\.2\.down_proj holds 0 zeros where 768 of 1536 were asked for"):
        before.verify(model)


def test_a_mixture_runs_from_suite_to_record(write_suite: Callable[..., Path], world: Path, tmp_path: Path) -> None:
    for file in (world / "model").glob("token*"):
        (tmp_path / "moe").mkdir(exist_ok=True)
        (tmp_path / "moe" / file.name).write_bytes(file.read_bytes())
    tiny.mixtral().save_pretrained(tmp_path / "moe")
    path = write_suite(
        models="models: [./moe]", methods="methods: [dense, magnitude, wanda]", sparsities="sparsities: [0.5]"
    )
    dense, magnitude, wanda = run_suite(plan(load_suite(path)), tmp_path / "out", SilentDisplay())
    assert [record.status for record in (dense, magnitude, wanda)] == ["ok"] * 3
    assert magnitude.sparsity is not None
    assert magnitude.sparsity.reached == 0.5
    assert "model.layers.2.mlp.experts.3.down_proj" in magnitude.sparsity.matrices
    tokens = (wanda.cost.model_extra or {})["expert_tokens"]
    assert [sum(row) for row in tokens.values()] == [2 * 8 * 16] * 3
