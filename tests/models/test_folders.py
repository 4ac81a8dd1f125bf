"""Folders that people have instead of a checkpoint: each is told for what it is, with the way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunebench.errors import ModelError
from prunebench.models.skeleton_checks import refuse_headless
from prunebench.models.source import find_model

Change = Callable[[Path, dict[str, torch.Tensor]], object]


def only(name: str) -> Change:
    """The weights under another name."""

    def change(folder: Path, weights: dict[str, torch.Tensor]) -> None:
        (folder / "model.safetensors").unlink()
        save_file(weights, folder / name)

    return change


def renamed(prefix: str) -> Change:
    """Each weight with a prefix."""
    return lambda folder, weights: save_file(
        {prefix + name: tensor for name, tensor in weights.items()}, folder / "model.safetensors"
    )


def headless(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """The base model alone, as its ``save_pretrained`` writes it."""
    base = {n.removeprefix("model."): tensor for n, tensor in weights.items() if not n.startswith("lm_head")}
    save_file(base, folder / "model.safetensors")


def adapter(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """A LoRA adapter and nothing else."""
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(1)}, folder / "adapter_model.safetensors")


def gguf(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """A GGUF file and nothing else."""
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF")


CASES: dict[str, tuple[Change, str]] = {
    "shards": (only("model-00001-of-00002.safetensors"), r"1 shards .* without model.safetensors.index.json"),
    "mistral": (only("consolidated.safetensors"), "consolidated.safetensors, the format of Mistral's own programs"),
    "variant": (only("model.fp16.safetensors"), "model.fp16.safetensors only, a variant: .*rename it"),
    "other name": (only("weights.safetensors"), "no model.safetensors, but weights.safetensors"),
    "pickle": (lambda folder, _: (folder / "model.safetensors").rename(folder / "x.pth"), "x.pth, a pickle"),
    "adapter": (adapter, "an adapter alone .* made for 'some/base': merge it"),
    "gguf": (gguf, "model-Q4_K_M.gguf, GGUF as llama.cpp reads it"),
    "compiled": (renamed("_orig_mod."), "begin with '_orig_mod.', as of a model that was saved inside torch.compile"),
    "parallel": (renamed("module."), "saved inside DistributedDataParallel"),
    "headless": (headless, "has no lm_head: its weights are those of a model without a language-modelling head"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_folder_is_told_for_what_it_is(world: Path, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(world / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    change, message = CASES[case]
    change(folder, load_file(folder / "model.safetensors"))
    with pytest.raises(ModelError, match=message) as caught:
        refuse_headless(find_model(str(folder)))
    assert "\n" not in str(caught.value)
    assert "fetch it again" not in str(caught.value)


def test_a_head_that_is_the_embedding_is_no_missing_head(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(world / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors")
    refuse_headless(find_model(str(folder)))
