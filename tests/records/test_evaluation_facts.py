"""What records say of evaluations: by the words of their classes, and of records from before by the keys they have."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunebench.evaluation.interface import BoundEvaluation, Shared
from prunebench.records.evaluation_facts import LONGEST, entry_of, names_of, sentence_of
from prunebench.report.paper.paragraph import methods_paragraph
from prunebench.report.site.recipe import recipe
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.records import record

OWN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class MyCount:
    \"\"\"Counts.

    Args:
        text: what to count.
    \"\"\"

    text: str = "ab"

    def resolve(self):
        return {"label": "count", "length": len(self.text), "text": self.text}

    @classmethod
    def from_facts(cls, facts):
        return cls(facts["text"])

    def measure(self, model, tokenizer):
        return {"length": len(self.text)}
"""
TOLD = """
    def entry(self, facts):
        return {"options": {"text": self.text}}

    def sentence(self, facts):
        return "We count {names} & more."
"""
SUITE = """
name: own
models: [builtin/tinyworld-llama-300k]
calibration: {corpus: builtin/tinyworld, nsamples: 4, seqlen: 64}
sparsities: [0.5]
methods: [magnitude]
evaluations: [{name: my-count, options: {text: abc}}]
"""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("perplexity", {"corpus": "builtin/tinyworld", "seqlen": 64}),
        ("perplexity", {"corpus": "builtin/tinyworld", "seqlen": 64, "windows": "document", "limit": 5, "noise": 0.1}),
        ("zero_shot", {"tasks": ("tinyworld_recall",), "limit": 0.1, "num_fewshot": 2, "noise": 0.2}),
        ("zero_shot", {"tasks": ("tinyworld_recall",), "limit": 7, "batch_size": "auto"}),
    ],
)
def test_a_class_says_what_older_records_are_read_as(name: str, options: dict[str, Any]) -> None:
    facts = json.loads(json.dumps(dict(BoundEvaluation.from_options(name, "", options, Shared()).facts)))
    assert {key: facts[key] for key in ("entry", "sentence")}
    before = {key: value for key, value in facts.items() if key not in ("entry", "sentence")}
    shown = json.loads(json.dumps({"name": name, **options}))
    for each in (facts, before):
        entry = entry_of(each)
        assert {key: entry[key] for key in shown} == shown
        assert set(entry) <= {"windows", "batch_size", *shown}
    assert sentence_of(facts) == sentence_of(before)


def planned(tmp_path: Path, source: str) -> Any:
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "suite.yaml").write_text(SUITE)
    (cell,) = plan(
        load_suite(tmp_path / "suite.yaml", plugin_files=[tmp_path / "mine.py"]), plugin_files=[tmp_path / "mine.py"]
    )
    return cell


def test_a_third_party_says_how_it_is_run_again_and_what_a_paper_says(tmp_path: Path) -> None:
    """An evaluation with facts of its own, as ``resolve`` gives them."""
    cell = planned(tmp_path, OWN + TOLD)
    made = record(evaluations=[evaluation.facts for evaluation in cell.evaluations])
    assert r"We count count \& more." in methods_paragraph([made])
    content = cell.model_dump(mode="json")
    again = tmp_path / "again.yaml"
    again.write_text(recipe(record().model_copy(update={"cell": type(made.cell).model_validate(content)})))
    files = [tmp_path / "mine.py"]
    assert [each.id for each in plan(load_suite(again, plugin_files=files), plugin_files=files)] == [cell.id]


def test_words_for_readers_are_no_part_of_what_a_cell_is(tmp_path: Path) -> None:
    cell = planned(tmp_path, OWN + TOLD)
    assert set(cell.evaluations[0].facts) >= {"entry", "sentence"}
    assert not {"entry", "sentence"} & set(cell.identity["evaluations"][0])


def test_one_that_says_nothing_is_named(tmp_path: Path) -> None:
    facts = {"name": "kl", "label": "kl-16", "options": {"count": 16}, "distribution": "other", "version": "1.2"}
    assert entry_of(facts) == {"name": "kl", "label": "kl-16", "options": {"count": 16}}
    assert names_of(facts) == ["kl-16"]
    assert "kl-16 is measured by the evaluation kl of other 1.2." in methods_paragraph([record(evaluations=[facts])])


def test_a_record_may_say_anything() -> None:
    """What others wrote steers neither TeX nor Python."""
    for sentence in ("\\input{x} {names.__class__} {0} %", "a" * 9999):
        made = record(evaluations=[{"name": "kl", "label": "{tokens}", "sentence": sentence, "options": {}}])
        said = methods_paragraph([made])
        assert "\\input" not in said
        assert len(said) < 3000
    assert len(sentence_of({"sentence": "a" * 9999})) == LONGEST
    assert entry_of({"name": "kl", "entry": "no mapping", "options": {}}) == {
        "name": "kl",
        "label": "kl",
        "options": {},
    }
    assert entry_of({"name": "kl", "entry": {"name": "other", "a": 1}}) == {"name": "kl", "a": 1}
