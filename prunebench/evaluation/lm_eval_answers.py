"""lm-eval's model, asked one task at a time, so that a task whose answers are saved need not be asked again.

The requests are split by task even where nothing is saved: what shares a batch with a request can change its last bits.
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


def ask_by_task(lm: Any, answers: SavedAnswers | None, seed: int) -> None:
    """Make a model of lm-eval answer each task's requests by themselves.

    Args:
        lm: its methods are replaced.
        answers: where they are kept; None for nowhere.
        seed: of each task's answers, where the model draws them; the global generators stay as they are.
    """
    for kind in KINDS:
        setattr(lm, kind, _by_task(getattr(lm, kind), kind, answers, seed))


def _by_task(
    ask: Callable[[list[Any]], list[Any]], kind: str, answers: SavedAnswers | None, seed: int
) -> Callable[..., list[Any]]:
    import torch

    def answer(requests: Sequence[Any]) -> list[Any]:
        positions: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            positions.setdefault(f"{request.task_name} {kind}", []).append(position)
        by_position: dict[int, Any] = {}
        for task, own_positions in positions.items():
            results = answers.known(task) if answers else None
            if results is None or len(results) != len(own_positions):
                with torch.random.fork_rng():
                    torch.manual_seed(seed)
                    results = ask([requests[position] for position in own_positions])
                if answers:
                    answers.add(task, results)
            by_position |= zip(own_positions, results, strict=True)
        return [by_position[position] for position in range(len(requests))]

    return answer
