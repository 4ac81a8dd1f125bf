"""The documentation is complete, current, and its code runs."""

import inspect
import json
import re
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from jinja2 import Environment, StrictUndefined

from prunebench import hookspecs, pruning
from prunebench.cli.app import app
from prunebench.contract.rules import RULES
from prunebench.errors import CorpusError, MethodError, SuiteError
from prunebench.records.record import Record
from prunebench.records.store import read_record
from prunebench.registry.describe import describe_all
from prunebench.registry.entry_points import KINDS, entry_points, load_method
from prunebench.report.sections import all_tables
from prunebench.runner.engines.chosen import chosen_engine
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.json_schema import PARTS, schema_text, suite_schema
from prunebench.suite.planning import plan
from prunebench.suite.schema import Suite
from prunebench.testing import check
from prunebench.yaml12 import read_yaml
from tests.helpers import tiny
from tests.helpers.modules import module_from
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import DOCS, ROOT

EXAMPLES = DOCS / "examples"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every page as it is built, without a theme around it."""
    macros: dict[str, Callable[..., str]] = module_from(DOCS / "macros.py", "prunebench_docs_macros").MACROS
    jinja = Environment(undefined=StrictUndefined, autoescape=False)
    return {
        str(path.relative_to(DOCS)): jinja.from_string(path.read_text(encoding="utf-8")).render(**macros)
        for path in PAGES
    }


def row(key: str, page: str) -> str:
    """What the table of a page says of a key."""
    found = re.search(rf"^\| `{re.escape(key)}` \|([^|\n]+)\|", page, flags=re.MULTILINE)
    assert found, key
    return found[1].strip()


class TestComplete:
    def test_every_hook_and_argument(self, pages: dict[str, str]) -> None:
        for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
            if hasattr(function, f"{hookspecs.PROJECT}_spec"):
                assert f"{name}({', '.join(inspect.signature(function).parameters)})" in pages["contract.md"]
                for argument in inspect.signature(function).parameters:
                    assert f"{argument}:" in pages["contract.md"]

    def test_every_rule(self, pages: dict[str, str]) -> None:
        for name, rule in RULES.items():
            assert row(name, pages["contract.md"]) == rule.promise

    def test_every_command_and_option(self, pages: dict[str, str]) -> None:
        def leaves(words: str, command: Any) -> None:
            for name, part in getattr(command, "commands", {}).items():
                leaves(f"{words} {name}", part)
            if not hasattr(command, "commands"):
                section = pages["commands.md"].partition(f"### {words}\n")[2].partition("\n### ")[0]
                assert section, words
                for parameter in command.params:
                    if parameter.name != "help":
                        option = parameter.param_type_name == "option"
                        assert row(", ".join(parameter.opts) if option else parameter.metavar, section), parameter.name

        leaves("prunebench", typer.main.get_command(app))

    def test_every_key_of_a_suite(self, pages: dict[str, str]) -> None:
        for part in PARTS:
            for name in part.model_fields:
                assert row(name, pages["suite.md"]), (part, name)

    def test_every_key_of_a_record(self, pages: dict[str, str]) -> None:
        def keys(model: Any) -> None:
            for name, field in model.model_fields.items():
                assert row(field.alias or name, pages["record.md"]), (model, name)
                for inner in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                    if hasattr(inner, "model_fields"):
                        keys(inner)

        keys(Record)

    def test_every_built_in_method_has_a_card_with_its_options(self, pages: dict[str, str]) -> None:
        for method in describe_all():
            if method["distribution"] == "prunebench":
                page = pages[f"methods/{method['name']}.md"]
                assert method["summary"] in page
                for option in method["options"]:
                    assert f"| `{option['name']}` |" in page
                assert "## Figures" in page

    def test_every_name_of_the_toolkit(self, pages: dict[str, str]) -> None:
        shown = set(re.findall(r"^::: prunebench\.pruning\.(\w+)$", pages["toolkit.md"], flags=re.MULTILINE))
        assert shown | {"Pattern", "Sparsity"} >= set(pruning.__all__)
        for name in shown:
            assert inspect.getdoc(getattr(pruning, name))

    def test_every_kind_of_plugin(self, pages: dict[str, str]) -> None:
        for kind, group in KINDS.items():
            assert f"| {kind} | `{group}` |" in pages["plugins.md"]

    def test_every_page_is_in_the_navigation(self) -> None:
        navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        for path in PAGES:
            assert f" {path.relative_to(DOCS)}\n" in navigation

    def test_measured_figures_are_those_of_the_records(self, pages: dict[str, str]) -> None:
        path = next((ROOT / "results" / "reference" / "smoke").glob("*--magnitude--0.5--*.json"))
        (found,) = read_record(path).perplexity.values()
        line = next(line for line in pages["methods/magnitude.md"].splitlines() if line.startswith("| smoke |"))
        assert f"| {found.value:.3f} |" in line

    def test_measured_figures_are_means_over_seeds(self, pages: dict[str, str]) -> None:
        paths = (ROOT / "results" / "reference" / "methods-stories").glob("*--wanda-swaps--0.5--*.json")
        found = [next(iter(read_record(path).perplexity.values())).value for path in paths]
        assert len(found) == 3
        assert f"| {statistics.mean(found):.2f} ± {statistics.stdev(found):.2f} |" in pages["methods/swaps.md"]


class TestSchema:
    def test_it_is_current(self) -> None:
        told = "python -m prunebench.suite.json_schema > docs/suite.schema.json"
        assert (DOCS / "suite.schema.json").read_text(encoding="utf-8") == schema_text(), told

    @pytest.mark.parametrize("path", sorted((ROOT / "suites").rglob("*.yaml")), ids=lambda path: path.stem)
    def test_it_lets_every_suite_pass(self, path: Path) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        jsonschema.validate(json.loads(json.dumps(read_yaml(path.read_text()))), suite_schema())

    @pytest.mark.parametrize(
        "change",
        [
            {"sparsities": ["half"]},
            {"sparsities": [1.0]},
            {"seeds": [-1]},
            {"metods": []},
            {"models": [{"dtype": "auto"}]},
        ],
    )
    def test_it_stops_what_the_loader_stops(self, change: dict[str, Any]) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        content = read_yaml((EXAMPLES / "suite.yaml").read_text()) | change
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content, suite_schema())
        with pytest.raises(ValueError, match=r"\w"):
            Suite.model_validate(content)


class TestTutorial:
    def test_its_method_keeps_the_contract(self) -> None:
        found = check("mine", architectures=["llama", "gpt2"], patterns=["0.5", "2:4"], files=[EXAMPLES / "mine.py"])
        assert found.holds, [str(verdict) for verdict in found.verdicts.values() if not verdict.holds]

    def test_its_scores(self) -> None:
        mine = load_method("mine", [EXAMPLES / "mine.py"])
        scores = sys.modules[mine.cls.__module__].relative_importance(torch.tensor([[1.0, -3.0], [1.0, 1.0]]))
        assert torch.equal(scores, torch.tensor([[1 / 4 + 1 / 2, 3 / 4 + 3 / 4], [1 / 2 + 1 / 2, 1 / 2 + 1 / 4]]))

    def test_it_ends_in_a_table_beside_the_others(self, write_suite: Callable[..., Path], tmp_path: Path) -> None:
        wanted = read_yaml((EXAMPLES / "suite.yaml").read_text())
        path = write_suite(methods=f"methods: {json.dumps(wanted['methods'])}")
        cells = plan(load_suite(path), plugin_files=[EXAMPLES / "mine.py"])
        records = run_suite(cells, tmp_path / "out", SilentDisplay())
        assert {record.status for record in records} == {"ok"}
        table = all_tables(records, order=wanted["methods"])[0]
        assert [line[0] for line in table.rows] == ["magnitude", "wanda", "mine"]
        assert plan(load_suite(EXAMPLES / "suite.yaml"), plugin_files=[EXAMPLES / "mine.py"])

    def test_its_suite_of_the_quick_start(self, pages: dict[str, str]) -> None:
        found = re.search(r"```yaml\n(.*?)```", pages["index.md"], flags=re.DOTALL)
        assert found
        assert plan(load_suite_text(found[1]))


def load_suite_text(text: str) -> Suite:
    return Suite.model_validate(read_yaml(text))


@pytest.fixture
def example_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples as if a package had registered them, as the page shows."""
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    points = []
    for group, name, value in re.findall(r'entry-points\."([\w.]+)"\]\n([\w-]+) = "my_package:(\w+)"', page):
        module = f"example_{name.replace('-', '_')}"
        module_from(EXAMPLES / f"{name.replace('-', '_')}.py", module)
        points.append(EntryPoint(name, f"{module}:{value}", group))
    assert {point.group for point in points} == set(KINDS.values()) - {"prunebench"}
    monkeypatch.setattr(
        "prunebench.registry.entry_points.entry_points",
        lambda group: EntryPoints([*entry_points(group=group), *(p for p in points if p.group == group)]),
    )


