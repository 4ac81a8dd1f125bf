"""The contract every method inherits: one row each, no method is special."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch

from prunebench.contract import Snapshot
from prunebench.plugins import load_method, plugin_manager
from prunebench.pruning import Sparsity, prunable
from prunebench.pruning.sparsity import parse_pattern
from tests import tiny

# (method, options that make it quick)
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("dense", {}),
    ("magnitude", {}),
    ("wanda", {}),
    ("sparsegpt", {"blocksize": 8}),
    ("admm", {"iterations": 4, "ramp": 3}),
    ("alps", {"iterations": 6, "steps": 2}),
    ("elsa", {"steps": 4, "interval": 2, "batch_size": 2, "lr": 1e-3}),
    ("elsa-l", {"steps": 4, "interval": 2, "batch_size": 2, "lr": 1e-3}),
]
ROWS = pytest.mark.parametrize(("name", "options"), METHODS, ids=[name for name, _ in METHODS])


def prune(name: str, options: dict[str, Any], model: Any, sparsity: Sparsity, seed: int = 0) -> None:
    hook = plugin_manager(load_method(name), options).hook
    hook.prune(model=model, data=tiny.calibration(seed=seed), sparsity=sparsity)


@ROWS
@pytest.mark.parametrize("architecture", tiny.MODELS)
@pytest.mark.parametrize("pattern", ["0.5", "0.83", "2:4", "1:4"])
def test_the_contract_is_kept(name: str, options: dict[str, Any], architecture: str, pattern: str) -> None:
    model = tiny.MODELS[architecture]()
    sparsity = parse_pattern(pattern)
    changes = load_method(name).changes
    before = Snapshot.of(model, sparsity, changes)
    prune(name, options, model, sparsity)
    facts = before.verify(model)
    assert len(facts.matrices) == 3 * tiny.MATRICES[architecture]
    wanted = {layer.name: 0 if changes == "nothing" else target.zeros for layer, target in prunable(model, sparsity)}
    assert {layer: count.zeros for layer, count in facts.matrices.items()} == wanted


@ROWS
def test_bfloat16_is_kept_and_counted_exactly(name: str, options: dict[str, Any]) -> None:
    model = tiny.llama().to(torch.bfloat16)
    sparsity = parse_pattern("0.7")
    before = Snapshot.of(model, sparsity, load_method(name).changes)
    prune(name, options, model, sparsity)
    before.verify(model)


@ROWS
def test_a_seed_gives_one_result_whatever_the_global_generators_hold(name: str, options: dict[str, Any]) -> None:
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        random.seed(state)
        np.random.seed(state)
        model = tiny.llama()
        prune(name, options, model, parse_pattern("0.6"))
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*results)


@ROWS
def test_data_is_left_as_it_was(name: str, options: dict[str, Any]) -> None:
    data = tiny.calibration()
    before = data.windows.clone()
    plugin_manager(load_method(name), options).hook.prune(model=tiny.llama(), data=data, sparsity=parse_pattern("0.6"))
    assert torch.equal(data.windows, before)


@ROWS
def test_sparsity_zero_changes_nothing_prunable(name: str, options: dict[str, Any]) -> None:
    if load_method(name).changes == "all":
        pytest.skip("a method that trains moves weights at any sparsity")
    model = tiny.llama()
    before = copy.deepcopy(model.state_dict())
    prune(name, options, model, parse_pattern("0"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@ROWS
def test_tied_heads_stay_tied(name: str, options: dict[str, Any]) -> None:
    model = tiny.llama()
    prune(name, options, model, parse_pattern("0.5"))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


class TestTheVerdict:
    """The checks themselves: each catches what it is for."""

    def verdict(self, spoil: Any, pattern: str = "0.5") -> None:
        model = tiny.llama()
        sparsity = parse_pattern(pattern)
        before = Snapshot.of(model, sparsity, "prunable")
        prune("magnitude", {}, model, sparsity)
        before_state = torch.get_rng_state()
        spoil(model)
        try:
            before.verify(model)
        finally:
            torch.set_rng_state(before_state)

    @staticmethod
    def matrix(model: Any) -> torch.Tensor:
        W: torch.Tensor = model.model.layers[1].mlp.up_proj.weight.detach()
        return W

    def test_a_method_that_keeps_the_contract_passes(self) -> None:
        self.verdict(lambda model: None)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda m: TestTheVerdict.matrix(m).view(-1)[:].fill_(1.0), r"up_proj holds 0 zeros where 768 of 1536"),
            (lambda m: TestTheVerdict.matrix(m).zero_(), r"up_proj holds 1536 zeros where 768"),
            (lambda m: TestTheVerdict.matrix(m)[0].fill_(float("nan")), "up_proj holds NaN or infinity"),
            (lambda m: m.model.embed_tokens.weight.detach()[0].fill_(1.0), "embed_tokens.weight was changed"),
            (lambda m: m.model.norm.weight.detach().fill_(2.0), "norm.weight was changed"),
            (lambda m: m.half(), r"torch.float32 .* and is torch.float16"),
            (lambda m: m.model.register_forward_hook(lambda *_: None), "1 hooks or patched forwards"),
            (lambda m: m.train(), "left in another mode"),
            (lambda m: setattr(m.config, "use_cache", not m.config.use_cache), "use_cache"),
            (lambda m: torch.rand(1), "a global random generator was used"),
        ],
    )
    def test_a_method_that_breaks_it_is_caught(self, spoil: Any, message: str) -> None:
        from prunebench.errors import ContractError

        with pytest.raises(ContractError, match=message):
            self.verdict(spoil)

    def test_nm_groups_are_checked_one_by_one(self) -> None:
        from prunebench.errors import ContractError

        def swap(model: Any) -> None:
            W = self.matrix(model)
            kept, lost = (W[0, :4] != 0).nonzero()[0].item(), (W[0, 4:8] == 0).nonzero()[0].item() + 4
            W[0, lost], W[0, kept] = 1.0, 0.0

        with pytest.raises(ContractError, match="keeps 3 weights in a group of 4 where 2"):
            self.verdict(swap, pattern="2:4")
