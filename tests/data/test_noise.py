"""Noise in texts and in questions: how much of it, where, and that it is always the same."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prunebench.data.corpora import find_corpus
from prunebench.data.corpus import Corpus
from prunebench.data.noise import LETTERS, noisy, noisy_text
from prunebench.errors import CorpusError
from prunebench.evaluation.perplexity import Perplexity
from tests.helpers.text import jsonl

PROSE = "The 3 cats, it is said, sat on one mat; nobody knows why (or when)!\n" * 40


def test_the_same_text_has_the_same_noise_and_another_has_another() -> None:
    assert noisy_text(PROSE, 0.1) == noisy_text(PROSE, 0.1) != PROSE
    assert noisy_text(PROSE, 0.1) != noisy_text(PROSE, 0.2)
    assert noisy_text(PROSE[1:], 0.1) != noisy_text(PROSE, 0.1)[1:]
    assert noisy_text("", 0.5) == ""


def test_noise_is_the_same_on_every_machine() -> None:
    """A digest of the text stands for it in records, and the noise is made anew each time."""
    assert noisy_text("the quick brown fox jumps over the lazy dog", 0.3) == "thn qiuk brwn god jupmh uverr the ay do"


def test_spaces_and_punctuation_stay() -> None:
    changed = noisy_text(PROSE, 0.3)
    assert [c for c in changed if not c.isalnum()] == [c for c in PROSE if not c.isalnum()]


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_each_of_four_kinds_is_a_quarter_of_the_share(share: float) -> None:
    """Of words of two letters: what is left tells what was done to the first, where the other is as it was."""
    words, first_alone = 20_000, share * (1 - share)
    outcomes = Counter(noisy_text("xy " * words, share).split(" "))
    kinds = {
        "other": sum(count for word, count in outcomes.items() if len(word) == 2 and word[1] == "y" and word != "xy"),
        "missing": outcomes["y"],
        "double": outcomes["xxy"],
        "exchanged": outcomes["yx"],
    }
    for kind, count in kinds.items():
        expected = words * share / 4 if kind == "exchanged" else words * first_alone / 4
        assert abs(count - expected) < 5 * expected**0.5, (kind, count, expected)
    assert set("".join(outcomes)) <= set(LETTERS)


def test_a_corpus_has_a_name_and_a_digest_of_its_own(tmp_path: Path) -> None:
    source = str(jsonl(tmp_path / "mine.jsonl", ["first text", "second text"]))
    plain, changed = (find_corpus(source, None, "perplexity", noise=noise) for noise in (None, 0.25))
    assert (plain.name, changed.name) == ("mine", "mine-noise-0.25")
    assert plain.digest != changed.digest != noisy(plain, 0.2).digest
    assert list(changed.documents()) == [noisy_text(text, 0.25) for text in plain.documents()]
    facts = Perplexity(source, seqlen=4, noise=0.25).resolve(())
    assert (facts["protocol"], facts["noise"]) == ("mine-noise-0.25/stream-4", 0.25)
    assert Perplexity.from_facts(facts) == Perplexity(source, seqlen=4, noise=0.25)
    assert "noise" not in Perplexity(source, seqlen=4).resolve(())


@pytest.mark.parametrize("facts", [{"templated": True}, {"wants": ("model",)}])
def test_chats_and_what_a_model_makes_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=r"'noise' is for texts, so leave it out \(0.1\)"):
        noisy(Corpus("mine", "", lambda: iter(["x"]), **facts), 0.1)
