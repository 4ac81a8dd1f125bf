"""A stated revision is believed where the class's name can stand for nothing else, so that no edit is hidden by it."""

from pathlib import Path

import pytest

from prunebench.registry.code_digest import Code, code_of_file, code_of_object
from prunebench.registry.entry_points import ENGINES, KINDS, Source, sources

HEAD = """
import dataclasses
import functools
import sys
from dataclasses import dataclass
from typing import ClassVar, final


def deco(cls=None, **options):
    return cls


def other(self, model, sparsity):
    return 1


"""
CLASS = """@dataclass(frozen=True)
class M:
    revision: ClassVar[int] = 3
    power: float = 1.0

    def prune(self, model, sparsity):
        return 1
"""
BELIEVED = {
    "plain": CLASS,
    "not called": CLASS.replace("(frozen=True)", ""),
    "by the module": CLASS.replace("@dataclass", "@dataclasses.dataclass"),
    "final": f"@final\n{CLASS}",
    "no dataclass": CLASS.partition("\n")[2],
    "uses": f"{CLASS}\n\ndef make(like: M, *rest: 'list[M]') -> M | None:\n"
    "    made: M = M(power=like.power * M.power)\n"
    "    made.cache = vars(made)\n    setattr(made, 'x', 1)\n    modules = model.modules()\n    model.eval()\n"
    "    return made if isinstance(like, M) and isinstance(like, (M, int)) and type(like) is M else None\n",
    "subclass": f"{CLASS}\n\nclass N(M):\n    pass\n",
}
DOUBTED = {
    "wrapped": f"{CLASS}\nM = deco(M)\n",
    "second class": f"{CLASS}\nif sys.path:\n    class M:\n        def prune(self):\n            return 1\n",
    "class in an if": "if True:\n    " + CLASS.replace("\n", "\n    "),
    "attribute": f"{CLASS}\nM.prune = other\n",
    "deep attribute": f"{CLASS}\nM.prune.__code__ = other.__code__\n",
    "augmented": f"{CLASS}\nM.power += 1\n",
    "deleted": f"{CLASS}\ndel M.prune\n",
    "setattr": f"{CLASS}\nsetattr(M, 'prune', other)\n",
    "setattr of type": f"{CLASS}\ntype.__setattr__(M, 'prune', other)\n",
    "in a function": f"{CLASS}\ndef late():\n    M.prune = other\n\n\nlate()\n",
    "decorated": f"@deco\n{CLASS}",
    "decorated with options": f"@deco(prune=other)\n{CLASS}",
    "decorated by a stranger's dataclass": f"def dataclass(**options):\n    return lambda cls: cls\n\n\n{CLASS}",
    "globals": f"{CLASS}\nglobals()['M'] = deco(M)\n",
    "vars": f"{CLASS}\nvars()['M'] = other\n",
    "exec": f"{CLASS}\nexec('M = other')\n",
    "sys.modules": f"{CLASS}\nsetattr(sys.modules[__name__], 'M', other)\n",
    "attribute of the module": f"{CLASS}\nhere = __import__(__name__)\nhere.M = other\n",
    "alias": f"{CLASS}\nN = M\nN.prune = other\n",
    "passed on": f"{CLASS}\ndeco(M)\n",
    "in a list": f"{CLASS}\nfor cls in [M]:\n    cls.prune = other\n",
    "star": f"{CLASS}\nfrom os.path import *\n",
    "import": f"{CLASS}\nfrom os import path as M\n",
    "for": f"{CLASS}\nfor M in [deco()]:\n    pass\n",
    "with": f"{CLASS}\nwith open(__file__) as M:\n    pass\n",
    "global": f"{CLASS}\ndef late():\n    global M\n    M = 1\n",
    "except": f"{CLASS}\ntry:\n    pass\nexcept ValueError as M:\n    pass\n",
    "match": f"{CLASS}\nmatch deco():\n    case M:\n        pass\n",
    "walrus": f"{CLASS}\n(M := deco())\n",
    "metaclass": CLASS.replace("class M", "class M(metaclass=deco)"),
    "stated twice": CLASS + "    if power:\n        revision = 4\n",
}


