"""``prune`` and ``evaluate``: equal to a suite's cell, also with classes and tokens of one's own; wrong arguments."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import prunebench as pb
from prunebench.data.corpora import find_corpus
from prunebench.data.tokens import calibration_pool
from prunebench.errors import ContractError, UsageError
from prunebench.models.digest import weights_digest
from prunebench.pruning import CalibrationData, Sparsity, prunable
from prunebench.pruning.callbacks import note
from prunebench.tinyworld import model_folder
from tests.helpers import tiny

CALIBRATION = {"corpus": "builtin/tinyworld", "nsamples": 16, "seqlen": 64}
PERPLEXITY = {"corpus": "builtin/tinyworld", "windows": "document", "seqlen": 64}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_folder("tinyworld-llama-300k"))


@pytest.fixture(scope="module")
def untouched() -> Any:
    """A model that no test changes."""
    return load()


def load(dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_folder("tinyworld-llama-300k"), dtype=dtype)


@dataclass(frozen=True)
class Largest:
    """Keeps the largest weights.

    Args:
        power: of the weights.
    """

    power: float = 1.0

    @pb.hookimpl
    def prune(self, model: nn.Module, sparsity: Sparsity) -> None:
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(layer.weight.abs() ** self.power), 0)
        note("looked")


@dataclass(frozen=True)
class Lazy:
    """Prunes nothing."""

    @pb.hookimpl
    def prune(self, model: nn.Module) -> None: ...


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The suite that the calls below are held against."""
    torch.set_num_threads(1)  # as in the tests: the last bits depend on it
    suite = {
        "name": "mine",
        "models": ["builtin/tinyworld-llama-300k"],
        "calibration": CALIBRATION,
        "sparsities": [0.6, "2:4"],
        "allocation": ["uniform"],
        "seeds": [1],
        "methods": ["magnitude", "wanda", {"name": "wanda", "label": "owl", "allocation": "owl", "sparsities": [0.6]}],
        "evaluations": [{"name": "perplexity", **PERPLEXITY}],
    }
    return pb.run(suite, tmp_path_factory.mktemp("cells"), in_process=True)


@pytest.mark.parametrize("number", range(5))
def test_equal_to_the_cell_of_a_suite(number: int, cells: Any, tokenizer: Any) -> None:
    record, model = cells[number], load()
    assert record.status == "ok", record.error
    name = "magnitude" if record.cell.method == "magnitude" else "wanda"
    pruned = pb.prune(
        model, tokenizer, name, record.cell.sparsity, calibration=CALIBRATION, seed=1, allocation=record.cell.allocation
    )
    assert weights_digest(model) == record.environment["weights_digest"]
    assert pruned.counts == record.sparsity
    assert pruned.cost.tokens_seen == record.cost.tokens_seen
    assert getattr(pruned.cost, "passes", None) == getattr(record.cost, "passes", None)
    scores = pb.evaluate(model, tokenizer, [PERPLEXITY])
    assert scores.perplexity == record.perplexity


class TestCalibration:
    def test_own_windows_in_the_order_given(self, tokenizer: Any) -> None:
        corpus = find_corpus("builtin/tinyworld", None, "calibration")
        pool = calibration_pool(corpus, tokenizer, seqlen=64, windows="stream")
        windows = CalibrationData(pool, nsamples=16, seqlen=64, seed=1).windows
        one, other = load(), load()
        pb.prune(one, tokenizer, "wanda", 0.6, calibration=CALIBRATION, seed=1)
        found = pb.prune(other, None, "wanda", 0.6, calibration=windows.to(torch.int32), seed=7)
        assert weights_digest(one) == weights_digest(other)
        assert found.cost.tokens_seen == 16 * 64

    def test_random_places_of_long_documents(self, tokenizer: Any) -> None:
        texts = [*islice(find_corpus("builtin/tinyworld", None, "calibration").documents(), 30)]
        pruned = [load() for _ in range(3)]
        for model, seed in zip(pruned, (0, 0, 1), strict=True):
            given = {"calibration": texts, "windows": "random", "nsamples": 6, "seqlen": 32, "seed": seed}
            found = pb.prune(model, tokenizer, "wanda", 0.6, **given)
            assert found.cost.tokens_seen == 6 * 32
        assert weights_digest(pruned[0]) == weights_digest(pruned[1]) != weights_digest(pruned[2])

    def test_texts_are_what_a_file_of_them_is(self, tokenizer: Any, tmp_path: Path) -> None:
        texts = list(find_corpus("builtin/tinyworld", "test", "calibration").documents())[:200]
        (tmp_path / "texts.txt").write_text(texts[0])
        for given, path in ((texts[:1], tmp_path / "texts.txt"),):
            one, other = load(), load()
            pb.prune(one, tokenizer, "wanda", 0.5, calibration=given, nsamples=2, seqlen=16)
            pb.prune(other, tokenizer, "wanda", 0.5, calibration=path, nsamples=2, seqlen=16)
            assert weights_digest(one) == weights_digest(other)

    def test_a_method_without_data_needs_none(self, tokenizer: Any) -> None:
        assert pb.prune(load(), tokenizer, "magnitude", "2:4").counts.reached == 0.5


