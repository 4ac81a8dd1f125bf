"""The language, its corpora and its tasks: the same everywhere, and what they claim to be."""

import hashlib
import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import chain, islice

import pytest

from prunebench import tinyworld
from prunebench.tinyworld import stories, tasks
from prunebench.tinyworld.corpora import DIGESTS, _swapped
from prunebench.tinyworld.draws import Draws, weighted
from prunebench.tinyworld.people import PHRASES, RELATIONS, Person, diets, people
from prunebench.tinyworld.tokenizer import build, vocabulary
from prunebench.tinyworld.words import ANIMALS, DEEDS

FIRST_HUNDRED_THOUSAND = "b2c13ca1f18e603d9537325826ed1ba4cffdd6ea1401ee1d4c4b4b199869a886"
FIRST_MILLION = "365195f93882d34589974ca2866180fefc07fb086e982fd21a2f978fe4871668"
FLOORS = [2.289746, 2.493747, 2.697635]
"""Of `CORPORA`, story by story."""


def digest(split: str, tokens: int) -> str:
    words = chain.from_iterable(text.split() for text in tinyworld.documents("tinyworld", split))
    return hashlib.sha256(" ".join(islice(words, tokens)).encode()).hexdigest()


def test_the_stream_is_the_same_everywhere() -> None:
    assert digest("calibration", 100_000) == FIRST_HUNDRED_THOUSAND


def test_the_digests_that_are_written_down_are_those_of_the_documents() -> None:
    """Each as any corpus plugin's would be: SHA-256 over its texts, each ended by a zero byte."""
    for (corpus, split), known in DIGESTS.items():
        texts = "".join(f"{text}\0" for text in tinyworld.documents(corpus, split))
        assert hashlib.sha256(texts.encode()).hexdigest() == known
    assert {split for _, split in DIGESTS} == {*tinyworld.SPLITS} - {"train"}
    assert {corpus for corpus, _ in DIGESTS} == {*tinyworld.CORPORA}


@pytest.mark.slow
def test_the_first_million_training_tokens_are_the_same_everywhere() -> None:
    assert digest("train", 1_000_000) == FIRST_MILLION


