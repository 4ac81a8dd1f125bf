"""What a report has, section by section."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.grouping import group_by, latest_records, method_styles
from prunebench.report.plots import charts
from prunebench.report.plots.pareto import front_tables, pareto_plots
from prunebench.report.plots.plot import Plot
from prunebench.report.summary import Paragraph, summarise
from prunebench.report.tables.cells import failure_table, left_out_table, note_table
from prunebench.report.tables.cost import cost_tables, size_table
from prunebench.report.tables.forecasts import forecast_tables
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
    """One section.

    Args:
        name: its anchor in a page.
        title: its heading.
        words: what a reader must know to read it.
        plots, tables: in this order.
        paragraphs: in front of them.
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
    """Everything a report says, from records alone.

    Args:
        records: what to report on, of any models, methods and settings.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays beside the records; without them nothing is marked as best.

    Returns:
        The sections that have something to show.
    """
    kept, left_out = latest_records(records)
    styles = method_styles(kept, order)
    models = list(group_by(kept, lambda record: record.cell.model).values())

    def of_models(tables: Sequence[list[Table]]) -> tuple[Table, ...]:
        return tuple(table for of_model in tables for table in of_model if table.rows)

    foretold = forecast_tables(kept, array_store.forecasts() if array_store else {}, order)
    everything = [
        Section("summary", "Summary", paragraphs=tuple(summarise(kept, styles, array_store))),
        Section("failed", "Failed cells", tables=(failure_table(kept),)),
        Section(
            "perplexity",
            "Perplexity against sparsity",
            "Lower is better; the scale is logarithmic. Marks apart from the lines are n:m patterns. Bars are 95 % "
            "intervals over seeds, where there are several. A triangle at the upper edge: the value is not finite.",
            tuple(charts.perplexity_plots(kept, styles)),
            of_models([perplexity_tables(of_model, order, array_store) for of_model in models]),
        ),
        Section(
            "pareto",
            "What is worth its size",
            "Perplexity against what is left of a model, for models that cut the text into the same tokens. Those that "
            "another beats in both are faint. Bytes count the kept values and one bit for every weight of a pruned "
            "matrix, or the matrix as it was where that is smaller.",
            tuple(pareto_plots(kept, styles)),
            (*front_tables(kept), size_table(kept)),
        ),
        Section(
            "cost",
            "Quality against cost",
            "What pruning took, and what came of it, at the sparsity that the most methods share. Both scales are "
            "logarithmic. Times on different machines do not compare.",
            tuple(charts.cost_plots(kept, styles)),
            (*of_models([cost_tables(of_model, order) for of_model in models]), *foretold),
        ),
        Section(
            "robustness",
            "On other texts",
            "Whether what was kept for the calibration text serves elsewhere.",
            tables=tuple(other_text_tables(kept, styles)),
        ),
        Section(
            "zero-shot",
            "Zero-shot tasks",
            "Bars are 95 % intervals over questions; methods stand slightly apart so that all can be seen.",
            tuple(charts.zero_shot_plots(kept, styles)),
            of_models([zero_shot_tables(of_model, order, array_store) for of_model in models]),
        ),
        Section(
            "measures",
            "What plugins measured",
            tables=of_models([measure_tables(of_model, order) for of_model in models]),
        ),
        Section(
            "convergence",
            "Convergence",
            "What iterative methods told of themselves while they ran.",
            tuple(charts.trace_plots(kept, styles)),
        ),
        Section(
            "masks",
            "Which weights are kept",
            "How far two masks agree: weights that both keep, as a share of those that either keeps.",
            tables=of_models([overlap_tables(of_model, order, array_store) for of_model in models]),
        ),
        Section(
            "layers",
            "Sparsity of each layer",
            "Zeros counted in each matrix after pruning; a line for each way in which they are shared out.",
            tuple(charts.layer_plots(kept, styles)),
        ),
        Section(
            "published",
            "Published figures beside ours",
            "Only figures of the same protocol compare. The text, the calibration and the checkpoint may still differ: "
            "see the note and the source.",
            tables=(published_table(kept),),
        ),
        Section("notes", "Notes", "Adjustments and degradations, counted.", tables=(note_table(kept, order),)),
        Section("provenance", "Environment and digests", tables=(*provenance_tables(kept), left_out_table(left_out))),
        Section("cells", "All cells", tables=(cell_table(kept),)),
    ]
    return [
        section
        for section in map(_without_empty_tables, everything)
        if section.plots or section.tables or section.paragraphs
    ]


def _without_empty_tables(section: Section) -> Section:
    tables = tuple(table for table in section.tables if table.rows)
    return Section(section.name, section.title, section.explanation, section.plots, tables, section.paragraphs)
