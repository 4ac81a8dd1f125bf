"""Corpora: finding a body of text by the name that a suite gives it, and reading its documents."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prunebench import hub
from prunebench.errors import CorpusError, first_line, suggest
from prunebench.quiet import quiet_hub_libraries

Purpose = Literal["calibration", "perplexity"]

# The newest commits of the two repositories; neither has changed since January 2024.
C4_REVISION = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"
WIKITEXT_REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"

# The files of the aliases: (repository, commit, {split: file}). Of C4 the first shard, as in the papers.
ALIASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "c4": (
        "allenai/c4",
        C4_REVISION,
        {"train": "en/c4-train.00000-of-01024.json.gz", "validation": "en/c4-validation.00000-of-00008.json.gz"},
    ),
    "wikitext2": (
        "Salesforce/wikitext",
        WIKITEXT_REVISION,
        {s: f"wikitext-2-raw-v1/{s}-00000-of-00001.parquet" for s in ("train", "validation", "test")},
    ),
}

# id, configuration and revision of a data set on the hub: owner/name:config@revision
HUB_ID = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Corpus:
    """A named body of text.

    Args:
        name: its name in protocols and tables: a file's stem, an alias, a builtin's name, the last part of a hub id.
        digest: SHA-256 (hex) of the content, or of ``repo@commit/config/split`` for the hub's data sets.
        documents: starts a new pass over the documents.
    """

    name: str
    digest: str
    documents: Callable[[], Iterator[str]]


def find_corpus(source: str, split: str | None, purpose: Purpose) -> Corpus:
    """Find a corpus and, unless it is on the hub, read it once, so that a defect is reported before anything runs.

    Args:
        source: path of a ``.jsonl`` (field ``text``) or ``.txt`` (one document) file, ``builtin/<name>``, an alias
            (``c4``, ``wikitext2``), a plugin's name or a hub id ``owner/name[:config][@revision]``.
        split: None for the default: train for calibration, test for perplexity (C4: validation; builtins:
            calibration and test). A local file has no splits.
        purpose: determines the default split.

    Returns:
        The corpus.

    Raises:
        CorpusError: it is missing, empty, unreadable or out of reach, or has no such split.
    """
    path = Path(source).expanduser()
    if source.startswith("builtin/"):
        return _builtin(source, split or ("calibration" if purpose == "calibration" else "test"))
    if source in ALIASES:
        held_out = "validation" if source == "c4" else "test"
        return _alias(source, split or ("train" if purpose == "calibration" else held_out))
    if path.is_absolute() or path.exists() or path.suffix in {".jsonl", ".txt"}:
        return _local_file(path, split)
    split = split or ("train" if purpose == "calibration" else "test")
    if (corpus := _from_plugin(source, split)) is not None:
        return corpus
    if (match := HUB_ID.fullmatch(source)) and path.suffix not in {".json", ".csv", ".gz", ".parquet"}:
        return _from_hub(source, match, split)
    raise CorpusError(
        f"no corpus {source!r}: valid are a .jsonl or .txt file, {', '.join(ALIASES)}, builtin/tinyworld or a hub id"
    )


def _local_file(path: Path, split: str | None) -> Corpus:
    if split is not None:
        raise CorpusError(f"corpus {path} is a file and has no splits: leave out 'split' (it says {split!r})")
    if path.suffix not in {".jsonl", ".txt"}:
        raise CorpusError(f"corpus {path} is neither a .jsonl (field 'text') nor a .txt file: convert it")
    if not path.is_file():
        raise CorpusError(f"corpus {path} does not exist or is not a file: check the path")
    documents = partial(_json_lines if path.suffix == ".jsonl" else _whole_file, path)
    try:
        if not sum(bool(text.strip()) for text in documents()):
            raise CorpusError(f"corpus {path} is empty: it holds no text")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"corpus {path} cannot be read: {error.strerror}") from error
    return Corpus(path.stem, digest, documents)


def _builtin(source: str, split: str) -> Corpus:
    from prunebench.tinyworld import CORPORA, SPLITS, documents

    name = source.removeprefix("builtin/")
    if name not in CORPORA:
        raise CorpusError(f"unknown corpus {source!r}: {suggest(source, [f'builtin/{known}' for known in CORPORA])}")
    if split not in SPLITS:
        raise CorpusError(f"corpus {source} has no split {split!r}: {suggest(split, SPLITS)}")
    return _digested(name, source, partial(documents, name, split))


def _from_plugin(name: str, split: str) -> Corpus | None:
    """A plugin's corpus, or None; its function returns a split's documents, or raises ValueError for a wrong split."""
    from prunebench.registry.entry_points import CORPORA, load_plugin, sources

    return _digested(name, name, partial(load_plugin("corpus", name), split)) if name in sources(CORPORA) else None


def _digested(name: str, source: str, documents: Callable[[], Iterable[str]]) -> Corpus:
    """A corpus with the digest of its documents, which are read for it."""
    digest, empty = hashlib.sha256(), True
    try:
        for text in documents():
            empty = False
            digest.update(text.encode() + b"\0")
    except Exception as error:  # a plugin's function may raise anything
        raise CorpusError(f"corpus {source}: {first_line(error)}") from error
    if empty:
        raise CorpusError(f"corpus {source} is empty: it holds no text")
    return Corpus(name, digest.hexdigest(), lambda: iter(documents()))


def perplexity_floor(source: str, split: str | None, windows: str, seqlen: int | None) -> float | None:
    """The lowest perplexity that any model can be expected to reach on a corpus; None where it is unknown.

    It is known for the builtins' test split, as a stream or as whole documents; see ``prunebench.tinyworld.floor``.

    Args:
        source, split: as in ``find_corpus``.
        windows, seqlen: of the protocol; see ``prunebench.evaluation.protocols``.
    """
    whole = windows == "document" and seqlen is None
    if not source.startswith("builtin/") or split not in (None, "test") or not (whole or windows == "stream"):
        return None
    from prunebench.tinyworld import floor

    return floor(source.removeprefix("builtin/"), seqlen)


def _alias(name: str, split: str) -> Corpus:
    """The corpus behind one of ``ALIASES``; its file is downloaded."""
    repo, revision, files = ALIASES[name]
    if split not in files:
        raise CorpusError(f"corpus {name} has no split {split!r}: {suggest(split, files)}")
    path = hub.download(repo, files[split], revision)
    if path is None:
        raise CorpusError(f"corpus {name} ({repo}) cannot be had: {hub.unreachable_message()}")
    digest = hashlib.sha256(f"{repo}@{revision}/{files[split]}".encode()).hexdigest()
    return Corpus(name, digest, partial(_parquet if path.suffix == ".parquet" else _json_lines, path))


def _from_hub(source: str, match: re.Match[str], split: str) -> Corpus:
    """A data set on the hub, from the local cache where it is there; streamed otherwise."""
    import datasets

    load = partial(datasets.load_dataset_builder, match["id"], match["config"], revision=match["revision"])
    with quiet_hub_libraries():
        try:
            with hub.offline_mode():
                builder, cached = load(), True
        except Exception as not_cached:
            if not hub.is_reachable():
                raise CorpusError(f"corpus {source} cannot be had: {hub.unreachable_message()}") from not_cached
            try:
                builder, cached = load(), False
            except Exception as error:
                raise CorpusError(f"corpus {source} cannot be had: {first_line(error)}") from error
    splits = list(builder.info.splits or [])
    if splits and split not in splits:
        raise CorpusError(f"corpus {source} has no split {split!r}: {suggest(split, splits)}")

    def documents() -> Iterator[str]:
        with quiet_hub_libraries():
            rows = builder.as_dataset(split) if cached else builder.as_streaming_dataset(split)
        return _text_field(source, rows)

    # The builder's hash is the commit that its revision refers to.
    digest = hashlib.sha256(f"{match['id']}@{builder.hash}/{builder.config.name}/{split}".encode()).hexdigest()
    return Corpus(match["id"].rpartition("/")[2], digest, documents)


def _text_field(source: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        if not isinstance(row.get("text"), str):
            raise CorpusError(f"corpus {source} has no field 'text'; its fields: {', '.join(row)}")
        yield row["text"]


def _json_lines(path: Path) -> Iterator[str]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    raise CorpusError(f"corpus {path}, line {number}: no field 'text' that is a string")
                yield row["text"]
        except json.JSONDecodeError as error:
            raise CorpusError(f"corpus {path}, line {number}: not JSON ({error.msg}, column {error.colno})") from error
        except UnicodeDecodeError as error:
            raise CorpusError(f"corpus {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def _whole_file(path: Path) -> Iterator[str]:
    try:
        yield path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"corpus {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def _parquet(path: Path) -> Iterator[str]:
    import datasets

    with quiet_hub_libraries():
        rows = datasets.Dataset.from_parquet(str(path), columns=["text"])
    yield from _text_field(str(path), rows)
