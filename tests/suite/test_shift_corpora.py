"""The corpora of ``suites/shift.yaml``: source code, and German messages out of installed packages."""

import importlib.util
import sys
from pathlib import Path

import pytest

from prunebench.data.corpora import find_corpus
from prunebench.errors import CorpusError
from prunebench.registry.plugin_files import plugins_in
from prunebench.suite.file import load_suite
from tests.helpers.paths import ROOT

FILE = ROOT / "suites" / "shift.py"


def test_what_the_suite_names_is_there() -> None:
    names = set(plugins_in(FILE)["corpus"])
    suite = load_suite(ROOT / "suites" / "shift.yaml")
    named = {entry.calibration.corpus for entry in suite.methods if entry.calibration}
    assert names == {name for name in named if name} == {"python-code", "german"}


def test_source_code() -> None:
    python_code = plugins_in(FILE)["corpus"]["python-code"]
    train, test = (list(python_code(split)) for split in ("train", "test"))
    assert len(train) > 3 * len(test) > 60
    whole = (Path(next(iter(importlib.util.find_spec("json").submodule_search_locations))) / "decoder.py").read_text()
    assert sum(text == whole for text in (*train, *test)) == 1
    with pytest.raises(ValueError, match="no split 'validation'"):
        next(python_code("validation"))


def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One or several lines, plural forms, quotation marks; what has no translation, or is there twice, is left out."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "django").exists()])
    with pytest.raises(CorpusError, match="pip install django"):
        find_corpus("german", None, "calibration", [FILE])
    for package in ("django", "wagtail"):
        folder = tmp_path / package / "locale" / "de" / "LC_MESSAGES"
        folder.mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
        messages = "".join(f'msgid "m {n}"\nmsgstr "{package} {n}"\n\n' for n in range(400))
        (folder / "django.po").write_text(
            'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
            '#: some/place.py:3\nmsgid "yes"\nmsgstr "Ja, \\"gewiß\\""\n\n'
            'msgid ""\n"two "\n"lines"\nmsgstr ""\n"zwei "\n"Zeilen"\n\n'
            'msgid "one"\nmsgid_plural "many"\nmsgstr[0] "eins"\nmsgstr[1] "viele"\n\n'
            'msgid "none"\nmsgstr ""\n\n' + messages,
            encoding="utf-8",
        )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    german = plugins_in(FILE)["corpus"]["german"]
    documents = [text for split in ("train", "test") for text in german(split)]
    lines = [line for text in documents for line in text.split("\n")]
    assert sorted(lines) == sorted(
        [
            'Ja, "gewiß"',
            "zwei Zeilen",
            "eins",
            "viele",
            *(f"{p} {n}" for p in ("django", "wagtail") for n in range(400)),
        ]
    )
    assert all(list(german(split)) for split in ("train", "test"))
