"""A damaged record or array file is named, kept apart, and its cell runs again."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunebench.cli.app import app
from prunebench.records import quarantine
from prunebench.records.store import (
    read_record,
    read_records,
)
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay
from tests.helpers.records import arrays_file


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, world: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    suite = folder / "suite.yaml"
    suite.write_text(
        f"name: tiny\nmodels: [{world / 'model'}]\n"
        f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}\n"
        "sparsities: [0.5]\nmethods: [dense, magnitude]\n"
        f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
    )
    run_suite(plan(load_suite(suite)), folder / "out", SilentDisplay())
    return suite, folder / "out"


class TestSweep:
    """Of a sweep's records one is harmed: it is named, set aside and run again; the others are kept."""

    HARMS = (
        "cut", "altered", "pipe", "folder", "link", "foreign", "no digest",
        "arrays cut", "arrays missing", "arrays of another",
    )  # fmt: skip

    @pytest.mark.parametrize("harm", HARMS)
    def test_it_is_set_aside_and_runs_again(
        self, swept: tuple[Path, Path], harm: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        suite, out = swept
        dense, pruned = plan(load_suite(suite))
        before = read_record(out / f"{pruned.id}.json")
        path = out / f"{pruned.id}.json"
        harmed(path, harm, out / f"{dense.id}.json")
        there = {place.name for place in (out / quarantine.QUARANTINE_FOLDER).glob("*")}
        listed = CliRunner().invoke(app, ["plan", str(suite), "--output", str(out), "--no-forecast", "--json"])
        assert [entry["record"] for entry in json.loads(listed.stdout)] == ["ok", None]
        assert listed.stderr.count("\n") == 2  # the suite, and that
        assert listed.stderr.splitlines()[1].startswith("to be run again: ")
        display = SilentDisplay()
        records = run_suite(plan(load_suite(suite)), out, display)
        assert display.begun == [pruned.id]
        assert records[1].perplexity == before.perplexity
        assert records[1].environment["weights_digest"] == before.environment["weights_digest"]
        (line,) = [entry.getMessage() for entry in caplog.records if entry.name.startswith("prunebench")]
        assert line.startswith(f"set aside in {out / quarantine.QUARANTINE_FOLDER}, the cell runs again: ")
        assert "\n" not in line
        assert len({place.name for place in (out / quarantine.QUARANTINE_FOLDER).glob("*.json")} - there) == 1
        assert len(read_records(out)) == 2

    def test_a_second_of_one_name_is_numbered(self, tmp_path: Path) -> None:
        for content in ("one", "two", "three"):
            (tmp_path / "x.json").write_text(content)
            (tmp_path / "x.npz").write_text(content)
            place = quarantine.quarantine(tmp_path / "x.json")
            assert (place.read_text(), place.with_suffix(".npz").read_text()) == (content, content)
        assert {place.name for place in (tmp_path / quarantine.QUARANTINE_FOLDER).iterdir()} == {
            f"x{number}.{kind}" for number in ("", ".1", ".2") for kind in ("json", "npz")
        }


def harmed(path: Path, harm: str, other: Path) -> None:
    """Do something to a record, as a disk, a person or a careless copy would."""
    text, beside = path.read_bytes(), arrays_file(path)
    if harm == "cut":
        path.write_bytes(text[: len(text) // 2])
    elif harm == "altered":
        path.write_bytes(text.replace(b'"reached": 0.5', b'"reached": 0.6').replace(b'"reached":0.5', b'"reached":0.6'))
        assert path.read_bytes() != text
    elif harm in ("pipe", "folder", "link"):
        path.unlink()
        if harm == "link":
            path.symlink_to(other)
        else:
            os.mkfifo(path) if harm == "pipe" else path.mkdir()
    elif harm == "foreign":
        path.write_bytes(other.read_bytes())
    elif harm == "no digest":
        content = json.loads(text)
        del content["digest"]
        path.write_text(json.dumps(content))
    elif harm == "arrays cut":
        beside.write_bytes(beside.read_bytes()[:-1])
    elif harm == "arrays missing":
        beside.unlink()
    else:
        beside.write_bytes(arrays_file(other).read_bytes())
