"""How true the time is that ``prunebench run`` shows as left: its display in a terminal of 80 columns, read and timed.

    python benchmarks/time_left.py [--steps 600] [--cells 2] [--dense] [--folder DIR]

A suite of some cells of ELSA at 90 % on the built-in LLaMA of a million parameters runs in a pseudo-terminal. What is
shown at 25, 50 and 75 % of each cell, and of the sweep, is held against the time that was left indeed, from that moment
to the line of the last cell. Speeds vary where a machine is shared, and nobody can foretell that: the table names the
load, and every reading is in it.
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS, LINES = 80, 24
PARTS = (0.25, 0.5, 0.75)
SUITE = """
name: time-left
models: [builtin/tinyworld-llama-1m]
calibration: {{corpus: builtin/tinyworld, nsamples: 128, seqlen: 128}}
sparsities: [0.9]
seeds: {seeds}
methods:
{dense}  - {{name: elsa, options: {{steps: {steps}, interval: 8, batch_size: 8, lr: 1e-2, lmda: 0.02}}}}
evaluations:
  - {{name: perplexity, corpus: builtin/tinyworld, seqlen: 128}}
  - {{name: zero_shot, tasks: [tinyworld_agreement, tinyworld_recall, tinyworld_knowledge], limit: 200}}
"""
MOVE = re.compile(rb"\x1b\[[0-9;?]*[AGK]")
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")
LEFT = re.compile(r"(about|over) (?:(\d+):)?(\d+):(\d\d) left")
RUNNING = re.compile(r"^\[(\d+)/\d+\] [^:]*? · ([^:]*?) · [^:]*$", re.MULTILINE)
ENDED = re.compile(r"^\[(\d+)/\d+\] .*: (?:ok|failed)", re.MULTILINE)


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Seen:
    """What a terminal showed, in seconds from its beginning.

    Args:
        names, began, ended: by the number of a cell.
        left: (moment, seconds shown as left, whether they are the least that it takes).
        output: all bytes.
    """

    names: dict[int, str] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    left: list[tuple[float, int, bool]] = field(default_factory=list)
    output: bytes = b""

    def take(self, now: float, content: bytes) -> None:
        """Take what was written since the last time."""
        self.output += content
        shown = ESCAPE.sub(b"", MOVE.sub(b"\n", content)).decode(errors="replace")
        for number in map(int, ENDED.findall(shown)):
            self.ended.setdefault(number, now)
        for number, method in RUNNING.findall(shown):
            self.began.setdefault(int(number), now)
            self.names[int(number)] = method
        for word, hours, minutes, seconds in LEFT.findall(shown)[-1:]:
            self.left.append((now, 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds), word == "over"))

    def shown_at(self, moment: float) -> tuple[int, bool] | None:
        """What was shown as left at a moment, as in ``left``; None where nothing was."""
        return next((tuple(shown) for when, *shown in reversed(self.left) if when <= moment), None)


def watch(words: list[str]) -> Seen:
    """Run a command in a pseudo-terminal to its end.

    Raises:
        SystemExit: it failed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env={**plain, "TERM": "xterm"}, start_new_session=True
    )
    os.close(theirs)
    seen, start = Seen(), time.monotonic()
    while True:
        try:
            content = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            content = b""
        if not content:
            break
        seen.take(time.monotonic() - start, content)
    if process.wait():
        sys.exit(seen.output.decode(errors="replace"))
    return seen


def table(seen: Seen) -> list[str]:
    """A line for each reading."""
    end, wholes = (
        max(seen.ended.values()),
        [(f"{n} {seen.names[n]}", seen.began[n], seen.ended[n]) for n in sorted(seen.ended)],
    )
    wholes.append(("sweep", min(seen.began.values()), end))
    lines = [f"{'of':8} {'at':>5} {'seconds':>8} {'shown left':>11} {'truly left':>11} {'error':>7}"]
    for what, began, ended in wholes:
        for part in PARTS:
            moment = began + part * (ended - began)
            shown, true = seen.shown_at(moment), end - moment
            seconds, at_least = shown or (0, True)
            error = "" if at_least else f"{100 * (seconds / true - 1):+.0f} %"
            told = "nothing" if shown is None else f"{'over ' if at_least else ''}{seconds} s"
            lines.append(f"{what:8} {part:5.0%} {ended - began:6.0f} s {told:>11} {true:9.0f} s {error:>7}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--dense", action="store_true", help="run the dense model first, as most suites do")
    parser.add_argument("--folder", type=Path, help="keep suite, records and what the terminal showed here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = options.folder or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        suite = folder / "time-left.yaml"
        dense = "  - dense\n" if options.dense else ""
        suite.write_text(SUITE.format(steps=options.steps, seeds=list(range(options.cells)), dense=dense))
        say(f"{options.cells} cells of {options.steps} steps, load {os.getloadavg()[0]:.1f}")
        words = [sys.executable, "-m", "prunebench", "run", str(suite), "--output", str(folder / "results"), "--fresh"]
        seen = watch(words)
        if options.folder is not None:
            (folder / "terminal.txt").write_bytes(seen.output)
    for line in table(seen):
        say(line)
    say(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
