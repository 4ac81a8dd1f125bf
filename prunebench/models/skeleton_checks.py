"""What only a model's modules tell, asked of a skeleton before any weights are read: its head, and its attention."""

from prunebench.errors import ModelError
from prunebench.models.config import read_json
from prunebench.models.loading import load_skeleton
from prunebench.models.source import ModelSource


def refuse_headless(found: ModelSource) -> None:
    """Refuse a model whose head would be filled with random numbers: the checkpoint has none, and shares none.

    Args:
        found: the model; of one whose own code may run nothing is asked.

    Raises:
        ModelError: it is so.
    """
    if found.has_head or found.trust_remote_code:
        return
    if read_json(found.source, found.folder / "config.json").get("tie_word_embeddings") is True:
        return
    try:
        skeleton = load_skeleton(found)
        head = skeleton.get_output_embeddings()
    except (ModelError, NotImplementedError):  # loading it will say so
        return
    if head is None or skeleton.config.get_text_config().tie_word_embeddings:
        return
    name = next(name for name, module in skeleton.named_modules() if module is head)
    raise ModelError(
        f"model {found.source} has no {name}: its weights are those of a model without a language-modelling head, as a "
        f"base, reward or embedding model is: name the checkpoint of a {type(skeleton).__name__}"
    )


def refuse_attention(found: ModelSource) -> None:
    """Refuse a way to compute attention that a model does not have, where one is asked for.

    Args:
        found: the model; of one whose own code may run nothing is asked.

    Raises:
        ModelError: transformers cannot build it so.
    """
    if found.attn_implementation is not None and not found.trust_remote_code:
        load_skeleton(found)
