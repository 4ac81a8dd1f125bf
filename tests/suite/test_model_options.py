"""Options of an entry of models: what they change of a cell's id, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.errors import UsageError
from prunebench.models.loading import load_model
from prunebench.models.source import find_model
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

Write = Callable[..., Path]


def cell_of(write_suite: Write, folder: Path, more: str = "") -> Cell:
    """The cell of one model with options."""
    models = f"models: [{{id: {folder / 'model'}{more}}}]"
    (cell,) = plan(load_suite(write_suite(models=models, methods="methods: [dense]")))
    return cell


def test_ids_change_with_what_changes_the_outcome_alone(write_suite: Write, world: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(world / "model", own)
    (own / "model.safetensors").unlink()
    plain = cell_of(write_suite, world)
    assert cell_of(write_suite, world, f", tokenizer: {own}").id == plain.id
    more = [", dtype: float16", ", attn_implementation: eager", ", attn_implementation: sdpa"]
    ids = {plain.id} | {cell_of(write_suite, world, each).id for each in more}
    (own / "tokenizer.json").write_text((own / "tokenizer.json").read_text().replace('"w1"', '"v1"'))
    other = cell_of(write_suite, world, f", tokenizer: {own}")
    assert len({*ids, other.id}) == 5
    written = plain.model_dump(mode="json")
    assert not {"tokenizer", "attn_implementation", "chat_template"} & written.keys()
    assert Cell.model_validate(other.model_dump(mode="json")).tokenizer == str(own)


def test_what_is_loaded_is_what_was_asked_for(world: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(world / "model", own)
    (own / "tokenizer.json").write_text((own / "tokenizer.json").read_text().replace('"w1"', '"v1"'))
    found = find_model(str(world / "model"), tokenizer=str(own), attn_implementation="eager")
    model, tokenizer = load_model(found, dtype="float16", device="cpu")
    assert model.dtype is torch.float16
    assert model.config._attn_implementation == "eager"
    assert "v1" in tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp16"}, "dtype: Input should be 'float32', 'bfloat16', 'float16' or 'auto', got 'fp16'"),
        ({"attn_implementation": "flash"}, "should be 'eager', 'sdpa' or 'flex_attention', got 'flash'"),
        ({"tokenizer": "./nowhere"}, "nowhere is not a folder"),
        ({"tokenizer": "builtin/nowhere"}, "unknown model 'builtin/nowhere'"),
        ({"tokenizer": "{empty}"}, "has no tokenizer"),
        ({"tokenizer": "{coded}"}, "the tokenizer .* brings code of its own"),
    ],
)
def test_wrong_options(write_suite: Write, world: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(world / "model", tmp_path / "coded")
    (tmp_path / "coded" / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Own", null]}}')
    more = "".join(
        f", {key}: {value.format(empty=tmp_path / 'empty', coded=tmp_path / 'coded')}" for key, value in options.items()
    )
    with pytest.raises(UsageError, match=message) as caught:
        cell_of(write_suite, world, more)
    assert "\n" not in str(caught.value)


def test_a_folder_without_tokenizer_takes_one(write_suite: Write, world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "bare" / "model")
    for file in (tmp_path / "bare" / "model").glob("*token*"):
        file.unlink()
    with pytest.raises(UsageError, match=r"has no tokenizer: .*name one with 'tokenizer'"):
        cell_of(write_suite, tmp_path / "bare")
    tokenizer = f", tokenizer: {world / 'model'}"
    assert cell_of(write_suite, tmp_path / "bare", tokenizer).id == cell_of(write_suite, world).id
