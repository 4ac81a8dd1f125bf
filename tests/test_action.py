"""``action.yml``: its steps run as they stand, with bash, on a tiny suite and a stand-in for GitHub."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prunebench.yaml12 import read_yaml
from tests.helpers.paths import ROOT

ACTION = read_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))
METHOD = """
from dataclasses import dataclass

from prunebench import hookimpl
from prunebench.pruning import prunable


@dataclass(frozen=True)
class Mine:
    \"\"\"Keeps the weights of the largest magnitude.\"\"\"

    @hookimpl
    def prune(self, model, sparsity):
        for layer, target in prunable(model, sparsity):
            layer.weight.mul_(target.mask(SCORES))
"""
SUITE = """
name: tiny
models: [builtin/tinyworld-llama-300k]
calibration: {corpus: builtin/tinyworld, nsamples: 4, seqlen: 128}
sparsities: [0.5]
methods: [mine]
evaluations:
  - {name: perplexity, corpus: builtin/tinyworld, seqlen: 128}
"""
# Writes down what it is asked for, as gh does; the comments that are there are those posted before.
GH = """#!/bin/bash
echo "$*" >> "$GH_LOG"
case "$*" in
  *--paginate*) [ -s "$GH_LOG.body" ] && echo 4711; exit 0 ;;
  *) for word in "$@"; do case "$word" in body=@*) cp "${word#body=@}" "$GH_LOG.body" ;; esac; done ;;
esac
"""


@dataclass
class Job:
    """A job on a machine of GitHub's, as far as the action sees it.

    Args:
        folder: the checked-out repository.
        inputs: what the workflow gives the action.
        event: what started the workflow.
    """

    folder: Path
    inputs: dict[str, str]
    event: str = "pull_request"
    outputs: dict[str, str] = field(default_factory=dict)

    def evaluate(self, expression: str) -> str:
        """The value of what stands between ``${{`` and ``}}``."""
        if expression.startswith("inputs."):
            return self.inputs[expression.removeprefix("inputs.")]
        if found := re.fullmatch(r"steps\.compare\.outputs\.(\w+)", expression):
            return self.outputs[found[1]]
        return {"github.token": "t", "github.event.pull_request.number": "12", "github.action_path": str(ROOT)}[
            expression
        ]

    def wanted(self, step: dict[str, Any]) -> bool:
        """Whether a step's ``if`` holds, each part of which compares a name with a text."""
        for part in filter(None, step.get("if", "").split(" && ")):
            name, operator, text = part.split(" ", 2)
            value = self.event if name == "github.event_name" else self.evaluate(name)
            if (value == text.strip("'")) != (operator == "=="):
                return False
        return True

    def run(self) -> int:
        """Run all steps up to the first that fails; its exit code, else 0."""
        temporary = self.folder / "runner"
        temporary.mkdir(exist_ok=True)
        for step in ACTION["runs"]["steps"]:
            if not self.wanted(step):
                continue
            assert step["shell"] == "bash"
            own = {name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: self.evaluate(found[1]), value)
                   for name, value in step.get("env", {}).items()}  # fmt: skip
            (temporary / "output").write_text("")
            (temporary / "step.sh").write_text(step["run"])
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(temporary / "step.sh")],
                cwd=self.folder,
                env={
                    **os.environ,
                    **own,
                    "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                    "RUNNER_TEMP": str(temporary),
                    "GITHUB_OUTPUT": str(temporary / "output"),
                    "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
                    "GITHUB_REPOSITORY": "owner/name",
                    "GH_LOG": str(self.folder / "gh.log"),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            told = (line.partition("=") for line in (temporary / "output").read_text().splitlines())
            self.outputs |= {name: value for name, _, value in told}
            if done.returncode:
                print(done.stdout, done.stderr)  # noqa: T201 - of a test that fails
                return done.returncode
        return 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with a method, its suite, and the programs that a machine of GitHub's has."""
    (tmp_path / "bin").mkdir()
    ours = f'PYTHONPATH="{ROOT}:{ROOT}/plugins:$PYTHONPATH" exec {sys.executable} -m prunebench "$@"'
    for name, text in (("gh", GH), ("prunebench", f"#!/bin/bash\n{ours}\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "mine.py").write_text(METHOD.replace("SCORES", "layer.weight.abs()"))
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def job(folder: Path, **inputs: str) -> Job:
    defaults = {name: str(entry.get("default", "")) for name, entry in ACTION["inputs"].items()}
    own = {"suite": "suite.yaml", "install": "", "run-arguments": "--plugin mine.py", "baseline": "baseline"}
    return Job(folder, defaults | own | {name.replace("_", "-"): value for name, value in inputs.items()})


@pytest.mark.slow
def test_from_the_first_run_to_a_regression(folder: Path) -> None:
    first = job(folder)
    assert first.run() == 2  # there is no baseline yet
    assert "There is no baseline yet: run prunebench baseline accept" in (folder / "gh.log.body").read_text()
    accepted = ("prunebench", "baseline", "accept", "results/prunebench-action", "baseline")
    subprocess.run([folder / "bin" / accepted[0], *accepted[1:]], cwd=folder, check=True, capture_output=True)

    assert job(folder).run() == 0
    mark, verdict = (folder / "gh.log.body").read_text().splitlines()[:2]
    assert (mark, verdict) == ("<!-- prunebench suite.yaml -->", "### ✅ No regression in 1 cell")
    assert "issues/comments/4711 --method PATCH" in (folder / "gh.log").read_text()  # the same comment again

    (folder / "mine.py").write_text(METHOD.replace("SCORES", "-layer.weight.abs()"))
    assert job(folder).run() == 1
    lines = (folder / "gh.log.body").read_text().splitlines()
    assert lines[1].startswith("### ❌ Regression: perplexity +")
    assert "mine 0.5" in lines[1]
    assert (folder / "summary.md").read_text().splitlines()[-len(lines) + 1 :] == lines[1:]


@pytest.mark.slow
def test_a_push_has_no_comment_and_a_wrong_suite_fails_at_once(folder: Path) -> None:
    pushed = job(folder, suite="nowhere.yaml")
    assert pushed.run() == 2
    pushed = job(folder, baseline="")
    pushed.event = "push"
    assert pushed.run() == 0
    assert not (folder / "gh.log").exists()
    assert pushed.outputs["code"] == "0"


def test_no_input_is_pasted_into_a_script() -> None:
    """What a pull request controls reaches bash as a variable, so that it cannot run there."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
