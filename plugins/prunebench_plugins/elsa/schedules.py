"""How the penalty λ and the learning rate change during a run of T steps."""

import math
from typing import Literal

LambdaSchedule = Literal["constant", "linear", "cosine", "exponential"]


def penalty(schedule: LambdaSchedule, initial: float, final: float, step: int, steps: int) -> float:
    """λ after the update at step t, from a at t = 0 towards b at t = T.

    Args:
        schedule: constant b; linear a + (b − a)·t/T; cosine a + (b − a)·(1 − cos(πt/T))/2; exponential a·(b/a)^(t/T).
        initial, final: a and b. ``constant`` knows no a.
        step, steps: t and T.
    """
    t = step / steps
    if schedule == "linear":
        return initial + (final - initial) * t
    if schedule == "cosine":
        return initial + (final - initial) * (1 - math.cos(math.pi * t)) / 2
    if schedule == "exponential":
        return initial * float((final / initial) ** t)
    return final


def learning_rate(lr: float, step: int, steps: int) -> float:
    """Linear to 0, no warm-up: lr·(1 − t/T)."""
    return lr * (1 - step / steps)
