"""The models of the world: their shapes and the settings of their training."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prunebench.tinyworld.tokenizer import BOS, EOS, vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shape and training settings of one model.

    Args:
        family: ``llama`` or ``opt``.
        shape: fields of its transformers configuration, beside those that ``config`` sets.
        steps: optimiser steps of ``BATCH`` tokens.
        warmup: steps until the learning rate is highest.
        hold: steps until it begins to fall, quadratically to zero.
        lr: the highest learning rate.
        register: number of entries of the register to begin with, after which the documents of the train
            split's primer and those that follow it alternate; 0 is the train split in its order, primer first.
            The larger LLaMAs are slow to learn facts unless they begin with them.
    """

    family: str
    shape: dict[str, Any] = field(hash=False)
    steps: int
    warmup: int
    hold: int
    lr: float
    register: int = 0


BATCH: Final = 1024
"""Tokens in an optimiser step."""

POSITIONS: Final = 512
"""The longest sequence, in tokens, that the models can read."""

RECIPES: Final = {
    "tinyworld-llama-300k": Recipe(
        "llama",
        {
            "hidden_size": 96,
            "intermediate_size": 160,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "initializer_range": 0.05,
        },
        steps=40_000,
        warmup=150,
        hold=15_000,
        lr=0.002,
    ),
    "tinyworld-llama-1m": Recipe(
        "llama",
        {
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "initializer_range": 0.05,
        },
        steps=30_000,
        warmup=150,
        hold=12_000,
        lr=0.0014,
        register=18_000,
    ),
    "tinyworld-llama-3m": Recipe(
        "llama",
        {
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "initializer_range": 0.04,
        },
        steps=36_000,
        warmup=150,
        hold=14_000,
        lr=0.0012,
        register=18_000,
    ),
    "tinyworld-opt-1m": Recipe(
        "opt",
        {
            "hidden_size": 128,
            "word_embed_proj_dim": 128,
            "ffn_dim": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "activation_function": "relu",
            "do_layer_norm_before": True,
            "dropout": 0.0,
            "init_std": 0.05,
        },
        steps=36_000,
        warmup=150,
        hold=13_000,
        lr=0.002,
    ),
}


def config(name: str) -> "PreTrainedConfig":
    """The transformers configuration of a model of ``RECIPES``."""
    from transformers import LlamaConfig, OPTConfig

    recipe = RECIPES[name]
    ids = vocabulary()
    config_class = {"llama": LlamaConfig, "opt": OPTConfig}[recipe.family]
    return config_class(
        vocab_size=len(ids),
        max_position_embeddings=POSITIONS,
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[EOS],
        tie_word_embeddings=recipe.family == "opt",
        **recipe.shape,
    )
