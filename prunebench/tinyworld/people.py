"""The people of the world, and what there is to know about them."""

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
"""How a fact is told of a subject; the words before the value say which fact it is."""
GENITIVES: Final = {
    "home": "home {} is {}",
    "trade": "trade {} is {}",
    "pet": "pet {} is a {}",
    "dish": "dish {} is {}",
    "instrument": "instrument {} is the {}",
    "friend": "friend {} is {}",
}
"""The other form, "the pet of … is a …"."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a two-word name.

    The surname narrows a fact down to the four values that run in the family; which of them it is
    only both words of the name tell. So a model first learns what families have, soon, and then
    has to combine the words, whose combinations outnumber them by far.

    Args:
        name: first name and surname.
        pronoun: he or she, which the first name decides.
        possessive: his or her.
        values: the fact of each of `RELATIONS`.
        phrases: for each relation, the fact in each of `PHRASES`.
        genitives: the positions in `RELATIONS` of the three facts that stories also tell by
            `GENITIVES`. Of the other three only the shifted corpus uses that form.
    """

    name: str
    pronoun: str
    possessive: str
    values: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]
    genitives: frozenset[int]


@cache
def people() -> tuple[Person, ...]:
    """Everybody: first the men, then as many women."""
    names = [f"{first} {surname}" for first in (*MEN, *WOMEN) for surname in SURNAMES]
    kin = [_family(index, names) for index in range(len(SURNAMES))]
    return tuple(_person(index, name, kin[index % len(SURNAMES)]) for index, name in enumerate(names))


def _family(index: int, names: list[str]) -> list[list[str]]:
    """What runs in a family: for each relation the four values its members have."""
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
    """The three kinds of fodder that each animal eats."""
    return {animal: tuple(Draws(_DIET_SEED, index).sample(FODDER, 3)) for index, animal in enumerate(ANIMALS)}
