"""An evaluation of a plugin says nothing of the weights, and nothing that would end the sweep."""

from pathlib import Path

import pytest

from prunebench.records.record import Record, VerifiedFacts
from prunebench.registry.reading import PluginFiles
from prunebench.runner.isolated import Isolated
from prunebench.runner.measure_stage import Measured
from prunebench.runner.run_cell import _Run
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.adversary.forging_evaluations import VERIFIED
from tests.helpers.observers import SilentDisplay

PLUGINS = [Path(__file__).with_name("forging_evaluations.py")]
REFUSED = {
    "mask": "both report the array 'mask'",
    "square": "the array 'mine' is no row of numbers",
    "endless": "1 validation error for Measured",
    "countless": "1 validation error for Measured",
    "nested": "an outcome that no record can hold",
}


@pytest.fixture(scope="module")
def records(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """One sweep for each evaluation, by one executor; the records by evaluation."""
    found = {}
    for name in ("sparser", *REFUSED):
        folder = tmp_path_factory.mktemp(name)
        (folder / "suite.yaml").write_text(
            f"name: forging\nmodels: [{world / 'model'}]\nsparsities: [0.5]\nmethods: [magnitude]\n"
            f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}\n"
            f"evaluations: [{{name: {name}}}, {{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
        )
        with Isolated() as executor:
            files = PluginFiles(PLUGINS, executor)
            cells = plan(load_suite(folder / "suite.yaml", plugin_files=files), plugin_files=files)
            (found[name],) = run_suite(cells, folder / "out", SilentDisplay(), executor=executor)
    return found


def test_it_says_nothing_of_the_weights(records: dict[str, Record]) -> None:
    record = records["sparser"]
    assert record.status == "ok"
    assert record.sparsity is not None
    assert record.sparsity.reached == 0.5
    assert record.saved is None


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_record_can_hold_fails_the_cell(records: dict[str, Record], name: str) -> None:
    error = records[name].error
    assert error is not None
    assert REFUSED[name] in error.message


@pytest.mark.parametrize("part", ["chance", "verified"])
def test_what_is_there_is_not_replaced(part: str) -> None:
    from prunebench.errors import ContractError

    run = _Run.__new__(_Run)
    there = {"text": 0.5} if part == "chance" else {"text": VerifiedFacts.model_validate(VERIFIED)}
    run.facts = {"environment": {}, "chance": {}, "verified": {}} | {part: there}
    with pytest.raises(ContractError, match=f"both report {part} of 'text'"):
        run._take(Measured.model_validate({part: there}), {})
