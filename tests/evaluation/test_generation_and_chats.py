"""Tasks in which the model writes, and tasks put into a chat template, against what transformers alone gives."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from prunebench.errors import TaskError
from prunebench.evaluation.interface import Shared
from prunebench.evaluation.lm_eval_tasks import TaskLibrary
from prunebench.evaluation.zero_shot import ZeroShot, zero_shot
from prunebench.pruning.callbacks import use_observer
from prunebench.suite.evaluation_entries import ZeroShotEntry
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver
from tests.helpers.text import letters, tokenizer

PROMPTS = [letters(4, 3 * number) for number in range(6)]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}z {{ m['content'] }} z{% endfor %}"
    "{% if add_generation_prompt %} .{% endif %}"
)
SHOTS = [{"prompt": "x w", "target": "v", "choices": ["v", "u"], "gold": 0}]


def written(model: Any, text: str, count: int) -> str:
    """What a model writes after a text, token by token."""
    own = tokenizer()
    ids = own(text)["input_ids"]
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return str(own.decode(ids[-count:], skip_special_tokens=True))


def library(targets: list[str], **more: Any) -> TaskLibrary:
    """A task that asks for the next tokens, and one of two choices."""
    rows = [
        {"prompt": prompt, "target": target, "choices": ["b", "c"], "gold": number % 2}
        for number, (prompt, target) in enumerate(zip(PROMPTS, targets, strict=True))
    ]
    common = {
        "custom_dataset": lambda **_: {"test": Dataset.from_list(rows), "train": Dataset.from_list(SHOTS)},
        "test_split": "test",
        "fewshot_split": "train",
        "doc_to_text": "prompt",
        "metadata": {"version": 1.0},
    }
    writes = {
        **{"task": "writes", "output_type": "generate_until", "doc_to_target": "target"},
        "generation_kwargs": {"until": ["."], "max_gen_toks": 5, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    chooses = {
        **{"task": "chooses", "output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold"},
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    return TaskLibrary({"writes": {**common, **writes}, "chooses": {**common, **chooses}})


def scores(model: Any, targets: list[str], **options: Any) -> list[float]:
    own = tokenizer()
    own.chat_template = TEMPLATE
    task = options.pop("task", "writes")
    found = zero_shot(model, own, tasks=[task], library=library(targets), **options)
    (name,) = found.correct
    return list(found.correct[name])


@pytest.mark.parametrize("batch_size", [1, "auto"])
def test_what_is_written_is_what_the_model_writes(batch_size: Any) -> None:
    model = tiny.llama().eval()
    own = [written(model, prompt, 2) for prompt in PROMPTS]
    right = ["wrong" if number == 2 else text for number, text in enumerate(own)]
    found = scores(model, right, gen_kwargs={"max_gen_toks": 2, "until": ["</s>"]}, batch_size=batch_size)
    assert found == [float(number != 2) for number in range(6)]


def test_a_sampled_answer_depends_on_the_seed_alone() -> None:
    model, sampled = tiny.llama().eval(), {"do_sample": True, "temperature": 5.0, "max_gen_toks": 1, "until": ["</s>"]}
    before = torch.random.get_rng_state()
    task = {"targets": list("abcdef"), "gen_kwargs": sampled}
    texts = [_answers(model, seed=seed, **task) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(before, torch.random.get_rng_state())


def _answers(model: Any, targets: list[str], gen_kwargs: dict[str, Any], seed: int) -> list[Any]:
    kept: list[Any] = []

    class Keeper:
        def known(self, task: str) -> None:
            return None

        def add(self, task: str, answers: list[Any]) -> None:
            kept.extend(answers)

    zero_shot(
        model,
        tokenizer(),
        tasks=["writes"],
        library=library(targets),
        gen_kwargs=gen_kwargs,
        seed=seed,
        answers=Keeper(),
    )
    return kept


@pytest.mark.parametrize(("multiturn", "shots"), [(None, 0), (None, 1), (False, 1)])
def test_questions_stand_in_the_template(multiturn: bool | None, shots: int) -> None:
    model = tiny.llama().eval()
    own = tokenizer()
    texts = {
        (None, 0): "<s> z {} z .",
        (None, 1): "<s> z x w z z v z z {} z .",  # the example is a turn of the user and one of the assistant
        (False, 1): "<s> z x w v {} z .",  # all in one message; blank lines between are no tokens here
    }
    expected = []
    for number, prompt in enumerate(PROMPTS):
        ids = torch.tensor([own(texts[multiturn, shots].format(prompt), add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1]
        b, c = (logits[own.convert_tokens_to_ids(choice)] for choice in "bc")
        expected.append(float(int(c > b) == number % 2))
    options = {"apply_chat_template": True, "fewshot_as_multiturn": multiturn, "num_fewshot": shots}
    assert scores(model, list("abcdef"), task="chooses", **options) == expected


def test_defaults_stand_in_no_fact() -> None:
    shared = Shared()
    shared.get("lm-eval tasks", lambda: library(list("abcdef")))
    facts = ZeroShot(("writes",)).resolve(shared)
    assert not {"gen_kwargs", "apply_chat_template", "fewshot_as_multiturn"} & facts.keys()
    asked = ZeroShot(("writes",), apply_chat_template=True, gen_kwargs={"max_gen_toks": 3})
    facts = asked.resolve(shared)
    assert (facts["apply_chat_template"], facts["fewshot_as_multiturn"]) == (True, True)
    again = ZeroShot.from_facts(facts)
    assert (again.gen_kwargs, again.apply_chat_template, again.fewshot_as_multiturn) == (
        {"max_gen_toks": 3},
        True,
        True,
    )


def test_wrong_options_are_told() -> None:
    shared = Shared()
    shared.get("lm-eval tasks", lambda: library(list("abcdef")))
    with pytest.raises(TaskError, match=r"gen_kwargs: unknown argument 'max_gen_tok'.*max_gen_toks"):
        ZeroShot(("writes",), gen_kwargs={"max_gen_tok": 3}).resolve(shared)
    observer = RecordingObserver()
    with use_observer(observer):
        scores(tiny.llama(), list("abcdef"), task="chooses", gen_kwargs={"max_gen_toks": 3})
    assert any("gen_kwargs changed nothing" in what for what in observer.messages)
    with pytest.raises(TaskError, match="the model's tokenizer has no chat template"):
        zero_shot(tiny.llama(), tokenizer(), tasks=["chooses"], apply_chat_template=True)
    entry = {"name": "zero_shot", "tasks": ["chooses"]}
    for key, value in (("batch_size", "all"), ("batch_size", 0), ("gen_kwargs", "temperature=1"), ("gen_kwargs", {})):
        with pytest.raises(ValidationError, match=key):
            ZeroShotEntry.model_validate({**entry, key: value})
    with pytest.raises(ValidationError, match="fewshot_as_multiturn: true needs apply_chat_template: true"):
        ZeroShotEntry.model_validate({**entry, "fewshot_as_multiturn": True})
    with pytest.raises(ValidationError, match="noise would change the words of the chat template"):
        ZeroShotEntry.model_validate({**entry, "apply_chat_template": True, "noise": 0.05})
