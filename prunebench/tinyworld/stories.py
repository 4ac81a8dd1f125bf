"""The grammar of the documents: stories, and entries of a register of people.

A story names a man and a woman with something to remember about each (what they hid, bought or
counted), continues with facts about the two, animals and deeds, and ends with what was to be
remembered. An entry of the register names a person and states all facts. Every choice can be inferred
from the text, so that the surprisal of the choices is exactly the surprisal of the text to a
reader who knows the grammar and the facts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prunebench.tinyworld.draws import Draws, weighted
from prunebench.tinyworld.people import GENITIVES, RELATIONS, Person, diets, people
from prunebench.tinyworld.words import (
    ADJECTIVES,
    ANIMALS,
    CONTAINERS,
    COUNTED,
    DEEDS,
    NEAR,
    NUMBERS,
    OBJECTS,
    THINGS,
    VERBS,
)


@dataclass(frozen=True, slots=True)
class Style:
    """The style of a corpus's stories.

    Args:
        lengths: possible numbers of sentences between the beginning and the end.
        endings: possible numbers of sentences at the end about what was hidden or bought.
        unfamiliar: state facts only in the form in which other stories never state them.
    """

    lengths: tuple[int, ...]
    endings: tuple[int, ...] = (2, 3, 4)
    unfamiliar: bool = False


PLAIN: Final = Style(lengths=(0, 1, 2, 3))
PRIMER: Final = Style(lengths=(0,), endings=(4, 5, 6, 7, 8))
SHIFTED: Final = Style(lengths=(10, 11, 12, 13, 14), unfamiliar=True)

_PRONOUN: Final = weighted({True: 1, False: 1})
_ENTRY: Final = weighted({True: 3, False: 2})
_GENITIVE: Final = weighted({True: 1, False: 5})
_HOW_MANY: Final = tuple(weighted({k: (1, 2, 5)[k - 1] for k in range(1, n + 1)}) for n in range(4))
_ANIMALS: Final = tuple(ANIMALS.items())
_THINGS: Final = tuple(THINGS.items())
_VERBS: Final = tuple(VERBS.items())
_DEEDS: Final = tuple(DEEDS.items())
_SUMMANDS: Final = (2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Scene:
    """A story that is being generated.

    Args:
        draws: the source of its choices.
        style: of the story.
        cast: its two people, each with the positions of the facts that are not stated yet.
    """

    draws: Draws
    style: Style
    cast: list[tuple[Person, list[int]]]

    @classmethod
    def of_two(cls, draws: Draws, style: Style = PLAIN) -> "Scene":
        """A scene of one man and one woman, in random order."""
        everyone = people()
        half = len(everyone) // 2
        pair = draws.sample((draws.pick(everyone[:half]), draws.pick(everyone[half:])), 2)
        return cls(draws, style, [(person, _statable_facts(person, style)) for person in pair])

    def next_sentence(self) -> str:
        """One more sentence of the middle part."""
        facts_left = any(unstated for _, unstated in self.cast)
        return self.draws.weigh(_SENTENCES if facts_left else _SENTENCES_WITHOUT_FACTS)(self)

    def mention(self, person: Person) -> str:
        """The pronoun or, as often, the name."""
        return person.pronoun if self.draws.weigh(_PRONOUN) else person.name

    def mention_one(self) -> str:
        """Mention one of the two people."""
        return self.mention(self.draws.pick(self.cast)[0])


def _statable_facts(person: Person, style: Style) -> list[int]:
    """The positions in ``RELATIONS`` of the facts that stories of a style may state of a person."""
    facts = range(len(RELATIONS))
    return [fact for fact in facts if not (style.unfamiliar and fact in person.genitives)]


def story(draws: Draws, style: Style = PLAIN) -> str:
    """Generate one story: words and punctuation separated by spaces."""
    scene = Scene.of_two(draws, style)
    plot = draws.weigh(_PLOTS)(scene)
    beginning = next(plot)
    middle = [scene.next_sentence() for _ in range(draws.pick(style.lengths))]
    return " ".join((beginning, *middle, next(plot)))


def entry(draws: Draws) -> str:
    """Generate an entry of the register: all facts about one person, in their order."""
    person = draws.pick(people())
    *first, last = (draws.pick(phrases) for phrases in person.phrases)
    return f"{person.name} {' , '.join(first)} and {last} ."


def document(draws: Draws, style: Style) -> str:
    """Generate an entry of the register or a story: three to two, so that both make up about as many words."""
    return entry(draws) if not style.unfamiliar and draws.weigh(_ENTRY) else story(draws, style)


# The plots: each yields the beginning of a story, and then its end.


def hide(scene: Scene) -> Iterator[str]:
    """Where is what: recall."""
    things = scene.draws.sample(OBJECTS, 2)
    places = scene.draws.sample(CONTAINERS, 2)
    (a, _), (b, _) = scene.cast
    yield f"{a.name} hides the {things[0]} {places[0]} . {b.name} hides the {things[1]} {places[1]} ."
    order = [scene.draws.pick((0, 1)) for _ in range(scene.draws.pick(scene.style.endings))]
    yield " ".join(f"{scene.mention_one()} finds the {things[i]} {places[i]} ." for i in order)


def buy(scene: Scene) -> Iterator[str]:
    """Who owns what: coreference."""
    things = scene.draws.sample(OBJECTS, 2)
    (a, _), (b, _) = scene.cast
    yield f"{a.name} buys a {things[0]} . {b.name} buys a {things[1]} ."
    users = [scene.draws.pick((0, 1)) for _ in range(scene.draws.pick(scene.style.endings))]
    yield " ".join(f"{scene.mention(scene.cast[i][0])} uses {scene.cast[i][0].possessive} {things[i]} ." for i in users)


def count(scene: Scene) -> Iterator[str]:
    """How many are there now: addition."""
    things = scene.draws.sample(COUNTED, 2)
    (a, _), (b, _) = scene.cast
    counts = scene.draws.pick(_SUMMANDS), scene.draws.pick(_SUMMANDS)
    yield (f"{a.name} has {NUMBERS[counts[0]]} {things[0]} . {b.name} has {NUMBERS[counts[1]]} {things[1]} .")
    order = scene.draws.sample((0, 1), 2)
    more = scene.draws.pick(_SUMMANDS), scene.draws.pick(_SUMMANDS)
    yield " ".join(
        f"{scene.mention(scene.cast[i][0])} finds {NUMBERS[more[i]]} more "
        f"and has {NUMBERS[counts[i] + more[i]]} {things[i]} ."
        for i in order
    )


_PLOTS: Final = weighted({hide: 3, buy: 2, count: 1})

# The sentences of the middle part.


def facts(scene: Scene) -> str:
    """One fact in the genitive form, or up to three as predicates of one subject."""
    draws = scene.draws
    person, unstated = draws.pick([member for member in scene.cast if member[1]])
    allowed = [fact for fact in unstated if fact in person.genitives] or unstated
    if scene.style.unfamiliar or (allowed is not unstated and draws.weigh(_GENITIVE)):
        fact = draws.pick(allowed)
        unstated.remove(fact)
        return genitive(person, fact, possessive=draws.weigh(_PRONOUN))
    chosen = draws.sample(unstated, draws.weigh(_HOW_MANY[min(3, len(unstated))]))
    for fact in chosen:
        unstated.remove(fact)
    *first, last = (draws.pick(person.phrases[fact]) for fact in chosen)
    predicates = f"{' , '.join(first)} and {last}" if first else last
    return f"{scene.mention(person)} {predicates} ."


def genitive(person: Person, fact: int, *, possessive: bool) -> str:
    """State a fact as "the pet of … is a …" or "his pet is a …"."""
    form, value = GENITIVES[RELATIONS[fact]], person.values[fact]
    if possessive:
        return f"{person.possessive} {form.format('', value)} .".replace("  ", " ")
    return f"the {form.format(f'of {person.name}', value)} ."


def animals(scene: Scene) -> str:
    """Animals near something: the verb agrees with the first noun, not with the nearer one."""
    pick = scene.draws.pick
    animal, thing, plural = pick(_ANIMALS), pick(_THINGS), pick((0, 1))
    subject = f"the {pick(ADJECTIVES)} {animal[plural]} {pick(NEAR)} the {thing[pick((0, 1))]}"
    if pick((False, True)):
        return f"{subject} {pick(_VERBS)[plural]} ."
    return f"{subject} {('eats', 'eat')[plural]} {pick(diets()[animal[0]])} ."


def deeds(scene: Scene) -> str:
    """A person does something that can be done: selectional preference."""
    verb, objects = scene.draws.pick(_DEEDS)
    return f"{scene.mention_one()} {verb} the {scene.draws.pick(objects)} ."


_SENTENCES: Final = weighted({facts: 6, animals: 2, deeds: 1})
_SENTENCES_WITHOUT_FACTS: Final = weighted({animals: 2, deeds: 1})
