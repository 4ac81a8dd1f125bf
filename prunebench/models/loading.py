"""A model whose blocks lie on disk."""

from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from prunebench import hub
from prunebench.errors import ModelError
from prunebench.models.offload.block_store import CheckpointStore
from prunebench.models.source import ModelSource


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
    with hub.quiet(), torch.random.fork_rng(devices=[]):
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
