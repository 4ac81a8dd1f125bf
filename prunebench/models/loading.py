"""A model whose blocks lie on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.errors import ModelError
from prunebench.models.source import ModelSource, _first_line
from prunebench.quiet import quiet_hub_libraries

if TYPE_CHECKING:
    from torch import dtype as torch_dtype
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from prunebench.models.offload.block_store import CheckpointStore


def load_on_disk(source: ModelSource, *, dtype: str, work: Path) -> PreTrainedModel:
    """Load what surrounds a model's blocks, on the CPU and in eval mode; the blocks come when they are asked for.

    Args:
        source: from ``find_model``.
        dtype: "float32", "bfloat16" or "auto".
        work: an empty folder, which takes the blocks that are pruned, and hidden states.

    Raises:
        ModelError: transformers cannot read it, or a weight is missing.
    """
    # Parameters without memory; buffers that no checkpoint holds are worked out as ever.
    with quiet_hub_libraries(), torch.random.fork_rng(devices=[]):
        try:
            config = AutoConfig.from_pretrained(source.folder, local_files_only=True)
            kind = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
            with init_empty_weights(include_buffers=False):
                model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=kind)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(f"model {source.source} cannot be built: {reason}") from error
    CheckpointStore(source.source, source.folder, model, work)
    return model.eval()


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    """Load a model's tokenizer alone.

    Raises:
        ModelError: transformers cannot read it.
    """
    from transformers import AutoTokenizer

    with quiet_hub_libraries():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                source.folder, local_files_only=True, trust_remote_code=source.trust_remote_code
            )
        except Exception as error:
            raise ModelError(f"the tokenizer of {source.source} cannot be loaded: {_first_line(error)}") from error
    return tokenizer


def load_skeleton(source: ModelSource) -> "PreTrainedModel":
    """A model's modules and shapes without its weights, on the meta device.

    Raises:
        ModelError: transformers cannot read its configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_hub_libraries(), torch.device("meta"):
        try:
            trusted = {"trust_remote_code": source.trust_remote_code}
            config = AutoConfig.from_pretrained(source.folder, local_files_only=True, **trusted)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **trusted)
        except Exception as error:
            raise ModelError(f"model {source.source} cannot be built: {_first_line(error)}") from error
    return model


def load_model(
    source: ModelSource, *, dtype: str, device: str, work: Path | None = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a model and its tokenizer, in eval mode.

    Args:
        source: from ``find_model``.
        dtype: "float32", "bfloat16" or "auto".
        device: "cpu", "cuda" or "disk".
        work: for "disk", an empty folder to work in.

    Raises:
        ModelError: transformers cannot read it, or the files leave a weight to chance.
    """
    import torch
    from transformers import AutoModelForCausalLM

    kind: torch_dtype | str = dtype if dtype == "auto" else getattr(torch, dtype)
    tokenizer = load_tokenizer(source)
    if device == "disk":
        from prunebench.models.loading import load_on_disk

        assert work is not None
        return load_on_disk(source, dtype=dtype, work=work), tokenizer
    with quiet_hub_libraries():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                source.folder,
                dtype=kind,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=source.trust_remote_code,
            )
        except Exception as error:
            raise ModelError(f"model {source.source} cannot be loaded: {_first_line(error)}") from error
    # Transformers fills a missing weight with random numbers and goes on.
    if lost := [*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])]:
        raise ModelError(
            f"model {source.source} is incomplete: {len(lost)} weights are missing or of the wrong shape, "
            f"{sorted(map(str, lost))[0]} for one; fetch it again"
        )
    return model.to(device).eval(), tokenizer
