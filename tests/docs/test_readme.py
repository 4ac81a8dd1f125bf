"""What the README shows works as it stands, and every suite in the repository can be planned."""

import re
from pathlib import Path

import pytest

from prunebench import text
from prunebench.evaluation.protocols import protocol_name
from prunebench.pruning import Unstructured, prunable
from prunebench.records.store import read_records
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.suite.evaluation_entries import PerplexityEntry
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.suite.published import published_disagreements, read_published
from prunebench.suite.schema import Suite
from prunebench.suite.tuning import combinations_of
from prunebench.tinyworld import CORPORA, MODELS
from prunebench.tinyworld.tasks import CHANCE
from prunebench.yaml12 import read_yaml
from tests.helpers import tiny
from tests.helpers.paths import EMBEDDED_SUITES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def code(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found
    return found[1]


def test_the_method_of_the_readme_prunes() -> None:
    scope: dict[str, type] = {}
    exec(code("python"), scope)
    method = MethodClass("mine", scope["Mine"], "mine", "1")
    assert method.option_docs == {"power": "p."}
    model, sparsity = tiny.llama(), Unstructured(0.6)
    plugin_manager(method, {"power": 2.0}).hook.prune(model=model, data=tiny.calibration(), sparsity=sparsity)
    for layer, target in prunable(model, sparsity):
        assert int((layer.weight == 0).sum()) == target.zeros


def test_the_suite_of_the_readme_is_one() -> None:
    suite = Suite.model_validate(read_yaml(code("yaml")))
    assert str(suite.sparsities[-1]) == "2:4"


@pytest.mark.parametrize("path", EMBEDDED_SUITES, ids=lambda path: path.stem)
def test_every_suite_of_embedded_models_can_be_planned(path: Path) -> None:
    cells = plan(load_suite(path))
    assert str(cells[0].sparsity) == "0"
    assert len({cell.id for cell in cells}) == len(cells)


def test_the_budgets_are_equal() -> None:
    """At each budget all methods that train see as many windows, by as many trials or another budget's choice."""
    rows: dict[str, set[tuple[int, int]]] = {}
    for entry in load_suite(ROOT / "suites" / "budget.yaml").methods:
        if entry.tune is not None:
            trained = [options for options in (entry.options, *(stage.options for stage in entry.then)) if options]
            windows = sum(o["epochs"] * 128 if "epochs" in o else o["steps"] * o["batch_size"] for o in trained)
            trials = 0 if entry.tune.like else len(combinations_of(entry))
            rows.setdefault(entry.title.split()[1], set()).add((windows, trials))
    assert rows == {"0.13M": {(128 * 8, 6)}, "0.52M": {(512 * 8, 6)}, "2.1M": {(2048 * 8, 4), (2048 * 8, 0)}}


def test_so_they_are_on_stories() -> None:
    trained = [entry for entry in load_suite(ROOT / "suites" / "stories.yaml").methods if entry.tune]
    for entry in trained:
        options = entry.options or entry.then[0].options
        assert (options["steps"] * options["batch_size"], len(combinations_of(entry))) == (256 * 4, 6)
    assert len(trained) == 6


@pytest.mark.parametrize("path", sorted((ROOT / "suites" / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_suites_of_papers_are_whole(path: Path) -> None:
    """Their models are out of reach here: the file, its methods' options and its published figures are looked at."""
    suite = load_suite(path)
    for entry in suite.methods:
        assert entry.options.keys() <= load_method(entry.name).resolve(entry.options).keys()
    assert suite.published is not None
    names = {entry.id.casefold() for entry in suite.models}
    rows = [row for file in suite.published_files for row in read_published(Path(file))]
    for row in rows:
        assert row.model.casefold() in names
        assert any(row.method == entry.name for entry in suite.methods)
    assert published_disagreements(rows) == []


@pytest.mark.parametrize("path", sorted((ROOT / "suites").rglob("*.yaml")), ids=lambda path: path.stem)
def test_c4_is_drawn_from_as_the_literature_does(path: Path) -> None:
    suite = load_suite(path)
    for calibration in (suite.calibration, *(entry.calibration for entry in suite.methods)):
        if calibration is not None and calibration.corpus == "c4":
            assert calibration.windows == "random"


def test_figures_of_elsa_carry_how_they_were_measured() -> None:
    """Their code divides the loss of 2047 tokens by 2048, and begins each window of Gemma with BOS."""
    suite = load_suite(ROOT / "suites" / "paper" / "elsa.yaml")
    gemmas = [entry.name for entry in suite.models if "gemma" in entry.id]
    for model in suite.models:
        measured = {
            protocol_name(entry.corpus, entry.windows, entry.seqlen)
            for entry in suite.evaluations
            if isinstance(entry, PerplexityEntry) and entry.is_for(model.name)
        }
        assert measured == ({"wikitext2/paper-bos-2048", "c4/paper-bos-256x2048"} if model.name in gemmas else {
            "wikitext2/paper-2048", "c4/paper-256x2048"
        })  # fmt: skip
        for row in read_published(Path(suite.published_files[0])):
            if row.model == model.id and row.figure.source.startswith("ELSA"):
                assert row.figure.exponent == "2047/2048"
                assert row.figure.protocol in measured
            elif row.model == model.id:
                assert row.figure.exponent is None


def test_the_embedded_models_are_as_the_readme_says() -> None:
    records = read_records(ROOT / "results" / "reference" / "dense")
    assert len(records) == len(MODELS)
    for record in records:
        assert record.sparsity is not None
        row = next(line for line in README.splitlines() if line.startswith(f"| `builtin/{record.cell.model}`"))
        _, parameters, *told = (entry.strip() for entry in row.strip("|").split("|"))
        assert int(parameters.replace(",", "")) == record.sparsity.parameters
        perplexities = [text.number(record.perplexity[f"{corpus}/stream-128"].value) for corpus in CORPORA]
        results = (record.zero_shot["results"][task] for task in CHANCE)
        assert told == perplexities + [f"{100 * r['acc,none']:.0f} ± {100 * r['acc_stderr,none']:.0f}" for r in results]
