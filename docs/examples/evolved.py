"""Evolutionary search for each block's sparsity, after EvoPress (arXiv 2410.14649)."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import kl_div

from prunebench.allocations.budget import sizes_of, spread
from prunebench.pruning import Pattern, Unstructured, prunable, track


@dataclass(frozen=True)
class Evolved:
    """Shift sparsity between blocks at random, and keep the shift that changes the dense model's predictions least.

    Each level of sparsity is pruned once, by the cell's method; a candidate takes each block from its own level.

    Args:
        step: difference between two levels of sparsity.
        levels: how many levels there are on either side of what is asked for.
        generations: rounds of the search.
        offspring: candidates in a round.
        count: calibration windows that decide.
    """

    needs: ClassVar[str] = "data"

    step: float = 0.05
    levels: int = 2
    generations: int = 20
    offspring: int = 8
    count: int = 8

    def __call__(self, model: Any, data: Any, pattern: Unstructured, method: Any) -> Mapping[str, Pattern]:
        """The best candidate's sparsities, met to the weight by ``spread``."""
        layers = {layer.name: layer for layer, _ in prunable(model, pattern)}
        dense = {name: layer.weight.clone() for name, layer in layers.items()}
        blocks = sorted({block_of(name) for name in layers})
        ratios = {level: pattern.ratio + level * self.step for level in range(-self.levels, self.levels + 1)}
        ratios = {level: ratio for level, ratio in ratios.items() if 0 <= ratio < 1}
        windows = data.windows[: self.count].to(model.device)
        wanted = predictions(model, windows)
        pruned = {}
        for level, ratio in track(ratios.items(), "level", total=len(ratios)):
            method(model, data, Unstructured(round(ratio, 6)))
            pruned[level] = {name: layer.weight.clone() for name, layer in layers.items()}
            restore(layers, dense)

        def distance(levels: Mapping[int, int]) -> float:
            restore(layers, {name: pruned[levels[block_of(name)]][name] for name in layers})
            return kl_div(predictions(model, windows), wanted, log_target=True, reduction="sum").item()

        draw, best = random.Random(data.seed), dict.fromkeys(blocks, 0)
        lowest = distance(best)
        for _ in track(range(self.generations), "generation"):
            for _ in range(self.offspring):
                up, down = draw.sample(blocks, 2)
                levels = {**best, up: best[up] + 1, down: best[down] - 1}
                if levels[up] in ratios and levels[down] in ratios and (found := distance(levels)) < lowest:
                    best, lowest = levels, found
        restore(layers, dense)
        return spread({name: ratios[best[block_of(name)]] for name in layers}, sizes_of(model), pattern)


def block_of(name: str) -> int:
    """The number of a layer's block: the first number in its name."""
    return next(int(part) for part in name.split(".") if part.isdigit())


def restore(layers: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """Write these weights."""
    for name, layer in layers.items():
        layer.weight.copy_(weights[name])


@torch.no_grad()
def predictions(model: Any, windows: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the next token at each position."""
    return model(input_ids=windows, use_cache=False).logits.float().log_softmax(dim=-1)
