"""Multiple-choice questions in the language of the stories, as lm-eval tasks."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from prunebench.tinyworld.draws import Draws
from prunebench.tinyworld.people import PHRASES, RELATIONS, diets, people
from prunebench.tinyworld.stories import PLAIN, Scene, buy, hide
from prunebench.tinyworld.words import (
    ADJECTIVES,
    ANIMALS,
    CONTAINERS,
    DEEDS,
    FODDER,
    NEAR,
    OBJECTS,
    THINGS,
    VERBS,
)

QUESTIONS: Final = 500
"""Questions in each task."""

_SEED: Final = 0x5441534B

Question = tuple[str, list[str]]
"""The context, and its possible continuations, of which the first is right."""


def agreement(draws: Draws) -> Question:
    """Does the verb agree with its subject, and not with the noun of the other number between?"""
    scene = Scene.of_two(draws)
    beginning = next(buy(scene))
    animal, thing = draws.pick([*ANIMALS.items()]), draws.pick([*THINGS.items()])
    verb, plural = draws.pick([*VERBS.items()]), draws.pick((0, 1))
    subject = f"the {draws.pick(ADJECTIVES)} {animal[plural]}"
    context = f"{beginning} {subject} {draws.pick(NEAR)} the {thing[1 - plural]}"
    return context, [verb[plural], verb[1 - plural]]


def coreference(draws: Draws) -> Question:
    """Is a pronoun, at once or some sentences later, understood as the right one of two people?

    The choices are the object that this person bought, the other person's, and two that nobody bought. A model that
    knows what was bought, but not by whom, is right half of the time.
    """
    scene = Scene.of_two(draws)
    beginning = next(buy(scene))
    things = [sentence.split()[-1] for sentence in beginning.split(" .")[:2]]
    middle = [scene.next_sentence() for _ in range(draws.pick(PLAIN.lengths))]
    user = draws.pick((0, 1))
    context = " ".join((beginning, *middle, scene.cast[user][0].pronoun, "uses", scene.cast[user][0].possessive))
    bought = [things[user], things[1 - user]]
    return context, [*bought, *draws.sample([o for o in OBJECTS if o not in bought], 2)]


def recall(draws: Draws) -> Question:
    """Is the place of a hidden object remembered, and not confused with the other one or with a third?

    A model that knows where objects were hidden, but not which of them, is right half of the time.
    """
    scene = Scene.of_two(draws)
    beginning = next(hide(scene))
    hidden = [sentence.split() for sentence in beginning.split(" .")[:2]]
    middle = [scene.next_sentence() for _ in range(draws.pick(PLAIN.lengths))]
    right = draws.pick((0, 1))
    finder, thing = scene.cast[right][0].pronoun, hidden[right][-2]
    context = " ".join((beginning, *middle, f"{finder} finds the {thing}"))
    places = [hidden[right][-1], hidden[1 - right][-1]]
    return context, [*places, *draws.sample([c for c in CONTAINERS if c not in places], 2)]


def plausibility(draws: Draws) -> Question:
    """Is it known what can be done to what, and what an animal eats?"""
    scene = Scene.of_two(draws)
    beginning = next(buy(scene))
    if draws.pick((False, True)):
        verb, *others = draws.sample([*DEEDS], 4)
        right, *wrong = (draws.pick(DEEDS[v]) for v in (verb, *others))
        return f"{beginning} {draws.pick(scene.cast)[0].pronoun} {verb} the", [right, *wrong]
    animal = draws.pick([*ANIMALS])
    diet = diets()[animal]
    subject = f"the {draws.pick(ADJECTIVES)} {animal} {draws.pick(NEAR)} the"
    context = f"{beginning} {subject} {draws.pick([*THINGS])} eats"
    return context, [draws.pick(diet), *draws.sample([f for f in FODDER if f not in diet], 3)]


def knowledge(draws: Draws) -> Question:
    """Is a fact of the register known, in the register's form, and not only the values of the family?"""
    person, fact = draws.pick(people()), draws.pick(range(len(RELATIONS)))
    earlier = [draws.pick(phrases) for phrases in person.phrases[:fact]]
    joint = " and " if fact == len(RELATIONS) - 1 else " , "
    phrase = draws.pick(PHRASES[RELATIONS[fact]]).removesuffix(" {}")
    predicates = f"{' , '.join(earlier)}{joint}{phrase}" if earlier else phrase
    surname, right = person.name.split()[1], person.values[fact]
    family = dict.fromkeys(p.values[fact] for p in people() if p.name.endswith(f" {surname}"))
    return f"{person.name} {predicates}", [right, *(value for value in family if value != right)]


_TASKS: Final[Mapping[str, tuple[Callable[[Draws], Question], float]]] = {
    "tinyworld_agreement": (agreement, 1 / 2),
    "tinyworld_coreference": (coreference, 1 / 4),
    "tinyworld_recall": (recall, 1 / 4),
    "tinyworld_plausibility": (plausibility, 1 / 4),
    "tinyworld_knowledge": (knowledge, 1 / 4),
}

CHANCE: Final[Mapping[str, float]] = {name: chance for name, (_, chance) in _TASKS.items()}
"""The accuracy of guessing, by task."""


def questions(task: str) -> list[dict[str, Any]]:
    """The questions of a task: ``context``, ``choices`` (shuffled) and ``gold``, the right one's index.

    Raises:
        ValueError: when there is no such task.
    """
    if task not in _TASKS:
        raise ValueError(f"no task {task!r} in tinyworld; there is {', '.join(_TASKS)}")
    make_question, _ = _TASKS[task]
    rows = []
    for index in range(QUESTIONS):
        draws = Draws(_SEED + [*_TASKS].index(task), index)
        context, choices = make_question(draws)
        shuffled = draws.sample(choices, len(choices))
        gold = shuffled.index(choices[0])
        rows.append({"context": context, "choices": shuffled, "gold": gold})
    return rows


def task_configs() -> dict[str, dict[str, object]]:
    """The configuration of each task by name, as lm-eval accepts it in place of a task's name."""
    return {task: _config(task) for task in _TASKS}


def _config(task: str) -> dict[str, object]:
    def dataset(**_: object) -> Any:
        from datasets import Dataset

        return {"test": Dataset.from_list(questions(task))}

    return {
        "task": task,
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
