"""Messages and tables on a terminal of 80 columns, which is a pseudo-terminal here, and elsewhere."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
MISSING = "a-rather-long-name-of-a-folder/" * 3 + "suite-that-is-not-there.yaml"


def shown(*words: str) -> tuple[list[str], int]:
    """The lines that a command writes to a terminal of 80 columns, and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "prunebench", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=plain | {"TERM": "xterm", "NO_COLOR": "1"},
        cwd=ROOT,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            more = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        written += more
    os.close(ours)
    return written.decode().replace("\r\n", "\n").rstrip("\n").split("\n"), process.wait()


def test_a_long_error() -> None:
    lines, code = shown("run", MISSING)
    assert code == 2
    assert " ".join(" ".join(lines).split()) == f"error: cannot read the suite {MISSING}: No such file or directory"
    assert f"    {MISSING}:" in lines
    assert max(len(line) for line in lines if MISSING not in line) <= 80


def test_tables_of_a_comparison() -> None:
    folder = "results/reference/smoke"
    lines, code = shown("compare", folder, folder)
    assert code == 0
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "no regressions, 7 compared cells"


def test_a_plan_without_forecasts_has_no_empty_columns(tmp_path: Path) -> None:
    lines, code = shown("plan", "suites/smoke.yaml", "--output", str(tmp_path))
    assert code == 0
    assert lines[0].startswith("suite smoke: 1 model × ")
    assert max(map(len, lines)) <= 80
    assert not any("–" in line for line in lines)
    assert sum(line.startswith("model ") for line in lines) == 1  # it is not stacked
