"""Loading: from a checked folder to a tokenizer and a model, in memory or with its decoder blocks on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.errors import ModelError, first_line
from prunebench.models.architecture import auto_class
from prunebench.models.source import ModelSource
from prunebench.quiet import quiet_hub_libraries

if TYPE_CHECKING:
    from torch import dtype as torch_dtype
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

UNUSED = "weights of the checkpoint have no place in the model and are not used"
"""The note on what ``load_model`` names as unused."""


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    """Load a model's tokenizer alone.

    Raises:
        ModelError: transformers cannot read it.
    """
    from transformers import AutoTokenizer

    with quiet_hub_libraries():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                source.tokenizer_folder or source.folder,
                local_files_only=True,
                trust_remote_code=source.trust_remote_code,
            )
        except Exception as error:
            raise ModelError(f"the tokenizer of {source.source} cannot be loaded: {first_line(error)}") from error
    return tokenizer


def _attention(source: ModelSource) -> dict[str, str]:
    return {"attn_implementation": source.attn_implementation} if source.attn_implementation else {}


def load_skeleton(source: ModelSource) -> "PreTrainedModel":
    """Build a model's modules with their shapes but without weights, on the meta device.

    Raises:
        ModelError: transformers cannot read its configuration.
    """
    import torch
    from transformers import AutoConfig

    with quiet_hub_libraries(), torch.device("meta"):
        try:
            trusted = {"trust_remote_code": source.trust_remote_code}
            config = AutoConfig.from_pretrained(source.folder, local_files_only=True, **trusted)
            model: PreTrainedModel = auto_class(config).from_config(config, **trusted, **_attention(source))
        except Exception as error:
            raise ModelError(f"model {source.source} cannot be built: {first_line(error)}") from error
    return model


def load_model(
    source: ModelSource, *, dtype: str, device: str, work: Path | None = None, unused: list[str] | None = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a model and its tokenizer, in eval mode.

    Args:
        source: from ``find_model``.
        dtype: "float32", "bfloat16", "float16" or "auto".
        device: "cpu", "cuda" or "disk".
        work: for "disk", an empty folder for temporary files; see ``load_on_disk``.
        unused: takes the names of weights that have no place in the model; on disk they are not told.

    Raises:
        ModelError: transformers cannot read it, or the files lack a weight.
    """
    import torch
    from transformers import AutoConfig

    tokenizer = load_tokenizer(source)
    if device == "disk":
        assert work is not None
        return load_on_disk(source, dtype=dtype, work=work), tokenizer
    loaded_dtype: torch_dtype | str = dtype if dtype == "auto" else getattr(torch, dtype)
    with quiet_hub_libraries():
        try:
            trusted = {"trust_remote_code": source.trust_remote_code}
            config = AutoConfig.from_pretrained(source.folder, local_files_only=True, **trusted)
            model, info = auto_class(config).from_pretrained(
                source.folder,
                dtype=loaded_dtype,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=source.trust_remote_code,
                **_attention(source),
            )
        except Exception as error:
            raise ModelError(f"model {source.source} cannot be loaded: {first_line(error)}") from error
    # Transformers fills a missing weight with random numbers and goes on.
    if missing := [*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])]:
        raise ModelError(
            f"model {source.source} is incomplete: {len(missing)} weights are missing or of the wrong shape, "
            f"{sorted(map(str, missing))[0]} for one; fetch it again"
        )
    if unused is not None:
        unused += map(str, info["unexpected_keys"])
    return model.to(device).eval(), tokenizer


def load_on_disk(source: ModelSource, *, dtype: str, work: Path) -> "PreTrainedModel":
    """Load the modules around a model's decoder blocks; the blocks stay on disk until one is made resident.

    Args:
        source: from ``find_model``.
        dtype: "float32", "bfloat16", "float16" or "auto".
        work: an empty folder, for the pruned blocks and for hidden states.

    Returns:
        The model, on the CPU and in eval mode, with a ``CheckpointStore`` attached.

    Raises:
        ModelError: transformers cannot read it, or a weight is missing.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    from prunebench.models.offload.block_store import CheckpointStore

    # Parameters are made without memory; buffers that no checkpoint holds are computed as always.
    with quiet_hub_libraries(), torch.random.fork_rng(devices=[]):
        try:
            config = AutoConfig.from_pretrained(source.folder, local_files_only=True)
            loaded_dtype = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
            with init_empty_weights(include_buffers=False):
                model: PreTrainedModel = auto_class(config).from_config(
                    config, dtype=loaded_dtype, **_attention(source)
                )
        except Exception as error:
            raise ModelError(f"model {source.source} cannot be built: {first_line(error)}") from error
    CheckpointStore(source.source, source.folder, model, work)
    return model.eval()
