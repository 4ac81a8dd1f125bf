"""What is odd about a model is told in the record, and nothing is told of one that is not odd."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunebench.evaluation.perplexity import note_missing_bos
from prunebench.evaluation.protocols import Sequences
from prunebench.models.loading import load_model
from prunebench.models.source import find_model
from prunebench.pruning.callbacks import use_observer
from prunebench.runner.silent import note_silent
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver
from tests.helpers.text import tokenizer

Weights = dict[str, torch.Tensor]


def told(folder: Path) -> list[str]:
    source, unused = find_model(str(folder)), list[str]()
    model, own = load_model(source, dtype="float32", device="cpu", unused=unused)
    observer = RecordingObserver()
    with use_observer(observer):
        note_silent(model, own, source, unused)
    return observer.messages


def surplus(weights: Weights) -> Weights:
    return {**weights, "model.layers.9.mlp.up_proj.weight": torch.ones(2, 2), "mtp.fc.weight": torch.ones(2, 2)}


def sparse(weights: Weights) -> Weights:
    return {
        name: torch.where(torch.arange(weight.numel()).view_as(weight) % 10 < 7, 0.0, weight)
        if ".layers." in name and weight.dim() == 2
        else weight
        for name, weight in weights.items()
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (dict, []),
        (surplus, ["weights of the checkpoint have no place in the model"]),
        (sparse, ["the model was sparse before it was pruned: 70% of the weights"]),
    ],
)
def test_weights(world: Path, tmp_path: Path, change: Callable[[Weights], Weights], expected: list[str]) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    found = told(tmp_path / "model")
    assert len(found) == len(expected)
    assert all(re.match(re.escape(begin), line) for begin, line in zip(expected, found, strict=True))


def test_weights_that_transformers_leaves_out_by_a_rule(world: Path) -> None:
    source = find_model(str(world / "model"))
    model, own = load_model(source, dtype="float32", device="cpu")
    del model.model.layers[-1]
    model.config.num_hidden_layers -= 1
    model._keys_to_ignore_on_load_unexpected = [r"layers\.2\."]  # as DeepSeek V3 has for what predicts several tokens
    observer = RecordingObserver()
    with use_observer(observer):
        note_silent(model, own, source, [])
    assert [what[:27] for what in observer.messages] == ["weights of the checkpoint h"]


def test_tokenizers(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["post_processor"]["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    content["post_processor"]["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    new = {"content": "more", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"].append({"id": tiny.VOCAB, **new, "special": False})
    file.write_text(json.dumps(content))
    found = told(tmp_path / "model")
    assert [line[:30] for line in found] == ["the tokenizer ends every text ", "the tokenizer has more tokens "]


@pytest.mark.parametrize("needs", [False, True])
def test_a_model_that_needs_bos_is_told_where_windows_have_none(needs: bool) -> None:
    model, own = tiny.llama().eval(), tokenizer()
    forward = model.forward

    def broken(input_ids: torch.Tensor, **more: object) -> object:
        """Without BOS the model prefers a token that never comes."""
        out = forward(input_ids=input_ids, **more)
        if needs:
            out.logits[input_ids[:, 0] != own.bos_token_id, :, -1] += 1000.0
        return out

    model.forward = broken
    observer = RecordingObserver()
    windows = tuple(torch.arange(start, start + 8) for start in (1, 9, 17))  # the first begins with BOS
    with use_observer(observer):
        note_missing_bos(model, own, Sequences(windows, 0))
        assert [line[:20] for line in observer.messages] == (["windows have no BOS "] if needs else [])
        note_missing_bos(model, own, Sequences(windows[:1], 0))
    assert len(observer.messages) == needs
