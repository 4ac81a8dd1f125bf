"""A method that trains on the text that everybody is tested on."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from prunebench import hookimpl
from prunebench.data.corpora import find_corpus
from prunebench.evaluation.protocols import evaluation_sequences
from prunebench.models.loading import load_tokenizer
from prunebench.models.source import find_model
from prunebench.pruning import prunable

STEPS = 30


@dataclass(frozen=True)
class KnowsTheText:
    """Prunes by magnitude, and trains what is left on the test text."""

    changes: ClassVar[str] = "all"

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        layers = list(prunable(model, sparsity))
        masks = [target.mask(layer.weight.abs()) for layer, target in layers]
        tokenizer = load_tokenizer(find_model("builtin/tinyworld-llama-300k"))
        text = find_corpus("builtin/tinyworld", None, "perplexity")
        windows = torch.stack(evaluation_sequences(text, tokenizer, seqlen=128, windows="stream").tokens)
        with torch.enable_grad():
            optimizer = torch.optim.Adam([p.requires_grad_() for p in model.parameters()], lr=3e-3)
            for step in range(STEPS):
                batch = windows[torch.arange(step * 48, step * 48 + 48) % len(windows)]
                optimizer.zero_grad()
                model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
                optimizer.step()
                for (layer, _), mask in zip(layers, masks, strict=True):
                    layer.weight.mul_(mask)
        model.zero_grad()
