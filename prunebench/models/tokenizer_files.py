"""The files of a tokenizer, and those of its chat template."""

import hashlib
from pathlib import Path

from prunebench.errors import ModelError
from prunebench.models.config import read_json

# A folder has at least one of the tokenizer files, and any of the extras.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")

# Where transformers looks for a chat template, beside the ``chat_template`` of tokenizer_config.json.
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")


def tokenizer_files(source: str, folder: Path) -> list[Path]:
    """The files that decide on tokens.

    Args:
        source: what messages call the model.
        folder: of its files.

    Raises:
        ModelError: there is no tokenizer.
    """
    found = [folder / name for name in TOKENIZERS if (folder / name).is_file()]
    if not found:
        raise ModelError(
            f"model {source} has no tokenizer: {folder} holds none of {', '.join(TOKENIZERS)}; name "
            "one with 'tokenizer'"
        )
    return found + [folder / name for name in TOKENIZER_EXTRAS if (folder / name).is_file()]


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder holds a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def refuse_tokenizer_code(source: str, folder: Path, trusted: bool) -> None:
    """Refuse another model's tokenizer that brings code of its own.

    Args:
        source: what messages call the tokenizer.
        folder: of its files.
        trusted: whether its code may run.

    Raises:
        ModelError: it may not.
    """
    config = folder / "tokenizer_config.json"
    if not trusted and config.is_file() and read_json(source, config).get("auto_map"):
        raise ModelError(
            f"the tokenizer {source} brings code of its own (auto_map), which is not run unless the model's entry in "
            "the suite says trust_remote_code: true; read the code before"
        )


def chat_template_digest(source: str, folder: Path) -> str | None:
    """SHA-256 (hex) of a tokenizer's chat templates, which are no part of a model's digest; None where it has none.

    Args:
        source: what messages call the model.
        folder: of its files.
    """
    digest, found = hashlib.sha256(), False
    for path in sorted(path for name in TEMPLATES for path in folder.glob(name) if path.is_file()):
        found = True
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    config = folder / "tokenizer_config.json"
    if config.is_file() and (template := read_json(source, config).get("chat_template")):
        found = True
        digest.update(str(template).encode("utf-8", "replace"))
    return digest.hexdigest() if found else None
