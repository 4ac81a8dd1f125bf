"""Imports by other names: the code that they bring counts towards the digest of a plugin file."""

from pathlib import Path

import pytest

from prunebench.registry.code_digest import code_of_file

WAYS = [
    "from importlib import import_module as get\nhelper = get('helper')\n",
    "import pkgutil\nhelper = pkgutil.resolve_name('helper')\n",
    "from importlib.machinery import SourceFileLoader\nh = SourceFileLoader('h', 'hel' + 'per.py').load_module()\n",
]


@pytest.mark.parametrize("way", WAYS)
def test_edited_code_that_is_imported_by_another_name_is_other_code(way: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{way}class Mine:\n    pass\n")
    (tmp_path / "helper.py").write_text("value = 1\n")
    before = code_of_file(tmp_path / "mine.py", "Mine")
    (tmp_path / "helper.py").write_text("value = 2\n")
    assert code_of_file(tmp_path / "mine.py", "Mine") != before
