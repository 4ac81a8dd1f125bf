"""Stored states: codes round trip to the nearest value, zeros stay zeros, bytes are what the tensors hold."""

import pytest
import torch
from prunebench_plugins.elsa.adam import adam
from prunebench_plugins.elsa.codes import (
    E4M3,
    decode_blocks,
    dynamic_map,
    dynamic_tables,
    e4m3_scale,
    encode_blocks,
    pack_bits,
    unpack_bits,
)
from prunebench_plugins.elsa.method import nbytes
from prunebench_plugins.elsa.states import (
    EightBitMoments,
    FullMoments,
    OneState,
    Split,
    TwoStates,
    eight_bit_unless_small,
)
from torch import Tensor


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wide(*shape: int, seed: int = 0) -> Tensor:
    """Values over many decades, as moments are."""
    return randn(*shape, seed=seed) * 10 ** (2 * randn(*shape, seed=seed + 1) - 4)


@pytest.mark.parametrize("signed", [True, False])
def test_the_dynamic_map_is_that_of_bitsandbytes(signed: bool) -> None:
    """256 different values, 0 and 1 among them; the ends and one decade by hand."""
    values = dynamic_map(signed)
    assert len(values) == len(values.unique()) == 256
    assert torch.equal(values, values.sort().values)
    assert values.max() == 1
    assert (values == 0).sum() == 1
    if signed:
        assert values.min() == pytest.approx(-(0.1 + 63.5 / 64 * 0.9))
        assert values[values > 0][:3].tolist() == pytest.approx([5.5e-7, 3.25e-6, 7.75e-6])
    else:
        assert values[:4].tolist() == pytest.approx([0, 3.25e-7, 7.75e-7, 2.125e-6])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", [(4, 256), (7, 33), (1, 5), (300,), (3, 600), (2, 3, 512)])
