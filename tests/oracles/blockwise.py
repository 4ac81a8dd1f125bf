"""Training of one block by the error of its outputs, as papers write it: EBFT and SAFE, in plain torch, for LLaMAs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def first_call(model: Any, windows: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Hidden states and arguments with which the model calls its first block."""
    caught: list[tuple[Tensor, dict[str, Any]]] = []
    handle = model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: caught.append((args[0], kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        model(input_ids=windows, use_cache=False)
    handle.remove()
    return caught[0]


def called(block: Any, call: tuple[Tensor, dict[str, Any]]) -> Tensor:
    output = block(call[0], **call[1])
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def matrices(block: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in block.modules() if isinstance(module, nn.Linear)]


def ebft_textbook(block: Any, dense: Any, call: tuple[Tensor, dict[str, Any]], *, steps: int, lr: float) -> None:
    """Guo et al., arXiv 2402.12419: AdamW on the mean squared error to the dense block's outputs; zeros stay."""
    weights = matrices(block)
    masks = [weight != 0 for weight in weights]
    with torch.no_grad():
        target = called(dense, call)
    optimizer = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - t / steps)
        optimizer.zero_grad()
        nn.functional.mse_loss(called(block, call), target).backward()
        for weight, mask in zip(weights, masks, strict=True):
            assert weight.grad is not None
            weight.grad.mul_(mask)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight.mul_(mask)


def safe_textbook(
    block: Any,
    call: tuple[Tensor, dict[str, Any]],
    project: Callable[[Tensor, int], Tensor],
    *,
    steps: int,
    lr: float,
    rho: float,
    lmda: float,
    interval: int,
) -> None:
    """Lee et al., arXiv 2506.06866, as in their code: climb, take the gradient there, come back, step; then z and u.

    Args:
        block: trained in place and projected at the end.
        call: its inputs, one batch.
        project: called with a matrix and its number.
        steps, lr, rho, lmda, interval: of the algorithm; the rate rises in a fifteenth of the steps, then falls.
    """
    weights = matrices(block)
    with torch.no_grad():
        target = called(block, call)
        z = [project(weight, number).clone() for number, weight in enumerate(weights)]
        u = [torch.zeros_like(weight) for weight in weights]
    optimizer, warmup = torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.95)), steps // 15
    for t in range(steps):
        rise = (t + 1) / warmup if t < warmup else 1 - (t - warmup) / (steps - warmup)
        optimizer.param_groups[0]["lr"] = lr * rise
        optimizer.zero_grad()
        nn.functional.mse_loss(called(block, call), target).backward()
        with torch.no_grad():
            gradients = [weight.grad.clone() for weight in weights if weight.grad is not None]
            norm = torch.sqrt(sum((g.square().sum() for g in gradients), torch.zeros(())))
            before = [weight.clone() for weight in weights]
            for weight, g in zip(weights, gradients, strict=True):
                weight.add_(rho * g / (norm + 1e-12))
        optimizer.zero_grad()
        nn.functional.mse_loss(called(block, call), target).backward()
        with torch.no_grad():
            for k, weight in enumerate(weights):
                weight.copy_(before[k])
                assert weight.grad is not None
                weight.grad.add_(lmda * (weight - z[k] + u[k]))
        optimizer.step()
        if (t + 1) % interval == 0:
            with torch.no_grad():
                for k, weight in enumerate(weights):
                    z[k] = project(weight + u[k], k)
                    u[k] += weight - z[k]
    with torch.no_grad():
        for k, weight in enumerate(weights):
            weight.copy_(project(weight, k))
