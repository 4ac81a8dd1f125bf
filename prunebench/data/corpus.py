"""A corpus: a named body of text; and the files that one is read from: JSON lines, plain text, Parquet."""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunebench.errors import CorpusError
from prunebench.quiet import quiet_hub_libraries
from prunebench.registry.options import call_named


@dataclass(frozen=True)
class Corpus:
    """A named body of text.

    Args:
        name: what protocols and tables call it: a file's stem, a plugin's name, the last part of a hub id.
        digest: sha256 (hex) of the content, or of ``repo@commit/config/split`` for the hub's data sets.
        documents: starts a new pass over the documents.
        wants: what must be ``given`` before: "model", "tokenizer", "seed".
        code: what identifies the code of a plugin's corpus; None for a file and for a data set of the hub.
        once: a calibration text is read in one pass, and no more of it than is in memory at a time: the documents are
            made, or by code of others, which does not run where they are used.
        makes_text: whether more of the same kind can be made: ``prunebench.data.corpora.fresh_corpus``.
    """

    name: str
    digest: str
    documents: Callable[..., Iterator[str]]
    code: str | None = None
    wants: tuple[str, ...] = ()
    once: bool = False
    makes_text: bool = False

    def given(self, **available: Any) -> "Corpus":
        """The corpus with what its documents are made from.

        Args:
            available: by name; what it does not want is not made.
        """
        return replace(self, documents=lambda: call_named(self.documents, **available), wants=())


_SURROGATE = re.compile("[\ud800-\udfff]")


def text_fields(source: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The field ``text`` of each row.

    Raises:
        CorpusError: a row has none.
    """
    for row in rows:
        if not isinstance(row.get("text"), str):
            raise CorpusError(f"corpus {source} has no field 'text'; its fields: {', '.join(row)}")
        yield row["text"]


def json_lines(path: Path) -> Iterator[str]:
    """The field ``text`` of each line of a ``.jsonl`` or ``.gz`` file of JSON objects.

    Raises:
        CorpusError: a line is no such object, or the file is not UTF-8.
    """
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    raise CorpusError(f"corpus {path}, line {number}: no field 'text' that is a string")
                if half := _SURROGATE.search(row["text"]):
                    raise CorpusError(
                        f"corpus {path}, line {number}: the text holds half of a character ({half[0]!r}), as cut texts "
                        "do: remove or replace it"
                    )
                yield row["text"]
        except json.JSONDecodeError as error:
            raise CorpusError(f"corpus {path}, line {number}: not JSON ({error.msg}, column {error.colno})") from error
        except UnicodeDecodeError as error:
            raise CorpusError(f"corpus {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def whole_file(path: Path) -> Iterator[str]:
    """A text file as one document.

    Raises:
        CorpusError: it is not UTF-8.
    """
    try:
        yield path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"corpus {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def parquet(path: Path) -> Iterator[str]:
    """The column ``text`` of a Parquet file.

    Raises:
        CorpusError: it has none.
    """
    import datasets

    with quiet_hub_libraries():
        rows = datasets.Dataset.from_parquet(str(path), columns=["text"])
    yield from text_fields(str(path), rows)
