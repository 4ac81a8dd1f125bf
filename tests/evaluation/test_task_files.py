"""Task files from elsewhere run no code unless they are trusted, and their templates stay in a sandbox."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prunebench.errors import TaskError
from prunebench.evaluation.lm_eval_tasks import TaskLibrary, check_tasks
from prunebench.evaluation.task_files import files_digest
from prunebench.evaluation.zero_shot import zero_shot
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.helpers.text import jsonl, letters, tokenizer

NO_BUILTINS: Mapping[str, dict[str, Any]] = {}
TASK = """
task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{text.split(' ')[:-1]|join(' ')}}}}"
doc_to_target: "{{{{' ' + text.split(' ')[-1]}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
CODE = """
from pathlib import Path

Path(__file__).with_name("ran").touch()


def target(doc):
    return " " + doc["text"].split(" ")[-1]
"""
FUNCTION = "doc_to_target: !function code.target"
OS = "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of task files: the task, with lines replaced by key, and code beside it."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    jsonl(tmp_path / "data.jsonl", [letters(4, number) for number in range(6)])
    (folder / "code.py").write_text(CODE)

    def write(*lines: str) -> Path:
        keys = [line.partition(":")[0] for line in lines]
        text = TASK.format(data=tmp_path / "data.jsonl")
        own = [line for line in text.splitlines() if line.partition(":")[0] not in keys]
        (folder / "mine.yaml").write_text("\n".join([*own, *lines]) + "\n")
        return folder

    return write


def check(folder: Path, name: str = "mine", *, trusted: bool = False) -> None:
    check_tasks([name], str(folder), TaskLibrary(NO_BUILTINS), trusted=trusted)


def measure(folder: Path, name: str = "mine", *, trusted: bool = False) -> Any:
    library = TaskLibrary(NO_BUILTINS)
    return zero_shot(
        tiny.llama(), tokenizer(), tasks=[name], include_path=str(folder), library=library, trust_remote_code=trusted
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            FUNCTION,
            r"mine\.yaml, line \d+: '!function code.target' is code, which runs only where",
        ),
        ("doc_to_target: !<!function> code.target", "'!function code.target' is code"),
        ("deep: {er: [{still: !function code.target}]}", "'!function code.target' is code"),
        (f'doc_to_text: "{OS}"', "its template reaches for '__globals__'"),
        ("doc_to_text: \"{{ ''['__class__'] }}\"", "its template reaches for '__class__'"),
        ("doc_to_text: \"{{ text|attr('x') }}\"", "its template reaches for 'attr'"),
        ('description: "{% if text._x %}{% endif %}"', "its template reaches for '_x'"),
        ("metric_list: [{metric: ./evil.py}]", "the metric './evil.py' is none of lm-eval's"),
        ("x: [&m {metric: ./evil.py}, {<<: *m}]", "the metric './evil.py' is none of lm-eval's"),
        ("metric_list: [{metric: acc, hf_evaluate: true}]", "hf_evaluate fetches the code of a metric"),
        ("dataset_path: pandas", "the data set 'pandas' is code or pickles"),
        ("dataset_path: ./script.py", "is code or pickles"),
        ("dataset_kwargs: {trust_remote_code: yes}", "it trusts the code of a data set"),
        ("unsafe_code: true", "unsafe_code runs what the model writes"),
        ("use_prompt: promptsource:all", "use_prompt 'promptsource:all' takes a template from outside"),
    ],
)
def test_what_would_run_code_is_refused_before_anything_is_built(
    write: Callable[..., Path], line: str, message: str
) -> None:
    folder = write(line)
    with pytest.raises(TaskError, match=message) as caught:
        check(folder)
    assert "\n" not in str(caught.value)
    assert "trust_remote_code: true" in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(TaskError, match=message):
        measure(folder)
    assert not (folder / "ran").exists()
    check(folder, trusted=True)


def test_trusted_code_runs_and_measures_the_same(write: Callable[..., Path]) -> None:
    plain = measure(write())
    folder = write(FUNCTION)
    trusted = measure(folder, trusted=True)
    assert (folder / "ran").exists()
    assert plain.outcome["results"] == trusted.outcome["results"]


