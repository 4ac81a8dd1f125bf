"""The folder that a paper takes: plots, a table, references and a paragraph on how it was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.output.files import write_file
from prunebench.report.output.text_tables import LATEX_PACKAGES, to_latex
from prunebench.report.paper.figures import figures
from prunebench.report.paper.paragraph import methods_paragraph
from prunebench.report.paper.references import bibtex
from prunebench.report.paper.styles import STYLES
from prunebench.report.paper.table import perplexity_latex
from prunebench.report.scenes import Scenes
from prunebench.report.sections import report_sections
from prunebench.report.tables.zero_shot import zero_shot_tables

NEEDS = f"% \\usepackage{{{', '.join(LATEX_PACKAGES)}}}\n"


def write_paper(
    records: Sequence[Record], folder: Path, style: str, array_store: ArrayStore | None = None, *, apart: bool = False
) -> list[Path]:
    """Write everything that a paper takes from records.

    Args:
        records: the records to report on.
        folder: the folder to write to; created if needed.
        style: one of ``STYLES``.
        array_store: the arrays of the records; without them no entry is in bold.
        apart: each plot in a file of its own, in place of panels of one figure.

    Returns:
        The files: ``tables.tex``, ``references.bib``, ``setup.tex`` and plots as PDF.

    Raises:
        OutputError: the folder cannot be written.
    """
    texts = paper_texts(records, array_store)
    written = [write_file(folder / name, content) for name, content in texts.items()]
    return written + write_figures(records, folder, style, "pdf", array_store, apart=apart)


def paper_texts(records: Sequence[Record], array_store: ArrayStore | None = None) -> dict[str, str]:
    """The files of a paper that are text, by name; see ``write_paper``."""
    scenes = Scenes.of(records)
    return {
        "tables.tex": NEEDS + latex_tables(scenes, array_store),
        "references.bib": bibtex(scenes.records),
        "setup.tex": methods_paragraph(scenes.records),
    }


def write_figures(
    records: Sequence[Record],
    folder: Path,
    style: str,
    form: Literal["svg", "pdf"],
    array_store: ArrayStore | None = None,
    *,
    apart: bool = False,
) -> list[Path]:
    """Write the plots of a report in the sizes and fonts of a venue; see ``write_paper``."""
    drawn = [
        figures(section.plots, STYLES[style], form, apart=apart)
        for section in report_sections(records, array_store=array_store)
        if section.plots
    ]
    return [write_file(folder / f"{name}.{form}", content) for found in drawn for name, content in found.items()]


def latex_tables(scenes: Scenes, array_store: ArrayStore | None) -> str:
    """The perplexities of all models in one ``table*`` for each text, and a table of accuracies for each model."""
    accuracies = [table for table in zero_shot_tables(scenes.tasks, array_store) if table.rows]
    parts = [perplexity_latex(scenes.texts, array_store), to_latex(accuracies)]
    return "\n\n".join(part for part in parts if part) + "\n"
