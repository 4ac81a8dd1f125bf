"""Who may import whom. Data flows one way, and the core knows no method by name."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import prunebench.pruning
from tests.helpers.paths import ROOT, TESTS
from tests.helpers.text import code_lines

PLUGINS = ROOT / "plugins" / "prunebench_plugins"
CORE = ROOT / "prunebench"

# A package of the core imports only from lines below its own; the package itself holds what plugins import from it.
LEVELS = (
    "__main__",
    "cli api pytest_plugin",
    "testing submission",
    "runner",
    "suite",
    "evaluation",
    "data allocations scaffold",
    "registry contract models report yaml12",
    "records hookspecs hub tracebacks",
    "files",
    "pruning tinyworld errors text quiet lazy",
)
# Folders of tests that belong to no package of the core.
BESIDE = {"adversary", "benchmarks", "docs", "faults", "fixtures", "fuzz", "golden", "helpers", "methods", "oracles"}
FOREIGN = {"plugins": {"torch", "triton", "scipy"}, "pruning": {"torch", "numpy"}}


def module_of(path: Path) -> str:
    """A file's dotted name; a package's own of its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "plugins" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports: of ``from a import b`` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or ""), *(f"{node.module}.{alias.name}" for alias in node.names))


def own(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("prunebench", "prunebench_plugins")}


def foreign(path: Path) -> set[str]:
    packages = {name.split(".")[0] for name in imports(path)}
    return packages - set(sys.stdlib_module_names) - {"prunebench", "prunebench_plugins"}


