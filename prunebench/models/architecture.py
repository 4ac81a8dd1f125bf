"""What a configuration says of a model: one that cannot be pruned is refused before its weights are read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunebench.errors import ModelError

# Models of images and text whose text decoder alone is loaded: as a whole they compute nothing without an image
# (transformers 5.24: the output of the inner model has no image_outputs).
TEXT_ALONE = frozenset({"Llama4ForConditionalGeneration"})

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Quantisation whose weights are packed codes: no zero in them is a zero of the matrix.
PACKED = frozenset(
    {"aqlm", "auto-round", "awq", "bitsandbytes", "compressed-tensors", "eetq", "gptq", "higgs", "hqq", "quanto"}
    | {"quark", "spqr", "torchao", "vptq"}
)


def check_architecture(source: str, config: Mapping[str, Any]) -> None:
    """Refuse a model that is no causal language model, or whose weights are packed.

    Args:
        source: as the model was asked for.
        config: of its ``config.json``; its ``model_type`` is known to transformers.

    Raises:
        ModelError: it predicts masked tokens, encodes a text for a decoder, classifies, or is quantised.
    """
    if (other := _other_task(config)) is not None:
        raise ModelError(f"model {source} {other}: only causal language models (…ForCausalLM) can be pruned here")
    if (method := quantization(config)) in PACKED:
        raise ModelError(
            f"model {source} is quantised by {method}, whose packed weights cannot be pruned: name the checkpoint that "
            "it was made from"
        )


def auto_class(config: "PretrainedConfig") -> Any:
    """The class of transformers that builds a model with all its parts.

    A model of images and text is loaded as a whole where its checkpoint says so, so that what is saved is whole too.

    Returns:
        ``AutoModelForCausalLM`` or ``AutoModelForImageTextToText``.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto as auto

    names = set(config.architectures or ())
    causal = set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    shows_images = names & set(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()) - TEXT_ALONE
    return AutoModelForImageTextToText if shows_images and not names & causal else AutoModelForCausalLM


def quantization(config: Mapping[str, Any]) -> str | None:
    """The method that quantised a checkpoint, in lower case; None for one that is not quantised."""
    entry = config.get("quantization_config")
    return str(entry.get("quant_method", "unknown")).lower() if isinstance(entry, Mapping) else None


def _other_task(config: Mapping[str, Any]) -> str | None:
    """What a model does that is no causal language model, as the end of a sentence; None for one that is."""
    from transformers.models.auto import modeling_auto as auto

    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    encoder_decoder = auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    masked = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    heads = {
        "has an encoder beside its decoder": encoder_decoder,
        "predicts masked tokens": masked,
        "classifies texts, as a reward model does": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "classifies tokens": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "marks answers in a text": auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        "chooses among answers": auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
    }
    names = config.get("architectures")
    for name in names if isinstance(names, list) else ():
        if name in causal.values():
            break
        for task, classes in heads.items():
            if name in classes.values():
                return f"is a {name}, which {task}"
    kind = config.get("model_type")
    if kind in encoder_decoder and kind not in causal:
        return f"is of the type {kind}, which has an encoder beside its decoder"
    # Encoders that transformers also offers as decoders see both sides of a token unless they are told not to.
    if kind in masked and kind not in encoder_decoder and not (config.get("is_decoder") or config.get("causal")):
        return f"is of the type {kind}, which sees both sides of a token (config.json does not say is_decoder: true)"
    return None
