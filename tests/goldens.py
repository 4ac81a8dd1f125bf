"""What must not change unnoticed: the ids of cells, and the weights that the smoke suite's methods leave.

    python -m tests.goldens [--check] [ids | weights]

writes ``tests/golden/*.json``: the ids of the cells of every suite whose models come with the package, and the digests
of the smoke suite's pruned weights. ``--check`` compares instead. A change on purpose is a commit that edits them.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.helpers.paths import EMBEDDED_SUITES, ROOT

FOLDER = ROOT / "tests" / "golden"


def invoke(*arguments: str) -> str:
    """The standard output of a command."""
    from prunebench.cli.app import app

    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120", "TERM": "dumb"})
    assert result.exit_code == 0, (arguments, result.output)
    return result.stdout


def ids() -> dict[str, list[str]]:
    """By suite, the ids of its cells."""
    return {
        suite.stem: [cell["id"] for cell in json.loads(invoke("plan", str(suite), "--no-forecast", "--json"))]
        for suite in EMBEDDED_SUITES
    }


def weights() -> dict[str, str]:
    """By cell of the smoke suite, the digest of its weights after pruning."""
    with tempfile.TemporaryDirectory() as place:
        invoke("run", str(ROOT / "suites" / "smoke.yaml"), "--output", place, "--in-process", "--json")
        records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(place).glob("*.json"))]
    return {record["cell"]["id"]: record["environment"]["weights_digest"] for record in records}


RECORDERS = {"ids": ids, "weights": weights}


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
