"""A tiny tokenizer and tiny corpora, for tests that must not need a download."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = tuple("abcdefghijklmnopqrstuvwxyz")


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


def code_lines(file: Path) -> int:
    """Lines without docstrings and blanks."""
    text, inside, count = file.read_text(encoding="utf-8").splitlines(), False, 0
    for line in text:
        quotes = line.count('"""')
        count += bool(line.strip()) and not inside and not quotes
        inside ^= quotes == 1
    return count
