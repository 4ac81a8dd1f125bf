"""The generator of new plugin packages: a working method, its test, and a suite that compares it with others."""

import builtins
import keyword
import re
import sys
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template

from prunebench.errors import UsageError
from prunebench.registry.plugin_files import kebab

__all__ = ["new_plugin"]

# The path of each file in the new package, and its template.
FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "suite.yaml": "suite.yaml.txt",
    "${module}.py": "module.py.txt",
    "tests/test_${module}.py": "test.py.txt",
}

# Names that the template module imports, which the new class must not hide.
IMPORTED = ("CalibrationData", "FeatureNorm", "Sparsity", "Tensor")


def new_plugin(name: str, folder: Path, *, taken: Iterable[str] = (), beside: Iterable[str] = ()) -> list[Path]:
    """Write a complete package that provides one method.

    Args:
        name: the name of the method and of the package, as "my-method".
        folder: the folder to create; refused if it exists.
        taken: names of existing methods.
        beside: names of the methods to compare it with in its suite.

    Returns:
        The files written.

    Raises:
        UsageError: the name is not valid or taken, or the folder exists or cannot be created.
    """
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise UsageError(f"{name!r} is no name for a method: use lower-case words joined by hyphens, as my-method")
    cls = "".join(word.capitalize() for word in name.split("-"))
    if kebab(cls) != name:
        raise UsageError(
            f"{name!r} is no name for a method: its class {cls} would be read back as {kebab(cls)!r}; choose a name "
            "whose words begin with letters and have several, as my-method"
        )
    if cls in IMPORTED or keyword.iskeyword(cls) or hasattr(builtins, cls):
        raise UsageError(f"{name!r} is no name for a method: its class {cls} would hide another; choose another name")
    if module in sys.stdlib_module_names or ((spec := find_spec(module)) is not None and spec.origin is not None):
        raise UsageError(f"{name!r} is no name for a method: Python has a module {module} already; choose another name")
    if name in taken:
        raise UsageError(f"the name {name!r} is taken: `prunebench methods` lists those that are")
    names = {
        "name": name,
        "module": module,
        "cls": cls,
        "beside": "".join(f'  - "{other}"\n' for other in beside),
        "version": version("prunebench"),
    }
    try:
        folder.mkdir(parents=True)
        written = []
        for target, template in FILES.items():
            path = folder / Template(target).substitute(names)
            path.parent.mkdir(exist_ok=True)
            text = (Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(names), encoding="utf-8")
            written.append(path)
    except FileExistsError:
        raise UsageError(f"{folder} is there already: choose another folder with --output") from None
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}; choose another with --output") from None
    return written