@pytest.mark.parametrize("include", ["include: ../base.yaml", "include: [../base.yaml]", "<<: {include: ../base.yaml}"])
def test_included_files_are_read_too(write: Callable[..., Path], include: str) -> None:
    folder = write(include)
    (folder.parent / "base.yaml").write_text(FUNCTION + "\n")
    with pytest.raises(TaskError, match=r"base\.yaml, line 1: '!function"):
        check(folder)
    old = files_digest(str(folder))
    (folder.parent / "base.yaml").write_text("fewshot_delimiter: ' '\n")
    check(folder)
    assert files_digest(str(folder)) != old


def test_members_of_groups_and_tags_are_read_too(write: Callable[..., Path]) -> None:
    folder = write(FUNCTION, "tag: some")
    (folder / "a.yaml").write_text("group: all\ntask: [{group: inner, task: [{task: mine}]}]\n")
    for name in ("all", "some"):
        with pytest.raises(TaskError, match=r"mine\.yaml, line \d+: '!function"):
            check(folder, name)
    (folder / "b.yaml").write_text("task: harmless\n")
    check(folder, "harmless")


def test_what_lm_eval_installs_is_trusted_as_lm_eval_is(write: Callable[..., Path]) -> None:
    import lm_eval

    bundled = Path(str(lm_eval.__file__)).parent / "tasks" / "hellaswag" / "hellaswag.yaml"
    assert "!function" in bundled.read_text()
    check(write(f"include: {bundled}"))


def test_a_template_that_hides_what_it_reaches_for_finds_a_sandbox(write: Callable[..., Path]) -> None:
    hidden = "{{ ''['_' ~ '_class_' ~ '_']['_' ~ '_base_' ~ '_'] }}"
    folder = write(f'doc_to_text: "{hidden}"')
    check(folder)
    with pytest.raises(
        TaskError, match=r"a template of a task is refused: .*'__class__'.* unsafe. Such a template runs only"
    ):
        measure(folder)
    assert measure(folder, trusted=True)


def test_a_function_is_not_called_by_a_filter(write: Callable[..., Path]) -> None:
    folder = write("doc_to_text: \"{{ text|regex_replace('.', '{0.re.__class__}'.format) }}\"")
    with pytest.raises(TaskError, match="regex_replace takes a text"):
        measure(folder)
    assert measure(write("doc_to_text: \"{{ text|regex_replace('a+', 'b') }}\""))


@pytest.mark.parametrize("deep", ["[" * 10_000 + "]" * 10_000, "{a: " * 10_000 + "1" + "}" * 10_000, "[" * 1_000_000])
@pytest.mark.parametrize("included", [False, True])
def test_deep_files_are_refused_by_name(write: Callable[..., Path], deep: str, included: bool) -> None:
    folder = write("include: other.inc" if included else f"metadata: {deep}")
    if included:
        (folder / "other.inc").write_text(f"metadata: {deep}")
    with pytest.raises(TaskError, match=r"the task file .* has more than 64 levels: write it with fewer"):
        measure(folder)


@pytest.mark.parametrize("line", ["include: base.fifo", "task: mine"])
def test_a_pipe_is_not_waited_for(write: Callable[..., Path], line: str) -> None:
    folder = write(line)
    os.mkfifo(folder / ("base.fifo" if "fifo" in line else "other.yaml"))
    with pytest.raises(TaskError, match=r"(base\.fifo|other\.yaml) cannot be read: it is no regular file"):
        check(folder)


def test_a_suite_says_whom_it_trusts_and_other_ids_stay(
    write: Callable[..., Path], write_suite: Callable[..., Path]
) -> None:
    def cells(folder: Path, flag: str) -> Any:
        entry = f"{{name: zero_shot, tasks: [mine], include_path: {folder}{flag}}}"
        return plan(load_suite(write_suite(evaluations=f"evaluations: [{entry}]")))

    folder = write()
    flags = ("", ", trust_remote_code: false", ", trust_remote_code: true")
    plain, untrusted, trusted = (cells(folder, flag)[0] for flag in flags)
    assert plain.id == untrusted.id != trusted.id
    assert "trust_remote_code" not in plain.evaluations[0].facts
    assert trusted.evaluations[0].facts["trust_remote_code"] is True
    with pytest.raises(TaskError, match="trust_remote_code: true"):
        cells(write(FUNCTION), "")
    assert cells(write(FUNCTION), ", trust_remote_code: true")
