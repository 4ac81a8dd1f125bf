"""The contract: the built-in methods keep it, and the runner's checks catch each breach of it."""

from typing import Any

import pytest
import torch

from prunebench.contract.checks import Snapshot
from prunebench.errors import ContractError
from prunebench.pruning.sparsity import parse_pattern
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.testing import Verdict
from tests.helpers import tiny


@pytest.mark.method("dense")
@pytest.mark.method("magnitude")
@pytest.mark.method("wanda")
@pytest.mark.method("sparsegpt", blocksize=8)
@pytest.mark.method("admm", iterations=4, ramp=3)
@pytest.mark.method("alps", iterations=6, steps=2)
@pytest.mark.method("elsa", steps=4, interval=2, batch_size=2, lr=1e-3)
@pytest.mark.method("elsa-l", steps=4, interval=2, batch_size=2, lr=1e-3)
@pytest.mark.method("gmp", steps=4, interval=1, batch_size=2, lr=1e-3)
@pytest.mark.method("retrain", steps=4, batch_size=2, lr=1e-3)
@pytest.mark.method("perp", steps=4, batch_size=2, lr=1e-3, rank=2)
@pytest.mark.method("reconstruct", epochs=2, lr=1e-3)
@pytest.mark.method("ria")
@pytest.mark.method("swaps", swaps=3)
@pytest.mark.method("gblm")
@pytest.mark.method("maskllm", steps=3, batch_size=2)
@pytest.mark.method("safe", epochs=2, interval=1, activation=True)
def test_the_built_in_methods_keep_the_contract(verdict: Verdict) -> None:
    assert verdict.holds, verdict


def test_every_matrix_of_every_architecture_is_pruned() -> None:
    for architecture, build in tiny.MODELS.items():
        model, sparsity = build(), parse_pattern("0.5")
        before = Snapshot.of(model, sparsity, "prunable")
        plugin_manager(load_method("magnitude"), {}).hook.prune(model=model, data=None, sparsity=sparsity)
        assert len(before.verify(model).matrices) == 3 * tiny.MATRICES[architecture], architecture


class TestTheChecks:
    """Each catches what it is for."""

    def verdict(self, spoil: Any, pattern: str = "0.5") -> None:
        model = tiny.llama()
        sparsity = parse_pattern(pattern)
        before = Snapshot.of(model, sparsity, "prunable")
        plugin_manager(load_method("magnitude"), {}).hook.prune(model=model, data=None, sparsity=sparsity)
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
            (lambda m: TestTheChecks.matrix(m).view(-1)[:].fill_(1.0), r"up_proj holds 0 zeros where 768 of 1536"),
            (lambda m: TestTheChecks.matrix(m).zero_(), r"up_proj holds 1536 zeros where 768"),
            (lambda m: TestTheChecks.matrix(m)[0].fill_(float("nan")), "up_proj holds NaN or infinity"),
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
        with pytest.raises(ContractError, match=message):
            self.verdict(spoil)

    def test_nm_groups_are_checked_one_by_one(self) -> None:
        def swap(model: Any) -> None:
            W = self.matrix(model)
            kept, lost = (W[0, :4] != 0).nonzero()[0].item(), (W[0, 4:8] == 0).nonzero()[0].item() + 4
            W[0, lost], W[0, kept] = 1.0, 0.0

        with pytest.raises(ContractError, match="keeps 3 weights in a group of 4 where 2"):
            self.verdict(swap, pattern="2:4")
