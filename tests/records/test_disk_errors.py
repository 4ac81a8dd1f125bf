"""A disk that is full, read-only or out of quota: one line that says what to do, and nothing lost."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunebench.cli.app import app
from prunebench.errors import OutputError
from prunebench.files import write_atomically
from prunebench.records.record import Forecast
from prunebench.records.store import read_records, write_forecasts, write_record
from prunebench.report.output.files import write_file, write_html, write_plots
from prunebench.report.output.tidy import write_parquet
from tests.helpers.paths import GOLDEN_RECORD
from tests.helpers.records import ARRAYS, record

CODES = {
    errno.ENOSPC: "No space left on device; free some space and try again",
    errno.EDQUOT: "make room within your quota and try again",
    errno.EROFS: "Read-only file system; choose a folder that can be written",
    errno.EACCES: "Permission denied; choose a folder that you may write",
}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "record": lambda folder: write_record(folder, record("new"), ARRAYS),
    "forecasts": lambda folder: write_forecasts(folder, [Forecast(cell="a")]),
    "page": lambda folder: write_html([record()], folder),
    "plots": lambda folder: write_plots([record()], folder / "plots", "svg"),
    "parquet": lambda folder: write_parquet([record()], folder / "x.parquet"),
    "text": lambda folder: write_file(folder / "x.md", "x"),
}


@pytest.mark.parametrize(
    ("what", "code"), [("record", code) for code in CODES] + [(what, errno.ENOSPC) for what in WRITERS]
)
def test_one_line_and_nothing_lost(what: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, record("old"), ARRAYS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        WRITERS[what](tmp_path)
    monkeypatch.undo()
    assert CODES[code] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert len(read_records(tmp_path)) == 1


def test_a_limit_on_files_ends_a_report_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(GOLDEN_RECORD.read_text())
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))\n"
        "from prunebench.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(tmp_path), "--format", "csv", "-o", str(tmp_path / "x.csv")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "raise the limit on the size of files (ulimit -f)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["report"], ["--help"]])
def test_a_full_standard_output(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "one.json").write_text(GOLDEN_RECORD.read_text())
    with Path("/dev/full").open("w") as full:
        code = "from prunebench.cli.app import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words, *[str(tmp_path)] * (words == ["report"])],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "free some space" in done.stderr


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_in_place_of_the_page_is_refused(tmp_path: Path, kind: str) -> None:
    outside, page = tmp_path / "precious", tmp_path / "report.html"
    outside.write_text("mine")
    if kind == "link":
        page.symlink_to(outside)
    else:
        os.mkfifo(page)  # writing to it would wait for ever
    with pytest.raises(OutputError, match=r"report\.html: it is a (symbolic link|pipe); remove it"):
        write_html([record()], tmp_path)
    assert outside.read_text() == "mine"


def test_links_that_are_asked_for_are_replaced_and_devices_written_to(tmp_path: Path) -> None:
    outside, link = tmp_path / "precious", tmp_path / "page.html"
    outside.write_text("mine")
    link.symlink_to(outside)
    write_html([record()], tmp_path, path=link)
    assert outside.read_text() == "mine"
    assert not link.is_symlink()
    write_atomically(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["with space", "ünï ⁠cödé 日本", "e\u0301 and é", "a" * 200, "-o", "$(x)"])
def test_folders_of_any_name(tmp_path: Path, name: str) -> None:
    write_record(tmp_path / name, record(), ARRAYS)
    (place,) = tmp_path.iterdir()
    result = CliRunner().invoke(app, ["report", str(place), "--format", "html"])
    assert result.exit_code == 0
    assert (place / "report.html").is_file()


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match=r"cannot write the record .*: File exists"):
        write_record(tmp_path / "out", record(), {})