class TestMethod:
    def test_an_instance_of_ones_own_class(self, tokenizer: Any) -> None:
        one, other = load(), load()
        pb.prune(one, tokenizer, "magnitude", 0.5)
        found = pb.prune(other, tokenizer, Largest(2.0), 0.5)
        assert weights_digest(one) == weights_digest(other)
        assert found.notes == {"looked": 1}
        assert "0.5000 zeros in " in repr(found)

    def test_the_contract_is_checked(self, tokenizer: Any) -> None:
        with pytest.raises(ContractError, match=r"holds 0 zeros where \d+ of \d+ were asked for"):
            pb.prune(load(), tokenizer, Lazy(), 0.5)

    def test_options_by_name(self, tokenizer: Any) -> None:
        one, other = load(), load()
        for model, blocksize in ((one, 16), (other, 128)):
            options = {"blocksize": blocksize}
            pb.prune(model, tokenizer, "sparsegpt", 0.7, calibration=CALIBRATION, options=options)
        assert weights_digest(one) != weights_digest(other)

    def test_from_a_file(self, tokenizer: Any) -> None:
        file = Path(__file__).parents[2] / "docs" / "examples" / "mine.py"
        assert pb.prune(load(), tokenizer, "mine", 0.5, calibration=CALIBRATION, plugins=[file]).counts.reached == 0.5


class TestModel:
    def test_bf16(self, tokenizer: Any) -> None:
        model = load(torch.bfloat16)
        pb.prune(model, tokenizer, "wanda", 0.5, calibration=CALIBRATION)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        scores = pb.evaluate(model, tokenizer, PERPLEXITY)
        whole = load()
        pb.prune(whole, tokenizer, "wanda", 0.5, calibration=CALIBRATION)
        (low,), (high,) = (s.perplexity.values() for s in (scores, pb.evaluate(whole, tokenizer, PERPLEXITY)))
        assert low.value != high.value
        assert low.value == pytest.approx(high.value, rel=0.05)

    def test_train_mode_is_put_back(self, tokenizer: Any) -> None:
        one, other = load(), load().train()
        for model in (one, other):
            pb.prune(model, tokenizer, "wanda", 0.5, calibration=CALIBRATION)
        assert other.training
        assert weights_digest(one) == weights_digest(other)

    def test_a_model_of_ones_own(self) -> None:
        model = tiny.gpt2()
        windows = torch.randint(tiny.VOCAB, (4, 16), generator=torch.Generator().manual_seed(0))
        assert pb.prune(model, None, "wanda", 0.5, calibration=windows).counts.reached == pytest.approx(0.5, abs=1e-3)


