"""Storage formats of a run's states: the split z and the dual u, and Adam's moments m and v.

The algorithm reads and writes fp32; ELSA and ELSA-L differ only in the formats chosen from this file.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor

from prunebench_plugins.elsa.codes import (
    E4M3,
    decode_blocks,
    e4m3_scale,
    e4m3_values,
    encode_blocks,
    pack_bits,
    unpack_bits,
)

Layout = Literal["one-state", "two-state"]
SMALL = 4096  # tensors with fewer entries keep fp32 moments


class Split(Protocol):
    """z and u of one matrix, as they stand right after an update."""

    @property
    def z(self) -> Tensor:
        """The sparse z, fp32, new memory."""

    @property
    def u(self) -> Tensor:
        """The scaled dual u, fp32, new memory."""

    def residual(self, W: Tensor) -> Tensor:
        """W − z + u, new memory: the proximal term's gradient over λ."""

    def update(self, y: Tensor, kept: Tensor) -> None:
        """Store z = y·M and u = y·(1−M), where y = W + u and M is ``kept``."""

    def tensors(self) -> list[Tensor]:
        """All tensors of the state."""


class OneState:
    """z and u in one tensor c = z − u and one bit for each weight.

    After an update z = y·M and u = y·(1−M), whose supports are complementary. So c is y where M is set and −y
    elsewhere, the proximal term λ(W − z + u) is λ(W − c), and u is read back as −c off the mask. In fp32 this is
    the two-state form bit for bit.

    Args:
        W: the weights, fp32; c and the bits are made in their shape and on their device.
        dtype: of c: fp32, bf16, or e4m3 with two scales, one for kept and one for dual entries, which differ in size.
    """

    def __init__(self, W: Tensor, dtype: torch.dtype) -> None:
        self.c = torch.zeros_like(W, dtype=dtype)
        self.bits = torch.zeros((W.numel() + 7) // 8, dtype=torch.uint8, device=W.device)
        self.scales = torch.ones(2, device=W.device) if dtype == E4M3 else None  # of dual entries, of kept ones

    @property
    def kept(self) -> Tensor:
        """M, boolean."""
        return unpack_bits(self.bits, self.c.shape)

    def read(self) -> Tensor:
        """c, fp32; in the fp32 layout the stored tensor itself."""
        if self.scales is None:
            return self.c.float()
        values = (e4m3_values(self.c.device) * self.scales[:, None]).flatten()  # of dual entries, then of kept ones
        indices = self.c.view(torch.uint8).int().add_(self.kept, alpha=256)
        return values.index_select(0, indices.reshape(-1)).view(self.c.shape)

    @property
    def z(self) -> Tensor:
        """c on the mask."""
        return self.read().masked_fill(~self.kept, 0)

    @property
    def u(self) -> Tensor:
        """−c off the mask."""
        return self.read().masked_fill(self.kept, 0).neg_()

    def residual(self, W: Tensor) -> Tensor:
        """W − c."""
        return W - self.read()

    def update(self, y: Tensor, kept: Tensor) -> None:
        """c ← y on the mask, −y off it."""
        self.bits = pack_bits(kept)
        c = torch.where(kept, y, -y)
        if self.scales is not None:
            self.scales = torch.stack([e4m3_scale(c.masked_fill(kept, 0)), e4m3_scale(c.masked_fill(~kept, 0))])
            c.div_(torch.where(kept, self.scales[1], self.scales[0]))
        self.c.copy_(c)

    def tensors(self) -> list[Tensor]:
        """c, the bits and the scales."""
        return [self.c, self.bits] + ([] if self.scales is None else [self.scales])


class TwoStates:
    """z and u in a tensor each, as the paper counts them.

    Args:
        W: the weights, fp32.
        z_dtype: fp32, or e4m3 with one scale, in which zeros stay exact zeros.
        u_dtype: fp32 or bf16.
    """

    def __init__(self, W: Tensor, z_dtype: torch.dtype, u_dtype: torch.dtype) -> None:
        self._z = torch.zeros_like(W, dtype=z_dtype)
        self._u = torch.zeros_like(W, dtype=u_dtype)
        self.scale = torch.ones((), device=W.device) if z_dtype == E4M3 else None

    @property
    def z(self) -> Tensor:
        """z, dequantised."""
        z = self._z.to(torch.float32, copy=True)
        return z if self.scale is None else z.mul_(self.scale)

    @property
    def u(self) -> Tensor:
        """u, in fp32."""
        return self._u.to(torch.float32, copy=True)

    def residual(self, W: Tensor) -> Tensor:
        """W − z + u, with z as it is stored."""
        return (W - self.z).add_(self._u)

    def update(self, y: Tensor, kept: Tensor) -> None:
        """Store z and u; u is computed from z before z is rounded to its storage dtype."""
        z = y.masked_fill(~kept, 0)
        self._u.copy_(y - z)
        if self.scale is not None:
            self.scale = e4m3_scale(z)
            z.div_(self.scale)
        self._z.copy_(z)

    def tensors(self) -> list[Tensor]:
        """z, u and the scale."""
        return [self._z, self._u] + ([] if self.scale is None else [self.scale])


class Moments(Protocol):
    """Adam's m and v of one tensor."""

    @property
    def v(self) -> Tensor:
        """v, fp32; not to be written to."""

    def read(self) -> tuple[Tensor, Tensor]:
        """m and v, fp32; the caller changes them in place and passes them to ``write``."""

    def write(self, m: Tensor, v: Tensor) -> None:
        """Store m and v."""

    def tensors(self) -> list[Tensor]:
        """All tensors of the state."""


class FullMoments:
    """m and v in fp32."""

    def __init__(self, W: Tensor) -> None:
        self.m, self.v = torch.zeros_like(W), torch.zeros_like(W)

    def read(self) -> tuple[Tensor, Tensor]:
        """The stored tensors themselves."""
        return self.m, self.v

    def write(self, m: Tensor, v: Tensor) -> None:
        """Nothing to do: they were changed in place."""

    def tensors(self) -> list[Tensor]:
        """m and v."""
        return [self.m, self.v]


class EightBitMoments:
    """m by the signed and v by the unsigned dynamic map, in blocks of 256 of a row (Dettmers et al., arXiv 2110.02861).

    The published 8-bit optimisers cut the flattened tensor; by rows, codes do not depend on how it is sharded.
    """

    def __init__(self, W: Tensor) -> None:
        self.m, self.m_absmax = encode_blocks(torch.zeros_like(W), signed=True)
        self.v_codes, self.v_absmax = encode_blocks(torch.zeros_like(W), signed=False)

    @property
    def v(self) -> Tensor:
        """v, dequantised."""
        return decode_blocks(self.v_codes, self.v_absmax, signed=False)

    def read(self) -> tuple[Tensor, Tensor]:
        """m and v, dequantised."""
        return decode_blocks(self.m, self.m_absmax, signed=True), self.v

    def write(self, m: Tensor, v: Tensor) -> None:
        """Quantise to the nearest code, v never to 0."""
        self.m, self.m_absmax = encode_blocks(m, signed=True)
        self.v_codes, self.v_absmax = encode_blocks(v, signed=False)

    def tensors(self) -> list[Tensor]:
        """Codes and scales."""
        return [self.m, self.m_absmax, self.v_codes, self.v_absmax]


def eight_bit_unless_small(W: Tensor) -> Moments:
    """8-bit moments, but fp32 for norms, biases and other tensors under 4096 entries."""
    return FullMoments(W) if W.numel() < SMALL else EightBitMoments(W)
