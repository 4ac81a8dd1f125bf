"""8-bit formats: e4m3 with a scale for each tensor, dynamic maps with one for 256 entries of a row; packed bits."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
BLOCK = 256
TINY = 1e-37  # a block whose largest entry is below this is stored as zeros: its reciprocal would overflow


def e4m3_scale(x: Tensor) -> Tensor:
    """Scale of one tensor, fp32 scalar: 1.05·max|x|/448, at least 1e-8. The 5 % keep x/scale from overflowing."""
    return (x.abs().amax() * (1.05 / E4M3_MAX)).clamp_(min=1e-8)


@lru_cache
def e4m3_values(device: torch.device) -> Tensor:
    """The value of each code, fp32 (256,): a look-up takes a fifth of the time of torch's cast on a CPU."""
    return torch.arange(256, dtype=torch.uint8).view(E4M3).float().to(device)


@lru_cache
def dynamic_map(signed: bool) -> Tensor:
    """The 256 values of the dynamic map, ascending, fp32; as in bitsandbytes (Dettmers et al., arXiv 2110.02861).

    Seven decades from 1e-7 to 1. The decade 10^(i−7) … 10^(i−6) holds 2^i values of either sign (2^(i+1) without a
    sign), the centres of as many equal parts of it; and 0 and 1. So relative precision is best next to 1, and
    entries a million times smaller than their block's largest are still told from 0.
    """
    values = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1)
        centres = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (i - 6)).tolist()
        values += centres + ([-centre for centre in centres] if signed else [])
    return torch.tensor(sorted(values))


@lru_cache
def dynamic_tables(signed: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lookup tables for coding by the dynamic map, on ``device``.

    The nearest code of x is the number of midpoints below x. All fp32 numbers with the same upper 16 bits lie in a
    range so narrow that it holds at most one midpoint: a table gives the number of midpoints below the range, and one
    comparison decides about the last. This takes a tenth of the time of a binary search.

    Without a sign, only 0 itself gets the code of 0: Adam divides by √v, and an entry with m ≠ 0 whose v was rounded
    to 0 would move by m/ε.

    Returns:
        The map's values, fp32 (256,); the midpoints between neighbours, fp32 (256,) with +∞ last; and for each pattern
        of the upper 16 bits the number of midpoints below its range, uint8 (65536,).
    """
    values = dynamic_map(signed)
    midpoints = torch.cat([(values[:-1] + values[1:]) / 2, torch.tensor([torch.inf])])
    if not signed:
        midpoints[0] = 0
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32).roll(2**15) << 16
    least = torch.where(upper < 0, upper | 0xFFFF, upper).view(torch.float32)  # negative numbers are cut towards 0
    below = torch.bucketize(least, midpoints[:-1]).to(torch.uint8)
    return values.to(device), midpoints.to(device), below.to(device)


def encode_blocks(x: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Nearest codes of x/absmax in blocks of 256 consecutive entries of a row, the last of which may be shorter.

    No block goes beyond a row, so the codes of some rows are the same with and without the rest of the matrix: they
    do not depend on how it is sharded by rows.

    Args:
        x: fp32 (…, width); all but the last dimension count rows.
        signed: which map.

    Returns:
        Codes, uint8 of x's shape, and each block's absmax, fp32 (…, ⌈width/256⌉). Half-way goes to the lower value;
        without a sign, what is above 0 stays above 0.
    """
    absmax = torch.cat([part.abs().amax(dim=-1) for part in _blocks(x)], dim=-1)
    _, midpoints, below = dynamic_tables(signed, x.device)
    unit = _times(
        x.clone(memory_format=torch.contiguous_format), torch.where(absmax < TINY, 1.0, absmax).reciprocal()
    ).view(-1)
    upper = (unit.view(torch.int32) >> 16).bitwise_and_(0xFFFF)
    codes = below.index_select(0, upper)
    codes += unit > midpoints.index_select(0, codes.int())
    return codes.view(x.shape), absmax


def decode_blocks(codes: Tensor, absmax: Tensor, *, signed: bool) -> Tensor:
    """fp32 values of ``encode_blocks``' codes, in their shape."""
    values, _, _ = dynamic_tables(signed, codes.device)
    return _times(values.index_select(0, codes.reshape(-1).int()).view(codes.shape), absmax)


def _blocks(x: Tensor) -> list[Tensor]:
    """Views of the blocks of x (…, width): the whole ones (…, n, 256), and what is left (…, 1, width mod 256)."""
    count = x.shape[-1] // BLOCK
    whole, rest = x[..., : count * BLOCK], x[..., None, count * BLOCK :]
    return [part for part in (whole.view(*x.shape[:-1], count, BLOCK), rest) if part.numel()]


def _times(x: Tensor, factors: Tensor) -> Tensor:
    """x, each of its blocks multiplied in place by its factor."""
    start = 0
    for part in _blocks(x):
        part.mul_(factors[..., start : start + part.shape[-2], None])
        start += part.shape[-2]
    return x


def pack_bits(mask: Tensor) -> Tensor:
    """Eight booleans to a byte, the first in the lowest bit; uint8 (⌈numel/8⌉,)."""
    flat = mask.reshape(-1).view(torch.uint8)
    octets = F.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    packed = octets[:, 0].clone()
    for bit in range(1, 8):
        packed |= octets[:, bit] << bit
    return packed


def unpack_bits(packed: Tensor, shape: torch.Size) -> Tensor:
    """The booleans that ``pack_bits`` packed."""
    octets = torch.stack([(packed >> bit) & 1 for bit in range(8)], dim=1)
    return octets.view(-1)[: shape.numel()].view(shape).view(torch.bool)
