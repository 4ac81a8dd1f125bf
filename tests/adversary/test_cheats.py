"""Cheats against what is measured, and leaks from one cell to the next, in one sweep through the real processes."""

import math
import re
from pathlib import Path

import pytest

from prunebench.records.record import Record
from prunebench.registry.plugin_files import kebab
from prunebench.runner.run_cell import Limits
from tests.adversary.sweeps import same_figures, sweep

CHEATS = Path(__file__).with_name("cheats.py")
SAME = "without effect"
PROTOCOL = "test/stream-16"

# What becomes of each: a part of the error, or SAME: it is recorded with the figures of the honest method.
EXPECTED = {
    "leaves-autocast-open": SAME,
    "patches-linear": SAME,
    "patches-functions": SAME,
    "patches-perplexity": SAME,
    "patches-the-checker": "holds 0 zeros where 512 of 1024 were asked for",
    "patches-the-record": "the process sent",
    "swaps-classes": SAME,
    "sets-the-compiled-call": SAME,
    "registers-global-hooks": SAME,
    "restores-later": None,  # either way, by who is first
    "hands-over-the-dense": "zeros where 512 of 1024 were asked for",
    "hands-over-more": "parameters were added or removed: correction",
    "hands-over-a-link": "no regular file",
    "hands-over-a-pipe": "no regular file",
    "keeps-a-correction": SAME,
    "changes-the-configuration": SAME,
    "changes-a-frequency": "inv_freq was changed",
    "overwrites-the-text": SAME,
    "trains-on-the-text": SAME,
    "moves": SAME,
    "sets-defaults": SAME,
    "seeds-generators": "a global random generator was used",
    "leaves-a-daemon": SAME,
    "returns-twice": None,
    "writes-everywhere": "the process sent",
    "floods-errors": SAME,
    "says-much": SAME,
    "sends-a-long-message": "a message of more than",
    "sends-a-deep-message": "a message that is none",
    "forges-its-outcome": "the pruned tensors cannot be read",
    "forges-measurements": SAME,
    "forges-and-dies": "ended with exit status 3",
    "hides-its-cost": SAME,
    "calls-itself-dense": "'nothing', and said 'prunable' when it was planned",
    "leaves": r"sys.exit(0) was called",
    "leaves-at-once": "ended with exit status 0",
    "interrupts": "no message",
    "kills-its-template": "killed by SIGKILL",
}


@pytest.fixture(scope="module")
def folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cheats")
    methods = ["honest", *EXPECTED, "{name: honest, label: honest-again}"]
    (folder / "suite.yaml").write_text(
        f"name: cheats\nmodels: [{world / 'model'}]\n"
        f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}\n"
        f"sparsities: [0.5]\nmethods: [{', '.join(methods)}]\n"
        f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
    )
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> dict[str, Record]:
    return sweep(folder / "suite.yaml", [CHEATS], folder / "out", Limits(seconds=60))


def test_every_cheat_is_tried() -> None:
    classes = re.findall(r"^class (\w+):|^class (\w+)\(ForgesMeasurements", CHEATS.read_text(), flags=re.MULTILINE)
    assert {*EXPECTED, "honest"} == {kebab("".join(names)) for names in classes}


@pytest.mark.parametrize("method", EXPECTED)
def test_a_cheat_is_refused_or_changes_no_figure(records: dict[str, Record], folder: Path, method: str) -> None:
    honest, record, expected = records["honest"], records[method], EXPECTED[method]
    if record.status == "ok":
        assert expected in (SAME, None)
        assert same_figures(honest, record, folder / "out")
    else:
        assert record.error is not None
        assert expected != SAME, record.error
        assert (expected or "") in record.error.message, record.error
        assert not record.perplexity


def test_what_runs_last_is_as_what_ran_first(records: dict[str, Record], folder: Path) -> None:
    assert records["honest"].status == records["honest-again"].status == "ok"
    assert same_figures(records["honest"], records["honest-again"], folder / "out")
    assert records["honest"].environment["threads"] == records["honest-again"].environment["threads"]


class TestWhatIsNamed:
    def test_no_evaluation_text_was_found_in_memory(self, records: dict[str, Record]) -> None:
        assert records["overwrites-the-text"].notes == {}
        assert records["trains-on-the-text"].notes == {}

    def test_a_daemon_is_counted_and_ended(self, records: dict[str, Record]) -> None:
        assert records["leaves-a-daemon"].notes == {"processes that the method left running were ended": 1}

    def test_what_is_said_is_bounded(self, records: dict[str, Record], folder: Path) -> None:
        said = records["says-much"]
        assert len(said.notes) == 1001
        assert max(map(len, said.notes)) <= 1000
        assert sum(said.notes.values()) == 3000
        assert max(map(len, said.trace)) <= 65
        assert (folder / "out" / f"{said.cell.id}.json").stat().st_size < 8 << 20

    def test_time_and_memory_are_measured_from_outside(self, records: dict[str, Record]) -> None:
        honest, hidden = records["honest"].cost, records["hides-its-cost"].cost
        assert (hidden.prune_seconds or 0) > 1.2
        assert (hidden.peak_bytes or 0) > (honest.peak_bytes or math.inf) + (150 << 20)
        assert (hidden.evaluate_seconds or 0) > 0

    def test_the_reloaded_model_is_said_to_be_what_was_measured(self, records: dict[str, Record]) -> None:
        assert records["honest"].model_dump()["measured"] == "reloaded"


def test_forged_states_serve_no_later_attempt(records: dict[str, Record], folder: Path) -> None:
    assert not [path for path in (folder / "out" / ".partial").rglob("*") if path.is_file()]
