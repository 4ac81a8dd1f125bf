"""What a record says of an evaluation, for readers: its entry in a suite, its names, its sentence in a paper.

``entry`` and ``sentence`` are facts that the evaluation's class gives when a suite is planned (see
``prunebench.evaluation.interface.Evaluation``). Records from before have neither: there the keys that are present tell.
"""

from collections.abc import Mapping
from typing import Any

from prunebench.records.cell_facts import task_titles

LONGEST = 500  # characters of a sentence
DIGITS = 10  # of a digest: enough to tell two contents apart
# What planning found out, and no suite says.
_FOUND = {
    *("name", "label", "protocol", "source", "corpus", "digest", "code", "corpus_code", "corpus_file", "makes_text"),
    *("distribution", "version", "plugin_file", "needs_whole_model", "entry", "sentence"),
}


def entry_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation as a suite names it.

    Args:
        facts: what the cell holds of it.
    """
    name = str(facts.get("name", "perplexity"))
    if isinstance(own := facts.get("entry"), dict):
        return {"name": name} | {str(key): value for key, value in own.items() if key != "name"}
    if "protocol" not in facts and "tasks" not in facts:
        return {"name": name, "label": facts.get("label", name), "options": facts.get("options", {})}
    found = _FOUND | ({"apply_chat_template"} if "protocol" in facts else set())  # there it is the text that has one
    options = {key: value for key, value in facts.items() if key not in found and value not in (None, False)}
    text = {"corpus": facts.get("source", facts.get("corpus"))} if "protocol" in facts else {}
    return {"name": name, **options, **text}


def names_of(facts: Mapping[str, Any]) -> list[str]:
    """What an evaluation measures, as a sentence names it: a text with its digest, tasks, or its label."""
    if "protocol" in facts:
        digest = str(facts.get("digest") or "")[:DIGITS]
        return [f"{facts['protocol']} (text {digest})" if digest else str(facts["protocol"])]
    return task_titles(facts) or [str(facts.get("label") or facts.get("name"))]


def sentence_of(facts: Mapping[str, Any]) -> str:
    """How a paper tells of an evaluation, with ``{names}`` for its own and those of others with the same sentence."""
    own = facts.get("sentence")
    if isinstance(own, str) and own:
        return own[:LONGEST]
    if "protocol" in facts:
        return text_sentence()
    if facts.get("tasks"):
        return task_sentence(facts)
    source = " ".join(str(facts[key]) for key in ("distribution", "version") if facts.get(key))
    return f"{{names}} is measured by the evaluation {facts.get('name')}{f' of {source}' if source else ''}."


def text_sentence() -> str:
    """Of the perplexity of a text; ``{tokens}`` is how many were predicted."""
    return "Perplexity is measured by the protocol {names}{tokens}: the exponential of the mean loss."


def task_sentence(facts: Mapping[str, Any]) -> str:
    """Of tasks that lm-eval asks.

    Args:
        facts: their ``limit`` and ``num_fewshot``.
    """
    limit, shots = facts.get("limit"), facts.get("num_fewshot")
    part = isinstance(limit, int | float) and 0 < limit < 1
    first = f"{100 * limit:g} % of the" if part else limit  # type: ignore[operator]
    asked = [f"the first {first} questions of each"] if first else []
    asked += [f"{shots} examples in the prompt"] if shots is not None else []
    return f"Accuracy is that of lm-eval on {{names}}{''.join(f', {each}' for each in asked)}."
