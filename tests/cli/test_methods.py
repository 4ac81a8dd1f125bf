"""``prunebench methods``: the list and one method."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import one_line, prunebench

FOREIGN = """
from dataclasses import dataclass

from prunebench import hookimpl


@dataclass(frozen=True)
class Foreign:
    '''Of another package.

    Args:
        power: of the scores.
    '''

    power: float = 2.0

    @hookimpl
    def prune(self, model, sparsity):
        pass


@dataclass(frozen=True)
class Rude(Foreign):
    '''Of another package.'''
"""


class TestMethods:
    def test_the_list(self) -> None:
        result = prunebench("methods")
        assert (result.exit_code, result.stderr) == (0, "")
        assert {"dense", "magnitude", "wanda", "sparsegpt"} <= {
            line.split()[0] for line in result.stdout.splitlines() if line
        }
        entries = json.loads(prunebench("methods", "--json").stdout)
        assert {"name", "distribution", "version", "summary", "changes", "patterns", "options", "error"} == set(
            entries[0]
        )

    def test_one(self) -> None:
        described = json.loads(prunebench("methods", "sparsegpt", "--json").stdout)
        options = {option["name"]: option for option in described["options"]}
        assert options["percdamp"]["type"] == "float"
        assert options["percdamp"]["default"] == 0.01
        assert "Hessian" in options["percdamp"]["docs"]
        assert "percdamp" in prunebench("methods", "sparsegpt").stdout

    def test_an_unknown_one(self) -> None:
        result = prunebench("methods", "sparsgpt")
        assert result.exit_code == 2
        assert one_line(result).startswith("error: unknown method 'sparsgpt': did you mean 'sparsegpt'?")

    def test_those_of_others_are_imported_elsewhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        # Its package calls itself as prunebench does, and hides ours: what counts is where the code lies.
        info = tmp_path / "prunebench-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: prunebench\nVersion: 9\n")
        (info / "entry_points.txt").write_text(
            "[prunebench]\nbroken = nowhere.at_all:X\nforeign = foreign_here:Foreign\nrude = foreign_here:Rude\n"
        )
        (tmp_path / "foreign_here.py").write_text(FOREIGN)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        entries = {entry["name"]: entry for entry in json.loads(prunebench("methods", "--json").stdout)}
        assert "failed to import" in entries["broken"]["error"]
        assert entries["foreign"]["summary"] == "Of another package."
        assert entries["foreign"]["options"][0]["default"] == 2.0
        listed = json.loads(prunebench("plugins", "list", "--json").stdout)
        errors = {entry["name"]: entry["error"] for entry in listed if entry["kind"] == "method"}
        assert errors["foreign"] is None
        assert "failed to import" in errors["broken"]
        assert "foreign_here" not in sys.modules
