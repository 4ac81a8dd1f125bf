"""Plugin files: every kind from one file, neighbours, and what is wrong with a file."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunebench.errors import CorpusError, MethodError
from prunebench.records.record import Record
from prunebench.registry.describe import describe_plugins
from prunebench.registry.entry_points import load_method
from prunebench.registry.plugin_files import plugins_in
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.command_line import prunebench
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import ROOT

EXAMPLES = ROOT / "docs" / "examples"

METHOD = """
from dataclasses import dataclass
from prunebench import hookimpl
from prunebench.pruning import prunable
{imports}

@dataclass(frozen=True)
class Mine:
    @hookimpl
    def prune(self, model, sparsity):
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask({scores}), 0)
"""


def run(suite: Path, files: list[Path], folder: Path) -> list[Record]:
    return run_suite(plan(load_suite(suite, (), files), plugin_files=files), folder, SilentDisplay())


def test_every_example_is_recognised_by_its_shape() -> None:
    found = {
        (kind, name)
        for path in EXAMPLES.glob("*.py")
        if not path.name.startswith("test_")
        for kind, names in plugins_in(path).items()
        for name in names
    }
    assert {
        ("method", "mine"),
        ("wrapper", "profiler"),
        ("corpus", "counting"),
        ("evaluation", "weight-norm"),
        ("allocation", "rising"),
    } <= found


def test_a_file_of_two_kinds_and_two_files(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    both = tmp_path / "both.py"
    both.write_text(METHOD.format(imports="", scores="layer.weight.abs()") + (EXAMPLES / "weight_norm.py").read_text())
    suite = write_suite(
        methods="methods: [mine, magnitude]",
        sparsities="sparsities: [0.5]",
        calibration="calibration: {corpus: counting, nsamples: 8, seqlen: 16}",
        seeds="allocation: [uniform, rising]",
        evaluations="evaluations: [{name: weight-norm}, {name: perplexity, corpus: counting, seqlen: 16}]",
    )
    files = [both, EXAMPLES / "rising.py", EXAMPLES / "counting.py", EXAMPLES / "profiler.py"]
    records = run(suite, files, tmp_path / "out")
    assert [record.error for record in records] == [None] * 4
    by_key = {(record.cell.method, record.cell.allocation): record for record in records}
    assert by_key["mine", "rising"].measures == by_key["magnitude", "rising"].measures
    assert by_key["mine", "rising"].measures != by_key["mine", "uniform"].measures
    assert list(records[0].perplexity) == ["counting/stream-16"]
    (name,) = records[0].environment["wrappers"]
    assert name.startswith("profiler (profiler.py ")
    assert [list(records[0].environment["wrapper_traces"]), records[0].trace] == [[name], ()]


def test_where_a_file_lies_does_not_decide_on_the_cell(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    suite = write_suite(
        methods="methods: [magnitude]",
        seeds="allocation: [rising]",
        sparsities="sparsities: [0.5]",
        calibration="calibration: {corpus: counting, nsamples: 8, seqlen: 16}",
        evaluations="evaluations: [{name: weight-norm}]",
    )
    ids = []
    for place in ("here", "there", "changed"):
        (tmp_path / place).mkdir()
        for name in ("rising.py", "weight_norm.py", "counting.py"):
            text = (EXAMPLES / name).read_text()
            if place == "changed":
                text = text.replace("self.slope * ", "2 * self.slope * ")
            (tmp_path / place / name).write_text(text)
        files = sorted((tmp_path / place).iterdir())
        ids.append([cell.id for cell in plan(load_suite(suite, (), files), plugin_files=files)])
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


class TestNeighbours:
    @pytest.mark.parametrize("imports", ["from helper import scores", "import helper", "from . import helper"])
    def test_a_file_beside_it(self, imports: str, tmp_path: Path) -> None:
        scores = "scores(layer.weight)" if "scores" in imports else "helper.scores(layer.weight)"
        for folder, sign in (("one", ""), ("two", "-")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "helper.py").write_text(f"def scores(W):\n    return {sign}W.abs()\n")
            (tmp_path / folder / "mine.py").write_text(METHOD.format(imports=imports, scores=scores))
        before = [*sys.path], [*sys.meta_path]
        one, two = (load_method("mine", [tmp_path / folder / "mine.py"]).cls for folder in ("one", "two"))
        helpers = [sys.modules[cls.__module__ + ".helper"] for cls in (one, two)]
        assert [helper.scores(torch.tensor(-3.0)).item() for helper in helpers] == [3.0, -3.0]
        assert [helper.__file__ for helper in helpers] == [str(tmp_path / f / "helper.py") for f in ("one", "two")]
        assert "helper" not in sys.modules
        assert ([*sys.path], [*sys.meta_path]) == before

    def test_a_neighbour_that_changed_is_read_again(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(METHOD.format(imports="from helper import SIZE", scores="layer.weight.abs()"))
        for size in (1, 2):
            (tmp_path / "helper.py").write_text(f"SIZE = {size}\n")
            module = load_method("mine", [tmp_path / "mine.py"]).cls.__module__
            assert size == sys.modules[module].SIZE

    def test_a_package_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "__init__.py").write_text("from .inner import SIZE\n")
        (tmp_path / "parts" / "inner.py").write_text("SIZE = 3\n")
        (tmp_path / "mine.py").write_text(METHOD.format(imports="from parts import SIZE", scores="layer.weight.abs()"))
        assert sys.modules[load_method("mine", [tmp_path / "mine.py"]).cls.__module__].SIZE == 3

    @pytest.mark.parametrize("imports", ["import helper", "from . import helper", "from .helper import scores"])
    def test_one_that_is_missing(self, imports: str, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(METHOD.format(imports=imports, scores="layer.weight"))
        with pytest.raises(MethodError, match=r"mine\.py failed to import: .*helper") as caught:
            load_method("mine", [tmp_path / "mine.py"])
        assert "there is no helper.py beside mine.py" in str(caught.value)
        assert not [name for name in sys.modules if name.startswith("prunebench_file_mine") and str(tmp_path) in name]


def test_a_corpus_that_the_model_makes(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    made = tmp_path / "made.py"
    made.write_text(
        "def self_made(split, model, seed):\n"
        "    total = sum(p.abs().sum().item() for p in model.parameters())\n"
        "    yield from (f'w{int(total) % 50} w{seed} w{n % 50}' for n in range(200))\n"
    )
    suite = write_suite(
        methods="methods: [wanda]",
        sparsities="sparsities: [0.5]",
        seeds="seeds: [1, 2]",
        calibration="calibration: {corpus: self-made, nsamples: 8, seqlen: 16}",
    )
    records = run(suite, [made], tmp_path / "out")
    assert [record.status for record in records] == ["ok", "ok"]
    assert len({record.environment["weights_digest"] for record in records}) == 2
    evaluations = "evaluations: [{name: perplexity, corpus: self-made, seqlen: 16}]"
    with pytest.raises(CorpusError, match="corpus self-made is made from model, seed, so that it serves calibration"):
        run(write_suite(evaluations=evaluations), [made], tmp_path / "out")


def test_an_evaluation_names_what_it_wants(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "kept.py"
    file.write_text(
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Kept:\n"
        "    def measure(self, model, tokenizer, dense, windows, seed):\n"
        "        pairs = zip(model.parameters(), dense.parameters())\n"
        "        same = sum(int((p == q).sum()) for p, q in pairs)\n"
        "        return {'same': same, 'windows': len(windows), 'seed': seed}\n"
    )
    suite = write_suite(
        methods="methods: [dense, wanda]", seeds="seeds: [3]", evaluations="evaluations: [{name: kept}]"
    )
    dense, wanda, _ = run(suite, [file], tmp_path / "out")
    found = [record.measures["kept"] for record in (dense, wanda)]
    assert [values["windows"] for values in found] == [8, 8]
    assert [values["seed"] for values in found] == [3, 3]
    assert wanda.sparsity is not None
    zeros = sum(count.zeros for count in wanda.sparsity.matrices.values())
    assert found[0]["same"] - found[1]["same"] == zeros
    file.write_text(file.read_text().replace("windows, seed", "windows, sed"))
    with pytest.raises(MethodError, match="the evaluation 'kept': measure has the unknown argument 'sed'"):
        run(suite, [file], tmp_path / "out")


def test_plugins_list_shows_them() -> None:
    files = [EXAMPLES / "rising.py", EXAMPLES / "profiler.py"]
    told = {(entry["kind"], entry["name"]): entry for entry in describe_plugins(files)}
    assert told["allocation", "rising"]["distribution"] == "rising.py"
    assert told["wrapper", "profiler"]["error"] is None
    result = prunebench("plugins", "list", "--plugin", EXAMPLES / "counting.py")
    assert "counting" in result.stdout
