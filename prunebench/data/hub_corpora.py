"""Corpora on the hub: the pinned files behind ``c4`` and ``wikitext2``, and any data set by its id."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from prunebench import hub
from prunebench.data.corpus import Corpus, json_lines, parquet, text_fields
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
        return parquet(path) if path.suffix == ".parquet" else json_lines(path)

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


def hub_corpus(source: str, match: re.Match[str], split: str) -> Corpus:
    """A data set of the hub, from the local cache where it is there.

    Args:
        source: as a suite names it.
        match: of ``HUB_ID``.
        split: which one.

    Raises:
        CorpusError: it cannot be had, or has no such split.
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

    def documents() -> Iterator[str]:
        with quiet_hub_libraries():
            rows = builder.as_dataset(split) if cached else builder.as_streaming_dataset(split)
        return text_fields(source, rows)

    # The builder's hash is the commit that its revision stood for.
    digest = hashlib.sha256(f"{match['id']}@{builder.hash}/{builder.config.name}/{split}".encode()).hexdigest()
    return Corpus(match["id"].rpartition("/")[2], digest, documents)
