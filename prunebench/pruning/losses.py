"""Losses of a whole language model, differentiable by its parameters or by matrices that stand in their place."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from prunebench.pruning.layers import all_layers, in_parameters


def language_loss(model: nn.Module, tokens: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """Mean cross-entropy of all seqlen − 1 next-token predictions of every window, softmax in fp32.

    On CUDA matrices are multiplied in bf16 (autocast).

    Args:
        model: a causal language model.
        tokens: LongTensor (windows, seqlen), on any device.
        weights: matrices (out, in) by layer name, in place of the layers' own.

    Returns:
        fp32 scalar.
    """
    tokens = tokens.to(_device_of(model))
    logits = _logits(model, tokens, weights)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def distillation_loss(
    model: nn.Module, teacher: nn.Module, tokens: Tensor, weights: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Mean over all tokens of KL(p_teacher ‖ p_model), the divergence of the predicted distributions, in fp32 nats.

    On CUDA matrices are multiplied in bf16 (autocast).

    Args:
        model: a causal language model.
        teacher: one of the same vocabulary, such as ``data.teacher``; no gradient reaches it.
        tokens: LongTensor (windows, seqlen), on any device.
        weights: matrices (out, in) by layer name, in place of those of the model's layers.

    Returns:
        fp32 scalar.
    """
    with torch.no_grad():
        wanted = _logits(teacher, tokens.to(_device_of(teacher))).float().log_softmax(dim=-1).flatten(0, 1)
    found = _logits(model, tokens.to(_device_of(model)), weights).float().log_softmax(dim=-1).flatten(0, 1)
    return F.kl_div(found, wanted.to(found.device), log_target=True, reduction="batchmean")


def mixed_precision(device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in bf16 on CUDA; none elsewhere."""
    return torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda")


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _logits(model: nn.Module, tokens: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """Logits (windows, seqlen, vocabulary)."""
    arguments = {"input_ids": tokens, "use_cache": False}
    with mixed_precision(tokens.device):
        if weights:
            names = {id(parameter): name for name, parameter in model.named_parameters()}
            given = in_parameters(all_layers(model), weights)
            by_name = {names[id(parameter)]: tensor for parameter, tensor in given.items()}
            output: Any = functional_call(model, by_name, (), arguments)
        else:
            output = model(**arguments)
    logits: Tensor = output.logits
    return logits
