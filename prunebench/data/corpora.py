"""Finding a corpus by the name that a suite gives it: a plugin, a local file, or a data set of the hub."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from prunebench.data.corpus import Corpus
from prunebench.data.hub_corpora import HUB_ID, hub_corpus
from prunebench.data.noise import noisy
from prunebench.data.text_files import READERS, is_text_file, local_corpus
from prunebench.errors import CorpusError, first_line, suggest
from prunebench.files import with_home
from prunebench.registry.entry_points import CORPORA, code_of, load_plugin, resolve_source, sources
from prunebench.registry.options import call_named, refuse_unknown_arguments
from prunebench.registry.reading import PluginFiles, checked

Purpose = Literal["calibration", "perplexity"]
DEFAULT_SPLITS = {"calibration": "train", "perplexity": "test"}
BUILTIN = "builtin/"
MADE_FROM = ("model", "tokenizer", "seed")


def find_corpus(
    source: str,
    split: str | None,
    purpose: Purpose,
    files: Iterable[Path] = (),
    field: str | None = None,
    noise: float | None = None,
) -> Corpus:
    """Find a corpus and read through it once, so that what is wrong with it shows before anything runs.

    Args:
        source: the name of a corpus plugin (with prunebench come ``builtin/tinyworld`` and its variants, ``c4`` and
            ``wikitext2``), the path of a file (``.jsonl``, ``.json``, ``.csv``, ``.parquet``, or ``.txt``, one
            document), or a hub id ``owner/name[:config][@revision]``.
        split: None for the corpus's default: train for calibration, test for perplexity (C4: validation; builtins:
            calibration and test). A local file has none.
        purpose: decides the default split.
        files: plugin files, whose corpora stand beside the installed ones.
        field: of a file's or the hub's records that holds text or chats; None for ``text``, else ``messages``. Chats
            want the tokenizer.
        noise: the share of letters and digits that are changed; see ``prunebench.data.noise``.

    Raises:
        CorpusError: it is missing, empty, unreadable or out of reach, or has no such split or field, or is no text that
            noise can be put into.
    """
    found = _found(source, split, purpose, files, field)
    return found if noise is None else noisy(found, noise)


def _found(source: str, split: str | None, purpose: Purpose, files: Iterable[Path], field: str | None) -> Corpus:
    path, files = with_home(source), files if isinstance(files, PluginFiles) else PluginFiles(files)
    plugins = sources(CORPORA, files)
    if source in plugins:
        if field is not None:
            raise CorpusError(f"corpus {source} is made of texts and has no fields: leave out 'field' ({field!r})")
        return _plugin_corpus(source, split, purpose, files)
    if source.startswith(BUILTIN):
        builtins = [name for name in plugins if name.startswith(BUILTIN)]
        raise CorpusError(f"unknown corpus {source!r}: {suggest(source, builtins)}")
    if path.is_absolute() or path.exists() or is_text_file(source):
        return local_corpus(path, split, field)
    if (match := HUB_ID.fullmatch(source)) and path.suffix != ".gz":
        return hub_corpus(source, match, split or DEFAULT_SPLITS[purpose], field)
    kinds = ", ".join(READERS)
    raise CorpusError(f"no corpus {source!r}: valid are a local file ({kinds}), {', '.join(plugins)} or a hub id")


def _plugin_corpus(source: str, split: str | None, purpose: Purpose, files: PluginFiles) -> Corpus:
    """A plugin's corpus: a function from a split's name to documents, which may name model, tokenizer and seed.

    It may also say which ``splits`` it has, its ``default_splits`` by purpose, and a ``digest(split)`` that stands for
    the content; without the last the documents are read through once.
    """
    origin = resolve_source("corpus", source, sources(CORPORA, files))
    if reader := origin.reader(files):
        asked = {"source": source, "split": split, "purpose": purpose, "files": [str(file) for file in files]}
        found = checked(CorpusDescription, reader.read("corpus", **asked), f"the corpus {source!r}")
        documents = partial(_read_elsewhere, source)
        return Corpus(found.name, found.digest, documents, origin.code, found.wants, found.makes_text)
    plugin = load_plugin("corpus", source, files)
    split = split or getattr(plugin, "default_splits", DEFAULT_SPLITS)[purpose]
    if wants := _wants(source, plugin):
        if purpose != "calibration":
            raise CorpusError(f"corpus {source} is made from {', '.join(wants)}, so that it serves calibration alone")
        (origin, *_) = sources(CORPORA, files)[source]
        digest = hashlib.sha256(f"{source} {split} {origin}".encode()).hexdigest()
        documents = partial(_made, source, plugin, split)
        return Corpus(source, digest, documents, code_of("corpus", source, files), wants, once=True)
    splits = getattr(plugin, "splits", None)
    if splits is not None and split not in splits:
        raise CorpusError(f"corpus {source} has no split {split!r}: {suggest(split, splits)}")
    try:
        digest = plugin.digest(split) if hasattr(plugin, "digest") else _content_digest(source, plugin(split))
        documents = partial(plugin, split)
        if hasattr(plugin, "digest"):
            documents()  # so that what cannot be had shows now
    except CorpusError:
        raise
    except Exception as error:  # ValueError for a split that it does not have; whatever a foreign function raises
        raise CorpusError(f"corpus {source}: {first_line(error)}") from error
    name, code = source.rpartition("/")[2], code_of("corpus", source, files)
    again = hasattr(plugin, "fresh")
    return Corpus(name, digest, lambda: iter(documents()), code, once=not origin.is_ours, makes_text=again)


class CorpusDescription(BaseModel):
    """What planning has to know of a corpus; see ``Corpus``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    wants: tuple[Literal["model", "tokenizer", "seed"], ...] = ()
    makes_text: bool = False


