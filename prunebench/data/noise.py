"""Noise in text: letters and digits that are wrong, missing, doubled or in the other order, always the same ones."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from prunebench.data.corpus import Corpus
from prunebench.errors import CorpusError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def noisy_text(text: str, share: float) -> str:
    """A text in which some of its letters and digits are changed; spaces and punctuation stay.

    Each is changed with the probability ``share``, and then in one of four ways, as likely as each other: another
    letter stands in its place; it is left out; it stands twice; it changes places with the one that follows, if that is
    a letter or digit too. What is drawn depends on the text and the share alone.

    Args:
        text: any.
        share: between 0 and 1.
    """
    draw = random.Random(f"{share} {text}").random  # whose numbers are the same in every version of Python
    changed: list[str] = []
    place = 0
    while place < len(text):
        this, place = text[place], place + 1
        if not this.isalnum() or draw() >= share:
            changed.append(this)
            continue
        kind = int(draw() * 4)
        if kind == 0:
            others = LETTERS.replace(this, "")
            changed.append(others[int(draw() * len(others))])
        elif kind == 2:
            changed.append(this * 2)
        elif kind == 3 and place < len(text) and text[place].isalnum():
            changed.append(text[place] + this)
            place += 1
        elif kind == 3:
            changed.append(this)
    return "".join(changed)


def noisy(corpus: Corpus, share: float) -> Corpus:
    """A corpus with noise in each of its documents, under a name of its own.

    Args:
        corpus: of texts.
        share: of the letters and digits that are changed; see ``noisy_text``.

    Raises:
        CorpusError: it holds chats, or is made by a model.
    """
    if corpus.templated or corpus.wants:
        raise CorpusError(
            f"corpus {corpus.name} is made of chats, or by a model: 'noise' is for texts, so leave it out ({share})"
        )

    def documents() -> Iterator[Any]:
        return (noisy_text(text, share) for text in corpus.documents())

    digest = hashlib.sha256(f"{corpus.digest} noise {share}".encode()).hexdigest()
    return replace(corpus, name=f"{corpus.name}-noise-{share:g}", digest=digest, documents=documents)
