"""A small synthetic world to measure in: a language, corpora, tasks, and language models trained on them.

Its stories follow a grammar (agreement, pronouns, recall, counting, what suits what) and state facts about two thousand
people, which a model has to memorise. So pruning has something to destroy, and the generator knows how well a model
could do at best. Importing this package brings no torch.
"""

from pathlib import Path
from typing import Final

from prunebench.tinyworld.corpora import CORPORA, SPLITS, documents, floor

__all__ = ["CORPORA", "MODELS", "SPLITS", "documents", "floor", "model_folder"]

MODELS: Final = (
    "tinyworld-llama-300k",
    "tinyworld-llama-1m",
    "tinyworld-llama-3m",
    "tinyworld-opt-1m",
)


def model_folder(name: str) -> Path:
    """The folder of a model and its tokenizer, for ``from_pretrained``.

    Raises:
        ValueError: when there is no such model.
    """
    if name not in MODELS:
        raise ValueError(f"no model {name!r} in tinyworld; there is {', '.join(MODELS)}")
    return Path(__file__).parent / "models" / name