@pytest.mark.usefixtures("example_plugins")
class TestOtherPlugins:
    def run(self, write_suite: Callable[..., Path], tmp_path: Path, **lines: str) -> list[Record]:
        path = write_suite(methods="methods: [dense, wanda]", sparsities="sparsities: [0.5]", **lines)
        return run_suite(plan(load_suite(path)), tmp_path / "out", SilentDisplay())

    def test_a_wrapper_surrounds_the_method_and_is_named(
        self, write_suite: Callable[..., Path], tmp_path: Path
    ) -> None:
        for record in self.run(write_suite, tmp_path):
            assert record.environment["wrappers"] == ["profiler (unknown 0)"]
            assert record.trace == ()
            (row,) = record.environment["wrapper_traces"]["profiler (unknown 0)"]
            assert set(row) == {"step", "wall_seconds", "cpu_seconds"}

    def test_a_corpus(self, write_suite: Callable[..., Path], tmp_path: Path) -> None:
        records = self.run(
            write_suite,
            tmp_path,
            calibration="calibration: {corpus: counting, nsamples: 8, seqlen: 16}",
            evaluations="evaluations: [{name: perplexity, corpus: counting, seqlen: 16}]",
        )
        assert [record.status for record in records] == ["ok", "ok"]
        assert list(records[0].perplexity) == ["counting/stream-16"]
        assert records[0].cell.calibration["digest"] != records[0].cell.evaluations[0]["digest"]
        with pytest.raises(CorpusError, match="corpus counting: there is no split 'dev': valid: train, test"):
            self.run(write_suite, tmp_path, calibration="calibration: {corpus: counting, split: dev, seqlen: 16}")

    def test_an_evaluation(self, write_suite: Callable[..., Path], tmp_path: Path) -> None:
        wanted = "[{name: weight-norm}, {name: weight-norm, label: l1, options: {order: 1.0}}]"
        records = self.run(write_suite, tmp_path, evaluations=f"evaluations: {wanted}")
        norms = [record.measures["weight-norm"]["mean"] for record in records]
        assert norms[1] < norms[0]
        model = tiny.llama()
        expected = [p.norm().item() for p in model.parameters() if p.dim() == 2]
        assert norms[0] == pytest.approx(sum(expected) / len(expected))
        assert records[0].cell.evaluations[1]["options"] == {"order": 1.0}
        titles = [table.caption for table in all_tables(records)]
        assert any(title.startswith("l1: mean, of model; dense ") for title in titles)

    def test_an_allocation(self, write_suite: Callable[..., Path], tmp_path: Path) -> None:
        wanted = "allocation: [uniform, {name: rising, options: {slope: 0.3}}]"
        _, flat, rising = self.run(write_suite, tmp_path, seeds=wanted)
        assert [record.cell.allocation for record in (flat, rising)] == ["uniform", "rising"]
        assert flat.sparsity is not None
        assert rising.sparsity is not None
        assert flat.sparsity.reached == rising.sparsity.reached
        ratios = [count.zeros / count.numel for count in rising.sparsity.matrices.values()]
        assert ratios == sorted(ratios)
        assert ratios[-1] - ratios[0] == pytest.approx(0.3, abs=0.01)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ("{name: weight-nrm}", "unknown evaluation 'weight-nrm': did you mean 'weight-norm'"),
            ("{name: weight-norm, options: {ordr: 1}}", "the evaluation 'weight-norm' has no option 'ordr'"),
            ("{name: weight-norm, options: {order: x}}", "'order' of 'weight-norm' is 'x': it must be of type float"),
            ("{name: weight-norm}, {name: weight-norm}", "two evaluations are both 'weight-norm'"),
        ],
    )
    def test_wrong_words(self, entry: str, message: str, write_suite: Callable[..., Path]) -> None:
        with pytest.raises((SuiteError, MethodError), match=message):
            plan(load_suite(write_suite(evaluations=f"evaluations: [{entry}]")))


@pytest.mark.slow
def test_an_engine(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    told = "engine: {name: through, options: {command: [env, GOMP_SPINCOUNT=7]}}"
    suite = load_suite(write_suite(methods="methods: [dense, wanda]", sparsities="sparsities: [0.5]", engine=told))
    display = SilentDisplay()
    records = run_suite(
        plan(suite), tmp_path / "out", display, engine=chosen_engine(suite.engine, files=[EXAMPLES / "through.py"])
    )
    assert [record.status for record in records] == ["ok", "ok"]
    assert [record.environment["openmp"] for record in records] == [{"GOMP_SPINCOUNT": "7"}] * 2
    assert display.begun == [record.cell.id for record in records]
