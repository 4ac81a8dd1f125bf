"""A tiny tokenizer and tiny corpora, for tests that must not need a download."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = tuple("abcdefghijklmnopqrstuvwxyz")
ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the models and data of ../shared")


def tokenizer(*, bos: bool = True, eos: bool = True) -> PreTrainedTokenizerFast:
    """One token a letter, <s> is 1, </s> is 2, a is 4; adds <s> by itself when it has one."""
    vocab = {word: index for index, word in enumerate(("<unk>", "<s>", "</s>", ".", *WORDS))}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", **special, **({"eos_token": "</s>"} if eos else {})
    )


def letters(count: int, start: int = 0) -> str:
    """A text of so many tokens."""
    return " ".join(WORDS[(start + i) % len(WORDS)] for i in range(count))


def jsonl(path: Path, texts: Sequence[str]) -> str:
    """A corpus file, and its name."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


class Steps:
    """Listens to a run and keeps the steps it was told of."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int | None]] = []

    def step(self, label: str, done: int, total: int | None) -> None:
        self.steps.append((label, done, total))

    def note(self, what: str, where: dict[str, object]) -> None:
        """Nothing is kept of it."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Nothing is kept of it."""

    def account(self, amounts: dict[str, int]) -> None:
        """Nothing is kept of it."""