FILES = {module_of(path): path for path in sorted([*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")])}


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("prunebench.")])
def test_a_package_imports_only_from_levels_below_its_own(module: str) -> None:
    level = {name: number for number, line in enumerate(LEVELS) for name in line.split()}
    package = module.split(".")[1]
    for name in own(imports(FILES[module])):
        _, other, *_ = [*name.split("."), "hookimpl"]
        if f"prunebench.{other}" in FILES and other != package:
            assert level[other] > level[package], f"{module} imports {name}"


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    # A package stands for its ``__init__`` alone: what a module imports from its own package counts too.
    edges = {module: {name for name in imports(path) if name in FILES} - {module} for module, path in FILES.items()}
    packages = {module for module in FILES if FILES[module].name == "__init__.py"}
    for module, names in edges.items():  # "from a.b import c" runs a.b's __init__, unless c is a module of it
        names -= {name for name in packages if any(other.startswith(f"{name}.") for other in names)}
        names -= {name for name in packages if module.startswith(f"{name}.")}
    order = TopologicalSorter(edges)
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_method_imports_what_a_third_party_may(path: Path) -> None:
    package = f"prunebench_plugins.{path.relative_to(PLUGINS).parts[0].removesuffix('.py')}"
    promised = {f"prunebench.pruning.{name}" for name in prunebench.pruning.__all__}
    promised |= {"prunebench", "prunebench.hookimpl", "prunebench.pruning"}
    assert {name for name in own(imports(path)) if not name.startswith(package)} <= promised
    assert foreign(path) <= FOREIGN["plugins"]


@pytest.mark.parametrize(
    ("file", "most"),
    [(f"{name}.py", 60) for name in ("gmp", "ria", "gblm", "maskllm", "safe")]
    + [(name, 30) for name in ("reconstruct.py", "swaps/method.py", "swaps/exact.py", "swaps/dsnot.py")],
)
def test_a_method_is_as_short_as_its_paper(file: str, most: int) -> None:
    """Lines without docstrings and blanks."""
    assert code_lines(PLUGINS / file) <= most


@pytest.mark.parametrize("path", sorted((CORE / "pruning").rglob("*.py")), ids=lambda path: path.name)
def test_the_toolkit_imports_torch_numpy_and_itself(path: Path) -> None:
    assert all(name.startswith("prunebench.pruning") for name in own(imports(path)))
    assert foreign(path) <= FOREIGN["pruning"]


def test_the_core_knows_no_method() -> None:
    names = {path.stem for path in PLUGINS.iterdir() if not path.name.startswith("_")} - {"dense"}
    for path in CORE.rglob("*.py"):
        assert not any(name.startswith("prunebench_plugins") for name in imports(path)), path
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not names & {word for word in words if isinstance(word, str)}, path


@pytest.mark.parametrize("path", sorted((CORE / "report").rglob("*.py")), ids=lambda path: path.name)
def test_a_report_asks_no_evaluation_for_its_name(path: Path) -> None:
    """What a reader is told of one comes from its class, by the record."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare | ast.Dict):
            keys = node.keys if isinstance(node, ast.Dict) else [node.left, *node.comparators]
            names = {key.value for key in keys if isinstance(key, ast.Constant)}
            assert not names & {"zero_shot"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", sorted((CORE / "report").rglob("*.py")), ids=lambda path: path.name)
def test_a_report_needs_no_model(path: Path) -> None:
    assert not {"torch", "transformers"} & foreign(path)


@pytest.mark.parametrize(
    "path",
    sorted(p for part in ("tables", "plots") for p in (CORE / "report" / part).glob("*.py")),
    ids=lambda p: p.name,
)
def test_a_table_or_plot_does_not_decide_which_records_stand_together(path: Path) -> None:
    module = "prunebench.report.grouping"
    found = {name.removeprefix(f"{module}.") for name in imports(path) if name.startswith(f"{module}.")}
    assert found <= {"DENSE", "group_by", "sparsity_order"}
    assert not {"prunebench.report.scenes", "prunebench.report.styles.method_styles"} & set(imports(path))


@pytest.mark.parametrize(
    "module",
    [
        "prunebench",
        "prunebench.cli.app",
        "prunebench.models",
        "prunebench.runner.processes.template",
        "prunebench.testing",
        "prunebench.tinyworld",
    ],
)
def test_importing_costs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def modules_after(*words: str) -> set[str]:
    """The large libraries that a command has imported by its end."""
    code = "import sys; sys.argv[0] = 'prunebench'; from prunebench.cli.app import app; app(standalone_mode=False);"
    code += "print([m for m in ('torch', 'transformers', 'lm_eval', 'datasets') if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stderr.splitlines()[-1]))


def test_a_plan_of_builtin_models_imports_no_more_than_torch(tmp_path: Path) -> None:
    assert modules_after("plan", str(ROOT / "suites" / "extreme.yaml"), "--output", str(tmp_path)) <= {"torch"}


def test_a_suite_is_read_without_torch() -> None:
    code = "import sys; from pathlib import Path; from prunebench.suite.file import load_suite;"
    code += "load_suite(Path(sys.argv[1])); sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT / "suites" / "extreme.yaml")], check=False)
    assert done.returncode == 0


def test_no_pickle_and_no_foreign_code() -> None:
    for path in [*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")]:
        assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), path


def imported_tests(path: Path) -> set[str]:
    """Imported names that lead to a test module; what several tests use belongs in ``tests.helpers``."""
    return {name for name in imports(path) if any(part.startswith("test_") for part in name.split("."))}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_module_is_imported(path: Path) -> None:
    assert not imported_tests(path)


@pytest.mark.parametrize(
    "line",
    [
        "import tests.cli.test_app",
        "from tests.cli import test_app",
        "from tests.cli.test_app import folder",
        "from . import test_app",
        "from .test_app import folder",
    ],
)
def test_an_import_of_a_test_module_would_be_noticed(line: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(f"from tests.helpers import tiny\n{line}\n")
    assert imported_tests(tmp_path / "one.py")
    (tmp_path / "one.py").write_text("from tests.helpers import tiny\n")
    assert not imported_tests(tmp_path / "one.py")


def test_every_package_has_a_folder_of_tests() -> None:
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - BESIDE == packages
