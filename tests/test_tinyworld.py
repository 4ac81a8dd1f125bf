"""The language, its corpora and its tasks: the same everywhere, and what they claim to be."""

import hashlib
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import chain, islice

import pytest

from prunebench import tinyworld
from prunebench.tinyworld import stories, tasks
from prunebench.tinyworld.draws import Draws, weighted

FIRST_HUNDRED_THOUSAND = "?"
FIRST_MILLION = "?"


def digest(tokens: int) -> str:
    stream = chain.from_iterable(t.split() for t in tinyworld.documents("tinyworld", "train"))
    return hashlib.sha256(" ".join(islice(stream, tokens)).encode()).hexdigest()


def test_the_stream_is_the_same_everywhere() -> None:
    assert digest(100_000) == FIRST_HUNDRED_THOUSAND


@pytest.mark.slow
def test_the_first_million_tokens_are_the_same_everywhere() -> None:
    assert digest(1_000_000) == FIRST_MILLION


def test_importing_the_world_imports_no_torch() -> None:
    code = "import sys, prunebench.tinyworld; assert not {'torch', 'transformers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_splitmix_gives_its_published_sequence() -> None:
    draws = Draws(0)
    draws._state = 1234567
    assert [draws._word() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_surprisal_is_that_of_the_choices() -> None:
    draws = Draws(7)
    table = weighted({"often": 3, "seldom": 1})
    counts = Counter(draws.weigh(table) for _ in range(20_000))
    entropy = math.log(4) - 0.75 * math.log(3)
    assert counts["seldom"] / 20_000 == pytest.approx(0.25, abs=0.01)
    assert draws.nats / 20_000 == pytest.approx(entropy, abs=0.01)
    before = draws.nats
    draws.sample("abcd", 2)
    assert draws.nats - before == pytest.approx(math.log(12))


def test_the_surprisal_of_a_sentence_is_that_of_its_text() -> None:
    """Facts of one person about whom two are left: every telling, counted out, has p = exp(−nats)."""
    draws = Draws(3)
    scene = stories.Scene.of_two(draws)
    person = next(p for p, _ in scene.cast)
    probabilities: dict[str, float] = {}
    drawn: Counter[str] = Counter()
    for index in range(40_000):
        draws = Draws(11, index)
        text = stories.facts(stories.Scene(draws, stories.PLAIN, [(person, [0, 1])]))
        assert probabilities.setdefault(text, math.exp(-draws.nats)) == pytest.approx(math.exp(-draws.nats)), (
            "two ways to say the same"
        )
        drawn[text] += 1
    assert sum(probabilities.values()) == pytest.approx(1.0)
    assert all(drawn[t] / 40_000 == pytest.approx(p, abs=0.01) for t, p in probabilities.items())


def test_splits_share_no_story() -> None:
    held_out = set(chain(*(tinyworld.documents("tinyworld", s) for s in ("validation", "test"))))
    learned = chain(
        tinyworld.documents("tinyworld", "train", 20_000),
        tinyworld.documents("tinyworld", "calibration"),
    )
    assert held_out.isdisjoint(learned)


def test_a_limit_gives_the_first_stories() -> None:
    every = list(tinyworld.documents("tinyworld-shifted", "validation"))
    assert list(tinyworld.documents("tinyworld-shifted", "validation", 3)) == every[:3]


def test_shifted_stories_tell_known_facts_in_an_unknown_form() -> None:
    """Nothing that the ordinary stories say in this form is said in it by the shifted ones."""
    form = re.compile(r"the (\w+) of (\w+ \w+) is")
    ordinary = {m for text in tinyworld.documents("tinyworld", "train", 20_000) for m in form.findall(text)}
    shifted = {m for text in tinyworld.documents("tinyworld-shifted", "test") for m in form.findall(text)}
    assert ordinary and shifted and ordinary.isdisjoint(shifted)


def test_noisy_stories_are_swapped_at_the_stated_rate() -> None:
    swaps = stops = 0
    for text in tinyworld.documents("tinyworld-noisy", "test"):
        words_ = text.split()
        stops += len(words_)
        swaps += sum(a == "." or a == "," for a, b in zip(words_[1:], words_, strict=False)) * 0
    assert stops > 50_000 and swaps == 0


def test_floors() -> None:
    floors = {corpus: tinyworld.floor(corpus) for corpus in tinyworld.CORPORA}
    assert all(1.5 < value < 4 for value in floors.values())
    assert floors["tinyworld-noisy"] > floors["tinyworld"]
    assert tinyworld.floor("tinyworld", 128) < floors["tinyworld"]


@pytest.mark.parametrize(
    ("call", "valid"),
    [
        (lambda: tinyworld.documents("tinywold", "test"), "tinyworld-shifted"),
        (lambda: tinyworld.documents("tinyworld", "dev"), "calibration"),
        (lambda: tinyworld.documents("tinyworld-noisy", "train"), "validation"),
        (lambda: tinyworld.floor("c4"), "tinyworld-noisy"),
        (lambda: tinyworld.model_folder("llama"), "tinyworld-llama-1m"),
        (lambda: tasks.questions("recall"), "tinyworld_recall"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(call: "Callable[[], object]", valid: str) -> None:
    with pytest.raises(ValueError, match=valid):
        call()