def _read_elsewhere(source: str, *_: Any) -> Iterator[str]:
    raise CorpusError(f"the documents of corpus {source} are read where it is used, and not here")


def _wants(source: str, plugin: Any) -> tuple[str, ...]:
    """What a corpus is made from beside its split; nothing for one whose documents are there."""
    if not inspect.isfunction(plugin):
        return ()
    refuse_unknown_arguments("corpus", source, plugin, 1, set(MADE_FROM))
    return tuple(name for name in list(inspect.signature(plugin).parameters)[1:] if name in MADE_FROM)


def _made(
    source: str, plugin: Callable[..., Any], split: str, model: Any = None, tokenizer: Any = None, seed: int = 0
) -> Iterator[str]:
    """The documents of a corpus that a model makes."""
    try:
        return iter(call_named(plugin, split, model=model, tokenizer=tokenizer, seed=seed))
    except Exception as error:  # whatever a foreign function raises
        raise CorpusError(f"corpus {source}: {first_line(error)}") from error


def _content_digest(source: str, documents: Any) -> str:
    digest, empty = hashlib.sha256(), True
    for text in documents:
        empty = False
        digest.update(text.encode() + b"\0")
    if empty:
        raise CorpusError(f"corpus {source} is empty: it holds no text")
    return digest.hexdigest()


def fresh_corpus(
    source: str, split: str | None, seed: int, files: Iterable[Path] = (), noise: float | None = None
) -> Corpus | None:
    """Text like that of a corpus which did not exist before; None where the corpus makes none.

    A corpus plugin that makes its text says how by a function ``fresh(split, seed)``: as many documents as the split
    has, of the same kind.

    Args:
        source, split, files, noise: as in ``find_corpus``.
        seed: of the text.
    """
    if source not in sources(CORPORA, files) or not hasattr(plugin := load_plugin("corpus", source, files), "fresh"):
        return None
    split = split or getattr(plugin, "default_splits", DEFAULT_SPLITS)["perplexity"]
    digest = hashlib.sha256(f"{source} {split} fresh {seed}".encode()).hexdigest()
    fresh = Corpus(source.rpartition("/")[2], digest, lambda: iter(plugin.fresh(split, seed)))
    return fresh if noise is None else noisy(fresh, noise)


def perplexity_floor(
    source: str, split: str | None, windows: str, seqlen: int | None, files: Iterable[Path] = ()
) -> float | None:
    """The perplexity that a model which knew a corpus's source would reach; None where the corpus does not say.

    Args:
        source, split, files: as in ``find_corpus``.
        windows, seqlen: of the protocol; see ``prunebench.evaluation.protocols``.
    """
    if source not in sources(CORPORA, files) or not hasattr(plugin := load_plugin("corpus", source, files), "floor"):
        return None
    floor: float | None = plugin.floor(split or plugin.default_splits["perplexity"], windows, seqlen)
    return floor


def corpus_file(source: str, files: Iterable[Path]) -> Path | None:
    """The plugin file that a corpus is from; None for one that is not from a plugin file."""
    found = sources(CORPORA, files).get(source, [])
    return found[0].file if len(found) == 1 else None
