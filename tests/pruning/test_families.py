"""Hybrids, state-space blocks, other layouts of experts and wrappers: what is pruned, on which inputs."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from prunebench_plugins.elsa import Elsa
from prunebench_plugins.magnitude import Magnitude
from prunebench_plugins.sparsegpt import SparseGPT
from torch import Tensor, nn
from torch.nn import functional as F

from prunebench.models.loading import load_model
from prunebench.models.source import ModelSource
from prunebench.pruning import CalibrationData, Hessian, Unstructured, blocks, calibrated, prunable
from prunebench.pruning.layers import decoder_blocks
from tests.helpers.families import FAMILIES, build, build_wrapper

HALF = Unstructured(0.5)
ROUTER = re.compile(
    r"(mlp|feed_forward|block_sparse_moe|mixer|moe|experts)\.(gate|router|router\.layer)$|shared_expert_gate$"
)
STACKED = re.compile(r"experts|(input|output)_linear\.weight|gate_weight")


def data() -> CalibrationData:
    pool = torch.randint(3, 60, (2000,), generator=torch.Generator().manual_seed(0))
    return CalibrationData(pool, nsamples=6, seqlen=24, seed=0)


def expected_weights(model: nn.Module) -> int:
    """How many weights multiply the inputs of blocks, by the kinds of modules and parameters of transformers."""
    count = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and re.search(r"(layers|blocks)\.\d+\.", name) and not ROUTER.search(name):
            count += module.weight.numel()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3 and STACKED.search(name) and "conv" not in name:
            count += parameter.numel()
    return count


@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_that_multiplies_inputs_is_pruned_and_nothing_else(family: str) -> None:
    model = build(family)
    before = copy.deepcopy(model.state_dict())
    Magnitude().prune(model=model, sparsity=HALF)
    layers = list(prunable(model, HALF))
    assert sum(layer.weight.numel() for layer, _ in layers) == expected_weights(model)
    assert all(int((layer.weight == 0).sum()) == target.zeros for layer, target in layers)
    pruned = {id(layer.parameter) for layer, _ in layers}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in pruned) is not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_walk_gives_the_models_own_hidden_states(family: str) -> None:
    model, given = build(family), data()
    seen: list[Tensor] = []
    *_, last = decoder_blocks(model)
    handle = last.register_forward_hook(lambda _, args, output: seen.append(output))
    with torch.no_grad():
        model(input_ids=given.windows, use_cache=False)
        handle.remove()
        *_, block = blocks(model, given, HALF)
        found = torch.cat([block.run(batch) for batch in range(len(block))])
    expected = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_that_look_at_inputs_and_that_train_prune_exactly(family: str) -> None:
    for method in (SparseGPT(), Elsa(steps=2, interval=1, batch_size=2)):
        model = build(family)
        method.prune(model=model, data=data(), sparsity=HALF)
        assert all(int((layer.weight == 0).sum()) == target.zeros for layer, target in prunable(model, HALF))


def hessians(model: nn.Module) -> dict[str, Tensor]:
    """The Hessian of every matrix on the dense model's inputs."""
    return {layer.name: H.matrix.clone() for layer, H, _ in calibrated(model, data(), HALF, Hessian)}


def calls(model: nn.Module, module: nn.Module, *, output: bool = False) -> Any:
    """What a module is called with, or gives, for all windows."""
    seen: list[Any] = []
    handle = module.register_forward_hook(lambda _, args, result: seen.append(result if output else args))
    with torch.no_grad():
        model(input_ids=data().windows, use_cache=False)
    handle.remove()
    return seen[0]


def gram(X: Tensor) -> Tensor:
    """XᵀX / tokens."""
    X = X.reshape(-1, X.shape[-1]).double()
    return (X.T @ X / len(X)).float()


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.detach().abs().max()))


def test_mambas_time_steps_are_seen_though_their_module_is_never_called() -> None:
    model = build("mamba")
    mixer: Any = decoder_blocks(model)[1].mixer
    projected = calls(model, mixer.x_proj, output=True)
    assert close(hessians(model)["backbone.layers.1.mixer.dt_proj"], gram(projected[..., : mixer.time_step_rank]))


def test_llama4s_experts_see_the_tokens_that_are_routed_to_them() -> None:
    model = build("llama4_text")
    experts: Any = decoder_blocks(model)[1].feed_forward.experts
    (inputs,) = calls(model, experts)
    found, compared = hessians(model), 0
    for number, X in enumerate(inputs.view(experts.num_experts, -1, 32)):
        X = X[X.any(dim=1)]
        if len(X) == 0:
            continue
        gate, up = (X @ experts.gate_up_proj[number]).chunk(2, dim=-1)
        name = f"model.layers.1.feed_forward.experts.{number}"
        assert close(found[f"{name}.gate_up_proj"], gram(X))
        assert close(found[f"{name}.down_proj"], gram(up * F.silu(gate)))
        compared += 1
    assert compared > 1


def test_jetmoes_experts_see_their_share() -> None:
    model = build("jetmoe")
    linear: Any = decoder_blocks(model)[1].mlp.input_linear
    inputs, sizes = calls(model, linear)
    found = hessians(model)
    for number, X in enumerate(inputs.split(sizes)):
        if len(X):
            assert close(found[f"model.layers.1.mlp.input_linear.{number}.weight"], gram(X))


def test_the_gates_of_a_recurrent_block_see_their_heads_features() -> None:
    model = build("recurrent_gemma")
    unit: Any = decoder_blocks(model)[1].temporal_block.rg_lru
    activations = calls(model, unit)[0]
    found = hessians(model)
    for head, X in enumerate(activations.reshape(-1, 4, 8).transpose(0, 1)):
        for gate in ("input_gate_weight", "recurrent_gate_weight"):
            assert close(found[f"model.layers.1.temporal_block.rg_lru.{head}.{gate}"], gram(X))


def test_pairs_of_routed_inputs_that_are_not_known_are_refused() -> None:
    class Pairs:
        def __init__(self, layer: Any) -> None: ...

        def add(self, X: Tensor) -> None: ...

        def add_pair(self, X: Tensor, D: Tensor) -> None:
            assert X.shape == D.shape

    def walk(family: str) -> None:
        for block in blocks(build(family), data(), HALF, dense=True):
            block.statistics(Pairs)

    walk("mamba")
    with pytest.raises(RuntimeError, match="pairs of inputs are not known for a Llama4TextExperts"):
        walk("llama4_text")


def test_the_text_decoder_of_a_wrapper_is_pruned_and_its_vision_tower_left_alone() -> None:
    model = build_wrapper()
    before = copy.deepcopy(model.state_dict())
    assert all("language_model.layers" in layer.name for layer, _ in prunable(model, HALF))
    SparseGPT().prune(model=model, data=data(), sparsity=HALF)
    zeros = sum(int((layer.weight == 0).sum()) for layer, _ in prunable(model, HALF))
    assert zeros == sum(target.zeros for _, target in prunable(model, HALF))
    vision = [name for name in before if "visual" in name]
    assert vision
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in vision)


def test_a_wrapper_is_loaded_whole(tmp_path: Path, world: Path) -> None:
    build_wrapper().save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((world / "model" / file).read_bytes())
    loaded, _ = load_model(ModelSource("wrapper", tmp_path, None, ""), dtype="float32", device="cpu")
    for name, tensor in build_wrapper().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
