"""Corpora, allocations and evaluations of others do not reach what is measured beside them."""

from pathlib import Path

import pytest

from prunebench.records.record import Record
from prunebench.registry.reading import PluginFiles
from prunebench.runner.isolated import Isolated
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay

PLUGINS = [Path(__file__).with_name("other_cheats.py")]


def run(world: Path, folder: Path, evaluations: str, methods: str) -> dict[str, Record]:
    suite = folder / "suite.yaml"
    perplexity = f"{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}"
    suite.write_text(
        f"name: others\nmodels: [{world / 'model'}]\ncalibration: {{corpus: my-text, nsamples: 8, seqlen: 16}}\n"
        f"sparsities: [0.5]\nmethods: [{methods}]\nevaluations: [{evaluations}{perplexity}]\n"
    )
    with Isolated() as executor:
        files = PluginFiles(PLUGINS, executor)
        cells = plan(load_suite(suite, plugin_files=files), plugin_files=files)
        records = run_suite(cells, folder / "out", SilentDisplay(), executor=executor)
    return {record.cell.method: record for record in records}


@pytest.fixture(scope="module")
def others(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    methods = "wanda, magnitude, {name: magnitude, label: shared-out, allocation: my-shares}"
    return run(world, tmp_path_factory.mktemp("others"), "{name: my-norm}, ", methods)


def test_they_work(others: dict[str, Record]) -> None:
    assert {name: record.error for name, record in others.items() if record.error} == {}
    assert all(record.measures["my-norm"]["norm"] > 0 for record in others.values())
    assert others["wanda"].cost.tokens_seen == 8 * 16
    assert others["shared-out"].sparsity is not None
    assert others["shared-out"].sparsity.reached == 0.5
    shares = {count.zeros / count.numel for count in others["shared-out"].sparsity.matrices.values()}
    assert min(shares) < 0.5 < max(shares)


def test_what_is_measured_beside_them_is_as_ever(others: dict[str, Record], world: Path, tmp_path: Path) -> None:
    alone = run(world, tmp_path, "", "magnitude")["magnitude"]
    assert others["magnitude"].perplexity == alone.perplexity
    assert others["magnitude"].environment["weights_digest"] == alone.environment["weights_digest"]
    assert others["magnitude"].perplexity["test/stream-16"].value > 1.5


def test_none_reports_for_another(world: Path, tmp_path: Path) -> None:
    record = run(world, tmp_path, "{name: impostor}, ", "magnitude")["magnitude"]
    assert record.error is not None
    assert "two evaluations both report perplexity of 'test/stream-16'" in record.error.message


def test_a_forecast_runs_them_elsewhere(world: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        f"name: others\nmodels: [{world / 'model'}]\ncalibration: {{corpus: my-text, nsamples: 8, seqlen: 16}}\n"
        "sparsities: [0.5]\nmethods: [magnitude]\nevaluations: [{name: my-norm}]\n"
    )
    said: list[str] = []
    with Isolated() as executor:
        files = PluginFiles(PLUGINS, executor)
        cells = plan(load_suite(tmp_path / "suite.yaml", plugin_files=files), plugin_files=files)
        (found,) = executor.forecast(cells, tmp_path, seconds=1.0, save_models=False, tell=said.append)
    assert found.prune_seconds is not None
    assert found.evaluate_seconds is not None
    assert said == ["measuring model …", "measuring magnitude on model …"]


def test_the_process_that_plans_imported_none() -> None:
    from torch import nn

    assert nn.functional.cross_entropy.__module__ == "torch.nn.functional"
