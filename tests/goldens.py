"""What the program produces today, recorded so that a move of the code can be held against it.

    python -m tests.goldens [--check] [ids | listings | helps | reports | weights]

writes ``tests/golden/*.json``: the ids of the cells of every suite that plans without a network, what ``methods`` and
``plugins list`` say, the help of every command, the SHA-256 of the reports of the reference folders in every format,
and the digests of the smoke suite's pruned weights. ``--check`` compares instead.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.helpers.paths import ROOT

FOLDER = ROOT / "tests" / "golden"
FORMATS = ("table", "markdown", "latex", "csv", "parquet", "html", "svg", "pdf")
COMMANDS = ("", "run", "plan", "report", "compare", "merge", "methods", "plugins", "plugins new", "plugins check",
            "plugins list")  # fmt: skip


def invoke(*arguments: str) -> str:
    """The standard output of a command."""
    from prunebench.cli.app import app

    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120", "TERM": "dumb"})
    assert result.exit_code == 0, (arguments, result.output)
    return result.stdout


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ids() -> dict[str, list[str]]:
    """By suite, the ids of its cells."""
    suites = sorted((ROOT / "suites").glob("*.yaml"))
    return {
        suite.stem: [cell["id"] for cell in json.loads(invoke("plan", str(suite), "--no-forecast", "--json"))]
        for suite in suites
    }


def listings() -> dict[str, Any]:
    """What is installed, as JSON."""
    return {
        "methods": json.loads(invoke("methods", "--json")),
        "plugins": json.loads(invoke("plugins", "list", "--json")),
    }


def helps() -> dict[str, str]:
    """By command, its help."""
    return {command: invoke(*command.split(), "--help") for command in COMMANDS}


def reports() -> dict[str, str]:
    """By folder and format, the SHA-256 of a report; of several files, of their names and contents."""
    found = {}
    for folder in sorted(path for path in (ROOT / "results" / "reference").iterdir() if any(path.glob("*.json"))):
        for form in FORMATS:
            with tempfile.TemporaryDirectory() as place:
                target = Path(place) / f"out.{form}"
                text = invoke("report", str(folder), "--format", form, "--output", str(target))
                written = sorted(path for path in Path(place).rglob("*") if path.is_file())
                content = [f"{path.relative_to(place)} {_digest(path.read_bytes())}" for path in written]
            found[f"{folder.name}/{form}"] = _digest("\n".join([text.replace(place, "…"), *content]).encode())
    return found


def weights() -> dict[str, str]:
    """By cell of the smoke suite, the digest of its weights after pruning."""
    with tempfile.TemporaryDirectory() as place:
        invoke("run", str(ROOT / "suites" / "smoke.yaml"), "--output", place, "--in-process", "--json")
        records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(place).glob("*.json"))]
    return {record["cell"]["id"]: record["environment"]["weights_digest"] for record in records}


RECORDERS = {"ids": ids, "listings": listings, "helps": helps, "reports": reports, "weights": weights}


def read(name: str) -> Any:
    """A recorded golden."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def main(chosen: list[str]) -> int:
    """Record the goldens, or with ``--check`` compare; the exit code."""
    FOLDER.mkdir(exist_ok=True)
    names = [name for name in chosen if name in RECORDERS] or list(RECORDERS)
    different = 0
    for name in names:
        found = json.loads(json.dumps(RECORDERS[name]()))
        if "--check" in chosen:
            expected = read(name)
            changed = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
            sys.stdout.write(f"{name}: {len(changed)} of {len(expected)} differ {changed[:10]}\n")
            different += len(changed)
        else:
            text = json.dumps(found, indent=1, ensure_ascii=False)
            (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
