"""Selection as it runs on a device, tried on CPU tensors: exact counts, ties to the lower index, all fp32 in order."""

import pytest
import torch
from torch import Tensor

from prunebench.pruning import selection

TINY = torch.finfo(torch.float32).tiny


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SCORES = {
    "normal": normal(33, 125),
    "squares": normal(33, 125).square(),
    "magnitudes": normal(20, 96).abs(),
    "bf16, full of ties": normal(40, 60).bfloat16().float(),
    "few values": normal(16, 64).sign() * 0.5,
    "all equal": torch.full((9, 31), 2.5),
    "zeros of both signs": torch.tensor([0.0, -0.0, 1.0, -1.0] * 8).view(4, 8),
    "subnormal": normal(12, 20) * TINY,
    "infinities": torch.cat([normal(4, 8), torch.full((2, 8), torch.inf), torch.full((2, 8), -torch.inf)]),
    "one upper half": 1 + torch.rand(8, 100, generator=torch.Generator().manual_seed(1)) * 2**-8,
    "wide": normal(17, 19, seed=1) * 10 ** (12 * normal(17, 19, seed=2)).clamp(1e-30, 1e30),
}


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_select_on_cpu", selection._select_on_device)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_the_mask_is_that_of_a_stable_sort(scores: Tensor, share: float) -> None:
    zeros = int(share * scores.numel())
    order = torch.sort(scores.flatten(), descending=True, stable=True).indices  # ties: the lower index comes first
    expected = torch.zeros(scores.numel(), dtype=torch.bool)
    expected[order[: scores.numel() - zeros]] = True
    mask = selection.keep_of_matrix(scores, zeros)
    assert int((~mask).sum()) == zeros
    assert torch.equal(mask.flatten(), expected)


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_every_order_statistic_is_torchs(scores: Tensor) -> None:
    values = scores.flatten()
    ordered = values.sort().values
    for place in {0, 1, len(values) // 3, len(values) // 2, len(values) - 2, len(values) - 1}:
        assert selection._kth_smallest(values, place) == ordered[place]


@pytest.mark.usefixtures("on_device")
def test_double_precision_and_rows_are_selected_exactly_too() -> None:
    scores = normal(6, 50).double()
    scores[:, ::2] = scores[:, 1::2]
    for zeros in (0, 7, 151, 300):
        assert int((~selection.keep_of_matrix(scores, zeros)).sum()) == zeros
        assert int((~selection.keep_of_rows(scores, zeros)).sum()) == zeros
    close = torch.tensor([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]], dtype=torch.float64)  # equal in fp32
    assert selection.keep_of_matrix(close, 2).tolist() == [[False, True, False]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_a_gpu_gives_the_cpus_mask(scores: Tensor) -> None:
    for zeros in (1, scores.numel() // 2, scores.numel() - 1):
        assert torch.equal(
            selection.keep_of_matrix(scores.cuda(), zeros).cpu(), selection.keep_of_matrix(scores, zeros)
        )
