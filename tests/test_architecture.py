"""Who may import whom. Data flows one way, and the core knows no method by name."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ROOT / "plugins" / "prunebench_plugins"
CORE = ROOT / "prunebench"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or ""), *(f"{node.module}.{alias.name}" for alias in node.names))


def own(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("prunebench", "prunebench_plugins")}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_method_imports_the_hook_the_toolkit_torch_and_triton(path: Path) -> None:
    method = path.relative_to(PLUGINS).parts[0].removesuffix(".py")
    allowed = ("prunebench.hookimpl", "prunebench.pruning", f"prunebench_plugins.{method}")
    assert all(name == "prunebench" or name.startswith(allowed) for name in own(imports(path)))
    foreign = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    assert foreign <= {"prunebench", "prunebench_plugins", "torch", "triton"}


@pytest.mark.parametrize("path", sorted((CORE / "pruning").rglob("*.py")), ids=lambda path: path.name)
def test_the_toolkit_imports_torch_and_itself(path: Path) -> None:
    assert all(name.startswith("prunebench.pruning") for name in own(imports(path)))
    assert {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) <= {
        "prunebench",
        "torch",
        "numpy",
    }


def test_the_core_knows_no_method() -> None:
    names = {path.stem for path in PLUGINS.iterdir() if not path.name.startswith("_")} - {"dense"}
    for path in CORE.rglob("*.py"):
        assert not any(name.startswith("prunebench_plugins") for name in imports(path)), path
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not names & {word for word in words if isinstance(word, str)}, path


@pytest.mark.parametrize("path", sorted((CORE / "report").rglob("*.py")), ids=lambda path: path.name)
def test_a_report_is_made_from_records_alone(path: Path) -> None:
    allowed = ("prunebench.records", "prunebench.report", "prunebench.errors", "prunebench.files", "prunebench.text")
    assert all(name.startswith(allowed) for name in own(imports(path)))
    assert not {"torch", "transformers"} & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("module", ["prunebench", "prunebench.tinyworld", "prunebench.cli.app"])
def test_importing_costs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_pickle_and_no_foreign_code() -> None:
    for path in [*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")]:
        assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), path
