"""One LaTeX table for all models: methods × sparsities, the dense model above them, the best in bold."""

from collections.abc import Sequence

from prunebench.records.arrays import ArrayStore
from prunebench.report.budgets import HEADERS, by_group, columns_of, group_of
from prunebench.report.grouping import group_by, sparsity_order
from prunebench.report.output.text_tables import escape_latex, fitted_latex
from prunebench.report.scene import TextScene
from prunebench.report.tables.best import GROUPED_CAPTION, MARKED_CAPTION, marks_by_group
from prunebench.report.tables.perplexity import mean_over_seeds
from prunebench.report.tables.table import caption, seeds_text

CAPTION_END = "lower is better"


def perplexity_latex(scenes: Sequence[TextScene], array_store: ArrayStore | None) -> str:
    """A ``table*`` for each text, with all models one below another; needs booktabs and graphicx.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.
        array_store: the arrays of the records; without them nothing is in bold.
    """
    tables = []
    for number, (title, of_text) in enumerate(group_by(scenes, lambda scene: scene.title).items()):
        shown = [scene for scene in of_text if scene.measured or scene.failed]
        if shown:
            label = "tab:perplexity" + (f"-{number + 1}" if number else "")
            tables.append(_table(title, label, shown, array_store))
    return "\n\n".join(tables)


def _table(title: str, label: str, scenes: Sequence[TextScene], array_store: ArrayStore | None) -> str:
    sparsities = sparsity_order(sparsity for scene in scenes for sparsity in scene.sparsities)
    width = 1 + len(HEADERS) + len(sparsities)
    lines, marked, over_all = [], False, False
    for scene in scenes:
        rows, bold, dagger = _rows(scene, sparsities, array_store)
        name = ", ".join(part for part in (scene.model, scene.label) if part)
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape_latex(name)}}}}} \\", *rows]
        marked, over_all = marked or bold, over_all or dagger
    said = caption(
        f"Perplexity on {title}",
        CAPTION_END,
        seeds_text((group for scene in scenes for group in scene.succeeded().cells.values()), "standard deviation"),
        MARKED_CAPTION.replace("marked:", "bold:") if marked else "",
        GROUPED_CAPTION if over_all else "",
    )
    head = " & ".join(map(escape_latex, ("method", *HEADERS, *sparsities)))
    body = "\n".join(
        (
            rf"\begin{{tabular}}{{ll{'r' * (1 + len(sparsities))}}}",
            r"\toprule",
            rf"{head} \\",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
        )
    )
    return fitted_latex(body, f"{escape_latex(said)}.", label)


def _rows(scene: TextScene, sparsities: Sequence[str], array_store: ArrayStore | None) -> tuple[list[str], bool, bool]:
    """The lines of one model, and whether an entry is the best of its group, and of all groups."""
    entries, failed, records = scene.succeeded().cells, scene.failed, scene.by_method
    present = list(records)
    present = [present[row] for row in by_group([group_of(group) for group in records.values()])]
    groups = [group_of(records[method]) for method in present]
    # A cell of which a seed failed does not compete.
    columns = [[[] if (m, s) in failed else entries.get((m, s), []) for m in present] for s in sparsities]
    bold, dagger = marks_by_group(columns, groups, scene.protocol, array_store)
    lines = []
    for method, seeds in scene.succeeded().baselines.items():
        value = mean_over_seeds(seeds, scene.protocol)
        span = rf"\multicolumn{{{len(sparsities)}}}{{c}}{{{escape_latex(value)}}}"
        lines.append(" & ".join([escape_latex(method), *("--" for _ in HEADERS), span]) + r" \\")
    for row, method in enumerate(present):
        shown = [escape_latex(part) for part in (method, *columns_of(records[method]))]
        for column, sparsity in enumerate(sparsities):
            value = escape_latex(mean_over_seeds(entries.get((method, sparsity), []), scene.protocol))
            if (method, sparsity) in failed:
                value = "failed" if value == "--" else f"{value} (a seed failed)"
            value = rf"\textbf{{{value}}}" if (column, row) in bold else value
            shown.append(rf"{value}$^\dagger$" if (column, row) in dagger else value)
        apart = [r"\addlinespace[2pt]"] if (row and groups[row] != groups[row - 1]) or (not row and lines) else []
        lines += [*apart, " & ".join(shown) + r" \\"]
    return lines, bool(bold), bool(dagger)
