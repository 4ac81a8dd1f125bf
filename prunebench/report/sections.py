"""The content of a report: its sections with plots and tables, and all of its tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.plots import charts
from prunebench.report.plots.budget_plots import budget_plots
from prunebench.report.plots.cost_plots import cost_plots
from prunebench.report.plots.pareto import front_tables, pareto_plots
from prunebench.report.plots.perplexity_plots import perplexity_plots
from prunebench.report.plots.plot import Plot
from prunebench.report.scenes import Scenes
from prunebench.report.summary import Paragraph, summarise
from prunebench.report.tables.budget_lines import budget_tables
from prunebench.report.tables.cells import failure_table, left_out_table, note_table
from prunebench.report.tables.cost import cost_tables, size_table
from prunebench.report.tables.diagnosis import diagnosis_tables
from prunebench.report.tables.forecasts import forecast_tables
from prunebench.report.tables.heat import heat_table
from prunebench.report.tables.mask_overlap import overlap_tables
from prunebench.report.tables.other_texts import other_text_tables
from prunebench.report.tables.perplexity import perplexity_tables
from prunebench.report.tables.plugin_measures import measure_tables
from prunebench.report.tables.provenance import cell_table, provenance_tables
from prunebench.report.tables.published import published_table
from prunebench.report.tables.table import Table
from prunebench.report.tables.zero_shot import zero_shot_tables


@dataclass(frozen=True)
class Section:
    """One section of a report; its paragraphs come first, then plots, then tables.

    Args:
        name: anchor in the HTML page.
        title: heading.
        explanation: what a reader must know to read it.
        plots, tables, paragraphs: the content.
    """

    name: str
    title: str
    explanation: str = ""
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    paragraphs: tuple[Paragraph, ...] = ()


def report_sections(
    records: Sequence[Record], order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> list[Section]:
    """All sections of a report.

    Args:
        records: the records to report on, of any models, methods and settings.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays of the records; without them nothing is marked as best.

    Returns:
        The sections that have something to show.
    """
    scenes = Scenes.of(records, order)
    by_model = [scene for model in scenes.models for scene in scenes.of_model(model).texts]
    forecasts = array_store.forecasts() if array_store else {}
    all_sections = [
        Section(
            "summary",
            "Summary",
            tables=tuple(table for scene in scenes.first if (table := heat_table(scene, array_store))),
            paragraphs=tuple(summarise(scenes.records, scenes.first, array_store)),
        ),
        Section("failed", "Failed cells", tables=(failure_table(scenes.records),)),
        Section(
            "diagnosis",
            "Diagnosis",
            "Signs that a run went wrong, with their evidence. A cell without one may be bad all the same: only what a "
            "method traced, and what was counted, is looked at.",
            tables=tuple(diagnosis_tables(scenes.settings)),
        ),
        Section(
            "perplexity",
            "Perplexity against sparsity",
            "Times the dense model's perplexity where that was measured; lower is better. The scale is logarithmic and "
            "ends at ten times: a triangle at its end is a value beyond, with its number. Bars are 95 % intervals over "
            "seeds and test sequences, over sequences alone where one seed was run; all methods are measured on the "
            "same sequences, so that marks can tell methods apart whose bars overlap.",
            tuple(perplexity_plots(scenes.texts, array_store)),
            tuple(perplexity_tables(by_model, array_store)),
        ),
        Section(
            "budgets",
            "What training buys",
            "Entries that differ in how long they trained are one line; methods that train nothing are at zero. What "
            "more training buys by itself, the dense model shows that was trained on, where a suite has one.",
            tuple(budget_plots(scenes.texts, array_store)),
            tuple(budget_tables(scenes.texts, array_store)),
        ),
        Section(
            "pareto",
            "What is worth its size",
            "Perplexity against what is left of a model, for models that cut the text into the same tokens. Those that "
            "another beats in both are faint. Bytes count the kept values and one bit for every weight of a pruned "
            "matrix, or the matrix as it was where that is smaller.",
            tuple(pareto_plots(scenes.texts)),
            (*front_tables(scenes.texts), size_table(scenes.records)),
        ),
        Section(
            "cost",
            "Quality against cost",
            "What pruning took, and what came of it: time at every sparsity, tokens and memory at the one that most "
            "methods share. Both scales are logarithmic. Times on different machines do not compare.",
            tuple(cost_plots(scenes.first)),
            (*cost_tables(scenes.settings), *forecast_tables(scenes.settings, forecasts)),
        ),
        Section(
            "robustness",
            "On other texts",
            "Whether what was kept for the calibration text serves elsewhere.",
            tables=tuple(other_text_tables(scenes.settings, array_store)),
        ),
        Section(
            "zero-shot",
            "Zero-shot tasks",
            "Bars are 95 % intervals over questions and seeds; methods stand slightly apart so that all can be seen.",
            tuple(charts.zero_shot_plots(scenes.tasks)),
            tuple(zero_shot_tables(scenes.tasks, array_store)),
        ),
        Section("measures", "What plugins measured", tables=tuple(measure_tables(scenes.settings))),
        Section(
            "convergence",
            "Convergence",
            "What iterative methods told of themselves while they ran.",
            tuple(charts.trace_plots(scenes.settings)),
        ),
        Section(
            "masks",
            "Which weights are kept",
            "How far two masks agree: weights that both keep, as a share of those that either keeps.",
            tables=tuple(overlap_tables(scenes.settings, array_store)),
        ),
        Section(
            "layers",
            "Sparsity of each layer",
            "Zeros counted in each matrix after pruning; a line for each way in which they are shared out.",
            tuple(charts.layer_plots(scenes.settings)),
        ),
        Section(
            "published",
            "Published figures beside ours",
            "Only figures of the same protocol compare. The text, the calibration and the checkpoint may still differ: "
            "see the note and the source.",
            tables=(published_table(scenes.settings),),
        ),
        Section(
            "notes",
            "Notes",
            "Adjustments and degradations, counted.",
            tables=(note_table(scenes.records, scenes.order),),
        ),
        Section(
            "provenance",
            "Environment and digests",
            tables=(*provenance_tables(scenes.records), left_out_table(scenes.left_out)),
        ),
        Section("cells", "All cells", tables=(cell_table(scenes.records),)),
    ]
    return [
        section
        for section in map(_without_empty_tables, all_sections)
        if section.plots or section.tables or section.paragraphs
    ]


def _without_empty_tables(section: Section) -> Section:
    tables = tuple(table for table in section.tables if table.rows)
    return Section(section.name, section.title, section.explanation, section.plots, tables, section.paragraphs)


def all_tables(
    records: Sequence[Record], order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> list[Table]:
    """All tables of a report: for each model perplexities, zero-shot tasks, masks and costs; then the rest.

    Args:
        records: the records to report on. Models and protocols keep the order in which they appear.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays of the records; without them nothing is marked as best.

    Returns:
        The tables that have rows.
    """
    scenes = Scenes.of(records, order)
    tables: list[Table] = []
    for of_model in map(scenes.of_model, scenes.models):
        tables += perplexity_tables(of_model.texts, array_store)
        tables += zero_shot_tables(of_model.tasks, array_store)
        tables += measure_tables(of_model.settings)
        tables += overlap_tables(of_model.settings, array_store)
        tables += cost_tables(of_model.settings)
    tables += budget_tables(scenes.texts, array_store)
    tables += other_text_tables(scenes.settings, array_store)
    tables += forecast_tables(scenes.settings, array_store.forecasts() if array_store else {})
    tables += [
        size_table(scenes.records),
        published_table(scenes.settings),
        failure_table(scenes.records),
        *diagnosis_tables(scenes.settings),
        note_table(scenes.records, scenes.order),
        left_out_table(scenes.left_out),
    ]
    return [table for table in tables if table.rows]
