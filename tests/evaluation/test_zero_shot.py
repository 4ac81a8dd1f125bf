"""Zero-shot measurement through lm-eval."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from lm_eval.api.instance import Instance

from prunebench.data.noise import noisy_text
from prunebench.errors import TaskError
from prunebench.evaluation.lm_eval_answers import ask_with_noise
from prunebench.evaluation.lm_eval_tasks import TaskLibrary, check_tasks
from prunebench.evaluation.zero_shot import _chance, zero_shot
from prunebench.models.loading import load_model
from prunebench.models.source import find_model
from prunebench.pruning.callbacks import use_observer
from prunebench.suite.evaluation_entries import ZeroShotEntry
from prunebench.suite.file import load_suite
from prunebench.tinyworld.tasks import CHANCE
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver
from tests.helpers.paths import ROOT, SHARED, needs_shared
from tests.helpers.text import jsonl, letters, tokenizer

QUESTIONS = 12


def configs(built: list[str] | None = None) -> Mapping[str, dict[str, Any]]:
    """A multiple-choice task that builds its data in Python."""

    def dataset(**_: object) -> dict[str, Dataset]:
        if built is not None:
            built.append("choice")
        rows = [
            {"context": letters(3, i), "choices": [letters(1, 7 * i), letters(1, 7 * i + 5)], "gold": i % 2}
            for i in range(QUESTIONS)
        ]
        return {"test": Dataset.from_list(rows)}

    task = {
        "task": "choice",
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in METRICS],
        "metadata": {"version": 1.0},
    }
    return {"choice": task}


METRICS = ("acc", "acc_norm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Task files: one task, and a group of it."""
    jsonl(tmp_path / "last.jsonl", [letters(4, i) for i in range(QUESTIONS)])
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "last.yaml").write_text(
        f"""
task: last
tag: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "last.jsonl"}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{text.split(' ')[:-1]|join(' ')}}}}"
doc_to_target: "{{{{' ' + text.split(' ')[-1]}}}}"
metric_list:
  - {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
    )
    (tmp_path / "tasks" / "group.yaml").write_text(
        "group: all\ntask: [last]\naggregate_metric_list: [{metric: acc, aggregation: mean}]\n"
    )
    return tmp_path / "tasks"


def test_builtin_and_local_tasks(folder: Path) -> None:
    found = zero_shot(
        tiny.llama(),
        tokenizer(),
        tasks=["choice", "all"],
        include_path=str(folder),
        library=TaskLibrary(configs()),
    )
    assert json.loads(json.dumps(found.outcome)) == found.outcome
    assert set(found.outcome) == {"results", "groups", "versions", "n-shot", "n-samples", "higher_is_better"}
    results = found.outcome["results"]
    assert set(results) == {"choice", "last", "all"}
    assert set(found.correct) == {"choice/acc", "choice/acc_norm", "last/acc"}
    for name, values in found.correct.items():
        task, metric = name.split("/")
        assert values.dtype == np.float64
        assert len(values) == QUESTIONS
        assert results[task][f"{metric},none"] == pytest.approx(values.mean())
        assert results[task][f"{metric}_stderr,none"] == pytest.approx(values.std(ddof=1) / QUESTIONS**0.5)
    assert results["last"]["perplexity_stderr,none"] > 0
    assert found.chance == {"choice": 0.5}  # of a task without choices it is not known


def test_limit_and_order() -> None:
    library = TaskLibrary(configs())
    whole = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library)
    some = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library, limit=5, batch_size=3)
    np.testing.assert_array_equal(some.correct["choice/acc"], whole.correct["choice/acc"][:5])
    assert some.outcome["n-samples"]["choice"] == {"original": QUESTIONS, "effective": 5}
    half = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library, limit=0.5)
    assert half.outcome["n-samples"]["choice"]["effective"] == QUESTIONS // 2


def test_noise_is_in_the_question_and_not_in_the_choices() -> None:
    """Against the same questions, written with the noise in them."""
    written = configs()
    rows = written["choice"]["custom_dataset"]()["test"].to_list()
    changed = [{**row, "context": noisy_text(row["context"], 0.4)} for row in rows]
    assert sum(row != other for row, other in zip(rows, changed, strict=True)) > 3
    written["choice"]["custom_dataset"] = lambda **_: {"test": Dataset.from_list(changed)}
    expected = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=TaskLibrary(written))
    library = TaskLibrary(configs())
    found = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library, noise=0.4)
    for metric in METRICS:
        noisy = found.correct[f"choice-noise-0.4/{metric}"]
        np.testing.assert_array_equal(noisy, expected.correct[f"choice/{metric}"])
    assert set(found.outcome["results"]) == set(found.outcome["n-samples"]) == set(found.chance) == {"choice-noise-0.4"}
    plain = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library)
    assert set(plain.outcome["results"]) == {"choice"}


def test_noise_where_the_choices_stand_before_the_answer() -> None:
    """As in WinoGrande: the sentence up to the gap is the same for both, and each choice stays what it is."""
    asked: list[Instance] = []
    lm = SimpleNamespace(loglikelihood=lambda requests: asked.extend(requests) or [], generate_until=None)
    ask_with_noise(lm, 0.5)
    sentence, end = "the trophy did not fit into the case since the ", " was too big"
    before = [f"{sentence}trophy", f"{sentence}case", ""]
    requests = [Instance("loglikelihood", {}, (text, end), n, ("gap", 7, 1)) for n, text in enumerate(before)]
    lm.loglikelihood(requests)
    shared = noisy_text(sentence, 0.5)
    assert shared != sentence
    assert [request.args for request in asked] == [(f"{shared}trophy", end), (f"{shared}case", end), ("", end)]
    assert [request.args[0] for request in requests] == before


def test_a_library_builds_a_data_set_once_and_answers_do_not_stick() -> None:
    built: list[str] = []
    library = TaskLibrary(configs(built))
    first = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library)
    other = zero_shot(tiny.opt(), tokenizer(), tasks=["choice"], library=library)
    again = zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=library)
    assert built == ["choice"]
    assert first.outcome == again.outcome
    assert not np.array_equal(first.correct["choice/acc"], other.correct["choice/acc"])


def test_worked_examples() -> None:
    library = TaskLibrary(configs())
    kept = {"tasks": ["choice"], "library": library}
    two = zero_shot(tiny.llama(), tokenizer(), num_fewshot=2, **kept)  # type: ignore[arg-type]
    none = zero_shot(tiny.llama(), tokenizer(), **kept)  # type: ignore[arg-type]
    assert two.outcome["n-shot"] == {"choice": 2}
    assert none.outcome["n-shot"] == {"choice": 0}


def test_tasks_by_tag(folder: Path) -> None:
    found = zero_shot(
        tiny.llama(), tokenizer(), tasks=["mine"], include_path=str(folder), library=TaskLibrary(configs())
    )
    assert set(found.outcome["results"]) == {"last"}


def test_one_task_twice(folder: Path) -> None:
    with pytest.raises(TaskError, match="Duplicate task 'last'"):
        TaskLibrary(configs()).load(["last", "all"], str(folder), None)


def test_names_are_checked_without_building(folder: Path) -> None:
    built: list[str] = []
    library = TaskLibrary(configs(built))
    begin = time.monotonic()
    check_tasks(["choice", "last", "all", "mine"], str(folder), library)
    assert time.monotonic() - begin < 8
    assert built == []


def test_unknown_include_path() -> None:
    with pytest.raises(TaskError, match="include_path nowhere is not a folder"):
        check_tasks(["some"], "nowhere", TaskLibrary(configs()))


@pytest.mark.slow
def test_unknown_task_and_bundled_task(folder: Path) -> None:
    library = TaskLibrary(configs())
    with pytest.raises(TaskError, match=r"unknown task 'hellaswagg': did you mean 'hellaswag'\? valid:") as caught:
        check_tasks(["hellaswagg"], str(folder), library)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    with pytest.raises(TaskError, match="did you mean 'choice'"):
        check_tasks(["choise"], str(folder), library)
    check_tasks(["hellaswag"], str(folder), library)


@pytest.mark.slow
def test_the_tasks_of_our_suites_are_lm_evals() -> None:
    """By its own names, which are looked up without a network."""
    suites = [load_suite(path) for path in sorted((ROOT / "suites").rglob("*.yaml"))]
    entries = [entry for suite in suites for entry in suite.evaluations if isinstance(entry, ZeroShotEntry)]
    tasks = dict.fromkeys(task for entry in entries if entry.include_path is None for task in entry.tasks)
    elsa = {"arc_easy", "arc_challenge", "boolq", "hellaswag", "openbookqa", "rte", "winogrande"}
    assert elsa <= tasks.keys()
    check_tasks(list(tasks), None, TaskLibrary())


def test_missing_data(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunebench.hub.is_reachable", lambda: False)
    (tmp_path / "last.jsonl").unlink()
    with pytest.raises(TaskError, match="task 'last' cannot be built") as caught:
        zero_shot(tiny.llama(), tokenizer(), tasks=["last"], include_path=str(folder), library=TaskLibrary(configs()))
    assert "\n" not in str(caught.value)


def test_nothing_is_printed_and_nothing_stays_changed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import tqdm
    from lm_eval.api import task

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "transformers", "huggingface_hub")]
    before = [logger.level for logger in loggers], tqdm.tqdm, task.tqdm
    words = tokenizer()
    zero_shot(tiny.llama(), words, tasks=["choice", "last"], include_path=str(folder), library=TaskLibrary(configs()))
    assert capfd.readouterr() == ("", "")
    assert ([logger.level for logger in loggers], tqdm.tqdm, task.tqdm) == before
    assert words.pad_token is None


def test_progress_is_told() -> None:
    observer = RecordingObserver()
    with use_observer(observer):
        zero_shot(tiny.llama(), tokenizer(), tasks=["choice"], library=TaskLibrary(configs()))
    assert observer.steps[-1] == ("request", 2 * QUESTIONS, 2 * QUESTIONS)


def test_embedded_tasks() -> None:
    library = TaskLibrary()
    check_tasks(["tinyworld_recall"], None, library)
    found = zero_shot(tiny.llama(), tokenizer(), tasks=list(CHANCE), limit=2, library=library)
    assert len(found.correct["tinyworld_recall/acc"]) == 2
    assert found.chance == dict(CHANCE)


def test_chance_is_of_the_questions_that_were_asked() -> None:
    """A guess among k choices is right once in k; the accuracy of guessing is the mean over questions."""
    entries = [{"doc_id": doc, "resps": [0] * choices} for doc, choices in enumerate((2, 4, 4))]
    plain = SimpleNamespace(output_type="multiple_choice", process_results=None, metric_list=[{"metric": "acc"}])
    doubled = SimpleNamespace(**{**vars(plain), "metric_list": [{"metric": "acc_mutual_info"}]})
    scored = SimpleNamespace(**{**vars(plain), "process_results": "its own"})
    free = SimpleNamespace(**{**vars(plain), "output_type": "generate_until"})
    tasks = {name: SimpleNamespace(config=config) for name, config in
             {"plain": plain, "doubled": doubled, "scored": scored, "free": free}.items()}  # fmt: skip
    found = _chance(tasks, dict.fromkeys((*tasks, "unknown"), entries))
    assert found == {"plain": pytest.approx(1 / 3), "doubled": pytest.approx((1 + 1 / 2 + 1 / 2) / 3)}


@pytest.mark.shared
@pytest.mark.slow
@needs_shared
def test_known_figures_of_a_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    model, words = load_model(find_model(str(SHARED / "models/stories3M")), dtype="float32", device="cpu")
    found = zero_shot(
        model,
        words,
        tasks=["local_lambada", "local_hellaswag", "local_piqa"],
        limit=200,
        include_path=str(SHARED / "data/lm_eval"),
        library=TaskLibrary(configs()),
    )
    means = {name: values.mean() for name, values in found.correct.items()}
    assert means["local_lambada/acc"] == pytest.approx(0.095)
    assert means["local_hellaswag/acc_norm"] == pytest.approx(0.315)
    assert means["local_piqa/acc_norm"] == pytest.approx(0.57)
