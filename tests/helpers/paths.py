"""Where the files are that tests read."""

from pathlib import Path

import pytest

from prunebench.yaml12 import read_yaml

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
DOCS = ROOT / "docs"
GOLDEN_RECORD = TESTS / "fixtures" / "record.json"
GOLDEN_SUITE = TESTS / "fixtures" / "suite.yaml"
CHEATING_METHODS = Path(__file__).with_name("cheating_methods.py")
BROKEN_METHODS = TESTS / "helpers" / "broken_methods.py"
FAULTY_METHODS = TESTS / "faults" / "faulty.py"

SUITES = sorted((ROOT / "suites").glob("*.yaml"))
# Those whose models come with prunebench can be planned without a hub and without files that a user brings.
EMBEDDED_SUITES = [
    path for path in SUITES if all(str(model).startswith("builtin/") for model in read_yaml(path.read_text())["models"])
]

# Real models and data, in a folder beside the checkout; the tests that need them are skipped where it is missing.
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the models and data of ../shared")
