"""Cheats that know the harness, in one sweep through the real processes."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.records.record import Record
from prunebench.registry.plugin_files import kebab
from prunebench.runner.run_cell import Limits
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.adversary.sweeps import same_figures, sweep
from tests.helpers.command_line import prunebench

CHEATS = Path(__file__).with_name("deeper_cheats.py")
SAME = "without effect"

# What becomes of each: a part of the error, or SAME: it is recorded with the figures of the honest method.
EXPECTED = {
    "forges-by-a-link": SAME,
    "forges-in-a-closed-folder": SAME,
    "moves-its-state": SAME,
    "leaves-a-pipe": SAME,
    "rewrites-later": SAME,
    "looks-at-its-descriptors": SAME,
    "stops-its-templates": "does not answer",
    "kills-the-measuring": SAME,
    "leaves-many": SAME,
    "comes-back": SAME,
    "is-two-faced": "zeros where 512 of 1024 were asked for",
    "goes-meta": "on meta",
    "ties-weights": "parameters were added or removed",
    "hides-in-not-a-number": "holds NaN or infinity",
    "hides-in-the-smallest": "holds 0 zeros where 512 of 1024 were asked for",
    "steers-the-terminal": SAME,
    "limits-others": SAME,
    "edits-the-model": "the files of the model model were changed while the cell ran",
}


@pytest.fixture(scope="module")
def folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deeper")
    shutil.copytree(world / "model", folder / "model")  # which one of them edits
    methods = ["honest", *(name for name in EXPECTED if name != "edits-the-model"), "edits-the-model"]
    methods.insert(-1, "{name: honest, label: honest-again}")
    (folder / "suite.yaml").write_text(
        f"name: cheats\nmodels: [{folder / 'model'}]\n"
        f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}\n"
        f"sparsities: [0.5]\nmethods: [{', '.join(methods)}]\n"
        f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
    )
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> dict[str, Record]:
    return sweep(folder / "suite.yaml", [CHEATS], folder / "out", Limits(seconds=60))


def test_every_cheat_is_tried() -> None:
    classes = re.findall(r"^@dataclass\(frozen=True\)\nclass (\w+):", CHEATS.read_text(), flags=re.MULTILINE)
    assert {*EXPECTED, "honest"} == set(map(kebab, classes))


@pytest.mark.parametrize("method", EXPECTED)
def test_a_cheat_is_refused_or_changes_no_figure(records: dict[str, Record], folder: Path, method: str) -> None:
    record, expected = records[method], EXPECTED[method]
    if expected == SAME:
        assert record.error is None, record.error
        assert same_figures(records["honest"], record, folder / "out")
    else:
        assert record.error is not None
        assert expected in record.error.message, record.error
        assert not record.perplexity


def test_what_ran_after_them_is_as_what_ran_first(records: dict[str, Record], folder: Path) -> None:
    assert same_figures(records["honest"], records["honest-again"], folder / "out")


class TestWhatIsNamed:
    def test_processes_that_were_left(self, records: dict[str, Record]) -> None:
        said = "processes that the method left running were ended"
        assert records["leaves-many"].notes[said] >= 20
        assert records["rewrites-later"].notes[said] == 1

    def test_no_socket_of_the_template_is_open(self, records: dict[str, Record]) -> None:
        assert records["looks-at-its-descriptors"].notes == {}


def test_no_note_steers_a_terminal(
    world: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_suite: Callable[..., Path]
) -> None:
    monkeypatch.delenv("PRUNEBENCH_IN_PROCESS")
    suite = write_suite(methods="methods: [steers-the-terminal]", sparsities="sparsities: [0.5]")
    result = prunebench("run", suite, "--plugin", CHEATS, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert "on stderr" in result.stderr
    for text in (result.stdout, result.stderr, (tmp_path / "out" / "report.html").read_text()):
        assert not {"\x1b", "\x07", "\u202e", "\u2066"} & set(text)


@pytest.mark.parametrize("place", [".partial/{id}/prune", ".partial/{id}/pruned.json", ".{id}.abc.work"])
def test_links_inside_a_results_folder_are_refused(
    place: str, tmp_path: Path, write_suite: Callable[..., Path]
) -> None:
    suite, output = write_suite(methods="methods: [magnitude]", sparsities="sparsities: [0.5]"), tmp_path / "out"
    (cell,) = plan(load_suite(suite))
    (precious := tmp_path / "precious").mkdir()
    (precious / "file").write_text("kept")
    link = output / place.format(id=cell.id)
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    result = prunebench("run", suite, "--output", output)
    assert result.exit_code == 2, result.output
    assert "a symbolic link" in result.stderr
    assert (precious / "file").read_text() == "kept"
