"""A corpus: a named body of text."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

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
        templated: a chat template wrote the documents with their special tokens, so that the tokenizer adds none.
    """

    name: str
    digest: str
    documents: Callable[..., Iterator[str]]
    code: str | None = None
    wants: tuple[str, ...] = ()
    once: bool = False
    makes_text: bool = False
    templated: bool = False

    def given(self, **available: Any) -> "Corpus":
        """The corpus with what its documents are made from.

        Args:
            available: by name; what it does not want is not made.
        """
        return replace(self, documents=lambda: call_named(self.documents, **available), wants=())


_SURROGATE = re.compile("[\ud800-\udfff]")


def half_character(document: Any) -> str | None:
    """What is wrong with a text, or with plain JSON that holds texts, of which a character was cut in two; else None.

    JSON may hold such a half, as cut texts do, and no tokenizer takes it.
    """
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False, default=str)
    if text.isascii() or not (half := _SURROGATE.search(text)):
        return None
    return f"the text holds half of a character ({half[0]!r}), as cut texts do: remove or replace it"
