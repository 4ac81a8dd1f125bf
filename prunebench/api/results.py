"""The records of a run, as a notebook works with them: a sequence that gives data frames, tables and plots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from prunebench.errors import UsageError, suggest
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record

if TYPE_CHECKING:
    import pandas

    from prunebench.report.plots.plot import Plot


@dataclass(frozen=True, repr=False)
class Results(Sequence[Record]):
    """Records, in the order of the cells or of their files.

    Args:
        records: the records.
        folder: the results folder, which holds their arrays too.
        methods: methods in the order to show them; the rest follow by name.
    """

    records: tuple[Record, ...]
    folder: Path
    methods: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Results": ...
    def __getitem__(self, index: int | slice) -> "Record | Results":
        if isinstance(index, slice):
            return Results(self.records[index], self.folder, self.methods)
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @property
    def failed(self) -> tuple[Record, ...]:
        """Records of cells that failed; each has its ``error``."""
        return tuple(record for record in self.records if record.status == "failed")

    def to_frame(self) -> "pandas.DataFrame":
        """Every measurement as a row of a data frame.

        The columns are ``prunebench.report.output.frame.FRAME_COLUMNS``: what tells the cell from others (``options``
        and a numeric ``sparsity`` among them), what was measured, what it cost, and device and commit.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("to_frame() needs pandas: pip install 'prunebench[frame]'") from None
        from prunebench.report.output.frame import FRAME_COLUMNS, frame_rows

        return pandas.DataFrame(list(frame_rows(self.records)), columns=list(FRAME_COLUMNS))

    def plot(self, what: str = "perplexity") -> "Figures":
        """The report's plots of one section: perplexity, pareto, cost, zero-shot, convergence, layers.

        Args:
            what: the section.

        Returns:
            Figures, which a notebook shows.

        Raises:
            UsageError: these records have no such plots.
        """
        from prunebench.report.sections import report_sections

        sections = report_sections(self.records, self.methods, ArrayStore(self.folder))
        plots = {section.name: section.plots for section in sections if section.plots}
        if what not in plots:
            raise UsageError(f"these records have no plots of {what!r}: {suggest(what, plots)}")
        return Figures(plots[what])

    def tables(self) -> str:
        """The report's tables as text."""
        from prunebench.report.output.text_tables import to_terminal
        from prunebench.report.sections import all_tables

        return to_terminal(all_tables(self.records, self.methods, ArrayStore(self.folder)))

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"Results({len(self)} records{failed}, in {self.folder})"

    def _repr_markdown_(self) -> str:
        """How a notebook shows them: the tables."""
        from prunebench.report.output.text_tables import to_markdown
        from prunebench.report.sections import all_tables

        return to_markdown(all_tables(self.records, self.methods, ArrayStore(self.folder)))


@dataclass(frozen=True, repr=False)
class Figures(Sequence[Any]):
    """Plots of a report; a notebook shows them side by side.

    Args:
        plots: what they show.
    """

    plots: tuple["Plot", ...]

    def __getitem__(self, index: Any) -> Any:
        return Figures(self.plots[index]) if isinstance(index, slice) else Figures((self.plots[index],))

    def __len__(self) -> int:
        return len(self.plots)

    def save(self, folder: str | Path, style: str = "svg") -> list[Path]:
        """Write each as a file, with title and legend.

        Args:
            folder: made if needed.
            style: svg or pdf.

        Raises:
            UsageError: another style, or the folder cannot be written.
        """
        from prunebench.report.output.files import write_file
        from prunebench.report.plots.matplotlib_svg import to_file

        if style not in ("svg", "pdf"):
            raise UsageError(f"style is {style!r}: valid: svg, pdf")
        return [write_file(Path(folder) / f"{plot.name}.{style}", to_file(plot, style)) for plot in self.plots]  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"Figures({', '.join(plot.name for plot in self.plots)})"

    def _repr_html_(self) -> str:
        """How a notebook shows them: on white, since they are drawn for light paper."""
        from prunebench.report.plots.matplotlib_svg import to_file

        drawn = [to_file(plot, "svg").decode() for plot in self.plots]
        return "".join(
            f'<div style="display: inline-block; background: #fff">{svg[svg.index("<svg") :]}</div>' for svg in drawn
        )
