"""A tiny model with its tokenizer and some text, on disk."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.helpers import tiny

WORDS = [f"w{number}" for number in range(tiny.VOCAB - 3)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that runs all."""
    parser.addoption("--slow", action="store_true", help="run the tests that take more than a few seconds, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow, unless it is asked for."""
    if config.option.slow or "slow" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow, or alone with -m slow"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny tensors are slower on many threads than on one, and figures are equal to the bit on equally many."""
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes seconds to start: the tests that are about it ask for one."""
    monkeypatch.setenv("PRUNEBENCH_IN_PROCESS", "1")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model/``, ``calibration.jsonl`` and ``test.jsonl``."""
    folder = tmp_path_factory.mktemp("world")
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "model")
    tiny.llama().save_pretrained(folder / "model")
    for name, documents in (("calibration", 60), ("test", 12)):
        words = random.Random(name)
        lines = [json.dumps({"text": " ".join(words.choices(WORDS, k=40))}) for _ in range(documents)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def write_suite(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a suite over the tiny world; keyword arguments replace its lines."""

    def write(**lines: str) -> Path:
        defaults = {
            "name": "name: tiny",
            "models": f"models: [{world / 'model'}]",
            "calibration": f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}",
            "sparsities": "sparsities: [0.5, 2:4]",
            "methods": "methods: [dense, magnitude, wanda]",
            "evaluations": f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]",
        }
        path = tmp_path / "suite.yaml"
        path.write_text("\n".join({**defaults, **lines}.values()) + "\n")
        return path

    return write
