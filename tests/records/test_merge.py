"""Folders are merged by cell id, whatever their files are called, and nothing but regular files is read or written."""

import os
from pathlib import Path

import numpy as np
import pytest

from prunebench.errors import OutputError
from prunebench.records.merge import merge_records
from prunebench.records.store import read_arrays, read_record, read_records, write_record
from tests.helpers.records import ARRAYS, arrays_file, record

OTHER = {"perplexity/x/losses": np.arange(7.0)}


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, Path]:
    write_record(tmp_path / "one", record("wanda"), ARRAYS)
    write_record(tmp_path / "two", record("magnitude"), OTHER)
    return tmp_path / "one", tmp_path / "two"


def test_files_of_one_name_with_two_cells_are_two(shards: tuple[Path, Path], tmp_path: Path) -> None:
    for shard in shards:
        (path,) = shard.glob("*.json")
        path.rename(shard / "result.json")
    merged = merge_records(shards, tmp_path / "merged")
    assert (merged.cells, merged.copied, merged.conflicts) == (2, 2, ())
    for made, arrays in ((record("wanda"), ARRAYS), (record("magnitude"), OTHER)):
        path = tmp_path / "merged" / f"{made.cell.id}.json"
        assert read_record(path).cell.id == made.cell.id
        assert set(read_arrays(path)) == set(arrays)


def test_files_of_two_names_with_one_cell_are_one(shards: tuple[Path, Path], tmp_path: Path) -> None:
    (path,) = shards[0].glob("*.json")
    (shards[0] / "copy of it.json").write_bytes(path.read_bytes())
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.json").write_bytes(path.read_bytes())
    arrays = arrays_file(path)
    (tmp_path / "merged" / arrays.name).write_bytes(arrays.read_bytes())
    merged = merge_records(shards, tmp_path / "merged")
    assert (merged.cells, merged.copied, merged.conflicts) == (2, 1, ())
    assert len(read_records(tmp_path / "merged")) == 2


def test_a_good_record_goes_before_a_failure_whichever_comes_first(tmp_path: Path) -> None:
    write_record(tmp_path / "bad", record(error="x"), {})
    good = write_record(tmp_path / "good", record(), ARRAYS)
    for number, order in enumerate((("bad", "good"), ("good", "bad"))):
        output = tmp_path / f"merged{number}"
        assert merge_records([tmp_path / name for name in order], output).conflicts == ()
        assert {path.name for path in output.iterdir()} == {good.name, arrays_file(good).name, "forecasts.jsonl"}
        assert read_records(output)[0].status == "ok"
    merge_records([tmp_path / "bad"], tmp_path / "grows")
    assert read_records(tmp_path / "grows")[0].status == "failed"
    merge_records([tmp_path / "good"], tmp_path / "grows")
    assert read_records(tmp_path / "grows")[0].status == "ok"
    assert not list((tmp_path / "grows").glob("*.failed.json"))


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("which", ["record", "arrays"])
def test_a_source_that_is_no_file_is_refused(shards: tuple[Path, Path], tmp_path: Path, which: str, kind: str) -> None:
    (path,) = shards[1].glob("*.json")
    path = arrays_file(path) if which == "arrays" else path
    path.rename(tmp_path / "elsewhere")
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    with pytest.raises(OutputError, match=f"{path.name}: it is a (symbolic link|pipe)"):
        merge_records(shards, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("which", ["record", "arrays", "models"])
def test_a_target_that_is_a_link_is_refused(shards: tuple[Path, Path], tmp_path: Path, which: str) -> None:
    (path,) = shards[0].glob("*.json")
    name = {"record": path.name, "arrays": arrays_file(path).name, "models": "models"}[which]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / name).symlink_to(tmp_path / "precious" / ("file" if which != "models" else ""))
    with pytest.raises(OutputError, match=f"{name}.* is a symbolic link"):
        merge_records(shards, tmp_path / "merged")
    assert (tmp_path / "precious" / "file").read_text() == "mine"
