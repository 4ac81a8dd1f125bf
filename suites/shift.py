"""Texts unlike the usual ones, from what is installed: the source code of Python's library, and German messages.

For ``suites/shift.yaml``: ``prunebench run suites/shift.yaml --plugin suites/shift.py``.
"""

import ast
import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_PO_MESSAGE = re.compile(r'^msgstr(?:\[\d+\])? ((?:".*"\s*\n?)+)', re.MULTILINE)
_PO_MESSAGES_OF_A_DOCUMENT = 40
_TEST_SHARE = 5  # one document of so many


def python_code(split: str) -> Iterator[str]:
    """The modules of Python's standard library, a file each, without its tests: another text with another Python."""
    library = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if not left_out & set(name.parts) and _is_in(split, name.as_posix()):
            yield path.read_text(encoding="utf-8", errors="replace")


def german(split: str) -> Iterator[str]:
    """The German messages of Django and Wagtail, some at a time. The packages are read and not imported."""
    places = [importlib.util.find_spec(package) for package in ("django", "wagtail")]
    folders = [Path(place.origin).parent for place in places if place is not None and place.origin is not None]
    if len(folders) < len(places):
        raise ValueError("its text is that of translations: pip install django, and pip install --no-deps wagtail")
    messages: list[str] = []
    for path in sorted(path for folder in folders for path in folder.rglob("locale/de/LC_MESSAGES/*.po")):
        for lines in _PO_MESSAGE.findall(path.read_text(encoding="utf-8").partition("\n\n")[2]):
            messages.append("".join(ast.literal_eval(line) for line in lines.splitlines() if line.strip()))
    messages = list(dict.fromkeys(message for message in messages if message.strip()))
    for start in range(0, len(messages), _PO_MESSAGES_OF_A_DOCUMENT):
        if _is_in(split, str(start)):
            yield "\n".join(messages[start : start + _PO_MESSAGES_OF_A_DOCUMENT])


def _is_in(split: str, name: str) -> bool:
    """Whether a document is in a split, train or test: by its name, so that it stays there."""
    if split not in ("train", "test"):
        raise ValueError(f"no split {split!r}: there is train, test")
    return (int(hashlib.sha256(name.encode()).hexdigest(), 16) % _TEST_SHARE == 0) == (split == "test")
