"""The generator of new plugin packages: a plugin that works, its test, a suite that uses it, and a workflow for CI."""

import builtins
import keyword
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template

from prunebench.errors import UsageError, suggest
from prunebench.registry.entry_points import KINDS
from prunebench.registry.plugin_files import kebab

__all__ = ["SCAFFOLDS", "new_plugin"]

# The path of each file in the new package, and its template.
FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "suite.yaml": "suite.yaml.txt",
    "${module}.py": "${kind}.py.txt",
    "tests/test_${module}.py": "test_${kind}.py.txt",
    ".github/workflows/checks.yml": "checks.yml.txt",
}

# Names that the template modules import, which the new class must not hide.
IMPORTED = ("Any", "CalibrationData", "ClassVar", "FeatureNorm", "Generator", "Iterator", "Mapping", "Pattern",
            "Sparsity", "Tensor", "Unstructured")  # fmt: skip


@dataclass(frozen=True)
class Scaffold:
    """What distinguishes the package of one kind of plugin.

    Args:
        description: what it is called in the package's description.
        tested: what its tests look at.
        change: what its author changes first.
    """

    description: str
    tested: str
    change: str


SCAFFOLDS = {
    "method": Scaffold("pruning method", "every rule of the contract, on tiny models", "`score`, then the class"),
    "allocation": Scaffold("allocation of zeros among layers", "that the budget is met", "what each layer is given"),
    "evaluation": Scaffold("measurement", "that the same model gets the same number", "`measure`"),
    "corpus": Scaffold("corpus", "that it gives the same documents each time", "the documents"),
    "wrapper": Scaffold("wrapper around methods", "that it only looks", "what it looks at"),
}


def new_plugin(
    name: str, folder: Path, *, kind: str = "method", taken: Iterable[str] = (), beside: Iterable[str] = ()
) -> list[Path]:
    """Write a complete package that provides one plugin.

    Args:
        name: the name of the plugin and of the package, as "my-method".
        folder: the folder to create; refused if it exists.
        kind: method, allocation, evaluation, corpus or wrapper.
        taken: names of existing plugins of this kind.
        beside: names of the methods to run in its suite.

    Returns:
        The files written.

    Raises:
        UsageError: the kind is unknown, the name is not valid or taken, or the folder exists or cannot be created.
    """
    if kind not in SCAFFOLDS:
        raise UsageError(f"unknown kind {kind!r}: {suggest(kind, SCAFFOLDS)}")
    module = name.replace("-", "_")
    what = f"{name!r} is no name for a{'n' if kind[0] in 'ae' else ''} {kind}"
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise UsageError(f"{what}: use lower-case words joined by hyphens, as my-{kind}")
    cls = "".join(word.capitalize() for word in name.split("-"))
    if kind != "corpus" and kebab(cls) != name:
        raise UsageError(
            f"{what}: its class {cls} would be read back as {kebab(cls)!r}; choose a name "
            f"whose words begin with letters and have several, as my-{kind}"
        )
    if cls in IMPORTED or keyword.iskeyword(cls) or hasattr(builtins, cls) or hasattr(builtins, module):
        raise UsageError(f"{what}: its class {cls} would hide another; choose another name")
    if module in sys.stdlib_module_names or ((spec := find_spec(module)) is not None and spec.origin is not None):
        raise UsageError(f"{what}: Python has a module {module} already; choose another name")
    if name in taken:
        raise UsageError(f"the name {name!r} is taken: `prunebench plugins list` lists those that are")
    names = _names(name, kind, module, cls, list(beside))
    try:
        folder.mkdir(parents=True)
        written = []
        for target, template in FILES.items():
            path = folder / Template(target).substitute(names)
            path.parent.mkdir(parents=True, exist_ok=True)
            source = Path(__file__).parent / "templates" / Template(template).substitute(names)
            path.write_text(Template(source.read_text(encoding="utf-8")).substitute(names), encoding="utf-8")
            written.append(path)
    except FileExistsError:
        raise UsageError(f"{folder} is there already: choose another folder with --output") from None
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}; choose another with --output") from None
    return written


def _names(name: str, kind: str, module: str, cls: str, beside: list[str]) -> dict[str, str]:
    """What the templates' placeholders stand for."""
    group, scaffold = KINDS[kind], SCAFFOLDS[kind]
    check = f"prunebench plugins check {name}" if kind == "method" else "prunebench plugins list"
    note = "the same as a table" if kind == "method" else "whether it loads"
    methods = [*beside, name] if kind == "method" else beside
    return {
        "name": name,
        "kind": kind,
        "module": module,
        "cls": cls,
        "object": module if kind == "corpus" else cls,
        "group": f'"{group}"' if "." in group else group,
        "description": scaffold.description,
        "tested": scaffold.tested,
        "change": scaffold.change,
        "check": f"{check:<36}# {note}",
        "corpus": f'"{name}"' if kind == "corpus" else "builtin/tinyworld",
        "sparsities": "[0.5, 2:4]" if kind != "allocation" else "[0.5]",
        "allocation": f'[uniform, "{name}"]' if kind == "allocation" else "uniform",
        "beside": "\n".join(f'  - "{method}"' for method in methods),
        "evaluation": f'  - {{name: "{name}"}}' if kind == "evaluation" else "",
        "version": version("prunebench"),
    }
