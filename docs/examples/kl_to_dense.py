"""How far a pruned model's predictions are from the dense model's, on the calibration windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import kl_div


@dataclass(frozen=True)
class KLToDense:
    """Mean KL divergence of the next-token distribution, dense ‖ pruned, in nats per token.

    Args:
        count: how many calibration windows are looked at.
    """

    count: int = 32

    def measure(self, model: Any, tokenizer: Any, dense: Any, windows: torch.Tensor) -> Mapping[str, float]:
        """The mean over all positions of the windows."""
        total = 0.0
        for window in windows[: self.count]:
            ids = window[None].to(model.device)
            q, p = (m(input_ids=ids, use_cache=False).logits.float().log_softmax(dim=-1) for m in (model, dense))
            total += kl_div(q, p, log_target=True, reduction="sum").item() / ids.numel()
        return {"nats": total / len(windows[: self.count])}
