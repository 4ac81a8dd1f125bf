"""``prunebench plugins``: a new package works as it comes, and the commands say what they should."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from prunebench.errors import UsageError
from prunebench.registry.entry_points import KINDS
from prunebench.registry.plugin_files import plugins_in
from prunebench.scaffold import new_plugin
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.yaml12 import read_yaml
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.paths import BROKEN_METHODS


@pytest.mark.slow
def test_a_new_package_installs_and_passes_at_once(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds the package: pip install 'prunebench[dev]'")
    project, site = tmp_path / "my-method", tmp_path / "site"
    new_plugin("my-method", project)

    def python(*words: object) -> str:
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=project,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python("pip", "install", "--no-index", "--no-build-isolation", "--no-deps", "--target", site, ".")
    passed = python("pytest", "-q", "-p", "no:cacheprovider")
    assert "22 passed" in passed
    # What the workflow runs after the installation is what ran here.
    steps = read_yaml((project / ".github" / "workflows" / "checks.yml").read_text())["jobs"]["test"]["steps"]
    install, *others = [step["run"].partition(" #")[0] for step in steps if "run" in step]
    assert (install, others) == ("pip install -e . pytest", ["pytest", "prunebench plugins list"])
    assert "my-method" in python("prunebench", "plugins", "list")
    assert steps[1]["with"]["python-version"] == "${{ matrix.python }}"


@pytest.mark.parametrize("kind", ["allocation", "evaluation", "corpus", "wrapper"])
def test_a_package_of_another_kind(kind: str, tmp_path: Path) -> None:
    project = tmp_path / "my-own"
    new_plugin("my-own", project, kind=kind, beside=["dense", "magnitude"])
    module = project / "my_own.py"
    assert list(plugins_in(module)) == [kind]
    assert list(plugins_in(module)[kind]) == ["my-own"]
    points = tomllib.loads((project / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points[KINDS[kind]]["my-own"].startswith("my_own:")
    passed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert passed.returncode == 0, passed.stdout + passed.stderr
    small = ("--only", "magnitude", "--set", "sparsities=[0.5]", "--set", "calibration.nsamples=4")
    words = ("run", project / "suite.yaml", "--plugin", module, *small)
    result = prunebench(*words, "--output", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert {record["status"] for record in records} == {"ok"}
    used = {
        "allocation": [record["cell"]["allocation"] for record in records],
        "evaluation": [name for record in records for name in record["measures"]],
        "corpus": [record["cell"]["calibration"]["corpus"] for record in records],
        "wrapper": [name.partition(" ")[0] for record in records for name in record["environment"]["wrappers"]],
    }
    assert "my-own" in used[kind]


def test_its_method_can_be_tried_without_installing_it(tmp_path: Path) -> None:
    project = tmp_path / "mine"
    new_plugin("mine", project, beside=["dense"])
    cells = plan(load_suite(project / "suite.yaml"), plugin_files=[project / "mine.py"])
    assert [(cell.method, str(cell.sparsity)) for cell in cells] == [("dense", "0"), ("mine", "0.5"), ("mine", "2:4")]
    assert (cells[1].distribution, len(cells[1].version)) == ("mine.py", 12)
    source = (project / "mine.py").read_text()
    assert 25 <= source.count("\n") <= 40
    (project / "mine.py").write_text(source.replace("0.5", "0.6"))
    again = plan(load_suite(project / "suite.yaml"), plugin_files=[project / "mine.py"])
    assert again[1].options == {"power": 0.6}
    assert again[0].id == cells[0].id
    assert again[1].version != cells[1].version


@pytest.mark.parametrize("name", ["My-Method", "my_method", "1st", "-x", "lambda", "a b", ""])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no name for a method: use lower-case words"):
        new_plugin(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("name", "message"), [
    ("wanda-2", "its class Wanda2 would be read back as 'wanda2'"),
    ("a-b", "its class AB would be read back as 'ab'"),
    ("feature-norm", "its class FeatureNorm would hide another"),
    ("tensor", "its class Tensor would hide another"),
    ("none", "its class None would hide another"),
    ("json", "Python has a module json already"),
    ("torch", "Python has a module torch already"),
])  # fmt: skip
def test_names_that_would_not_work(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        new_plugin(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_name_that_yaml_reads_otherwise(tmp_path: Path) -> None:
    new_plugin("null", tmp_path / "x")
    (cell, _) = plan(load_suite(tmp_path / "x" / "suite.yaml"), plugin_files=[tmp_path / "x" / "null.py"])
    assert cell.method == "null"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is there already: choose another folder with --output"):
        new_plugin("mine", tmp_path)
    with pytest.raises(UsageError, match="the name 'mine' is taken"):
        new_plugin("mine", tmp_path / "x", taken=["mine"])


class TestCommands:
    def test_new(self, tmp_path: Path) -> None:
        result = prunebench("plugins", "new", "mine", "--output", tmp_path / "mine")
        assert result.exit_code == 0
        assert [Path(line).name for line in result.stdout.splitlines()] == [
            "pyproject.toml",
            "README.md",
            "suite.yaml",
            "mine.py",
            "test_mine.py",
            "checks.yml",
        ]
        assert "pip install -e . pytest && pytest && prunebench run suite.yaml" in result.stderr
        # It is shown beside every method that needs no tuning.
        assert '  - "dense"\n' in (tmp_path / "mine" / "suite.yaml").read_text()
        assert "is taken" in one_line(prunebench("plugins", "new", "dense"))
        assert "is taken" in one_line(prunebench("plugins", "new", "owl", "--kind", "allocation"))
        assert "unknown kind 'corpse': did you mean 'corpus'" in one_line(
            prunebench("plugins", "new", "mine", "--kind", "corpse")
        )

    def test_check_says_what_holds(self) -> None:
        result = prunebench("plugins", "check", "magnitude", "--architecture", "opt", "--pattern", "0.5")
        assert result.exit_code == 0
        assert "rules hold" in result.stdout
        assert "fails" not in result.stdout

    def test_check_says_what_does_not(self) -> None:
        method = ("prints", "--plugin", BROKEN_METHODS)
        words = ("plugins", "check", *method, "--architecture", "llama", "--pattern", "0.5")
        result = prunebench(*words)
        assert result.exit_code == 1
        assert "stdout: fails" in result.stdout
        assert "to mend:  use track(...) for progress" in result.stdout
        found = json.loads(prunebench(*words, "--json").stdout)
        assert not found["holds"]
        assert [name for name, rule in found["rules"].items() if rule["holds"] is False] == ["stdout"]

    def test_wrong_words(self) -> None:
        assert "unknown method 'wandb'" in one_line(prunebench("plugins", "check", "wandb"))
        result = prunebench("plugins", "check", "dense", "--set", "steps")
        assert "--set 'steps' is no option=value" in one_line(result)
        assert result.exit_code == 2
        assert "holds no plugin" in one_line(prunebench("methods", "--plugin", Path(__file__).parent / "__init__.py"))

    def test_list(self) -> None:
        found = json.loads(prunebench("plugins", "list", "--json").stdout)
        (dense,) = [entry for entry in found if entry["name"] == "dense"]
        assert (dense["kind"], dense["distribution"], dense["error"]) == ("method", "prunebench", None)
        assert "distribution" in prunebench("plugins", "list").stdout
