"""``score``: checkpoints that other tools have pruned become verified rows, or are refused in a line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from prunebench.models.source import find_model
from prunebench.records.record import Record
from prunebench.records.store import read_records
from tests.helpers import tiny
from tests.helpers.command_line import one_line, prunebench


def matrices(model: nn.Module) -> list[torch.Tensor]:
    """The linear matrices of all blocks, as transformers names them."""
    return [m.weight.data for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".layers." in name]


def smallest_to_zero(W: torch.Tensor, share: float) -> None:
    order = W.abs().flatten().argsort()[: round(share * W.numel())]
    W.view(-1)[order] = 0


def half(model: nn.Module) -> None:
    for W in matrices(model):
        smallest_to_zero(W, 0.5)


def uneven(model: nn.Module) -> None:
    for number, W in enumerate(matrices(model)):
        smallest_to_zero(W, 0.3 if number % 2 else 0.7)


def two_of_four(model: nn.Module) -> None:
    for W in matrices(model):
        groups = W.view(-1, 4)
        groups.scatter_(1, groups.abs().argsort(dim=1)[:, :2], 0.0)


def moved_embeddings(model: Any) -> None:
    half(model)
    model.model.embed_tokens.weight.data[3] += 1


def not_a_number(model: Any) -> None:
    half(model)
    model.model.norm.weight.data[0] = float("nan")


@pytest.fixture
def checkpoint(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Save the tiny model with its weights changed, by plain transformers."""

    def save(change: Callable[[Any], None], dtype: torch.dtype = torch.float32) -> Path:
        folder = shutil.copytree(world / "model", tmp_path / change.__name__)
        model = AutoModelForCausalLM.from_pretrained(world / "model", dtype=dtype)
        change(model)
        model.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def score(world: Path, write_suite: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    def run(folder: Path, *words: object, dense: object = world / "model") -> Any:
        return prunebench("score", folder, "--dense", dense, "--suite", write_suite(), "-o", tmp_path / "out", *words)

    return run


def row(tmp_path: Path) -> Record:
    (found,) = (record for record in read_records(tmp_path / "out") if record.cell.sparsity != "0")
    return found


@pytest.mark.parametrize(("change", "sparsity"), [(half, "0.5"), (two_of_four, "2:4"), (uneven, None)])
def test_what_plain_torch_has_pruned_is_counted_and_measured(
    change: Any, sparsity: str | None, checkpoint: Any, score: Any, world: Path, tmp_path: Path
) -> None:
    folder = checkpoint(change)
    result = score(folder)
    assert result.exit_code == 0, result.output
    pruned = matrices(AutoModelForCausalLM.from_pretrained(folder))
    zeros = sum(int((W == 0).sum()) for W in pruned)
    sparsity = sparsity or f"{zeros / sum(W.numel() for W in pruned):.4f}"
    assert f"{folder} is sparse to {sparsity}" in result.stderr
    found = row(tmp_path)
    assert (found.status, found.cell.sparsity, found.cell.method) == ("ok", sparsity, f"{change.__name__} (brought)")
    assert found.sparsity is not None
    assert sum(count.zeros for count in found.sparsity.matrices.values()) == zeros
    assert found.method is not None
    assert (found.method.brought, found.method.training) == (True, None)
    assert (found.cost.prune_seconds, found.effort) == (None, ())
    (dense,) = (record for record in read_records(tmp_path / "out") if record.cell.sparsity == "0")
    assert found.perplexity.keys() == dense.perplexity.keys() == {"test/stream-16"}
    assert found.perplexity != dense.perplexity
    assert "not measured" in result.stdout


def test_what_prunebench_has_pruned_equals_its_own_record(
    score: Any, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    assert prunebench("run", write_suite(), "-o", tmp_path / "own", "--save-models").exit_code == 0
    for own in read_records(tmp_path / "own"):
        if own.cell.sparsity != "0" and own.cell.method == "wanda":
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            assert score(tmp_path / "own" / "models" / own.cell.id).exit_code == 0
            found = row(tmp_path)
            assert found.cell.sparsity == own.cell.sparsity
            assert (found.perplexity, found.sparsity) == (own.perplexity, own.sparsity)
            assert found.environment["weights_digest"] == own.environment["weights_digest"]


def test_other_weights_that_differ_are_told(checkpoint: Any, score: Any, tmp_path: Path) -> None:
    assert score(checkpoint(moved_embeddings)).exit_code == 0
    note = "weights that are not pruned differ from the dense model's, model.embed_tokens.weight for one"
    assert row(tmp_path).notes[note] == 1


def test_weights_without_a_place_are_told(checkpoint: Any, score: Any, tmp_path: Path) -> None:
    """Such as biases that a method added, where the configuration knows of none."""
    file = checkpoint(half) / "model.safetensors"
    save_file(load_file(file) | {"model.layers.0.mlp.up_proj.bias": torch.ones(4)}, file, metadata={"format": "pt"})
    assert score(file.parent).exit_code == 0
    assert row(tmp_path).notes["weights of the checkpoint have no place in the model and are not used"] == 1


def test_the_suite_says_how_the_dense_model_is_called_and_loaded(checkpoint: Any, world: Path, tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text(
        f"name: n\nmodels: [{{id: {world / 'model'}, label: mine, dtype: bfloat16}}]\nmethods: [dense]\n"
        f"calibration: {{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}\nsparsities: [0.5]\n"
        f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
    )
    folder = checkpoint(half)
    result = prunebench("score", folder, "--dense", world / "model", "--suite", suite, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {(r.cell.model, r.cell.dtype) for r in read_records(tmp_path / "out")} == {("mine", "bfloat16")}


def test_weights_in_half_precision_are_compared_in_it(checkpoint: Any, score: Any, tmp_path: Path) -> None:
    assert score(checkpoint(half, torch.bfloat16), "--label", "theirs").exit_code == 0
    found = row(tmp_path)
    assert found.cell.method == "theirs (brought)"
    assert not [note for note in found.notes if "differ" in note]


def test_a_relative_dense_folder_counts_from_where_the_command_is_given(
    checkpoint: Any, score: Any, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite lies elsewhere."""
    folder = checkpoint(half)
    monkeypatch.chdir(world / "model")
    result = score(folder, dense="../model")
    assert result.exit_code == 0, result.output
    assert row(tmp_path).cell.source == str((world / "model").resolve())


def test_a_head_of_its_own_does_not_replace_the_embedding_that_the_dense_model_shares_with_it(
    checkpoint: Any, score: Any, tmp_path: Path
) -> None:
    tied = checkpoint(half)
    model = AutoModelForCausalLM.from_pretrained(tied, tie_word_embeddings=False)
    model.lm_head.weight.data.copy_(model.model.embed_tokens.weight.data + 1)
    model.save_pretrained(untied := shutil.copytree(tied, tmp_path / "untied"))
    refused = score(untied)
    assert refused.exit_code == 2
    assert "model.embed_tokens.weight and lm_head.weight are one weight of the dense model" in one_line(refused)


def nothing_left(model: nn.Module) -> None:
    for W in matrices(model):
        W.zero_()


def one_weight_left(model: nn.Module) -> None:
    nothing_left(model)
    matrices(model)[0][0, 0] = 1.0


def test_the_sparsest_of_all(checkpoint: Any, score: Any, tmp_path: Path) -> None:
    """A share of zeros is below 1, however near it is."""
    assert "weights of" in one_line(refused := score(checkpoint(nothing_left)))
    assert (refused.exit_code, "are zero: there is nothing to measure" in refused.stderr) == (2, True)
    result = score(checkpoint(one_weight_left))
    assert result.exit_code == 0, result.output
    assert "is sparse to 0.9999" in result.stderr


def test_a_folder_without_a_tokenizer(checkpoint: Any, score: Any, world: Path, tmp_path: Path) -> None:
    """``save_pretrained`` of a model alone, as the scripts of many papers end."""
    whole = checkpoint(half)
    assert score(whole).exit_code == 0
    expected = row(tmp_path).perplexity
    shutil.rmtree(tmp_path / "out")
    for file in whole.glob("tokenizer*"):
        file.unlink()
    assert score(whole).exit_code == 0
    assert row(tmp_path).perplexity == expected
    for file in (world / "model").glob("tokenizer*"):
        shutil.copy(file, whole)


def test_evaluations_at_some_sparsities_are_made_at_that_of_the_checkpoint(
    checkpoint: Any, score: Any, world: Path, tmp_path: Path
) -> None:
    entry = json.dumps({"name": "perplexity", "corpus": str(world / "test.jsonl"), "seqlen": 16, "sparsities": [0.5]})
    suite = tmp_path / "narrow.yaml"
    suite.write_text(
        f"name: n\nmodels: [{world / 'model'}]\ncalibration: {{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}\n"
        f"sparsities: [0.5]\nmethods: [wanda]\nevaluations: [{entry}]\n"
    )
    result = prunebench(
        "score", checkpoint(uneven), "--dense", world / "model", "--suite", suite, "-o", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert row(tmp_path).perplexity.keys() == {"test/stream-16"}


def test_evaluations_go_by_the_label_that_the_suite_gives_the_dense_model(
    checkpoint: Any, world: Path, tmp_path: Path
) -> None:
    """Those for other models are not made, which is told; where there are no others, that is refused."""

    def scored(*labels: str) -> Any:
        evaluations = [
            {"name": "perplexity", "corpus": str(world / file), "seqlen": 16, "models": [label]}
            for file, label in zip(("test.jsonl", "calibration.jsonl"), labels, strict=False)
        ]
        ids = {"mine": str(world / "model"), "its": "builtin/tinyworld-llama-300k"}
        models = [{"id": ids[label], "label": label} for label in labels]
        suite = tmp_path / "labels.yaml"
        suite.write_text(
            f"name: n\nmodels: {json.dumps(models)}\nsparsities: [0.5]\nmethods: [magnitude]\n"
            f"calibration: {{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}\n"
            f"evaluations: {json.dumps(evaluations)}\n"
        )
        return prunebench("score", folder, "--dense", world / "model", "--suite", suite, "-o", tmp_path / "out")

    folder = checkpoint(half)
    refused = scored("its")
    assert refused.exit_code == 2
    assert "all evaluations of " in refused.stderr.splitlines()[-1]
    result = scored("mine", "its")
    assert result.exit_code == 0, result.output
    assert "1 of the 2 evaluations of " in result.stderr
    assert row(tmp_path).perplexity.keys() == {"test/stream-16"}


def test_refused_in_a_line(checkpoint: Any, score: Any, world: Path, tmp_path: Path) -> None:
    dense = score(world / "model")
    assert "is dense: 0 of its" in one_line(dense)
    broken = score(checkpoint(not_a_number))
    assert "holds NaN or infinity in model.norm.weight" in one_line(broken)
    other = shutil.copytree(world / "model", tmp_path / "other")
    tiny.qwen3().save_pretrained(other)
    elsewhere = score(pruned := checkpoint(half), dense=other)
    assert "is of another architecture than the dense model" in one_line(elsewhere)
    steeper = shutil.copytree(pruned, tmp_path / "steeper")
    config = json.loads((steeper / "config.json").read_text())
    (steeper / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.01, "attention_dropout": 0.5}))
    otherwise = score(steeper)
    assert "rms_norm_eps is 0.01 in the checkpoint's config.json" in one_line(otherwise)
    missing = score(tmp_path / "nowhere")
    assert "nowhere" in one_line(missing)
    assert {result.exit_code for result in (dense, broken, elsewhere, otherwise, missing)} == {2}
    assert not (tmp_path / "out").exists()


def test_without_a_digest_a_record_would_not_say_of_which_weights_it_is(
    checkpoint: Any, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    """Else the record of a folder would stand for whatever lies there later."""
    entry = json.dumps({"name": "checkpoint", "options": {"folder": str(checkpoint(half))}})
    result = prunebench("plan", write_suite(methods=f"methods: [dense, {entry}]"), "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "digest is empty" in result.stderr


def test_a_checkpoint_that_is_less_sparse_than_a_suite_says_is_no_success(
    checkpoint: Any, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    """Exact counts are not asked of what was pruned elsewhere, but it must be what it is called."""
    folder = str(checkpoint(half))
    entry = json.dumps({"name": "checkpoint", "options": {"folder": folder, "digest": find_model(folder).digest}})
    suite = write_suite(methods=f"methods: [dense, {entry}]", sparsities="sparsities: [0.6]")
    assert prunebench("run", suite, "-o", tmp_path / "out").exit_code == 1
    error = row(tmp_path).error
    assert error is not None
    assert "0.5000 of the prunable weights are zero where 0.6 is said" in error.message
