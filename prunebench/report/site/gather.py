"""Results folders of many people, read for a site: which records each holds, and where they clash."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunebench.errors import RecordError
from prunebench.files import irregular
from prunebench.records.record import TRIALS_FOLDER, Record
from prunebench.records.store import read_records
from prunebench.report.grouping import evaluation_texts
from prunebench.text import counted

DEEPEST = 3  # folders in folders that are looked into


@dataclass(frozen=True)
class Source:
    """One results folder.

    Args:
        folder: where it lies.
        name: what the site calls it, unique and fit for a path.
        records: all of them.
    """

    folder: Path
    name: str
    records: tuple[Record, ...]


def gather(folders: Iterable[Path], tell: Callable[[str], None]) -> list[Source]:
    """Read results folders, and the results folders in those that hold no records themselves.

    Args:
        folders: as they were named.
        tell: called with a line for each record or folder that is left out, and where several are named for each that
            holds nothing like a record; trials of options are left out, untold.

    Raises:
        RecordError: a folder is missing, holds no whole record among its JSON files, or none holds any.
    """
    found: dict[Path, list[Record]] = {}
    asked = list(folders)
    for folder in asked:
        if not folder.exists():
            raise RecordError(f"there is no results folder {folder}: run a suite first")
        inner = [folder] if any(folder.glob("*.json")) else _inside(folder)
        if not inner:
            line = f"{folder} is no results folder: neither it nor a folder in it holds records"
            if len(asked) == 1:
                raise RecordError(line)
            tell(f"left out: {line}")  # as a shell names them for results/*
            continue
        known = len(found)
        for each in inner:
            if each.resolve() in found:
                continue
            try:
                found[each.resolve()] = _read(each, tell)
            except RecordError as error:
                if each == folder:
                    raise
                tell(f"left out: {error}")
        if len(found) == known and all(each.resolve() not in found for each in inner):
            raise RecordError(f"{folder} is no results folder: no file in it is a whole record")
    if not found:
        raise RecordError(f"{asked[0]} and the others are no results folders: none holds records")
    names = _names(list(found))
    return [Source(folder, name, tuple(records)) for (folder, records), name in zip(found.items(), names, strict=True)]


def _inside(folder: Path) -> list[Path]:
    patterns = ("/".join(["*"] * depth) + "/*.json" for depth in range(1, DEEPEST + 1))
    found = sorted({path.parent for pattern in patterns for path in folder.glob(pattern)})

    def leads_elsewhere(inner: Path) -> bool:
        """Whether a link is on the way to a folder."""
        way = [inner, *inner.parents]
        return any(irregular(place, folder=True) for place in way[: way.index(folder)])

    return [inner for inner in found if inner.name != TRIALS_FOLDER and not leads_elsewhere(inner)]


def _read(folder: Path, tell: Callable[[str], None]) -> list[Record]:
    left_out: list[str] = []
    try:
        records = read_records(folder, left_out.append)
    except RecordError as error:
        if not left_out:
            raise
        first = left_out[0].removeprefix("left out: ")
        raise RecordError(f"{folder} is no results folder: no file in it is a whole record ({first})") from error
    for line in left_out:
        tell(line)
    return records


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, with those above it where two have one name."""
    for depth in range(1, max((len(folder.parts) for folder in folders), default=1) + 1):
        names = [re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(f.parts[-depth:])).strip("-.") or "results" for f in folders]
        if len(set(names)) == len(names):
            return names
    return [f"results-{number}" for number, _ in enumerate(folders)]


def clashes(sources: Sequence[Source]) -> list[str]:
    """One name for several texts, or for several dense models: what must not stand in one table, in a line each."""
    lines = []
    texts = evaluation_texts(record for source in sources for record in source.records)
    for protocol in dict.fromkeys(name for name, _ in texts):
        digests = [digest for name, digest in texts if name == protocol]
        if len(digests) > 1:
            where = [
                f"{digest[:8] or 'unknown'} in {', '.join(_with_text(sources, protocol, digest))}" for digest in digests
            ]
            lines.append(f"{protocol} is {counted(len(digests), 'text')}, kept apart: {'; '.join(where)}")
    return lines


def _with_text(sources: Sequence[Source], protocol: str, digest: str) -> list[str]:
    return [s.name for s in sources if (protocol, digest) in evaluation_texts(s.records)]
