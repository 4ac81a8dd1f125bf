"""RIA: relative importance and activations (Zhang et al., "Plug-and-Play", ICLR 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import Block, CalibrationData, FeatureNorm, Sparsity, UnknownMatrixError, blocks, decoder_blocks

WIRED = {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}


@dataclass(frozen=True)
class RIA:
    """Keep the weights that are large in their row and in their column, on inputs that are large. No weight update.

    Args:
        power: a, what the norm of an input is raised to; 0 leaves the inputs out.
        permutation: for n:m, reorder the inputs of each ``down_proj`` first, so that large scores fall into different
            groups. ``gate_proj`` and ``up_proj`` are reordered with it, so that the model computes the same: that is
            known of MLPs of these three matrices alone, without biases, and refused of others at any sparsity. Without
            effect on unstructured sparsity. What reads the dense model's weights, as ``swaps`` does, must not follow.
    """

    revision: ClassVar[int] = 1

    power: float = 0.5
    permutation: bool = False

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for number, module in enumerate(decoder_blocks(model)):
            if self.permutation and not gated_mlps(module):
                raise UnknownMatrixError(
                    f"decoder block {number} holds no MLP of gate_proj, up_proj and down_proj alone, without biases: "
                    "the order of its channels cannot be changed; leave out permutation"
                )
        for block in blocks(model, data, sparsity):
            norms = {name: norm.value for name, norm in block.statistics(FeatureNorm).items()}
            if self.permutation:
                permute(block, norms, self.power)
            for layer, target in block.layers:
                scores = ria_scores(layer.weight.float(), norms[layer.name], self.power)
                layer.weight.masked_fill_(~target.mask(scores), 0)


def ria_scores(W: Tensor, norm: Tensor, power: float) -> Tensor:
    """Relative importance of each weight, times its input's norm to a power.

    Args:
        W: weights, fp32 (out, in).
        norm: ‖X_j‖₂ of each input over the calibration tokens, fp32 (in,).
        power: a.

    Returns:
        (|W_ij| / Σ_k |W_ik| + |W_ij| / Σ_k |W_kj|) · ‖X_j‖₂^a, fp32 (out, in); 0 where W_ij is.
    """
    size = W.abs()
    tiny = torch.finfo(size.dtype).tiny  # a row or column of zeros has no relative importance
    shares = size / size.sum(dim=1, keepdim=True).clamp(min=tiny) + size / size.sum(dim=0).clamp(min=tiny)
    return shares * norm**power


def gated_mlps(block: nn.Module) -> list[dict[str, nn.Parameter]]:
    """The MLPs of a block whose hidden channels may be reordered: what stands between their matrices has no weights."""
    parameters = [dict(module.named_parameters()) for module in block.modules()]
    return [own for own in parameters if own.keys() == WIRED]


def permute(block: Block, norms: dict[str, Tensor], power: float) -> None:
    """Reorder the hidden channels of a block's MLPs, and ``norms`` with them, for the n:m pattern of ``down_proj``."""
    for own in gated_mlps(block.module):
        layer, target = next(pair for pair in block.layers if pair[0].parameter is own["down_proj.weight"])
        if target.pattern.group and target.zeros:
            m = target.pattern.group
            scores = ria_scores(layer.weight.float(), norms[layer.name], power)
            order = channel_order(scores, round(m * (1 - target.pattern.ratio)), m)
            norms[layer.name] = norms[layer.name][order]
            layer.weight.copy_(layer.weight[:, order])
            for name in WIRED - {"down_proj.weight"}:
                own[name].detach().copy_(own[name].detach()[order])


def channel_order(scores: Tensor, n: int, m: int) -> Tensor:
    """An order of columns in which n:m keeps much of the scores: heuristic allocation, then linear sum assignment.

    Args:
        scores: fp32 (out, in).
        n, m: of every m columns, n are kept in each row.

    Returns:
        Numbers of columns, int64 (in,).
    """
    groups = scores.shape[1] // m
    dealt = scores.sum(dim=0).argsort(stable=True).view(m, groups)
    dealt[1::2] = dealt[1::2].flip(1)  # dealt out to and fro, so that the groups have alike sums
    order = dealt.t().contiguous()
    for place in range(m):  # the columns at one place of all groups are assigned anew, the others being fixed
        others = [other for other in range(m) if other != place]
        least = scores[:, order[:, others]].topk(n, dim=2).values[:, :, -1]  # what a column must surpass to be kept
        candidates = scores[:, order[:, place]]
        gains = [(candidates - least[:, group, None]).clamp(min=0).sum(dim=0) for group in range(groups)]
        assigned = linear_sum_assignment(torch.stack(gains).cpu().numpy(), maximize=True)[1]
        order[:, place] = order[torch.from_numpy(assigned).to(order.device), place]
    return order.flatten()
