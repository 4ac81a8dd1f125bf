"""Wherever writing is cut off, by a kill or a full disk, a reader finds the old outcome whole or the new one whole."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prunebench.models.saving import is_saved, save_checkpoints
from prunebench.pruning import Unstructured, prunable
from prunebench.records.merge import merge_records
from prunebench.records.record import Record
from prunebench.records.store import read_arrays, read_record, read_records, write_record
from tests.helpers import tiny
from tests.helpers.crashes import FINISHED, Fault, struck
from tests.helpers.records import record
from tests.helpers.text import tokenizer

FAULTS: tuple[Fault, ...] = ("kill", "full", "full for good")
ONE, TWO = ({"perplexity/x/losses": np.arange(float(count))} for count in (50, 80))
MOST = 400  # points; no sequence has so many

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def outcome(folder: Path) -> str | None:
    """Which outcome a reader finds: "one" or "two", with its own arrays and model, else an error is raised."""
    if not any(folder.glob("*.json")):
        return None
    (found,) = read_records(folder)
    (name,) = found.notes
    arrays = read_arrays(folder / f"{found.cell.id}.json", found)
    expected = {"one": ONE, "two": TWO}[name] if found.status == "ok" else {}
    assert {key: array.tolist() for key, array in arrays.items()} == {k: a.tolist() for k, a in expected.items()}
    if found.saved is not None:
        assert is_saved(folder, found)
    return name


def named(name: str, **changes: object) -> Record:
    return record().model_copy(update={"notes": {name: 1}, **changes})


def every_point(
    start: Path, folder: Path, fault: Fault, action: Callable[[], object], allowed: set[str | None]
) -> tuple[int, set[str | None]]:
    """Strike at each point in turn, from the same start; the number of points, and the outcomes that were found."""
    found = set()
    for point in range(1, MOST):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        code = struck(action, fault, point, folder)
        name = outcome(folder)
        assert name in allowed, f"{name} after {fault} at point {point}"
        found.add(name)
        if fault != "kill":
            assert not list(folder.rglob("*.tmp")), f"temporary files are left after {fault} at point {point}"
        if code == FINISHED:
            return point - 1, found
        action()  # the next attempt
        assert outcome(folder) == "two"
    raise AssertionError("it never came to its end")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "start").mkdir()
    return tmp_path / "start", tmp_path / "results"


@pytest.mark.parametrize("fault", FAULTS)
class TestRecord:
    def test_the_first(self, places: tuple[Path, Path], fault: Fault) -> None:
        points, found = every_point(
            *places, fault, lambda: write_record(places[1], named("two"), TWO), allowed={None, "two"}
        )
        assert points >= 10
        assert found == {None, "two"}

    def test_one_in_place_of_another(self, places: tuple[Path, Path], fault: Fault) -> None:
        write_record(places[0], named("one"), ONE)
        points, found = every_point(
            *places, fault, lambda: write_record(places[1], named("two"), TWO), allowed={"one", "two"}
        )
        assert points >= 11
        assert found == {"one", "two"}

    def test_the_same_once_more(self, places: tuple[Path, Path], fault: Fault) -> None:
        """The new file of arrays has the name of the old."""
        write_record(places[0], named("two"), TWO)
        every_point(*places, fault, lambda: write_record(places[1], named("two"), TWO), allowed={"two"})

    def test_a_good_one_after_a_failure(self, places: tuple[Path, Path], fault: Fault) -> None:
        write_record(places[0], named("one", **failure()), {})
        every_point(*places, fault, lambda: write_record(places[1], named("two"), TWO), allowed={"one", "two"})

    def test_a_failure_after_a_good_one(self, places: tuple[Path, Path], fault: Fault) -> None:
        write_record(places[0], named("two"), TWO)
        failed = named("one", **failure())
        points, _ = every_point(*places, fault, lambda: write_record(places[1], failed, {}), allowed={"two"})
        assert points >= 5

    def test_merging(self, places: tuple[Path, Path], fault: Fault, tmp_path: Path) -> None:
        write_record(places[0], named("one", **failure()), {})
        write_record(tmp_path / "shard", named("two"), TWO)
        points, _ = every_point(
            *places, fault, lambda: merge_records([tmp_path / "shard"], places[1]), allowed={"one", "two"}
        )
        assert points >= 10


def failure() -> dict[str, object]:
    made = record(error="out of memory")
    return {"status": made.status, "error": made.error}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_saved_model_in_place_of_another(places: tuple[Path, Path], fault: Fault) -> None:
    def write(folder: Path, name: str, ratio: float, arrays: dict[str, np.ndarray]) -> None:
        model = tiny.llama()
        for layer, target in prunable(model, Unstructured(ratio)):
            layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
        saved = save_checkpoints(model, tokenizer(), folder, record().cell.id, Unstructured(ratio))
        write_record(folder, named(name, saved=saved), arrays)

    start, folder = places
    write(start, "one", 0.5, ONE)
    points, found = every_point(start, folder, fault, lambda: write(folder, "two", 0.9, TWO), allowed={"one", "two"})
    assert points >= 30
    assert found == {"one", "two"}
    (kept,) = read_records(folder)
    assert kept.saved is not None
    for form, saved in kept.saved.forms.items():
        assert [path.name for path in (folder / form).iterdir()] == [saved.folder]


def test_what_is_flushed_before_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power keeps what was flushed: content before its name, arrays before the record, the old until then."""
    write_record(tmp_path, named("one"), ONE)
    old = {path.name for path in tmp_path.glob("*.npz")}
    log: list[str] = []
    flush, rename, unlink = os.fsync, Path.replace, Path.unlink

    def kind(name: str) -> str:
        return "arrays" if ".npz" in name else "record" if ".json" in name else "folder"

    def fsync(number: int) -> None:
        log.append(f"flush {kind(str(Path(f'/proc/self/fd/{number}').readlink()))}")
        flush(number)

    def replace(path: Path, target: Path) -> Path:
        log.append(f"rename {kind(target.name)}")
        return rename(path, target)

    def removed(path: Path, missing_ok: bool = False) -> None:
        if path.name in old:
            log.append("remove old arrays")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", removed)
    path = write_record(tmp_path, named("two"), TWO)
    monkeypatch.undo()
    assert log == [
        "flush arrays", "rename arrays", "flush folder", "flush record", "rename record", "flush folder",
        "remove old arrays",
    ]  # fmt: skip
    assert read_record(path).notes == {"two": 1}
