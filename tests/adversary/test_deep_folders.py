"""Folders so deep that a function which calls itself for each of them would not come back."""

import os
from pathlib import Path

import pytest

from prunebench.files import remove_tree
from prunebench.models.saving import _write_folder
from prunebench.records.merge import _copy_model
from prunebench.records.saved_models import files_in
from prunebench.runner.resources import work_folder
from prunebench.runner.saved_state import SavedState
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

DEEP = 2500  # beyond Python's limit of recursion, and beyond the longest path


def dig(folder: Path) -> None:
    """Make folders in one another, as a method can that changes its working directory."""
    here = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        for _ in range(DEEP):
            Path("d").mkdir()
            os.chdir("d")
        Path("file").touch()
    finally:
        os.chdir(here)


def test_a_deep_work_folder_is_removed(write_suite: object, tmp_path: Path) -> None:
    (cell, *_) = plan(load_suite(write_suite()))  # type: ignore[operator]
    with work_folder(tmp_path / "out", cell) as work:
        dig(work / "mine")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_deep_state_is_discarded(tmp_path: Path) -> None:
    dig(tmp_path / "state" / "measure")
    (tmp_path / "state" / "measure" / "closed").mkdir(mode=0)
    SavedState(tmp_path / "state").discard("pruned", ["measure"])
    assert not (tmp_path / "state" / "measure").exists()
    dig(tmp_path / "state" / "prune")
    SavedState(tmp_path / "state").remove()
    assert not (tmp_path / "state").exists()


def test_deep_models_are_refused(tmp_path: Path) -> None:
    dig(tmp_path / "model")
    with pytest.raises(OSError, match="lie in one another over 50 deep"):
        files_in(tmp_path / "model")
    remove_tree(tmp_path / "model")


@pytest.mark.slow
def test_deep_leftovers_of_saved_models_are_removed(tmp_path: Path) -> None:
    dig(tmp_path / "models" / ".cell.1234.tmp")
    dig(tmp_path / "models" / "cell")

    def write(folder: Path) -> int:
        return (folder / "model.safetensors").write_bytes(b"1234")

    size, form = _write_folder(tmp_path / "models", "cell", write, None, None)
    assert (size, form.folder) == (4, "cell")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["cell"]
    assert [path.name for path in (tmp_path / "models" / "cell").iterdir()] == ["model.safetensors"]


@pytest.mark.slow
def test_merging_replaces_a_deep_folder_and_copies_none(tmp_path: Path) -> None:
    (tmp_path / "from" / "cell").mkdir(parents=True)
    (tmp_path / "from" / "cell" / "file").write_text("text")
    dig(tmp_path / "into" / "cell")
    dig(tmp_path / "into" / ".cell.merge.tmp")
    _copy_model(tmp_path / "from" / "cell", tmp_path / "into")
    assert [path.name for path in (tmp_path / "into").rglob("*")] == ["cell", "file"]
    dig(tmp_path / "from" / "deep")
    with pytest.raises(OSError, match="lie in one another over 50 deep"):
        _copy_model(tmp_path / "from" / "deep", tmp_path / "into")
    remove_tree(tmp_path / "from")  # pytest could not


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    remove_tree(tmp_path / "tree")
    with pytest.raises(OSError, match="it is a symbolic link"):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "mine" / "file").exists()
