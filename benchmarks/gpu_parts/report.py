"""What a check found: rows of a table, written as JSON after each part."""

import json
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "triton", "transformers", "numpy")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        what: what was checked or measured.
        value: the number, None where nothing could be measured.
        unit: of the number.
        goal: the goal in words, empty if there is none.
        met: whether a goal for a speed or a size is met; None where it does not apply, as in miniature.
        correct: whether a result is right; None where nothing was compared. False makes the command fail.
        note: a remark for the reader.
    """

    what: str
    value: float | None = None
    unit: str = ""
    goal: str = ""
    met: bool | None = None
    correct: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """The last word on this row."""
        if self.correct is not None:
            return "correct" if self.correct else "WRONG"
        return "" if self.met is None else "met" if self.met else "missed"


@dataclass
class Report:
    """All rows so far, by part.

    Args:
        path: the JSON file.
        device: torch's name of the device.
        miniature: whether sizes are those that a CPU can do in seconds; then no goal is judged.
    """

    path: Path
    device: str
    miniature: bool
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row to the part that runs, and show it at once."""
        self._rows.append(row)
        say(line_of(row))

    def measured(self, what: str, value: float, unit: str, *, at_most: float | None = None, note: str = "") -> None:
        """Add a measurement, with a goal if it has an upper limit."""
        met = None if at_most is None or self.miniature else value <= at_most
        self.add(Row(what, value, unit, "" if at_most is None else f"≤ {at_most:g}", met, note=note))

    @contextmanager
    def part(self, letter: str, title: str) -> Iterator[None]:
        """Collect the rows of one part, and write the file whether the part ends or fails."""
        say(f"\n({letter}) {title}")
        self._rows, began, failure = [], time.perf_counter(), None
        try:
            yield
        except Exception as error:  # the other parts still run
            failure = traceback.format_exc()
            say(f"FAILED: {type(error).__name__}: {error}")
        self.parts[letter] = {
            "title": title,
            "seconds": round(time.perf_counter() - began, 2),
            "error": failure,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in self._rows],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**self.facts(), "parts": self.parts}, indent=1), encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """Card, versions and command."""
        cuda = self.device == "cuda"
        return {
            "command": " ".join(["python", *sys.argv]),
            "card": torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()}), no GPU",
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "versions": {name: version_of(name) for name in PACKAGES},
            "threads": torch.get_num_threads(),
            "miniature": self.miniature,
        }

    def table(self) -> str:
        """All rows under the facts they belong to."""
        facts = self.facts()
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        lines = [f"{facts['card']}, {versions}{', IN MINIATURE: times mean nothing' if self.miniature else ''}"]
        for letter, part in self.parts.items():
            lines.append(f"\n({letter}) {part['title']}, {part['seconds']:.0f} s")
            lines += [line_of(Row(**{k: v for k, v in row.items() if k != "verdict"})) for row in part["rows"]]
            if part["error"]:
                lines.append(f"    FAILED: {part['error'].strip().splitlines()[-1]}")
        return "\n".join(lines)

    @property
    def failed(self) -> bool:
        """Whether a part ended by an error or a result is wrong."""
        return any(
            part["error"] or any(row["correct"] is False for row in part["rows"]) for part in self.parts.values()
        )


def line_of(row: Row) -> str:
    """One line of the table."""
    value = "" if row.value is None else f"{row.value:.4g} {row.unit}"
    note = f"  [{row.note}]" if row.note else ""
    return f"    {row.what:62} {value:>16}  {row.goal:12} {row.verdict}{note}".rstrip()


def version_of(package: str) -> str:
    """The installed version."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def say(line: str) -> None:
    """Write a line at once, so that a run cut short has shown what it knew."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
