"""lm-eval's model, asked one task at a time, so that a task whose answers are saved need not be asked again.

The requests are split by task even where nothing is saved: what shares a batch with a request can change its last bits.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from prunebench.data.noise import noisy_text

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


def ask_with_noise(lm: Any, share: float) -> None:
    """Put noise into what stands before an answer; the answers to choose from, or to write, stay as they are.

    Where the choices differ in what stands before, as in WinoGrande, noise is in what they have in common.

    Args:
        lm: a model of lm-eval, whose methods are replaced.
        share: of letters and digits that are changed; see ``prunebench.data.noise``.
    """
    for kind in ("loglikelihood", "generate_until"):
        setattr(lm, kind, _with_noise(getattr(lm, kind), share))


def _with_noise(ask: Callable[[list[Any]], list[Any]], share: float) -> Callable[..., list[Any]]:
    def answer(requests: Sequence[Any]) -> list[Any]:
        contexts: dict[tuple[str, int], list[str]] = {}
        for request in requests:
            if request.args[0]:  # "" is a choice by itself, without its question
                contexts.setdefault((request.task_name, request.doc_id), []).append(request.args[0])
        common = {question: _beginning(texts) for question, texts in contexts.items()}
        changed = []
        for request in requests:
            before, *rest = request.args
            if before:
                shared = common[request.task_name, request.doc_id]
                before = noisy_text(shared, share) + before.removeprefix(shared)
            changed.append(copy.copy(request))
            changed[-1].arguments = (before, *rest)
        return ask(changed)

    return answer


def _beginning(texts: Sequence[str]) -> str:
    """What texts begin with alike."""
    first, last = min(texts), max(texts)
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same]