def test_importing_the_world_imports_no_torch() -> None:
    code = "import sys, prunebench.tinyworld.tasks; assert not {'torch', 'transformers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_draws_are_splitmix64() -> None:
    """Against the published sequence of the seed 1234567."""
    draws = Draws(0)
    draws._state = 1234567
    assert [draws._word() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_surprisal_is_that_of_the_choices() -> None:
    draws = Draws(7)
    table = weighted({"often": 3, "seldom": 1})
    counts = Counter(draws.weigh(table) for _ in range(20_000))
    assert counts["seldom"] / 20_000 == pytest.approx(0.25, abs=0.01)
    assert draws.nats / 20_000 == pytest.approx(math.log(4) - 0.75 * math.log(3), abs=0.01)
    before = draws.nats
    draws.sample("abcd", 2)
    assert draws.nats - before == pytest.approx(math.log(12))


def a_person() -> Person:
    return stories.Scene.of_two(Draws(3)).cast[0][0]


@pytest.mark.parametrize("style", [stories.PLAIN, stories.SHIFTED])
def test_the_surprisal_of_a_sentence_is_that_of_its_text(style: stories.Style) -> None:
    """Told often enough, every possible sentence has come; their exp(−nats) must add up to one."""
    person = a_person()
    left = [fact for fact in range(len(RELATIONS)) if fact not in person.genitives][:2]
    probability: dict[str, float] = {}
    count: Counter[str] = Counter()
    for index in range(20_000):
        draws = Draws(11, index)
        text = stories.facts(stories.Scene(draws, style, [(person, list(left))]))
        count[text] += 1
        assert probability.setdefault(text, math.exp(-draws.nats)) == pytest.approx(math.exp(-draws.nats))
    assert sum(probability.values()) == pytest.approx(1.0)
    assert all(count[text] / 20_000 == pytest.approx(p, abs=0.02) for text, p in probability.items())


def test_a_fact_takes_both_words_of_a_name() -> None:
    """Whoever knows only the surname is left with four values; whoever knows the first name, with more."""
    for fact in range(len(RELATIONS)):
        by_surname, by_first = defaultdict(set), defaultdict(set)
        for person in people():
            first, surname = person.name.split()
            by_surname[surname].add(person.values[fact])
            by_first[first].add(person.values[fact])
        assert {len(values) for values in by_surname.values()} == {4}
        assert min(len(values) for values in by_first.values()) > 8


def test_splits_share_no_story() -> None:
    """Entries of the register are short and come again; stories do not."""
    held_out = chain(*(tinyworld.documents("tinyworld", split) for split in ("validation", "test")))
    learned = chain(tinyworld.documents("tinyworld", "calibration"), islice(train_stories(), 10_000))
    assert {text for text in held_out if " . " in text}.isdisjoint(learned)


def train_stories() -> Iterator[str]:
    """What is learned from after the primer."""
    return islice(tinyworld.documents("tinyworld", "train"), 40_000, None)


def test_a_limit_gives_the_first_documents() -> None:
    every = list(tinyworld.documents("tinyworld-shifted", "validation"))
    assert list(tinyworld.documents("tinyworld-shifted", "validation", 3)) == every[:3]


def test_shifted_stories_tell_known_facts_in_a_form_that_is_new_for_them() -> None:
    form = re.compile(r"the (\w+) of (\w+ \w+) is")
    ordinary = set(form.findall(" ".join(tinyworld.documents("tinyworld", "calibration"))))
    shifted = set(form.findall(" ".join(tinyworld.documents("tinyworld-shifted", "test"))))
    assert len(ordinary) > 100
    assert len(shifted) > 100
    assert ordinary.isdisjoint(shifted)


def test_shifted_stories_are_longer() -> None:
    shifted, ordinary = (
        [len(text.split()) for text in tinyworld.documents(corpus, "test") if " . " in text]
        for corpus in ("tinyworld-shifted", "tinyworld")
    )
    assert min(shifted) > 70
    assert sum(shifted) / len(shifted) > 1.4 * sum(ordinary) / len(ordinary)


def test_noise_swaps_neighbours_at_the_stated_rate() -> None:
    words = [str(i) for i in range(50_000)]
    noisy = _swapped(Draws(5), list(words)).split()
    moved = [int(word) - i for i, word in enumerate(noisy) if word != str(i)]
    assert set(moved) == {1, -1}
    assert len(moved) / 2 == pytest.approx(len(words) / 21, rel=0.05)


def test_floors_follow_from_what_is_open() -> None:
    """An entry costs as much as choosing among all people and three phrasings of six facts."""
    draws = Draws(1)
    stories.entry(draws)
    assert draws.nats == pytest.approx(math.log(3600) + 6 * math.log(3))
    floors = [tinyworld.floor(corpus) for corpus in tinyworld.CORPORA]
    assert floors == pytest.approx(FLOORS, abs=1e-6)
    assert tinyworld.floor("tinyworld", 128) < tinyworld.floor("tinyworld")


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
def test_a_wrong_name_is_answered_with_the_right_ones(call: Callable[[], object], valid: str) -> None:
    with pytest.raises(ValueError, match=valid):
        call()


def test_every_word_has_its_token() -> None:
    tokenizer = build()
    ids = vocabulary()
    text = next(tinyworld.documents("tinyworld", "test"))
    tokens = tokenizer(text)["input_ids"]
    assert tokens == [ids["<s>"], *(ids[word] for word in text.split())]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text
    assert tokenizer.unk_token_id not in tokens
    told = chain(*(tinyworld.documents(corpus, "test") for corpus in tinyworld.CORPORA))
    assert set(" ".join(told).split()) <= set(ids)


@pytest.mark.parametrize("task", tasks.CHANCE)
def test_questions_have_one_right_answer_in_a_random_place(task: str) -> None:
    rows = tasks.questions(task)
    assert len(rows) == 500
    assert len({row["context"] for row in rows}) == 500
    assert all(len(row["context"].split()) <= 70 for row in rows)
    width = round(1 / tasks.CHANCE[task])
    assert all(len(set(row["choices"])) == width for row in rows)
    places = Counter(row["gold"] for row in rows)
    assert all(places[place] > 0.75 * 500 / width for place in range(width))


def test_gold_answers_are_right_and_the_others_wrong() -> None:
    everybody = {person.name: person for person in people()}
    for row in tasks.questions("tinyworld_knowledge"):
        first, surname, *said = row["context"].split()
        person = everybody[f"{first} {surname}"]
        *told, last = re.split(r" , | and ", " ".join(said))
        assert all(phrase in forms for phrase, forms in zip(told, person.phrases, strict=False))
        asked = f"{last} {{}}"
        relation = next(r for r in RELATIONS if asked in PHRASES[r])
        truth = person.values[RELATIONS.index(relation)]
        assert [choice == truth for choice in row["choices"]].index(True) == row["gold"]
    for row in tasks.questions("tinyworld_coreference"):
        buyers = re.findall(r"(\w+ \w+) buys a (\w+)", row["context"])
        owner = {everybody[name].pronoun: thing for name, thing in buyers}
        assert row["choices"][row["gold"]] == owner[row["context"].split()[-3]]
    for row in tasks.questions("tinyworld_recall"):
        hidden = dict(re.findall(r"hides the (\w+) (\w+)", row["context"]))
        assert row["choices"][row["gold"]] == hidden[row["context"].split()[-1]]
    for row in tasks.questions("tinyworld_agreement"):
        subject = row["context"].split()[-4]
        assert (subject in ANIMALS) == row["choices"][row["gold"]].endswith("s")
    for row in tasks.questions("tinyworld_plausibility"):
        *_, animal, _, _, _, last = said = row["context"].split()
        allowed = diets()[animal] if last == "eats" else DEEDS[said[-2]]
        assert [choice in allowed for choice in row["choices"]].count(True) == 1
        assert row["choices"][row["gold"]] in allowed


@pytest.mark.slow
@pytest.mark.parametrize("name", tinyworld.MODELS)
def test_models_know_their_world(name: str) -> None:
    """The stored weights give the loss that is stated beside them, and it is near the floor."""
    transformers = pytest.importorskip("transformers")
    from prunebench.tinyworld.train import evaluate

    folder = tinyworld.model_folder(name)
    stated = json.loads((folder / "curve.json").read_text())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert evaluate(model, "test", "cpu") == pytest.approx(stated["loss"]["test"], abs=1e-3)
    assert stated["loss"]["test"] < stated["floor"] + 0.5
    tail = [point["validation"] for point in stated["curve"] if point["step"] >= 0.9 * stated["curve"][-1]["step"]]
    assert tail[0] - tail[-1] < 0.01 * tail[0]
    # a full model has something to lose: without the smallest 80 % of each matrix, three times the perplexity
    for place, weight in model.named_parameters():
        if place.endswith(("proj.weight", "fc1.weight", "fc2.weight")):
            order = weight.detach().abs().flatten().argsort()
            weight.data.view(-1)[order[: round(0.8 * len(order))]] = 0
    assert evaluate(model, "test", "cpu") > stated["loss"]["test"] + math.log(3)


def test_all_models_together_are_small() -> None:
    folder = tinyworld.model_folder(tinyworld.MODELS[0]).parent
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 12e6


def test_the_learning_rate_falls_to_nothing() -> None:
    from prunebench.tinyworld.recipes import RECIPES
    from prunebench.tinyworld.train import learning_rate

    for recipe in RECIPES.values():
        rates = [learning_rate(step, recipe) for step in range(recipe.steps)]
        assert max(rates) == recipe.lr == rates[recipe.hold]
        assert rates[-1] < 1e-3 * recipe.lr


def test_lessons_begin_with_the_primer_or_with_the_register() -> None:
    from prunebench.tinyworld.recipes import RECIPES
    from prunebench.tinyworld.train import training_documents

    plain, other = (RECIPES[f"tinyworld-llama-{size}"] for size in ("300k", "3m"))
    train = list(tinyworld.documents("tinyworld", "train", 41_000))
    assert list(islice(training_documents(plain), 41_000)) == train
    told = list(islice(training_documents(other), other.register + 6))
    assert not any(" . " in text for text in told[: other.register])
    assert told[other.register :: 2] == train[:3]
