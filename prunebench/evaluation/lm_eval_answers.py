"""lm-eval's model, asked task by task, so that a task whose answers are kept need not be asked again.

Always by task, also where nothing is kept: what stands in one batch with a request can change its last bits.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


class SavedAnswers(Protocol):
    """Takes a task's answers and gives them back."""

    def known(self, task: str) -> list[Any] | None:
        """What an interrupted run was answered."""

    def add(self, task: str, answers: list[Any]) -> None:
        """Keep them: numbers, booleans and text, and tuples of them."""


def ask_by_task(lm: Any, answers: SavedAnswers | None) -> None:
    """Make a model of lm-eval answer each task's requests by themselves.

    Args:
        lm: its methods are replaced.
        answers: where they are kept; None for nowhere.
    """
    for kind in KINDS:
        setattr(lm, kind, _by_task(getattr(lm, kind), kind, answers))


def _by_task(
    ask: Callable[[list[Any]], list[Any]], kind: str, answers: SavedAnswers | None
) -> Callable[..., list[Any]]:
    def asked(requests: Sequence[Any]) -> list[Any]:
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault(f"{request.task_name} {kind}", []).append(place)
        found: dict[int, Any] = {}
        for task, chosen in places.items():
            told = answers.known(task) if answers else None
            if told is None or len(told) != len(chosen):
                told = ask([requests[place] for place in chosen])
                if answers:
                    answers.add(task, told)
            found |= zip(chosen, told, strict=True)
        return [found[place] for place in range(len(requests))]

    return asked
