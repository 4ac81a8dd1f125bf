"""Docstrings and comments that a module reads are code, and so are modules found in other ways than by import."""

import py_compile
from pathlib import Path

import pytest

from prunebench.registry.code_digest import Code, code_of_file

CLASS = '''class Mine:
    """Prunes 3 of 4."""

    def prune(self):  # slowly
        return {how}
'''


def code(file: Path) -> Code | None:
    return code_of_file(file, "Mine")


def counts(file: Path, before: str, after: str) -> bool:
    """Whether an edit changes the code of a plugin file."""
    old, text = code(file), file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    new = code(file)
    file.write_text(text)
    return new != old


@pytest.mark.parametrize(
    ("head", "how", "docstring", "comment"),
    [
        ("", "1", False, False),
        ("", "type(self).__doc__", True, False),
        ("", "getattr(type(self), '__doc__')", True, False),
        ("import inspect\n", "inspect.getdoc(self)", True, False),
        ("from inspect import getdoc as text\n", "text(self)", True, False),
        ("import inspect\n", "inspect.getsource(type(self))", True, True),
        ("from inspect import getsource as text\n", "text(type(self))", True, True),
        ("import linecache\n", "linecache.getlines(__file__)", True, True),
    ],
)
def test_text_that_is_read_counts(head: str, how: str, docstring: bool, comment: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(head + CLASS.format(how=how))
    assert counts(file, "3 of 4", "2 of 4") == docstring
    assert counts(file, "slowly", "fast") == comment
    assert counts(file, "def prune", "async def prune")


def test_text_of_another_module_that_is_read_counts(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import helper\nclass Mine:\n    amount = len(helper.__doc__)\n")
    (tmp_path / "helper.py").write_text('"""Some text."""\n')
    old = code(tmp_path / "mine.py")
    (tmp_path / "helper.py").write_text('"""Some other text."""\n')
    assert code(tmp_path / "mine.py") != old


@pytest.mark.parametrize(
    "way",
    [
        "import importlib\nname = 'hel' + 'per'\nhelper = importlib.import_module(name)\n",
        "import importlib\nget = importlib.import_module\nhelper = get('helper')\n",
        "get = __import__\nhelper = get('helper')\n",
        "helper = __import__('hel' + 'per')\n",
        "exec('import helper')\n",
        "helper = eval('__import__')('helper')\n",
        "import importlib\nhelper = importlib.import_module('parts.' + 'inner')\n",
    ],
)
@pytest.mark.parametrize("place", ["helper.py", "helper.pyc", "parts/inner.py", "parts/inner.pyc"])
def test_computed_imports_bring_all_that_lies_beside(way: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").touch()
    (tmp_path / "mine.py").write_text(way + CLASS.format(how=1))
    (tmp_path / place).write_text("value = 1\n")
    old = code(tmp_path / "mine.py")
    (tmp_path / place).write_text("value = 2\n")
    assert code(tmp_path / "mine.py") != old


@pytest.mark.parametrize("place", ["helper.pyc", "helper/__init__.pyc"])
def test_modules_without_source_count(place: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from . import helper\n" + CLASS.format(how="helper.value"))
    (tmp_path / place).parent.mkdir(exist_ok=True)
    codes = []
    for value in (1, 2):
        (tmp_path / "source.txt").write_text(f"value = {value}\n")
        py_compile.compile(str(tmp_path / "source.txt"), str(tmp_path / place), doraise=True)
        codes.append(code(tmp_path / "mine.py"))
    assert codes[0] != codes[1]
