"""What only a model's modules tell, asked of a skeleton before any weights are read: head, attention, and matrices."""

from prunebench.errors import ModelError
from prunebench.models.config import read_json
from prunebench.models.loading import load_skeleton
from prunebench.models.source import BUILTIN, ModelSource
from prunebench.pruning.layers import UnknownMatrixError, all_layers


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


def refuse_unknown_matrices(found: ModelSource, name: str) -> None:
    """Refuse a model whose blocks hold a matrix of an unknown kind.

    Args:
        found: the model; of one whose own code may run nothing is asked, and the builtin ones are known.
        name: what tables call it.

    Raises:
        ModelError: it is so.
    """
    if found.trust_remote_code or found.source.startswith(BUILTIN):
        return
    try:
        all_layers(load_skeleton(found))
    except ModelError:  # it cannot be built: loading it will say so
        return
    except UnknownMatrixError as error:
        raise ModelError(f"model {name} cannot be pruned: {error}; the README lists families") from None


def refuse_attention(found: ModelSource) -> None:
    """Refuse a way to compute attention that a model does not have, where one is asked for.

    Args:
        found: the model; of one whose own code may run nothing is asked.

    Raises:
        ModelError: transformers cannot build it so.
    """
    if found.attn_implementation is not None and not found.trust_remote_code:
        load_skeleton(found)
