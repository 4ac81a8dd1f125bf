"""What is read was written by us and is whole, or it is refused and named."""

import hashlib
import io
import json
import math
import os
import pickle
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prunebench.errors import OutputError, RecordError
from prunebench.files import read_regular_file
from prunebench.records import quarantine
from prunebench.records.arrays import ArrayStore
from prunebench.records.canonical_json import content_digest
from prunebench.records.record import Failure, PerplexityFacts, Record
from prunebench.records.store import (
    check_arrays,
    read_arrays,
    read_latest,
    read_record,
    read_records,
    record_to_json,
    write_record,
)
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Tolerances
from tests.helpers.records import ARRAYS, PROTOCOL, arrays_file, record, resealed

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


class TestDigest:
    @settings(max_examples=40, deadline=None)
    @given(value=ANY_FLOAT, options=st.dictionaries(st.text(), PLAIN_JSON, max_size=4), label=st.text())
    def test_what_was_written_is_read_and_written_again_the_same(
        self, value: float, options: dict[str, Any], label: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("round")
        facts = PerplexityFacts(value=value, nll=-value, tokens=1 << 62, dropped_tokens=0, stderr=5e-324)
        made = record(options=options, method=label).model_copy(update={"perplexity": {PROTOCOL: facts}})
        path = write_record(folder, made, {})
        first = path.read_bytes()
        found = read_record(path)
        assert same(found.perplexity[PROTOCOL].value, value)
        assert same(found.perplexity[PROTOCOL].nll, -value)
        assert (found.cell.options, found.cell.method) == (options, label)
        assert write_record(folder, found, {}).read_bytes() == first

    def test_it_is_of_the_content_and_not_of_its_layout(self) -> None:
        assert content_digest({"b": [1, 0.5], "a": "ü"}) == content_digest(json.loads('{"a":"\\u00fc","b": [1,5e-1]}'))
        assert content_digest({"a": 1}) != content_digest({"a": 2})
        assert content_digest({"a": 1}) != content_digest({"a": "1"})

    @pytest.mark.parametrize("place", [("perplexity", PROTOCOL, "value"), ("cell", "seed"), ("status",)])
    def test_an_altered_record_is_refused(self, tmp_path: Path, place: tuple[str, ...]) -> None:
        path = write_record(tmp_path, record(), {})
        content = json.loads(path.read_text())
        inner = content
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = 99
        path.write_text(json.dumps(content))
        with pytest.raises(RecordError, match="was altered after it was written"):
            read_record(path)

    def test_every_cut_and_every_changed_byte_is_noticed(self, tmp_path: Path) -> None:
        path = write_record(tmp_path, record(), ARRAYS)
        whole, found = path.read_bytes(), read_record(path)
        for place in range(0, len(whole) - 3, 37):  # the last three are a brace and white space
            for torn in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
                path.write_bytes(torn)
                try:
                    assert read_record(path) == found  # as a space that became an exclamation mark cannot be
                except RecordError as error:
                    assert "\n" not in str(error)  # noqa: PT017


class TestArrays:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_record(tmp_path, record(), ARRAYS)

    def test_they_are_read(self, path: Path) -> None:
        check_arrays(path, read_record(path))
        for found in (read_arrays(path), ArrayStore(path.parent).read(read_record(path))):
            assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in ARRAYS.items()}

    @pytest.mark.parametrize("harm", ["cut", "altered", "missing", "another's"])
    def test_harm_is_noticed(self, path: Path, harm: str) -> None:
        beside, found = arrays_file(path), read_record(path)
        whole = beside.read_bytes()
        if harm == "another's":
            other = {name: array + 1 for name, array in ARRAYS.items()}
            np.savez_compressed(beside, **other)  # type: ignore[arg-type]
        elif harm == "missing":
            beside.unlink()
        else:
            beside.write_bytes(whole[:100] if harm == "cut" else whole[:80] + bytes([whole[80] ^ 1]) + whole[81:])
        for read in (
            lambda: read_arrays(path),
            lambda: check_arrays(path, found),
            lambda: ArrayStore(path.parent).read(found),
            lambda: read_records(path.parent),
        ):
            with pytest.raises(RecordError, match=r"\.npz"):
                read()
        told: list[str] = []
        with pytest.raises(RecordError, match="holds no whole record"):
            read_records(path.parent, leave_out=told.append)
        assert len(told) == 1
        assert beside.name in told[0]

    def test_they_are_named_by_their_digest(self, path: Path) -> None:
        ((digest, name),) = read_record(path).arrays.items()
        assert digest == digest_of((path.parent / name).read_bytes())
        assert name == f"{path.stem}.{digest[:16]}.npz"

    def test_what_an_interrupted_attempt_left_is_not_read_and_goes_with_the_next_record(self, path: Path) -> None:
        left, others = path.with_name(f"{path.stem}.{'0' * 16}.npz"), path.with_name(f"{path.stem}0.{'0' * 16}.npz")
        for torn in (left, others):
            torn.write_bytes(b"x")
        assert set(read_arrays(path)) == set(ARRAYS)
        write_record(path.parent, record(), {"perplexity/x/losses": np.zeros(3)})
        assert set(read_arrays(path)) == {"perplexity/x/losses"}
        assert {found.name for found in path.parent.glob("*.npz")} == {arrays_file(path).name, others.name}

    def test_a_name_that_leads_elsewhere_is_refused(self, path: Path) -> None:
        for name in ("../x.npz", "/etc/passwd", "other.npz", f"{path.stem}.json", f"{path.stem}/x.npz"):
            content = json.loads(path.read_text()) | {"arrays": {"0" * 64: name}}
            path.write_text(resealed(content))
            with pytest.raises(RecordError, match="is no name of a file of arrays"):
                read_record(path)

    def test_a_new_outcome_without_arrays_leaves_none_of_the_old(self, path: Path) -> None:
        write_record(path.parent, record(), {})
        assert read_arrays(path) == {}
        assert not list(path.parent.glob("*.npz"))

    def test_a_record_that_was_read_keeps_its_arrays(self, path: Path) -> None:
        write_record(path.parent, read_record(path).model_copy(update={"notes": {"again": 1}}), {})
        assert set(read_arrays(path)) == set(ARRAYS)

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(pickle.dumps({"a": 1}), id="pickle"),
            pytest.param(b"", id="empty"),
            pytest.param(b"PK\x03\x04" + b"\0" * 60, id="torn zip"),
            pytest.param(b"\x93NUMPY\x01\x00\x08\x00{}     \n", id="one array"),
        ],
    )
    def test_what_is_no_array_file_is_refused_even_with_its_digest(self, path: Path, content: bytes) -> None:
        with pytest.raises(RecordError, match="is no array file of prunebench"):
            read_arrays(path, with_arrays(path, content))

    @pytest.mark.parametrize(
        "array",
        [np.array(["a"]), np.array([1 + 1j]), np.zeros((2, 2)), np.array(1.0)],
        ids=["text", "complex", "2d", "0d"],
    )
    def test_what_is_no_row_of_numbers_is_refused(self, path: Path, array: np.ndarray) -> None:
        with pytest.raises(RecordError, match="'x' is no row of numbers"):
            read_arrays(path, with_arrays(path, zipped(x=array)))

    def test_objects_are_never_unpickled(self, path: Path) -> None:
        with pytest.raises(RecordError, match="allow_pickle"):
            read_arrays(path, with_arrays(path, zipped(x=np.array([{"a": 1}], dtype=object))))


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def with_arrays(path: Path, content: bytes) -> Record:
    """The record at a path, as if it had been written with a file of arrays of this content."""
    path.with_suffix(".npz").write_bytes(content)
    return read_record(path).model_copy(update={"arrays": {digest_of(content): path.with_suffix(".npz").name}})


