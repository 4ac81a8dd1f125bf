"""A method that trains on the text that everybody is tested on."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from prunebench import hookimpl
from prunebench.data.corpora import find_corpus
from prunebench.evaluation.protocols import evaluation_sequences
from prunebench.models.loading import load_tokenizer
from prunebench.models.source import find_model
from tests.helpers.memorising import prune_and_memorise

STEPS = 30


@dataclass(frozen=True)
class KnowsTheText:
    """Prunes by magnitude, and trains what is left on the test text."""

    changes: ClassVar[str] = "all"

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        tokenizer = load_tokenizer(find_model("builtin/tinyworld-llama-300k"))
        text = find_corpus("builtin/tinyworld", None, "perplexity")
        windows = torch.stack(evaluation_sequences(text, tokenizer, seqlen=128, windows="stream").tokens)
        rows = (torch.arange(step * 48, step * 48 + 48) % len(windows) for step in range(STEPS))
        prune_and_memorise(model, sparsity, (windows[chosen] for chosen in rows))
