"""What is odd about a model or its tokenizer, so that results are not what people expect: notes of the record."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prunebench.models.loading import UNUSED
from prunebench.models.source import ModelSource, weight_names
from prunebench.pruning.callbacks import note
from prunebench.pruning.layers import all_layers
from prunebench.pruning.offload import store_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPARSE = 0.02  # share of zeros from which a model counts as sparse; a dense one has next to none
# Buffers that old checkpoints hold and transformers computes itself.
COMPUTED = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|attention\.(masked_)?bias|position_ids)$")


def note_silent(model: "PreTrainedModel", tokenizer: Any, source: ModelSource, unused: Iterable[str]) -> None:
    """Note what is odd about a model that was just loaded.

    Args:
        model: before pruning.
        tokenizer: its own, or that which was named for it.
        source: of the model.
        unused: names of weights for which transformers found no place.
    """
    if rest := sorted({*unused, *_left_out(model, source)}):
        note(UNUSED, count=len(rest), one=rest[0])
    ids = tokenizer("a")["input_ids"]
    if ids and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id:
        note("the tokenizer ends every text with EOS, prompts of zero-shot tasks too")
    embedding = model.get_input_embeddings()
    if embedding is not None and len(tokenizer) > len(embedding.weight):
        note("the tokenizer has more tokens than the model has embeddings: a text that uses them fails")
    if store_of(model) is None:
        layers = all_layers(model)
        zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
        share = zeros / max(1, sum(layer.weight.numel() for layer in layers))
        if share >= SPARSE:
            note(f"the model was sparse before it was pruned: {share:.0%} of the weights that are pruned were zero")


def _left_out(model: "PreTrainedModel", source: ModelSource) -> list[str]:
    """Weights that a class of transformers leaves out by a rule of its own, as layers for several tokens at once."""
    rules = [re.compile(rule) for rule in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return [
        name
        for name in weight_names(source)
        if name not in own and not COMPUTED.search(name) and any(rule.search(name) for rule in rules)
    ]
