"""MaskLLM's sampling by loops, its training against torch's optimizer, and masks that hold n:m."""

from typing import Any

import pytest
import torch
from prunebench_plugins.maskllm import DEVIATION, MaskLLM, candidates, sampled
from prunebench_plugins.wanda import Wanda
from torch import Tensor

from prunebench.pruning import NM, FeatureNorm, calibrated, prunable
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.oracles.maskllm import all_masks, gumbel_mask, maskllm_textbook
from tests.oracles.training import linears

QUICK: dict[str, Any] = {"steps": 6, "batch_size": 2, "lr": 0.01}


@pytest.mark.parametrize(("n", "m", "count"), [(2, 4, 6), (1, 4, 4), (4, 8, 70), (3, 3, 1)])
def test_all_masks_of_a_group(n: int, m: int, count: int) -> None:
    assert candidates(1 - n / m, m).tolist() == all_masks(n, m)
    assert len(all_masks(n, m)) == count


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4)])
@pytest.mark.parametrize("tau", [4.0, 0.3])
def test_sampling_by_loops(n: int, m: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, noise = torch.randn(2, 5, len(all_masks(n, m)), generator=generator)
    found = sampled(logits + noise, candidates(1 - n / m, m), tau)
    expected = [gumbel_mask(one.tolist(), g.tolist(), n, m, tau) for one, g in zip(logits, noise, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected))
    torch.testing.assert_close(found.sum(dim=1), torch.full((5,), float(n)))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_at_temperature_0_it_holds_n_of_m(n: int, m: int) -> None:
    logits = torch.randn(100, len(all_masks(n, m)), generator=torch.Generator().manual_seed(0))
    found, masks = sampled(logits, candidates(1 - n / m, m), 0.0), candidates(1 - n / m, m)
    assert found.unique().tolist() == [0, 1]
    assert (found.sum(dim=1) == n).all()
    assert torch.equal(found, sampled(logits, masks, 1e-4).round())
    assert torch.equal(found, masks[logits.argmax(dim=1)])


def test_its_training_is_torchs() -> None:
    ours, theirs, data, pattern = tiny.llama(), tiny.llama(), tiny.calibration(), NM(2, 4)
    method = MaskLLM(**QUICK, reward=1e-3)
    method.prune(ours, data, pattern)
    random = torch.Generator().manual_seed(data.seed)
    gates = []
    for layer, norm, target in calibrated(theirs, data, pattern, FeatureNorm, resume=False):
        prior = target.mask(layer.weight.abs() * norm.value).float().view(-1, 4)
        alike = torch.tensor(
            [[sum(a * b for a, b in zip(m, one, strict=True)) for m in all_masks(2, 4)] for one in prior.tolist()]
        )
        gates.append(DEVIATION * (torch.randn(alike.shape, generator=random) + 3.0 * (alike - 1)))
    batches = [next(data.batches(2, t)) for t in range(6)]
    noise: list[list[Tensor]] = []
    for t in range(6):
        random = torch.Generator().manual_seed(data.seed * 2**32 + t)
        noise.append([-torch.empty(gate.shape).exponential_(generator=random).log() for gate in gates])
    trained = maskllm_textbook(
        theirs, batches, gates, noise, lr=0.01, reward=1e-3, temperature=(4, 0.05), scale=(100, 500), pattern=(2, 4)
    )  # fmt: skip
    masks = [torch.tensor(all_masks(2, 4))[gate.argmax(dim=1)] for gate in trained]
    changed = torch.cat([(a.argmax(dim=1) != b.argmax(dim=1)) for a, b in zip(trained, gates, strict=True)])
    assert changed.float().mean() > 0.1
    for layer, dense, mask in zip(linears(ours), linears(tiny.llama()), masks, strict=True):
        same = (layer.weight != 0) == mask.view(dense.weight.shape).bool()
        assert same.float().mean() > 0.99
        assert torch.equal(layer.weight, dense.weight * (layer.weight != 0))


def test_without_steps_a_strong_prior_is_wandas_mask() -> None:
    """On the dense model's inputs, so in the first block."""
    ours, wanda = tiny.llama(), tiny.llama()
    MaskLLM(steps=0, prior=100.0).prune(ours, tiny.calibration(), NM(2, 4))
    Wanda().prune(wanda, tiny.calibration(), NM(2, 4))
    for one, other in list(zip(linears(ours), linears(wanda), strict=True))[:7]:
        assert torch.equal(one.weight, other.weight)


def test_a_group_that_keeps_all_is_left() -> None:
    model = tiny.llama()
    MaskLLM(**QUICK).prune(model, tiny.calibration(), NM(4, 4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny.llama().parameters(), strict=True))


def test_unstructured_sparsity_is_not_planned(write_suite: Any) -> None:
    cells = plan(load_suite(write_suite(methods="methods: [dense, maskllm]")))
    assert [(cell.method, str(cell.sparsity)) for cell in cells] == [("dense", "0"), ("maskllm", "2:4")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps -1, batch_size 256: give counts"),
        ({"batch_size": 0}, "steps 2000, batch_size 0: give counts"),
        ({"lr": 0.0}, r"lr 0\.0, temperature .* give numbers above 0"),
        ({"temperature": (0.0, 0.0)}, r"temperature \(0\.0, 0\.0\), scale .* give numbers above 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskLLM(**options)


def test_the_last_temperature_may_be_0() -> None:
    model = tiny.llama()
    MaskLLM(**QUICK, temperature=(1.0, 0.0)).prune(model, tiny.calibration(), NM(1, 4))
    for layer, target in prunable(model, NM(1, 4)):
        assert int((layer.weight == 0).sum()) == target.zeros