class TestContent:
    """What a digest does not tell: whether a record makes sense."""

    @pytest.mark.parametrize(
        ("place", "value", "words"),
        [
            (("zero_shot", "results", "piqa"), "x", "results of 'piqa' is no mapping"),
            (("zero_shot", "results"), 3, "zero_shot.results"),
            (("zero_shot", "n-samples", "piqa"), [1], "n-samples of 'piqa' is no mapping"),
            (("cell", "evaluations", 1, "tasks"), 5, "tasks are no list of names"),
            (("cell", "evaluations", 1, "noise"), "much", "noise is no number: 'much'"),
            (("environment", "versions"), "2.0", "versions are no mapping"),
            (("cost", "prune_seconds"), "NaN", "finite number"),
            (("cost", "prune_seconds"), -1, "greater than or equal to 0"),
            (("sparsity", "reached"), 1.5, "less than or equal to 1"),
            (("notes",), {"x": -1}, "greater than or equal to 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, tmp_path: Path, place: tuple[Any, ...], value: object, words: str
    ) -> None:
        content = json.loads(record_to_json(record()))
        inner = content
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value
        (tmp_path / "x.json").write_text(resealed(content))
        with pytest.raises(RecordError, match=words):
            read_record(tmp_path / "x.json")

    @pytest.mark.parametrize("change", ["zero", "short"])
    def test_losses_that_fit_no_counts_are_no_evidence(self, tmp_path: Path, change: str) -> None:
        """A folder must never be worse than itself."""
        losses, counts = ARRAYS.values()
        other = (losses, counts * 0) if change == "zero" else (losses[:-1], counts)
        write_record(tmp_path, record(), dict(zip(ARRAYS, other, strict=True)))
        records, array_store = read_records(tmp_path), ArrayStore(tmp_path)
        found = compare_records(records, records, array_store, array_store, Tolerances())
        assert found.exit_code == 2
        assert "the losses were not kept on both sides, or are of other sequences" in found.cells[0].refused[0]

    def test_halves_of_characters_in_what_a_plugin_says(self) -> None:
        assert Failure(type="E", message="a\ud800b").message == "a?b"


class TestFiles:
    def test_only_regular_files_of_a_sane_size_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "folder.json").mkdir()
        os.mkfifo(tmp_path / "pipe.json")  # reading it would wait for ever
        (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
        (tmp_path / "nowhere.json").symlink_to(tmp_path / "gone")
        for name in ("folder", "pipe", "loop", "nowhere"):
            with pytest.raises(RecordError, match=rf"cannot read the record .*{name}\.json: \w"):
                read_record(tmp_path / f"{name}.json")
        (tmp_path / "large").write_bytes(b"x" * 11)
        with pytest.raises(OSError, match="11 bytes"):
            read_regular_file(tmp_path / "large", 10)
        assert read_regular_file(tmp_path / "large", 11) == b"x" * 11

    @pytest.mark.parametrize("name", ["../out", "a/b", "/etc/x", "..", "", "a\nb", "a b", ".hidden", "-x", "x" * 201])
    def test_an_id_can_lead_nowhere(self, tmp_path: Path, name: str) -> None:
        content = json.loads(record_to_json(record()))
        content["cell"]["id"] = name
        (tmp_path / "x.json").write_text(resealed(content))
        with pytest.raises(RecordError, match=r"is no valid record: cell\.id"):
            read_record(tmp_path / "x.json")

    @pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device"])
    @pytest.mark.parametrize("which", ["record", "failed record", "arrays"])
    def test_what_is_no_file_is_refused_by_name(self, tmp_path: Path, which: str, kind: str) -> None:
        outside, folder = tmp_path / "precious", tmp_path / "results"
        outside.write_text("mine")
        made = record(error="x") if which == "failed record" else record()
        path = write_record(folder, made, ARRAYS)
        target = arrays_file(path) if which == "arrays" else path
        target.unlink()
        make_irregular(target, kind, outside)
        with pytest.raises(OutputError, match=rf"{re.escape(target.name)}.* is a (symbolic link|pipe|folder|device)"):
            write_record(folder, made, ARRAYS)
        with pytest.raises(RecordError, match=rf"{re.escape(target.name)}: it is a (symbolic link|pipe|folder|device)"):
            read_records(folder)
        assert outside.read_text() == "mine"
        assert [place.name for place in folder.iterdir() if place.name.startswith(".")] == []


def make_irregular(path: Path, kind: str, outside: Path) -> None:
    """Put something at a path that is no regular file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root may make devices")
    else:
        path.symlink_to(outside if kind == "link" else outside.with_name("gone"))


class TestFailures:
    """A failed attempt is written beside a good record and never replaces it."""

    def test_a_good_record_stays_as_it_was(self, tmp_path: Path) -> None:
        path = write_record(tmp_path, record(), ARRAYS)
        before = {place.name: place.read_bytes() for place in tmp_path.iterdir()}
        failed = write_record(tmp_path, record(error="out of memory"), {})
        assert failed.name == f"{path.stem}.failed.json"
        assert {place.name: place.read_bytes() for place in tmp_path.iterdir() if place != failed} == before
        assert [found.status for found in read_records(tmp_path)] == ["ok"]
        assert set(read_arrays(path)) == set(ARRAYS)
        assert read_latest(tmp_path, path.stem).status == "failed"
        found = quarantine.read_intact_record(tmp_path, path.stem)
        assert found is not None
        assert found.status == "ok"

    def test_it_is_shown_where_there_is_no_good_one(self, tmp_path: Path) -> None:
        write_record(tmp_path, record(error="out of memory"), {})
        (found,) = read_records(tmp_path)
        assert found.error is not None
        assert found.error.message == "out of memory"
        assert quarantine.read_intact_record(tmp_path, found.cell.id) == found

    def test_it_goes_with_the_next_good_one(self, tmp_path: Path) -> None:
        write_record(tmp_path, record(error="out of memory"), {})
        path = write_record(tmp_path, record(), ARRAYS)
        assert {place.name for place in tmp_path.iterdir()} == {path.name, arrays_file(path).name}
        assert read_latest(tmp_path, path.stem).status == "ok"

    def test_one_of_schema_1_under_the_name_of_a_good_one_is_replaced(self, tmp_path: Path) -> None:
        path = write_record(tmp_path, record(error="old"), {})
        path.rename(good := tmp_path / f"{record().cell.id}.json")
        assert [found.status for found in read_records(tmp_path)] == ["failed"]
        write_record(tmp_path, record(error="new"), {})
        assert len(read_records(tmp_path)) == 1
        assert write_record(tmp_path, record(), {}) == good
        assert [place.name for place in tmp_path.iterdir()] == [good.name]

    def test_an_id_that_is_the_name_of_a_failed_record_is_refused(self) -> None:
        content = record().model_dump(by_alias=True)
        content["cell"]["id"] = "x.failed"
        with pytest.raises(ValidationError, match="failed record"):
            Record.model_validate(content)
