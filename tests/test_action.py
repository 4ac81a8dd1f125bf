"""``action.yml``: its steps run as they stand, with bash, on a tiny suite and a stand-in for GitHub."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
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
# Keeps comments in a file, as a pull request does; the filter runs in jq, whose language it is in.
GH = f"""#!{sys.executable}
import json, os, pathlib, subprocess, sys
log = pathlib.Path(os.environ["GH_LOG"])
with log.open("a") as file:
    print(*sys.argv[1:], file=file)
path = log.with_name("comments.json")
comments = json.loads(path.read_text()) if path.exists() else []
place, options = sys.argv[2], sys.argv[3:]
if "--paginate" in options:
    jq = ["jq", options[options.index("--jq") + 1]]
    sys.exit(subprocess.run(jq, input=json.dumps(comments), text=True).returncode)
body = pathlib.Path(next(word for word in options if word.startswith("body=@"))[6:]).read_text()
if "PATCH" in options:
    next(one for one in comments if one["id"] == int(place.rpartition("/")[2]))["body"] = body
else:
    comments.append(dict(id=4711 + len(comments), user=dict(login="github-actions[bot]"), body=body))
path.write_text(json.dumps(comments))
"""


@dataclass
class Job:
    """A job on a machine of GitHub's, as far as the action sees it.

    Args:
        folder: the checked-out repository.
        inputs: what the workflow gives the action.
        event: what started the workflow.
        name: of the job in its workflow.
    """

    folder: Path
    inputs: dict[str, str]
    event: str = "pull_request"
    name: str = "sparsity"
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

    def run(self, steps: Sequence[dict[str, Any]] = ACTION["runs"]["steps"]) -> int:
        """Run steps up to the first that fails; its exit code, else 0."""
        temporary = self.folder / "runner"
        temporary.mkdir(exist_ok=True)
        for step in steps:
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
                    "GITHUB_WORKFLOW": "Checks --> [1]",
                    "GITHUB_JOB": self.name,
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


def comments(folder: Path) -> list[str]:
    """The comments on the pull request."""
    return [one["body"] for one in json.loads((folder / "comments.json").read_text())]


needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
MARK = "<!-- prunebench compare: Checks ___ _1_ {} suite.yaml baseline  -->"


@needs_jq
@pytest.mark.slow
def test_from_the_first_run_to_a_regression(folder: Path) -> None:
    first = job(folder)
    assert first.run() == 2  # there is no baseline yet
    (body,) = comments(folder)
    assert body.startswith(f"{MARK.format('sparsity')}\n### ⚠️ There is no baseline yet: run prunebench baseline accept")
    accepted = ("prunebench", "baseline", "accept", "results/prunebench-action", "baseline")
    subprocess.run([folder / "bin" / accepted[0], *accepted[1:]], cwd=folder, check=True, capture_output=True)

    assert job(folder).run() == 0
    (body,) = comments(folder)  # the same comment again
    assert body.splitlines()[:2] == [MARK.format("sparsity"), "### ✅ No regression in 1 cell"]
    assert "issues/comments/4711 --method PATCH" in (folder / "gh.log").read_text()

    (folder / "mine.py").write_text(METHOD.replace("SCORES", "-layer.weight.abs()"))
    assert job(folder).run() == 1
    (body,) = comments(folder)
    lines = body.splitlines()
    assert lines[1].startswith("### ❌ Regression: perplexity +")
    assert "mine 0.5" in lines[1]
    assert (folder / "summary.md").read_text().splitlines()[-len(lines) :] == lines


def run_step(own: Job, step: str) -> None:
    """Run one step, and no other."""
    found = [one for one in ACTION["runs"]["steps"] if one["name"] == step]
    assert own.run(found) == 0


@needs_jq
def test_every_job_changes_its_own_comment_and_nobody_elses(folder: Path) -> None:
    """Two jobs of a workflow, a leg of a matrix, and a person who quotes the comment of a job."""
    (folder / "summary.md").touch()
    person = {"id": 1, "user": {"login": "somebody"}, "body": f"{MARK.format('first')}\nwhy?"}
    (folder / "comments.json").write_text(json.dumps([person]))
    jobs = [job(folder), job(folder), job(folder, name="3.12")]
    for own, name in zip(jobs, ("first", "second", "first"), strict=True):
        own.name = name
    for _ in range(2):
        for own in jobs:
            run_step(own, "Compare with the baseline")
            run_step(own, "Comment on the pull request")
    found = comments(folder)
    assert found[0] == person["body"]
    assert [body.splitlines()[0] for body in found[1:]] == [
        MARK.format("first"),
        MARK.format("second"),
        MARK.format("first").replace("  -->", " 3.12 -->"),
    ]


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
