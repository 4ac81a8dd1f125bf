"""Zero-shot tasks: stock lm-eval on a model that is already loaded."""

import copy
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from prunebench.data.chats import fixed_day
from prunebench.errors import TaskError
from prunebench.evaluation.interface import Expected, Result, Shared, Stopwatch
from prunebench.evaluation.lm_eval_answers import SavedAnswers, ask_by_task, ask_with_noise
from prunebench.evaluation.lm_eval_output import silent
from prunebench.evaluation.lm_eval_tasks import TaskLibrary, check_generation, check_tasks, task_files_digest
from prunebench.evaluation.task_files import confined_templates
from prunebench.pruning.callbacks import note
from prunebench.records.cell_facts import task_title
from prunebench.records.evaluation_facts import task_sentence

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RECORDED_PARTS = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better")

# Accuracies have a closed-form standard error. Other metrics are resampled this often; 0 would leave all without one.
BOOTSTRAP_ITERS = 100

CPU_BATCH = 32  # what batch_size: auto is on the CPU
FEW, MORE = 4, 20  # questions of a task, to tell the time of a question from what comes before the first


@dataclass(frozen=True)
class ZeroShot:
    """Tasks measured by lm-eval; the names are lm-eval's own.

    Args:
        tasks: task or group names.
        limit: first documents of each task: a count, or a fraction below 1.
        num_fewshot: examples in the prompt; by default the task's own number.
        include_path: a folder of task files, besides those of lm-eval.
        batch_size: requests in one forward pass; "auto" is the largest that fits a GPU's memory, and 32 on the CPU.
        apply_chat_template: put each question into the tokenizer's chat template.
        fewshot_as_multiturn: worked examples as turns of the chat; by default where the template is applied.
        gen_kwargs: arguments of generation, in place of a task's own.
        trust_remote_code: let code that task files bring run; without it such tasks are refused, and templates are
            rendered in a sandbox.
        noise: the share of letters and digits that are changed in what stands before an answer; None for none.
    """

    tasks: tuple[str, ...]
    limit: int | float | None = None
    num_fewshot: int | None = None
    include_path: str | None = None
    batch_size: int | Literal["auto"] = 32
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool | None = None
    gen_kwargs: Mapping[str, Any] | None = None
    trust_remote_code: bool = False
    noise: float | None = None

    revision: ClassVar[int] = 1
    section: ClassVar[str] = "zero_shot"

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The evaluation that a cell holds."""
        options = {option.name: facts[option.name] for option in fields(cls) if option.name in facts}
        turns = bool(facts.get("fewshot_as_multiturn"))
        return cls(**{**options, "tasks": tuple(facts["tasks"]), "fewshot_as_multiturn": turns})

    def resolve(self, shared: Shared) -> dict[str, Any]:
        """The options, and a digest of the task files.

        Raises:
            TaskError: an unknown name, no such folder, or code that may not run.
        """
        check_generation(self.gen_kwargs or {})
        check_tasks(self.tasks, self.include_path, library_of(shared), trusted=self.trust_remote_code)
        facts = {**asdict(self), "digest": task_files_digest(self.include_path)}
        turns = self.apply_chat_template if self.fewshot_as_multiturn is None else self.fewshot_as_multiturn
        facts["fewshot_as_multiturn"] = turns
        later = ("trust_remote_code", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs", "noise")
        return {name: value for name, value in facts.items() if value or name not in later}  # the first had no others

    def entry(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are given."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, False)}
        return {**given, "tasks": list(self.tasks)}

    def sentence(self, facts: Mapping[str, Any]) -> str:
        """Which questions lm-eval asks, and with how many examples."""
        return task_sentence(facts)

    def label(self, facts: Mapping[str, Any]) -> None:
        """None: results stand under the tasks' names."""

    def prepare(self, tokenizer: Any, shared: Shared) -> None:
        """Load the tasks with their data.

        Raises:
            TaskError: data that cannot be had.
        """
        import lm_eval.evaluator
        import lm_eval.models.huggingface  # noqa: F401

        library_of(shared).load(
            self.tasks, self.include_path, self.num_fewshot, trusted=self.trust_remote_code, gen_kwargs=self.gen_kwargs
        )

    def measure(self, model: Any, tokenizer: Any, seed: int, shared: Shared, saved: SavedAnswers) -> Result:
        """What lm-eval finds, and the correctness of each question."""
        result = zero_shot(model, tokenizer, **asdict(self), seed=seed, library=library_of(shared), answers=saved)
        return Result(result.outcome, result.correct, result.chance)

    def forecast(self, model: Any, tokenizer: Any, stopwatch: Stopwatch, shared: Shared) -> Expected:
        """The time of a few questions, carried on to all of them; of each question a bit or so is kept."""
        options = {**asdict(self), "library": library_of(shared)}

        def timed(limit: int) -> tuple[float, dict[str, Any]]:
            began = time.perf_counter()
            result = zero_shot(model, tokenizer, **{**options, "limit": limit})
            return time.perf_counter() - began, result.outcome["n-samples"]

        timed(1)  # what is built once
        few, counts = timed(FEW)
        more, _ = timed(MORE)
        totals = [int(entry["original"]) for entry in counts.values()]
        limit = self.limit
        questions = [
            total if limit is None else min(total, int(limit) if limit >= 1 else math.ceil(total * limit))
            for total in totals
        ]
        seen = [sum(min(total, count) for total in totals) for count in (FEW, MORE)]
        each = max(0.0, more - few) / max(1, seen[1] - seen[0])
        return Expected(few + each * (sum(questions) - seen[0]), sum(questions) // 5)


def generates(task: Any) -> bool:
    """Whether a task of lm-eval lets the model write."""
    return bool(task.get_config("output_type") == "generate_until")


def library_of(shared: Shared) -> TaskLibrary:
    """The tasks that the evaluations of a sweep have in common."""
    return shared.get("lm-eval tasks", TaskLibrary)


@dataclass(frozen=True, eq=False)
class ZeroShotResult:
    """What lm-eval found.

    Args:
        outcome: lm-eval's own ``results``, ``groups``, ``versions``, ``n-shot``, ``n-samples``, ``higher_is_better``,
            as plain JSON.
        correct: per question, "<task>/<metric>" (acc, acc_norm, exact_match …) → float64, (questions,), in the order
            of the task's documents.
        chance: by task, the accuracy of guessing on the questions asked; only of tasks where it follows from the number
            of choices.
    """

    outcome: dict[str, Any]
    correct: dict[str, np.ndarray]
    chance: dict[str, float]


def zero_shot(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    tasks: Sequence[str],
    limit: int | float | None = None,
    num_fewshot: int | None = None,
    include_path: str | None = None,
    batch_size: int | Literal["auto"] = 16,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    noise: float | None = None,
    seed: int = 0,
    library: TaskLibrary | None = None,
    answers: SavedAnswers | None = None,
) -> ZeroShotResult:
    """Measure tasks with lm-eval. Its request cache, which ignores the model, is not used.

    Args:
        model: a loaded causal language model; measured where it is.
        tokenizer: the model's own; not changed.
        tasks: names of tasks, groups or tags.
        limit: the first so many documents of each task, or below 1 the first share of them; None for all.
        num_fewshot: worked examples before each question; None for the task's own number, else 0.
        include_path: folder of task files.
        batch_size: requests per forward pass; "auto" on a GPU for as many as fit.
        apply_chat_template: put each question into the tokenizer's chat template.
        fewshot_as_multiturn: worked examples as turns of the chat; None for ``apply_chat_template``.
        gen_kwargs: arguments of generation, in place of a task's own.
        trust_remote_code: let code that task files bring run, and render templates without a sandbox.
        noise: the share of letters and digits that are changed in what stands before an answer; the names of tasks and
            groups then end with it.
        seed: for the choice of worked examples, and of tokens where generation samples.
        library: keeps tasks from one call to the next.
        answers: keeps the model's answers to finished tasks, for a run that is interrupted.

    Returns:
        lm-eval's outcome and per-question correctness.

    Raises:
        TaskError: an unknown task, one with code that may not run, or one whose data cannot be had.
    """
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM

    if apply_chat_template and not tokenizer.chat_template:
        raise TaskError("apply_chat_template: the model's tokenizer has no chat template: leave it out")
    if fewshot_as_multiturn is None:
        fewshot_as_multiturn = apply_chat_template
    if batch_size == "auto" and model.device.type != "cuda":  # where nothing says that memory is short until it is gone
        batch_size = CPU_BATCH
    loaded = (library or TaskLibrary()).load(
        tasks, include_path, num_fewshot, trusted=trust_remote_code, gen_kwargs=gen_kwargs
    )
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=seed)
    if gen_kwargs and not any(generates(task) for task in loaded["tasks"].values()):
        note("gen_kwargs changed nothing: no task lets the model write")
    with silent(), fixed_day(), confined_templates(trusted=trust_remote_code):
        # lm-eval gives the tokenizer a padding token where it has none.
        lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        ask_by_task(lm, answers, seed)
        if noise is not None:
            ask_with_noise(lm, noise)
        outcome = evaluate(
            lm=lm,
            task_dict=loaded,
            limit=limit,
            bootstrap_iters=BOOTSTRAP_ITERS,
            log_samples=True,
            apply_chat_template=apply_chat_template,
            fewshot_as_multiturn=fewshot_as_multiturn,
        )
    recorded = {key: outcome[key] for key in RECORDED_PARTS if key in outcome}
    plain = json.loads(json.dumps(recorded, default=lambda number: number.item()))
    chance = _chance(loaded["tasks"], outcome["samples"])
    return ZeroShotResult(
        {part: _titled(values, noise) for part, values in plain.items()},
        _correct(_titled(outcome["samples"], noise)),
        _titled(chance, noise),
    )


def _titled(by_task: Mapping[str, Any], noise: float | None) -> dict[str, Any]:
    """So that a task with noise stands beside the same without."""
    return {task_title(task, noise): value for task, value in by_task.items()}


def _chance(tasks: Mapping[str, Any], samples: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """The mean over questions of 1 / choices, for tasks of multiple choice that lm-eval scores itself."""
    found = {}
    for name, entries in samples.items():
        config = getattr(tasks.get(name), "config", None)
        if config is None or config.output_type != "multiple_choice" or config.process_results is not None:
            continue
        metrics = {str(metric.get("metric")) for metric in config.metric_list or []}
        passes = 2 if "acc_mutual_info" in metrics else 1  # each choice once more without the question
        choices = {entry["doc_id"]: len(entry["resps"]) // passes for entry in entries}
        if choices and min(choices.values()) > 0:
            found[name] = float(np.mean([1 / count for count in choices.values()]))
    return found


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