def test_blocks_round_trip_to_the_nearest_code(signed: bool, shape: tuple[int, ...]) -> None:
    x = wide(*shape) if signed else wide(*shape).abs()
    codes, absmax = encode_blocks(x, signed=signed)
    assert codes.dtype == torch.uint8
    assert codes.shape == x.shape
    assert absmax.shape == (*shape[:-1], -(-shape[-1] // 256))
    scale = absmax.repeat_interleave(256, dim=-1)[..., : shape[-1]].double()
    unit = x.double() / scale
    values = dynamic_map(signed).double() if signed else dynamic_map(signed)[1:].double()  # 0 is for 0 alone
    error = (unit[..., None] - values).abs().min(dim=-1).values
    back = decode_blocks(codes, absmax, signed=signed).double() / scale
    torch.testing.assert_close((back - unit).abs(), error, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("width", [40, 256, 600])
@pytest.mark.parametrize("shards", [[8, 8], [1, 15], [5, 5, 6]])
def test_codes_do_not_depend_on_how_a_matrix_is_cut_into_row_shards(
    shards: list[int], width: int, signed: bool
) -> None:
    x = wide(16, width) if signed else wide(16, width).abs()
    codes, absmax = encode_blocks(x, signed=signed)
    pieces = [encode_blocks(shard, signed=signed) for shard in x.split(shards)]
    assert torch.equal(torch.cat([piece for piece, _ in pieces]), codes)
    assert torch.equal(torch.cat([piece for _, piece in pieces]), absmax)
    for rows, values in zip(decode_blocks(codes, absmax, signed=signed).split(shards), pieces, strict=True):
        assert torch.equal(decode_blocks(*values, signed=signed), rows)


def test_training_with_8_bit_moments_does_not_depend_on_row_shards() -> None:
    whole, shards = randn(16, 600), list(randn(16, 600).clone().split([4, 12]))
    states = [EightBitMoments(W) for W in (whole, *shards)]
    for t in range(1, 5):
        g = wide(16, 600, seed=t)
        for W, part, moments in zip((whole, *shards), (g, *g.split([4, 12])), states, strict=True):
            adam(W, part.clone(), moments, lr=0.01, t=t)
    assert torch.equal(torch.cat(shards), whole)


@pytest.mark.parametrize("signed", [True, False])
def test_coding_by_table_is_a_search_among_the_midpoints(signed: bool) -> None:
    """At every midpoint, next to it on both sides, and between; no pattern of upper bits spans two midpoints."""
    values, midpoints, below = dynamic_tables(signed, torch.device("cpu"))
    edges = midpoints[:-1]
    up, down = torch.full_like(edges, 2.0), torch.full_like(edges, -2.0)
    x = torch.cat([edges, torch.nextafter(edges, up), torch.nextafter(edges, down), values, torch.tensor([-0.0, 1.0])])
    x = torch.cat([x, torch.rand(4096, generator=torch.Generator().manual_seed(0)) * 2 - 1 if signed else x])
    for piece in x.split(255):
        codes, _ = encode_blocks(torch.cat([piece, torch.ones(1)]), signed=signed)
        assert torch.equal(codes[:-1].long(), torch.bucketize(piece, edges))
    patterns = (edges.view(torch.int32) >> 16).tolist()
    assert len(set(patterns)) == 255
    assert below.shape == (65536,)


def test_a_second_moment_above_zero_stays_above_it() -> None:
    """Else an entry with m ≠ 0 would leap by m/ε: on a real model that more than doubled the perplexity."""
    v = torch.cat([10.0 ** -torch.arange(0.0, 30.0), torch.zeros(3)])
    back = decode_blocks(*encode_blocks(v, signed=False), signed=False)
    assert torch.equal(back > 0, v > 0)
    W, moments = torch.zeros(256), EightBitMoments(torch.zeros(256))
    g = torch.full((256,), 1e-5)
    g[0] = 1.0
    for t in (1, 2):
        adam(W, g * (t == 1), moments, lr=1.0, t=t)
    assert W.abs().max() < 2.1  # two steps of Adam


def test_blocks_of_zeros_stay_zeros() -> None:
    x = torch.zeros(600)
    x[300] = 1e-20
    for signed in (True, False):
        assert torch.equal(decode_blocks(*encode_blocks(x, signed=signed), signed=signed), x)


@pytest.mark.parametrize("shape", [(3, 8), (5, 7), (1, 1)])
def test_bits_round_trip(shape: tuple[int, int]) -> None:
    mask = randn(*shape) > 0
    packed = pack_bits(mask)
    assert packed.numel() == -(-mask.numel() // 8)
    assert torch.equal(unpack_bits(packed, mask.shape), mask)


def test_the_e4m3_scale_never_overflows() -> None:
    for size in (1e-12, 1e-3, 1.0, 1e30):
        x = size * randn(1000)
        codes = (x / e4m3_scale(x)).to(E4M3)
        assert torch.isfinite(codes.float()).all()
    assert e4m3_scale(torch.zeros(4)) == pytest.approx(1e-8)


SPLITS = {
    "one-state fp32": lambda W: OneState(W, torch.float32),
    "one-state bf16": lambda W: OneState(W, torch.bfloat16),
    "one-state fp8": lambda W: OneState(W, E4M3),
    "two-state fp32": lambda W: TwoStates(W, torch.float32, torch.float32),
    "two-state paper": lambda W: TwoStates(W, E4M3, torch.bfloat16),
}


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("dual", [1.0, 1e-4, 0.0])
def test_a_split_gives_back_what_was_stored(kind: str, dual: float) -> None:
    """z and u each to the precision of its storage, whatever the size of one beside the other; zeros exactly."""
    W, y = randn(16, 33, seed=1), randn(16, 33)
    kept = y.abs() > 1
    y = torch.where(kept, y, dual * y)
    split: Split = SPLITS[kind](W)
    split.update(y, kept)
    z, u = split.z, split.u
    assert not z[~kept].any()
    assert not u[kept].any()
    near = {"fp32": 0.0, "bf16": 2**-8, "fp8": 2**-4, "paper": 2**-4}[kind.split()[1]]
    torch.testing.assert_close(z[kept], y[kept], rtol=near, atol=near * 2**-6)
    torch.testing.assert_close(u[~kept], y[~kept], rtol=near, atol=near * 2**-6 * dual)
    torch.testing.assert_close(split.residual(W), W - z + u, rtol=0, atol=0 if "fp32" in kind else 1e-6)


@pytest.mark.parametrize("kind", SPLITS)
def test_what_is_read_may_be_overwritten(kind: str) -> None:
    W, y = randn(8, 16, seed=1), randn(8, 16)
    split: Split = SPLITS[kind](W)
    split.update(y, y.abs() > 1)
    z, u, residual = split.z.clone(), split.u.clone(), split.residual(W).clone()
    split.z.fill_(7)
    split.u.fill_(7)
    split.residual(W).fill_(7)
    assert torch.equal(split.z, z)
    assert torch.equal(split.u, u)
    assert torch.equal(split.residual(W), residual)


def test_u_comes_from_z_before_it_is_rounded() -> None:
    W, y = randn(8, 16, seed=1), randn(8, 16)
    split = TwoStates(W, E4M3, torch.bfloat16)
    split.update(y, y.abs() > 1)
    assert not split.u[y.abs() > 1].any(), "the rounding error of z is no part of u"


@pytest.mark.parametrize(
    ("kind", "eight_bit", "wanted"),
    [
        ("one-state fp32", False, 16.125),
        ("two-state fp32", False, 20.0),
        ("one-state fp8", True, 7.15625),
        ("one-state bf16", True, 8.15625),
        ("two-state paper", True, 9.03125),
    ],
)
def test_bytes_for_each_weight(kind: str, eight_bit: bool, wanted: float) -> None:
    W = randn(512, 512)
    moments = EightBitMoments(W) if eight_bit else FullMoments(W)
    split: Split = SPLITS[kind](W)
    split.update(W, W > 0)
    moments.write(*moments.read())
    held = nbytes([W, *moments.tensors(), *split.tensors()])
    assert held / W.numel() == pytest.approx(wanted, abs=1e-4)


def test_small_tensors_keep_full_moments() -> None:
    assert isinstance(eight_bit_unless_small(torch.zeros(4095)), FullMoments)
    assert isinstance(eight_bit_unless_small(torch.zeros(64, 64)), EightBitMoments)
