"""A paragraph for a paper's section on experiments: what was run, on which text, how measured, with which versions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prunebench import text
from prunebench.records.evaluation_facts import DIGITS, names_of, sentence_of
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, group_by, method_order, sparsity_order
from prunebench.report.output.text_tables import escape_latex
from prunebench.report.paper.citation import keys_of
from prunebench.report.paper.references import citations
from prunebench.report.summary import join_words
from prunebench.report.tuning import tuning_caption

NAMED = ("torch", "transformers", "lm-eval", "datasets")
"""The packages whose versions a reader needs, if a record has them."""


def methods_paragraph(records: Sequence[Record]) -> str:
    """One LaTeX paragraph made from records alone: models, methods, calibration, evaluation, statistics, versions.

    Args:
        records: those that a report shows.
    """
    sentences = [
        _what(records),
        _methods(records),
        _calibration(records),
        *_evaluations(records),
        _statistics(records),
        _tuning(records),
        _machines(records),
    ]
    body = "\n".join(sentence for sentence in sentences if sentence)
    return f"\\paragraph{{Experimental setup.}}\n\\begin{{sloppypar}}\n{body}\n\\end{{sloppypar}}\n"


def _what(records: Sequence[Record]) -> str:
    models = {
        name: sorted({str(r.environment.get("model_digest") or "")[:DIGITS] for r in group} - {""})
        for name, group in group_by(records, lambda record: record.cell.model).items()
    }
    formats = sorted({str((r.cell.model_extra or {}).get("dtype") or "") for r in records} - {""})
    named = [f"{name} (weights {', '.join(digests)})" if digests else name for name, digests in models.items()]
    pruned = sparsity_order(r.cell.sparsity for r in records if r.cell.sparsity != DENSE)
    allocations = list(dict.fromkeys(r.cell.allocation for r in records if r.cell.sparsity != DENSE))
    shared = f", zeros shared out {join_words(allocations)}" if allocations not in ([], ["uniform"]) else ""
    plain = f"We prune {join_words(named)}" + (f" in {join_words(formats)}" if formats else "")
    if pruned:
        plain += f" to sparsities of {join_words(pruned)}{shared}; n:m keeps n of every m weights of a row"
    return f"{escape_latex(plain)}."


def _methods(records: Sequence[Record]) -> str:
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    cited = citations(pruning)
    named = []
    for method in method_order(pruning):
        keys = ",".join(key for one in cited.get(method, ()) for key in keys_of(one))
        named.append(escape_latex(method) + (f"~\\cite{{{keys}}}" if keys else ""))
    if not named:
        return ""
    return f"We run {join_words(named)} with prunebench~\\cite{{prunebench}}, and count zeros after pruning."


def _calibration(records: Sequence[Record]) -> str:
    used = [r for r in records if r.cell.sparsity != DENSE and (r.method is None or r.method.takes_data)]
    texts = dict.fromkeys(_calibration_text(r.cell.calibration) for r in used)
    if not texts:
        return ""
    return escape_latex(f"Methods that take calibration text draw it from {join_words(texts)}.")


def _calibration_text(facts: Mapping[str, Any]) -> str:
    split = f", split {facts['split']}" if facts.get("split") else ""
    digest = str(facts.get("digest") or "")[:DIGITS]
    return (
        f"{facts.get('corpus')} ({facts.get('nsamples')} windows of {facts.get('seqlen')} tokens, windows: "
        f"{facts.get('windows')}{split}{f', text {digest}' if digest else ''})"
    )


def _evaluations(records: Sequence[Record]) -> list[str]:
    """What was measured: a sentence for all evaluations that their classes tell of in the same words."""
    measured = [(record, facts) for record in records for facts in record.cell.evaluations]
    said = []
    for sentence, group in group_by(measured, lambda one: sentence_of(one[1])).items():
        names = list(dict.fromkeys(name for _, facts in group for name in names_of(facts)))
        found = (record.perplexity.get(str(facts.get("protocol"))) for record, facts in group)
        tokens = sorted({one.tokens for one in found if one is not None})
        over = f", over {' to '.join(dict.fromkeys((str(tokens[0]), str(tokens[-1]))))} tokens" if tokens else ""
        # Not str.format: a record may say what it likes.
        said.append(sentence.replace("{tokens}", over).replace("{names}", join_words(names)))
    return [escape_latex(sentence) for sentence in said]


def _statistics(records: Sequence[Record]) -> str:
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    seeds = sorted({record.cell.seed for record in pruning})
    if not seeds:
        return ""
    if len(seeds) == 1:
        return f"Each cell is run with one seed ({seeds[0]})."
    return escape_latex(
        f"We report the mean and standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))}); methods "
        "that draw nothing have one. Bold are the best of a sparsity and all that a model confidence set (Hansen, "
        "Lunde and Nason, 2011) at 5 % does not tell from it, by the paired losses of test sequences and the spread "
        "of seeds."
    )


def _tuning(records: Sequence[Record]) -> str:
    said = tuning_caption(records)
    return escape_latex(f"{said[:1].upper()}{said[1:]}.") if said else ""


def _machines(records: Iterable[Record]) -> str:
    records = list(records)
    devices = dict.fromkeys(str(r.environment.get("device")) for r in records if r.environment.get("device"))
    versions = {
        name: sorted({str((r.environment.get("versions") or {}).get(name) or "") for r in records} - {""})
        for name in ("prunebench", *NAMED)
    }
    commits = sorted({str(r.environment.get("git_commit") or "")[:DIGITS] for r in records} - {""})
    named = [f"{name} {', '.join(found)}" for name, found in versions.items() if found]
    commit = f" (commit {', '.join(commits[:3])}{' and others' if len(commits) > 3 else ''})" if commits else ""
    said = [f"Runs are on {join_words(map(text.printable, devices))}" if devices else ""]
    said.append(f"with {join_words(named)}{commit}" if named else "")
    return escape_latex(f"{' '.join(part for part in said if part)}.") if any(said) else ""