def package(folder: Path, text: str) -> Path:
    """A package of the test's whose module holds a method."""
    (folder / "m_of_the_test").mkdir()
    (folder / "m_of_the_test" / "__init__.py").write_text("from m_of_the_test.method import M\n")
    (folder / "m_of_the_test" / "method.py").write_text(HEAD + text)
    return folder / "m_of_the_test" / "method.py"


def both(file: Path) -> list[Code | None]:
    """The code of the installed plugin, and of the plugin file."""
    return [code_of_object("m_of_the_test", "M"), code_of_file(file, "M")]


@pytest.mark.parametrize("text", BELIEVED.values(), ids=BELIEVED)
def test_a_plain_class_keeps_its_revision(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile(HEAD + text, "method.py", "exec")
    monkeypatch.syspath_prepend(tmp_path)
    file = package(tmp_path, text)
    assert both(file) == [Code(revision=3)] * 2
    file.write_text(file.read_text().replace("return 1", "return 2"))
    assert both(file) == [Code(revision=3)] * 2


@pytest.mark.parametrize("text", DOUBTED.values(), ids=DOUBTED)
def test_a_name_that_may_stand_for_something_else_hides_no_edit(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile(HEAD + text, "method.py", "exec")
    monkeypatch.syspath_prepend(tmp_path)
    file = package(tmp_path, text)
    before = both(file)
    file.write_text(file.read_text().replace("return 1", "return 2"))
    for old, new in zip(before, both(file), strict=True):
        assert old is not None
        assert new is not None
        assert old.revision is new.revision is None
        assert old.digest != new.digest


def test_the_doubt_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    for line, why in (
        ("M = deco(M)", "binds M again"),
        ("M.prune = other", "assigns to attributes of M"),
        ("deco(M)", "passes M on, by which it could become another"),
        ("globals()", "uses globals, which can bind M again"),
        ("from os import *", "may bind M again"),
    ):
        file.write_text(f"{HEAD}{CLASS}{line}\n")
        found = code_of_file(file, "M")
        assert found is not None
        assert found.doubt == f"line {len((HEAD + CLASS).splitlines()) + 1} {why} (mine.py)"


@pytest.mark.parametrize("line", ["M = print(M)", "M.prune = print", "from m_of_the_test.other import *"])
def test_modules_on_the_way_to_a_class_count(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = package(tmp_path, CLASS)
    with file.with_name("__init__.py").open("a") as init:
        init.write(f"{line}\n")
    found = code_of_object("m_of_the_test", "M")
    assert found is not None
    assert found.revision is None
    assert found.doubt is None or found.doubt.startswith("line 2 ")


@pytest.mark.parametrize(
    ("line", "believed"),
    [
        ("TEXT = M()", True),
        ("TEXT, MORE = M(), M(power=2)", True),
        ("TEXT, MORE = (M(power) for power in range(2))", True),
        ("TEXT = deco(M())", False),
        ("TEXT = M().prune(1, 2)", False),
        ("TEXT, MORE = other(), M()", False),
        ("TEXT = M()\nTEXT.prune = other", False),
        ("TEXT = M()\nTEXT = other", False),
    ],
)
def test_instances(line: str, believed: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}{CLASS}{line}\n")
    assert (code_of_file(file, "TEXT") == Code(revision=3)) == believed


def test_two_classes_of_one_name_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}{CLASS.replace('class M', 'class SNIP')}")

    def code() -> str:  # looked at anew, as each plan and each cell do
        return Source("snip", file.name, "0", file=file).code

    assert code() == "mine.py revision 3"
    file.write_text(f"{file.read_text()}\n\nclass Snip:\n    def prune(self):\n        return 5\n")
    old = code()
    file.write_text(file.read_text().replace("return 5", "return 6"))
    assert "revision" not in old != code()


def test_built_ins_are_believed() -> None:
    for group in set(KINDS.values()) - {ENGINES}:  # whose code no cell depends on
        for name, (source, *_) in sources(group).items():
            if source.is_ours:
                assert source.doubt is None, name
                assert " revision " in source.code, name
