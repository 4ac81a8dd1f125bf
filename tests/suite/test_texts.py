"""What planning makes of the texts that a suite names: chats ask for a template, and the template is in the id."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.errors import UsageError
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

Write = Callable[..., Path]


@pytest.fixture
def chatty(world: Path, tmp_path: Path) -> Path:
    """The tiny world with chats instead of texts for calibration, in a copy."""
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    rows = [json.loads(line)["text"] for line in (folder / "calibration.jsonl").read_text().splitlines()]
    chats = [{"messages": [{"role": "user", "content": text}], "body": text} for text in rows]
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return folder


def cell_of(write_suite: Write, folder: Path, text: str = "chats.jsonl", more: str = "") -> Cell:
    """The cell of a suite over a folder, calibrated on one of its files."""
    path = write_suite(
        models=f"models: [{folder / 'model'}]",
        calibration=f"calibration: {{corpus: {folder / text}, nsamples: 8, seqlen: 16{more}}}",
        sparsities="sparsities: [0.5]",
        methods="methods: [wanda]",
    )
    (cell,) = plan(load_suite(path))
    return cell


def test_chats_without_a_template_are_refused_when_planned(write_suite: Write, chatty: Path) -> None:
    with pytest.raises(UsageError, match=r"chats\.jsonl asks for a chat template, and the tokenizer.*'model' has none"):
        cell_of(write_suite, chatty)
    assert cell_of(write_suite, chatty, more=", field: body").chat_template is None


def test_the_template_is_in_the_id_where_it_is_applied(write_suite: Write, chatty: Path) -> None:
    plain = cell_of(write_suite, chatty, "calibration.jsonl")
    template = chatty / "model" / "chat_template.jinja"
    ids = set()
    for text in ("{{ messages[0]['content'] }}", "w1 {{ messages[0]['content'] }}"):
        template.write_text(text)
        ids.add(cell_of(write_suite, chatty).id)
        assert cell_of(write_suite, chatty, "calibration.jsonl") == plain
    assert len(ids) == 2


def test_a_field_of_one_entry_goes_with_its_corpus(write_suite: Write, chatty: Path) -> None:
    path = write_suite(
        calibration=f"calibration: {{corpus: {chatty / 'chats.jsonl'}, field: body, nsamples: 8, seqlen: 16}}",
        methods=f"methods: [{{name: wanda, calibration: {{corpus: {chatty / 'calibration.jsonl'}}}}}]",
        sparsities="sparsities: [0.5]",
    )
    (cell,) = plan(load_suite(path))
    assert cell.calibration.field is None
    assert "field" not in cell.model_dump(mode="json")["calibration"]
