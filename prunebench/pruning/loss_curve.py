"""The losses of a training run: read some steps at a time, and refused where one is not finite."""

from collections.abc import Sequence

import torch
from torch import Tensor


class LossCurve:
    """Losses and gradient norms of the last steps, read together: to read a value makes the CPU wait for the GPU.

    Args:
        lr: of the run, for the message.
    """

    def __init__(self, lr: float) -> None:
        self._lr = lr
        self._pending: list[tuple[int, Tensor, Tensor]] = []
        self._mean = float("nan")

    def record(self, t: int, loss: Tensor, norm: Tensor) -> None:
        """Add the loss and the gradient's norm of step t, both before clipping."""
        self._pending.append((t, loss.detach(), norm))

    def mean(self) -> float:
        """The mean loss of the steps recorded since it was last asked for; the last mean where there are none.

        Raises:
            FloatingPointError: a loss or a norm is infinite or NaN.
        """
        if not self._pending:
            return self._mean
        values = [(t, float(loss), float(norm)) for t, loss, norm in self._read()]
        for t, loss, norm in values:
            for what, value in (("loss", loss), ("norm of its gradient", norm)):
                if value - value != 0:
                    raise FloatingPointError(
                        f"the {what} is {value} at step {t}: try a smaller lr than {self._lr:g}, and see that the "
                        "dense model's loss on this text is finite"
                    )
        self._mean = sum(loss for _, loss, _ in values) / len(values)
        self._pending.clear()
        return self._mean

    def _read(self) -> list[tuple[int, float, float]]:
        pairs = [torch.stack((loss.float(), norm.float())) for _, loss, norm in self._pending]
        read: Sequence[tuple[float, float]] = torch.stack(pairs).tolist() if pairs else []
        return [(t, *pair) for (t, _, _), pair in zip(self._pending, read, strict=True)]

    def state(self) -> list[tuple[int, float, float]]:
        """The steps recorded since the last mean, as JSON, for ``restore``."""
        return self._read()

    def restore(self, state: Sequence[tuple[int, float, float]], device: torch.device) -> None:
        """Continue from the state of an interrupted run."""
        self._pending = [
            (t, torch.tensor(loss, device=device), torch.tensor(norm, device=device)) for t, loss, norm in state
        ]
