"""What identifies a plugin's code: which edits change it, and that no code runs for it to be found."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.errors import MethodError
from prunebench.registry import code_syntax
from prunebench.registry.code_digest import Code, code_of_file, code_of_object
from prunebench.registry.entry_points import ENGINES, KINDS, Source, sources

SAMPLE = '''"""A module."""
from __future__ import annotations
from . import other
import numpy as np

class A(B, metaclass=M):
    """A class."""
    x: int = 1_000
    y: ClassVar[str] = u"ü\\ud800" "z"

    @decorated(1.5, -2j, b"\\x00", ..., None, True)
    async def f(self, a, /, b=2, *args, c: int, d=[], **kw) -> None:
        "Text."
        async with a as b, c: await d
        return None

def g(x): ...  # comment

f"" f"a{x!r:>{width}}b" "c" f"{y}" ""
f"{x=}{x:}{'q'}"
print(*a, **{**b, "k": lambda *, z=0: z}, sep=f"{a}{b}")
try:
    del q
except* (E, F) as e:
    raise G from e
match p:
    case {"a": [1, *rest], **others} if (w := 1): pass
    case A(x=1) | None: pass
for i, *j in k: continue
else: i[1:2, ::3] @= ~i
'''
EXPECTED = "a5b4810eda6a2ed762c657ae6d176f49b9f98b306399e747b75458e9bfe9b671"


def digest_of(source: str, executable: str = sys.executable) -> str:
    """The digest of a source text, under any interpreter."""
    program = (
        "import importlib.util, sys, hashlib, ast\n"
        f"spec = importlib.util.spec_from_file_location('code_syntax', {code_syntax.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['code_syntax'] = module\n"
        "spec.loader.exec_module(module)\n"
        "print(module.parse(sys.stdin.buffer.read(), True).digest)\n"
    )
    done = subprocess.run(
        [executable, "-I", "-c", program], input=source.encode(), capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode().strip()


def interpreters() -> list[Path]:
    """Other interpreters of this machine, one of each version that prunebench supports and that is here."""
    places = [*Path.home().glob(".pyenv/versions/3.*/bin/python"), *Path("/usr/bin").glob("python3.??")]
    found = {}
    for place in places:
        version = subprocess.run([place, "-V"], capture_output=True, text=True, check=False).stdout.split()[-1:]
        minor = tuple(map(int, version[0].split(".")[:2])) if version else (0, 0)
        if minor >= (3, 11):
            found[minor] = place
    return [found[minor] for minor in sorted(found)]


@pytest.mark.parametrize("executable", [sys.executable, *map(str, interpreters())])
def test_every_version_of_python_agrees(executable: str) -> None:
    assert digest_of(SAMPLE, executable) == EXPECTED


def test_other_versions_were_there_to_agree() -> None:
    if len(interpreters()) < 2:
        pytest.skip("only one version of Python that prunebench supports is on this machine")
    assert len({digest_of("x = f'{a:>{b}}' ''", str(place)) for place in interpreters()}) == 1


METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from prunebench import hookimpl
from {package} import scores

@dataclass(frozen=True)
class Ria:
    \"\"\"A method.\"\"\"

    power: float = 1.0

    @hookimpl
    def prune(self, model, sparsity):
        return -scores.of(model)  # higher is kept
"""
SCORES = "import math\n\n\ndef of(W):\n    return abs(W)\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that can be imported, as an editable install can: a method, what it imports, and what it does not."""
    folder = tmp_path / "ria_of_the_test"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Ria."""\nfrom ria_of_the_test.method import Ria\n')
    (folder / "method.py").write_text(METHOD.format(package="."))
    (folder / "scores.py").write_text(SCORES)
    (folder / "elsewhere.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def identity(folder: Path) -> Code:
    found = code_of_object(folder.name, "Ria")
    assert found is not None
    return found


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("file", "before", "after", "counts"),
    [
        ("method.py", "-scores.of", "+scores.of", True),
        ("method.py", "power: float = 1.0", "power: float = 2.0", True),
        ("scores.py", "abs(W)", "abs(W) ** 2", True),
        ("__init__.py", "import Ria", "import Ria\nimport os", True),
        ("method.py", "# higher is kept", "# lower is not", False),
        ("method.py", "A method.", "Another text.", False),
        ("method.py", "(self, model, sparsity)", "(\n        self, model,\n        sparsity)", False),
        ("scores.py", "\n\n\ndef", "\n\n# by size\ndef", False),
        ("elsewhere.py", "1 / 0", "1 / 1", False),
    ],
)
def test_what_counts_as_an_edit(package: Path, file: str, before: str, after: str, counts: bool) -> None:
    old = identity(package)
    assert old.digest is not None
    edit(package / file, before, after)
    assert (identity(package) != old) == counts


def test_what_is_imported_by_a_computed_name_is_anything_in_the_package(package: Path) -> None:
    edit(package / "scores.py", "import math", "import importlib, math")
    edit(package / "scores.py", "return abs(W)", "return importlib.import_module(W.name)(W)")
    old = identity(package)
    edit(package / "elsewhere.py", "1 / 0", "1 / 1")
    assert identity(package) != old


def test_a_kernel_named_in_a_string_counts(package: Path) -> None:
    edit(package / "scores.py", "return abs(W)", "return load('scores.cu').abs(W)")
    (package / "scores.cu").write_text("a;")
    old = identity(package)
    (package / "scores.cu").write_text("b;")
    assert identity(package) != old


def test_nothing_is_imported(package: Path) -> None:
    for file in package.iterdir():
        file.write_text(f"{file.read_text()}\nraise SystemExit('this was run')\n")
    assert identity(package).digest
    assert code_of_file(package / "method.py", "Ria")
    assert not {name for name in sys.modules if name.startswith(package.name)}


def test_a_module_that_is_nowhere_and_one_that_is_no_python(tmp_path: Path, package: Path) -> None:
    assert code_of_object("no_such_package_anywhere.method", "Ria") is None
    assert code_of_object("ria_of_the_test.nothing", "Ria") is None
    (package / "scores.py").write_text("def of(:\n")
    old = identity(package)
    (package / "scores.py").write_text("def of((:\n")
    assert identity(package) != old


class TestPluginFiles:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "scores.py").write_text(SCORES)
        (tmp_path / "unused.py").write_text("x = 1\n")
        (tmp_path / "mine.py").write_text(METHOD.format(package="scores").replace("import scores", "import of"))
        return tmp_path / "mine.py"

    def test_it_and_what_it_imports_from_beside_it_count(self, file: Path) -> None:
        old = code_of_file(file, "Ria")
        for name, before, after, counts in (
            ("unused.py", "1", "2", False),
            ("mine.py", "# higher", "# lower", False),
            ("mine.py", "-scores", "+scores", True),
            ("scores.py", "abs", "max", True),
        ):
            edit(file.with_name(name), before, after)
            new = code_of_file(file, "Ria")
            assert (new != old) == counts, name
            old = new

    def test_another_name_of_the_file_is_nothing(self, file: Path) -> None:
        assert code_of_file(file, "Ria") == code_of_file(file.rename(file.with_name("renamed.py")), "Ria")

    def test_another_class_of_the_file_is_another_method(self, file: Path) -> None:
        assert code_of_file(file, "Ria") != code_of_file(file, "Other")

    def test_the_toolkit_beside_it_is_not_its_code(self, file: Path) -> None:
        old = code_of_file(file, "Ria")
        (file.parent / "prunebench").mkdir()
        (file.parent / "prunebench" / "__init__.py").write_text("hookimpl = None\n")
        assert code_of_file(file, "Ria") == old


class TestRevisions:
    @pytest.mark.parametrize(
        "line", ["revision: ClassVar[int] = 3", "revision: 'typing.ClassVar[int]' = 3", "revision = 3"]
    )
    def test_a_stated_one_stands_for_the_code(self, package: Path, line: str) -> None:
        edit(package / "method.py", "power: float = 1.0", f"{line}\n    power: float = 1.0")
        assert identity(package) == Code(revision=3)
        edit(package / "method.py", "-scores.of", "+scores.of")
        edit(package / "scores.py", "abs", "max")
        assert identity(package) == Code(revision=3)

    def test_an_option_of_that_name_states_none(self, package: Path) -> None:
        edit(package / "method.py", "power: float = 1.0", "revision: int = 3")
        assert identity(package).revision is None

    def test_it_is_not_inherited(self, package: Path) -> None:
        edit(package / "method.py", "power: float = 1.0", "revision: ClassVar[int] = 3")
        with (package / "method.py").open("a") as file:
            file.write("\n\nclass Mine(Ria):\n    def prune(self):\n        return 1\n")
        old = code_of_object(f"{package.name}.method", "Mine")
        assert old is not None
        assert old.revision is None
        edit(package / "method.py", "return 1", "return 2")
        assert code_of_object(f"{package.name}.method", "Mine") != old

    def test_one_that_is_computed_is_refused(self, package: Path, file_source: Callable[[Path], Source]) -> None:
        edit(package / "method.py", "power: float = 1.0", "revision: ClassVar[int] = 1 + 1")
        with pytest.raises(
            MethodError, match=r"'ria' of .* states revision = 1 \+ 1: write a literal number, as revis"
        ):
            _ = file_source(package / "method.py").code

    @pytest.fixture
    def file_source(self) -> Callable[[Path], Source]:
        return lambda file: Source("ria", file.name, "0", file=file)

    def test_an_instance_has_its_class_s(self, package: Path) -> None:
        (package / "__init__.py").write_text("class A:\n    revision = 7\n\nX, Y = (A() for _ in range(2))\n")
        assert code_of_object(package.name, "Y") == Code(revision=7)

    def test_every_built_in_states_one(self) -> None:
        for group in set(KINDS.values()) - {ENGINES}:  # whose code no cell depends on
            for name, (source, *_) in sources(group).items():
                if source.distribution == "prunebench":
                    assert source.code.startswith("prunebench revision "), name


def test_a_source_is_known_by_its_code_and_not_by_its_version(package: Path) -> None:
    file = package / "method.py"
    one, other = (Source("ria", "ria", version, file=file) for version in ("1.0", "2.0"))
    assert one.code == other.code != ""
