"""Corpora of stories, and the lowest perplexity that is possible on them."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import ClassVar, Final

from prunebench.tinyworld.draws import Draws, weighted
from prunebench.tinyworld.stories import PLAIN, PRIMER, SHIFTED, document, story

CORPORA: Final = ("tinyworld", "tinyworld-shifted", "tinyworld-noisy")
SPLITS: Final = ("train", "calibration", "validation", "test")

_SIZES: Final = {"train": 1 << 21, "calibration": 16384, "validation": 800, "test": 1600}
_SEEDS: Final = {"train": 101, "calibration": 102, "validation": 103, "test": 104}
PRIMER_DOCUMENTS: Final = 40_000
"""The number of stories at the start of the train split that have no middle and mention their objects often. From
those a model soon learns to look up what was said before, which it learns late or never from the others."""
DIGESTS: Final[Mapping[tuple[str, str], str]] = {
    ("tinyworld", "calibration"): "d8163e7c2f32d23d26a983c63d6cc4de647d8b337781ebd2b89124fbc9c83e42",
    ("tinyworld", "validation"): "c1bd5c80883bd01a6ac301d71c660914693e8cbdce8fac15dbe9d8281920e9e8",
    ("tinyworld", "test"): "e8cd6eb6736e3fb76a4b588fbe8d957580548217c1a0a38695d083b397bed362",
    ("tinyworld-shifted", "validation"): "5c0d77bb82e424833898b0b3377eb7a84e8af215a2825e6c60ec32163ada5c42",
    ("tinyworld-shifted", "test"): "0eee17b28753d810a9154f461700254c09f9d1d4be0ec43339d6ce3a9894c327",
    ("tinyworld-noisy", "validation"): "95a5267db733da578ce1b5e5bde9739af8fb4a11feb26b719ee4494bf3d0d7e6",
    ("tinyworld-noisy", "test"): "a54164fddb77582d1cf3faeb3e7bb26833e41a02d2b2ce98d482d7fd90180aa7",
}
"""What `content_digest` says of each split but ``train``, so that planning a suite need not make all its stories. Tests
make them and compare."""
_SWAPPED: Final = weighted({True: 1, False: 19})


def documents(corpus: str, split: str, limit: int | None = None) -> Iterator[str]:
    """The documents of a split, always the same ones in the same order.

    Args:
        corpus: ``tinyworld``; ``tinyworld-shifted``, longer stories that tell facts in a form that does not occur
            in training, with more text between a statement and its recall; or ``tinyworld-noisy``, where
            a word changes places with the next one at a rate of one in twenty.
        split: ``train`` (72 M words), ``calibration`` (560 k), ``validation`` (28 k) or ``test`` (56 k).
            No story of one split is in another; an entry of the register, being short, may be.
            Shifted and noisy documents are for evaluation only: ``validation`` and ``test``.
        limit: the most documents to return.

    Returns:
        Documents, words and punctuation separated by spaces: stories of some fifty words
        (shifted: 118) and, half as often again, entries of the register of 26.

    Raises:
        ValueError: when there is no such corpus or split.
    """
    _check_names(corpus, split)
    return (text for text, _ in islice(_stories(corpus, split), limit))


def fresh_documents(corpus: str, split: str, seed: int) -> Iterator[str]:
    """As many documents as a split has, of the same kind, that no other seed makes.

    Args:
        corpus, split: as in ``documents``.
        seed: any number; those below 10,000 are the splits' own.

    Raises:
        ValueError: when there is no such corpus or split.
    """
    _check_names(corpus, split)
    return (text for text, _ in _stories(corpus, split, seed))


def content_digest(corpus: str, split: str) -> str:
    """SHA-256 (hex) over the documents of a split, each ended by a zero byte.

    Raises:
        ValueError: when there is no such corpus or split.
    """
    digest = hashlib.sha256()
    for text in documents(corpus, split):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


@cache
def floor(corpus: str, seqlen: int | None = None) -> float:
    """The perplexity on the test split of a reader who knows the grammar and all facts.

    It is exp of the surprisal in nats of the generator's own choices divided by the number of
    predicted tokens, over the documents of the test split; no language model can be
    expected to do better. For ``tinyworld`` and ``tinyworld-shifted`` every choice can be inferred from the
    text, so the surprisal is exactly −log p(text). For ``tinyworld-noisy`` it is the surprisal of
    the document and of the swaps, which exceeds −log p(text) slightly, since a text does not always show
    what was swapped.

    Args:
        corpus: one of ``CORPORA``.
        seqlen: None when each document is predicted on its own, all its words after ``<s>``. Any
            number when windows are cut from the stream of documents, each after its ``<s>``: there
            the ``<s>`` of the next document is predicted too. The reader remembers the text
            before the window, which a model cannot; so the shorter the windows, the looser the bound.

    Raises:
        ValueError: when there is no such corpus.
    """
    _check_names(corpus, "test")
    nats = words = count = 0.0
    for text, surprisal in _stories(corpus, "test"):
        nats += surprisal
        words += len(text.split())
        count += 1
    return math.exp(nats / (words if seqlen is None else words + count))


@dataclass(frozen=True)
class StoryCorpus:
    """A corpus plugin: the documents of a split of one of `CORPORA`, as suites name it (``builtin/tinyworld``).

    Args:
        name: one of `CORPORA`.
    """

    name: str

    revision: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = SPLITS
    default_splits: ClassVar[Mapping[str, str]] = {"calibration": "calibration", "perplexity": "test"}

    def __call__(self, split: str) -> Iterator[str]:
        """The documents of a split.

        Raises:
            ValueError: when the corpus has no such split.
        """
        return documents(self.name, split)

    def digest(self, split: str) -> str:
        """What stands for the content of a split; see ``content_digest``.

        Raises:
            ValueError: when the corpus has no such split.
        """
        known = DIGESTS.get((self.name, split))
        return content_digest(self.name, split) if known is None else known

    def fresh(self, split: str, seed: int) -> Iterator[str]:
        """Documents like those of a split that did not exist before; see ``fresh_documents``."""
        return fresh_documents(self.name, split, seed)

    def floor(self, split: str, windows: str, seqlen: int | None) -> float | None:
        """The least perplexity, known of the test split as a stream or as whole documents; see `floor`."""
        whole = windows == "document" and seqlen is None
        return floor(self.name, seqlen) if split == "test" and (whole or windows == "stream") else None


TINYWORLD, TINYWORLD_SHIFTED, TINYWORLD_NOISY = (StoryCorpus(name) for name in CORPORA)


def _check_names(corpus: str, split: str) -> None:
    """Refuse an unknown corpus or split by ValueError."""
    splits = SPLITS if corpus == "tinyworld" else SPLITS[2:]
    for what, value, valid in (("corpus", corpus, CORPORA), ("split", split, splits)):
        if value not in valid:
            raise ValueError(f"no {what} {value!r} in tinyworld; there is {', '.join(valid)}")


def _stories(corpus: str, split: str, seed: int | None = None) -> Iterator[tuple[str, float]]:
    """The documents of a split, or as many from another seed, each with its surprisal in nats."""
    seed = 1000 * CORPORA.index(corpus) + _SEEDS[split] if seed is None else seed
    size = _SIZES[split] * 2 // 5 if corpus == "tinyworld-shifted" else _SIZES[split]
    for index in range(size):
        draws = Draws(seed, index)
        primer = split == "train" and index < PRIMER_DOCUMENTS
        yield (story(draws, PRIMER) if primer else _document(corpus, draws)), draws.nats


def _document(corpus: str, draws: Draws) -> str:
    text = document(draws, SHIFTED if corpus == "tinyworld-shifted" else PLAIN)
    if corpus == "tinyworld-noisy":
        return _swapped(draws, text.split())
    return text


def _swapped(draws: Draws, words: list[str]) -> str:
    """Swap some words with their neighbours, none of them twice."""
    i = 0
    while i < len(words) - 1:
        if draws.weigh(_SWAPPED):
            words[i], words[i + 1] = words[i + 1], words[i]
            i += 1
        i += 1
    return " ".join(words)
