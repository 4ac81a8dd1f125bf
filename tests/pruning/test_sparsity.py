"""Patterns and exact masks."""

from fractions import Fraction

import pytest
import torch

from prunebench.pruning import NM, Allocated, PatternError, Target, Unstructured
from prunebench.pruning.sparsity import parse_pattern
from prunebench.pruning.topk import _select_on_cpu, _select_on_device


def half_up(ratio: str, numel: int) -> int:
    return int(Fraction(ratio) * numel + Fraction(1, 2))


@pytest.mark.parametrize("ratio", ["0", "0.1", "0.5", "0.7", "0.9", "0.99", "0.333"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 32), (64, 24), (1, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counts_are_exact_with_heavy_ties(ratio: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    scores = torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    target = Target.of(Unstructured(float(ratio)), shape)
    wanted = half_up(ratio, shape[0] * shape[1])
    assert target.zeros == wanted
    assert int((~target.mask(scores)).sum()) == wanted
    rows = (~target.mask(scores, per="row")).sum(dim=1)
    assert int(rows.sum()) == wanted
    assert int(rows.max() - rows.min()) <= 1
    tiles = [target.columns(start, min(start + 5, shape[1])) for start in range(0, shape[1], 5)]
    pruned = [int((~tile.mask(scores[:, tile.start : tile.end])).sum()) for tile in tiles]
    assert sum(pruned) == wanted
    assert all(
        abs(count - float(ratio) * shape[0] * (t.end - t.start)) <= 1 for count, t in zip(pruned, tiles, strict=True)
    )


@pytest.mark.parametrize("per", ["matrix", "row"])
def test_mask_keeps_the_highest_and_ties_go_to_the_lower_index(per: str) -> None:
    scores = torch.rand(9, 20, generator=torch.Generator().manual_seed(0)).mul(6).round()
    mask = Target.of(Unstructured(0.6), (9, 20)).mask(scores, per=per)  # type: ignore[arg-type]
    groups = zip(scores, mask, strict=True) if per == "row" else [(scores.reshape(-1), mask.reshape(-1))]
    for values, kept in groups:
        order = sorted(range(len(values)), key=lambda i: (-float(values[i]), i))
        assert sorted(order[: int(kept.sum())]) == kept.nonzero().flatten().tolist()


def test_ratio_is_read_as_the_decimal_it_was_written_as() -> None:
    # In binary 0.35 · 10 is 3.4999…, which would round down.
    assert Target.of(Unstructured(0.35), (1, 10)).zeros == 4


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (3, 6), (4, 4), (1, 1), (5, 24)])
def test_nm_keeps_n_of_every_m(n: int, m: int) -> None:
    scores = torch.randint(0, 3, (5, m * 6), generator=torch.Generator().manual_seed(0)).float()
    mask = Target.of(NM(n, m), (5, m * 6)).mask(scores)
    for group, kept in zip(scores.reshape(-1, m), mask.reshape(-1, m), strict=True):
        order = sorted(range(m), key=lambda i: (-float(group[i]), i))
        assert sorted(order[:n]) == kept.nonzero().flatten().tolist()


def test_nm_refuses_a_width_that_does_not_divide() -> None:
    with pytest.raises(PatternError, match="2:4 does not fit 6 inputs"):
        Target.of(NM(2, 4), (3, 6))


def test_nan_scores_are_refused() -> None:
    for pattern in (Unstructured(0.5), NM(2, 4)):
        with pytest.raises(ValueError, match="NaN"):
            Target.of(pattern, (1, 4)).mask(torch.tensor([[1.0, float("nan"), 2.0, 3.0]]))


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(PatternError, match=r"shape \(4, 2\)"):
        Target.of(Unstructured(0.5), (2, 4)).mask(torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("text", "pattern", "shown"),
    [
        ("0.9", Unstructured(0.9), "0.9"),
        ("0.70", Unstructured(0.7), "0.7"),
        ("0", Unstructured(0.0), "0"),
        ("5e-1", Unstructured(0.5), "0.5"),
        ("2:4", NM(2, 4), "2:4"),
        (" 1 : 4", NM(1, 4), "1:4"),
    ],
)
def test_patterns_are_read_and_shown(text: str, pattern: Unstructured | NM, shown: str) -> None:
    assert parse_pattern(text) == pattern
    assert str(parse_pattern(text)) == shown


@pytest.mark.parametrize("text", ["1.2", "1", "-0.1", "4:2", "0:4", "half", "nan", "", "2:4:8"])
def test_wrong_patterns_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        parse_pattern(text)


def test_allocation_names_layers() -> None:
    allocated = Allocated(Unstructured(0.5), {"a": Unstructured(0.3)})
    assert allocated.for_layer("a") == Unstructured(0.3)
    assert allocated.for_layer("b") == Unstructured(0.5)


def test_the_selection_of_a_device_is_that_of_the_cpu() -> None:
    """Off the CPU ``kthvalue`` selects; both must name the same entries."""
    values = torch.randn(3, 500, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    for place in (0, 1, 250, 499):
        for one, other in zip(_select_on_cpu(values, place), _select_on_device(values, place), strict=True):
            assert torch.equal(one, other)
