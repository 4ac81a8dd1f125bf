"""The people of the world, and the facts about them."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from prunebench.tinyworld.draws import Draws
from prunebench.tinyworld.words import (
    ANIMALS,
    FODDER,
    FOODS,
    INSTRUMENTS,
    MEN,
    SURNAMES,
    TOWNS,
    TRADES,
    WOMEN,
)

_PEOPLE_SEED: Final = 0x50454F504C45
_FAMILY_SEED: Final = 0x46414D494C59
_DIET_SEED: Final = 0x44494554

RELATIONS: Final = ("home", "trade", "pet", "dish", "instrument", "friend")
VALUES: Final = {
    "home": TOWNS,
    "trade": TRADES,
    "pet": tuple(ANIMALS),
    "dish": FOODS,
    "instrument": INSTRUMENTS,
}
"""The values a fact can have; a friend is anybody of another family."""
PHRASES: Final = {
    "home": ("lives in {}", "stays in {}", "comes from {}"),
    "trade": ("is a {}", "works as a {}", "earns money as a {}"),
    "pet": ("keeps a {}", "owns a {}", "feeds a {}"),
    "dish": ("likes {}", "cooks {}", "is fond of {}"),
    "instrument": ("plays the {}", "practises the {}", "loves the {}"),
    "friend": ("meets {}", "trusts {}", "visits {}"),
}
"""How a fact is stated of a subject, by relation; the words before the value show which fact it is."""
GENITIVES: Final = {
    "home": "home {} is {}",
    "trade": "trade {} is {}",
    "pet": "pet {} is a {}",
    "dish": "dish {} is {}",
    "instrument": "instrument {} is the {}",
    "friend": "friend {} is {}",
}
"""The other form of a fact, by relation, as "the pet of … is a …"."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person with a first name and a surname.

    The surname narrows a fact down to the four values of the family; which of them it is depends
    on both words of the name. So a model soon learns the values of families, and then has to learn
    the combinations of two words, which are far more numerous than the words.

    Args:
        name: first name and surname.
        pronoun: he or she, determined by the first name.
        possessive: his or her.
        values: the fact of each of ``RELATIONS``.
        phrases: for each relation, the fact in each form of ``PHRASES``.
        genitives: the positions in ``RELATIONS`` of the three facts that stories also state in the form of
            ``GENITIVES``. For the other three only the shifted corpus uses that form.
    """

    name: str
    pronoun: str
    possessive: str
    values: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]
    genitives: frozenset[int]


@cache
def people() -> tuple[Person, ...]:
    """All people: first the men, then as many women."""
    names = [f"{first} {surname}" for first in (*MEN, *WOMEN) for surname in SURNAMES]
    families = [_family_values(index, names) for index in range(len(SURNAMES))]
    return tuple(_person(index, name, families[index % len(SURNAMES)]) for index, name in enumerate(names))


def _family_values(index: int, names: list[str]) -> list[list[str]]:
    """For each relation the four values that the members of a family have."""
    draws = Draws(_FAMILY_SEED, index)
    others = [name for name in names if not name.endswith(f" {SURNAMES[index]}")]
    return [draws.sample(VALUES.get(relation, others), 4) for relation in RELATIONS]


def _person(index: int, name: str, family: list[list[str]]) -> Person:
    draws = Draws(_PEOPLE_SEED, index)
    values = tuple(draws.pick(four) for four in family)
    man = name.split()[0] in MEN
    return Person(
        name=name,
        pronoun="he" if man else "she",
        possessive="his" if man else "her",
        values=values,
        phrases=tuple(
            tuple(phrase.format(value) for phrase in PHRASES[relation])
            for relation, value in zip(RELATIONS, values, strict=True)
        ),
        genitives=frozenset(draws.sample(range(len(RELATIONS)), len(RELATIONS) // 2)),
    )


@cache
def diets() -> dict[str, tuple[str, ...]]:
    """The three kinds of fodder that each animal eats, by animal."""
    return {animal: tuple(Draws(_DIET_SEED, index).sample(FODDER, 3)) for index, animal in enumerate(ANIMALS)}
