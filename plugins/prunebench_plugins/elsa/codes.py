"""8-bit formats: e4m3 with a scale for each tensor, dynamic maps with a scale for each 256 entries, and packed bits."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
BLOCK = 256


def e4m3_scale(x: Tensor) -> Tensor:
    """Scale of one tensor, fp32 scalar: 1.05·max|x|/448, at least 1e-8. The 5 % keep x/scale from overflowing."""
    return (x.abs().amax() * (1.05 / E4M3_MAX)).clamp_(min=1e-8)


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
def dynamic_tables(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The map, fp32 (256,), and the midpoints between its neighbours, fp32 (256,) with +∞ last, on ``device``."""
    values = dynamic_map(signed)
    midpoints = torch.cat([(values[:-1] + values[1:]) / 2, torch.tensor([torch.inf])])
    return values.to(device), midpoints.to(device)


def encode_blocks(x: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Nearest codes of x/absmax in blocks of 256 consecutive entries.

    Args:
        x: fp32, any shape.
        signed: which map.

    Returns:
        Codes, uint8 of x's shape, and each block's absmax, fp32 (⌈numel/256⌉,). Half-way goes to the lower value.
    """
    flat = x.reshape(-1)
    blocks = F.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    absmax = blocks.abs().amax(dim=1)
    _, midpoints = dynamic_tables(signed, x.device)
    unit = blocks / torch.where(absmax == 0, 1.0, absmax)[:, None]
    codes = torch.bucketize(unit, midpoints[:-1], out_int32=True).to(torch.uint8)
    return codes.view(-1)[: flat.numel()].view(x.shape), absmax


def decode_blocks(codes: Tensor, absmax: Tensor, *, signed: bool) -> Tensor:
    """fp32 values of ``encode_blocks``' codes, in their shape."""
    values, _ = dynamic_tables(signed, codes.device)
    unit = values.index_select(0, codes.reshape(-1).int())
    unit = F.pad(unit, (0, -unit.numel() % BLOCK)).view(-1, BLOCK)
    return (unit * absmax[:, None]).view(-1)[: codes.numel()].view(codes.shape)


def pack_bits(mask: Tensor) -> Tensor:
    """Eight booleans to a byte, the first in the lowest bit; uint8 (⌈numel/8⌉,)."""
    flat = mask.reshape(-1).view(torch.uint8)
    octets = F.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    packed = octets[:, 0].clone()
    for place in range(1, 8):
        packed |= octets[:, place] << place
    return packed


def unpack_bits(packed: Tensor, shape: torch.Size) -> Tensor:
    """The booleans that ``pack_bits`` packed."""
    octets = torch.stack([(packed >> place) & 1 for place in range(8)], dim=1)
    return octets.view(-1)[: shape.numel()].view(shape).view(torch.bool)
