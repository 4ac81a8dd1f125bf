"""AdamW by torch's own optimizer, with a linear decay and clipping: a run written as a textbook would."""

from collections.abc import Callable

import torch
from torch import Tensor


def adamw_textbook(
    loss: Callable[[int], Tensor], parameters: list[Tensor], *, steps: int, lr: float, masks: dict[Tensor, Tensor]
) -> None:
    """Minimise ``loss(t)``; entries outside ``masks`` start at zero and stay there."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / steps)
    for parameter, mask in masks.items():
        parameter.data.mul_(mask)
    for t in range(steps):
        optimizer.zero_grad()
        loss(t).backward()  # type: ignore[no-untyped-call]
        for parameter, mask in masks.items():
            assert parameter.grad is not None
            parameter.grad.mul_(mask)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        for parameter, mask in masks.items():
            parameter.data.mul_(mask)
