"""Corpora on the hub: the pinned files behind ``c4`` and ``wikitext2``, and any data set by its id."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from prunebench import hub
from prunebench.data.chats import render_chats
from prunebench.data.corpus import Corpus
from prunebench.data.text_files import FIELDS, documents_of, field_of, told
from prunebench.errors import CorpusError, suggest
from prunebench.quiet import quiet_hub_libraries

# id, configuration and revision of a data set on the hub: owner/name:config@revision
HUB_ID = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubFiles:
    """A corpus plugin over files of one commit of a repository on the hub.

    Args:
        name: what suites call it.
        repository: owner/name.
        commit: which one.
        files: split → path of a ``.json.gz`` or ``.parquet`` file with a field ``text``.
        default_splits: purpose → split.
    """

    revision: ClassVar[int] = 1

    name: str
    repository: str
    commit: str
    files: Mapping[str, str]
    default_splits: Mapping[str, str]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self.files)

    def __call__(self, split: str) -> Iterator[str]:
        """The documents of a split, fetched where they are not in the cache.

        Raises:
            CorpusError: they cannot be had.
        """
        try:
            path = hub.download(self.repository, self.files[split], self.commit)
        except Exception as error:
            reason = hub.failure(self.repository, error)
            raise CorpusError(f"corpus {self.name} ({self.repository}) cannot be had: {reason}") from error
        if path is None:
            raise CorpusError(f"corpus {self.name} ({self.repository}) cannot be had: {hub.unreachable_message()}")
        return documents_of(path, "text")

    def digest(self, split: str) -> str:
        """sha256 (hex) of ``repository@commit/path``, which stand for the content."""
        return hashlib.sha256(f"{self.repository}@{self.commit}/{self.files[split]}".encode()).hexdigest()


# Heads of the two repositories; both have stood since January 2024. Of C4 the first shard, as the papers take it.
C4 = HubFiles(
    "c4",
    "allenai/c4",
    "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
    {"train": "en/c4-train.00000-of-01024.json.gz", "validation": "en/c4-validation.00000-of-00008.json.gz"},
    {"calibration": "train", "perplexity": "validation"},
)
WIKITEXT2 = HubFiles(
    "wikitext2",
    "Salesforce/wikitext",
    "b08601e04326c79dfdd32d625aee71d232d685c3",
    {split: f"wikitext-2-raw-v1/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")},
    {"calibration": "train", "perplexity": "test"},
)


def hub_corpus(source: str, match: re.Match[str], split: str, field: str | None) -> Corpus:
    """A data set of the hub, from the local cache where it is there.

    Args:
        source: as a suite names it.
        match: of ``HUB_ID``.
        split: which one.
        field: that holds the text; None for the first of ``FIELDS`` that there is.

    Raises:
        CorpusError: it cannot be had, or has no such split or field.
    """
    import datasets

    load = partial(datasets.load_dataset_builder, match["id"], match["config"], revision=match["revision"])
    with quiet_hub_libraries():
        try:
            with hub.offline_mode():
                builder, cached = load(), True
        except Exception as missing:
            if not hub.is_reachable():
                raise CorpusError(f"corpus {source} cannot be had: {hub.unreachable_message()}") from missing
            try:
                builder, cached = load(), False
            except Exception as error:
                raise CorpusError(f"corpus {source} cannot be had: {hub.failure(match['id'], error)}") from error
    splits = list(builder.info.splits or [])
    if splits and split not in splits:
        raise CorpusError(f"corpus {source} has no split {split!r}: {suggest(split, splits)}")

    def rows() -> Any:
        with quiet_hub_libraries():
            return builder.as_dataset(split) if cached else builder.as_streaming_dataset(split)

    fields: Mapping[str, Any] = builder.info.features or next(iter(rows()), {})
    chosen = field or next((name for name in FIELDS if name in fields), FIELDS[0])
    if chosen not in fields:
        raise CorpusError(f"corpus {source} has no field {chosen!r}; {told(fields)}")
    are_chats = not isinstance(fields[chosen], str | datasets.Value)

    def documents() -> Iterator[Any]:
        return field_of(f"corpus {source}", ((f"record {n}", row) for n, row in enumerate(rows(), start=1)), chosen)

    # The builder's hash is the commit that its revision stood for.
    named = f"{match['id']}@{builder.hash}/{builder.config.name}/{split}" + (f"#{field}" if field else "")
    name, digest = match["id"].rpartition("/")[2], hashlib.sha256(named.encode()).hexdigest()
    if not are_chats:
        return Corpus(name, digest, documents)
    return Corpus(name, digest, partial(render_chats, source, documents), wants=("tokenizer",), templated=True)
