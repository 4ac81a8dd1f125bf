"""A method that knows the public text by heart is found out on text that is made after pruning."""

from pathlib import Path

import pytest

from prunebench.records.record import Record
from prunebench.registry.reading import PluginFiles
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.adversary.sweeps import sweep
from tests.helpers.command_line import prunebench
from tests.helpers.observers import SilentDisplay

PLUGINS, PROTOCOL = [Path(__file__).with_name("memorising.py")], "random-words/stream-16"


@pytest.fixture(scope="module")
def suite(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    suite = tmp_path_factory.mktemp("memorising") / "suite.yaml"
    suite.write_text(
        f"name: memorising\nmodels: [{world / 'model'}]\n"
        "calibration: {corpus: random-words, nsamples: 8, seqlen: 16}\n"
        "sparsities: [0.5]\nmethods: [dense, honest, knows-the-text]\n"
        f"evaluations: [{{name: perplexity, corpus: random-words, seqlen: 16}}, "
        f"{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
    )
    return suite


@pytest.fixture(scope="module")
def records(suite: Path) -> dict[str, Record]:
    return sweep(suite, PLUGINS, suite.parent / "out", verify=True)


def test_the_figure_itself_shows_nothing(records: dict[str, Record]) -> None:
    assert [record.error for record in records.values()] == [None] * 3
    assert records["knows-the-text"].perplexity[PROTOCOL].value < 0.8 * records["honest"].perplexity[PROTOCOL].value


def test_it_is_found_out(records: dict[str, Record]) -> None:
    found = records["knows-the-text"].verified[PROTOCOL]
    assert not found.agrees
    assert found.excess > 4 * found.excess_stderr > 0
    assert records["knows-the-text"].notes == {"the perplexity is not confirmed on text that was made after pruning": 1}


def test_an_honest_one_is_confirmed(records: dict[str, Record]) -> None:
    found = records["honest"].verified[PROTOCOL]
    assert found.agrees
    assert abs(found.excess) < 4 * found.excess_stderr
    assert found.tokens == records["honest"].perplexity[PROTOCOL].tokens
    assert records["honest"].notes == {}


def test_only_text_that_can_be_made_is(records: dict[str, Record]) -> None:
    assert set(records["honest"].verified) == {PROTOCOL}
    assert records["dense"].verified == {}


def test_each_cell_has_a_text_of_its_own(records: dict[str, Record]) -> None:
    assert records["honest"].verified[PROTOCOL].seed != records["knows-the-text"].verified[PROTOCOL].seed


def test_the_command_tells_and_verified_cells_are_kept(suite: Path, records: dict[str, Record]) -> None:
    result = prunebench("run", suite, "--plugin", PLUGINS[0], "--output", suite.parent / "out", "--verify")
    assert result.exit_code == 1
    assert "is not confirmed on text that was made after pruning" in result.stderr
    assert "knows-the-text" in result.stderr


def test_cells_that_were_not_verified_are_run_again(suite: Path, tmp_path: Path) -> None:
    files = PluginFiles(PLUGINS)
    cells = plan(load_suite(suite, ["methods=[honest]"], files), plugin_files=files)
    (plain,) = run_suite(cells, tmp_path, SilentDisplay())
    assert plain.verified == {}
    (verified,) = run_suite(cells, tmp_path, SilentDisplay(), verify=True)
    assert set(verified.verified) == {PROTOCOL}
    assert run_suite(cells, tmp_path, SilentDisplay(), verify=True)[0].digest == verified.digest