def windows(*shape: int, value: int = 1) -> torch.Tensor:
    return torch.full(shape, value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "gpt2"}, r"model is 'gpt2' \(str\): pass a causal language model as AutoModelForCausalLM"),
        ({"tokenizer": "gpt2"}, r"tokenizer is 'gpt2' \(str\): pass AutoTokenizer"),
        ({"tokenizer": None}, "tokenizer is None: pass AutoTokenizer"),
        ({"method": "wandb"}, "unknown method 'wandb': did you mean 'wanda'"),
        ({"method": Largest}, r"method is the class Largest: pass an instance, as Largest\(\), or a name"),
        ({"method": 3}, "the method 'int' is <class 'int'>: an entry point must name a dataclass"),
        ({"method": Largest(), "options": {"power": 1.0}}, "options beside an instance: give them to its class"),
        ({"options": {"percdamp": 1}}, "the method 'wanda' has no option 'percdamp'"),
        ({"options": [1]}, r"options is \[1\] \(list\): give a mapping"),
        ({"sparsity": 1.5}, r"sparsity 1.5 is outside \[0, 1\)"),
        ({"sparsity": "half"}, "'half'"),
        ({"sparsity": None}, r"sparsity None is neither a fraction of zeros in \[0, 1\), as 0.9, nor n:m"),
        ({"sparsity": "3:7"}, "pattern 3:7 does not fit 64 inputs|does not fit"),
        ({"calibration": None}, "the method 'wanda' uses calibration text: pass calibration="),
        ({"calibration": 3}, r"calibration is 3 \(int\): give a corpus by name, as 'c4', a list of texts, or token wi"),
        ({"calibration": []}, r"calibration is \[\] \(list\): give a corpus by name"),
        ({"calibration": "builtin/tinywrld"}, "unknown corpus 'builtin/tinywrld': did you mean 'builtin/tinyworld'"),
        ({"calibration": {"corpus": "c4", "seqln": 3}}, "calibration: unknown key 'seqln': did you mean 'seqlen'"),
        (
            {"calibration": "builtin/tinyworld", "seqlen": 100000},
            "a window of 100000 tokens is longer than the model's",
        ),
        ({"calibration": ["too short"], "seqlen": 64}, "corpus texts has 5 tokens|corpus texts has"),
        ({"calibration": windows(4)}, r"calibration is a tensor \(4,\) of torch.int64: give token ids"),
        ({"calibration": torch.rand(4, 8)}, r"calibration is a tensor \(4, 8\) of torch.float32: give token ids"),
        ({"calibration": windows(0, 8)}, r"calibration is a tensor \(0, 8\): give at least one window of two tokens"),
        ({"calibration": windows(4, 8, value=10**6)}, "calibration holds the token 1000000, and the model's vocab"),
        ({"calibration": windows(4, 8, value=-1)}, "calibration holds the token -1, and the model's vocab"),
        ({"calibration": windows(4, 8), "nsamples": 2}, "nsamples with token windows: their shape says it already"),
        ({"nsamples": 0}, "calibration: nsamples: Input should be greater than 0, got 0"),
        ({"windows": "paper"}, "calibration: windows: Input should be 'stream', 'document' or 'random'"),
        ({"seed": -1}, r"seed is -1 \(int\): give an integer from 0"),
        ({"seed": 0.5}, r"seed is 0.5 \(float\): give an integer from 0"),
        ({"allocation": "owwl"}, "unknown allocation 'owwl': did you mean 'owl'"),
        ({"allocation": 3}, r"allocation is 3 \(int\): give a name, as 'owl'"),
        ({"allocation": "owl", "sparsity": "2:4"}, "2:4 fixes the zeros of every group"),
        ({"plugins": [3]}, r"plugins holds 3 \(int\): give paths of Python files"),
        ({"plugins": ["nowhere.py"]}, "there is no plugin file"),
        ({"then": ["sparsegpt"]}, "the method 'sparsegpt' cannot follow 'wanda': its class does not say what it do"),
        ({"then": [{"name": "retrain", "steps": 3}]}, "then: unknown key 'steps'"),
        ({"then": "retrian"}, "unknown method 'retrian': did you mean 'retrain'"),
        ({"method": "retrain"}, "the method 'retrain' only follows another"),
    ],
)
def test_wrong_arguments_of_prune(arguments: dict[str, Any], message: str, untouched: Any, tokenizer: Any) -> None:
    before = weights_digest(untouched)
    given = {"model": untouched, "tokenizer": tokenizer, "method": "wanda", "calibration": CALIBRATION, **arguments}
    with pytest.raises(UsageError, match=message) as caught:
        pb.prune(**given)
    assert "\n" not in str(caught.value)
    assert weights_digest(untouched) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "there is nothing to measure: pass perplexity=, tasks= or evaluations="),
        ({"model": None, "perplexity": PERPLEXITY}, "model is None: pass a causal language model"),
        ({"perplexity": 3}, r"perplexity is 3 \(int\): give a name, a mapping as in a suite, or a list of these"),
        ({"perplexity": {"corpus": "c4", "models": ["m"]}}, "perplexity names 'models', of which only a suite has"),
        ({"perplexity": [3]}, r"perplexity holds 3 \(int\): give a corpus by name"),
        ({"perplexity": "builtin/nothing"}, "unknown corpus 'builtin/nothing'"),
        ({"perplexity": {**PERPLEXITY, "seqln": 1}}, "perplexity: unknown key 'seqln': did you mean 'seqlen'"),
        ({"perplexity": {**PERPLEXITY, "seqlen": 10**6, "windows": "stream"}}, "too|longer than the model's context"),
        ({"tasks": 3}, r"tasks is 3 \(int\): give names of lm-eval's tasks"),
        ({"tasks": ["tinyworld_recal"], "include_path": "nowhere"}, "nowhere"),
        ({"tasks": ["x"], "limit": -1}, "tasks: limit"),
        ({"evaluations": ["nothing"]}, "unknown evaluation 'nothing'"),
        ({"evaluations": [3]}, r"evaluations holds 3 \(int\): give a name, a mapping"),
        ({"perplexity": PERPLEXITY, "seed": "0"}, r"seed is '0' \(str\)"),
    ],
)
def test_wrong_arguments_of_evaluate(arguments: dict[str, Any], message: str, untouched: Any, tokenizer: Any) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        pb.evaluate(**{"model": untouched, "tokenizer": tokenizer, **arguments})
    assert "\n" not in str(caught.value)


def test_every_name_is_there_and_importing_brings_no_torch() -> None:
    for name in pb.__all__:
        assert getattr(pb, name) is not None
    assert dir(pb) == pb.__all__
    code = "import sys, prunebench, prunebench.api; sys.exit(any(m in sys.modules for m in ('torch', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_progress_is_shown(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from prunebench.api import notebook

    shown: list[str] = []
    make: Callable[[], Callable[[str], None]] = lambda: shown.append  # noqa: E731
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook, "output_cell", make)
    monkeypatch.setattr(notebook, "INTERVAL", 0.0)
    pb.prune(load(), tokenizer, "wanda", 0.5, calibration=CALIBRATION)
    assert any("block 1/" in text for text in shown)
    shown.clear()
    pb.prune(load(), tokenizer, "wanda", 0.5, calibration=CALIBRATION, progress=False)
    assert not shown
