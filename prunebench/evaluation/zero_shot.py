"""Zero-shot tasks: stock lm-eval on a model that is already loaded."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunebench.evaluation.lm_eval_answers import Answers, ask_by_task
from prunebench.evaluation.lm_eval_output import silent
from prunebench.evaluation.lm_eval_tasks import TaskLibrary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KEPT = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better")

# Accuracies have a closed-form standard error. Other metrics are resampled this often; 0 would leave all without one.
BOOTSTRAP_ITERS = 100


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """What lm-eval found.

    Args:
        outcome: lm-eval's own ``results``, ``groups``, ``versions``, ``n-shot``, ``n-samples``, ``higher_is_better``,
            as plain JSON.
        correct: per question, "<task>/<metric>" (acc, acc_norm, exact_match …) → float64, (questions,), in the order
            of the task's documents.
    """

    outcome: dict[str, Any]
    correct: dict[str, np.ndarray]


def zero_shot(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    tasks: Sequence[str],
    limit: int | float | None = None,
    num_fewshot: int | None = None,
    include_path: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
    library: TaskLibrary | None = None,
    answers: Answers | None = None,
) -> ZeroShot:
    """Measure tasks with lm-eval. Its request cache, which ignores the model, is not used.

    Args:
        model: a loaded causal language model; measured where it is.
        tokenizer: the model's own; not changed.
        tasks: names of tasks, groups or tags.
        limit: the first so many documents of each task, or below 1 the first share of them; None for all.
        num_fewshot: worked examples before each question; None for the task's own number, else 0.
        include_path: folder of task files.
        batch_size: requests per forward pass.
        seed: for the choice of worked examples.
        library: keeps tasks from one call to the next.
        answers: keeps the model's answers to finished tasks, for a run that is interrupted.

    Returns:
        lm-eval's outcome and per-question correctness.

    Raises:
        TaskError: an unknown task, or one whose data cannot be had.
    """
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM

    loaded = (library or TaskLibrary()).load(tasks, include_path, num_fewshot)
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=seed)
    with silent():
        # lm-eval gives the tokenizer a padding token where it has none.
        lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        ask_by_task(lm, answers)
        outcome = evaluate(lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=BOOTSTRAP_ITERS, log_samples=True)
    kept = {key: outcome[key] for key in KEPT if key in outcome}
    plain = json.loads(json.dumps(kept, default=lambda number: number.item()))
    return ZeroShot(plain, _correct(outcome["samples"]))


def _correct(samples: Mapping[str, list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Per-question correctness from lm-eval's logged samples, which hold one entry per question and filter."""
    scores: dict[str, dict[int, float]] = {}
    for task, entries in samples.items():
        for entry in entries:
            for metric in entry["metrics"]:
                if metric.startswith(("acc", "exact_match")) and np.isscalar(entry[metric]):
                    suffix = "" if entry["filter"] == "none" else f",{entry['filter']}"
                    scores.setdefault(f"{task}/{metric}{suffix}", {})[entry["doc_id"]] = float(entry[metric])
    return {name: np.array([by[doc] for doc in sorted(by)]) for name, by in scores.items()}
