"""``prunebench methods``: the list and one method."""

import json

import pytest

from tests.helpers.command_line import one_line, prunebench


class TestMethods:
    def test_the_list(self) -> None:
        result = prunebench("methods")
        assert (result.exit_code, result.stderr) == (0, "")
        assert {"dense", "magnitude", "wanda", "sparsegpt"} <= {
            line.split()[0] for line in result.stdout.splitlines() if line
        }
        entries = json.loads(prunebench("methods", "--json").stdout)
        assert {
            "name",
            "distribution",
            "version",
            "summary",
            "changes",
            "patterns",
            "mask",
            "after",
            "options",
            "error",
        } == set(entries[0])

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

    def test_one_that_fails_to_import_is_listed_with_its_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from importlib.metadata import EntryPoint

        from prunebench.registry import entry_points as plugins

        broken = EntryPoint("broken", "nowhere.at_all:X", plugins.GROUP)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [broken] if group == plugins.GROUP else [])
        result = prunebench("methods")
        assert result.exit_code == 0
        assert "failed to import" in " ".join(result.stdout.split())
