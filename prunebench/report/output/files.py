"""Writing of reports to files: the HTML page, and plots for papers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prunebench.errors import OutputError
from prunebench.files import describe_os_error, irregular, write_atomically
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.output.html_page import to_html
from prunebench.report.plots import matplotlib_svg as draw
from prunebench.report.sections import report_sections

PAGE_NAME = "report.html"


def write_html(
    records: Sequence[Record],
    folder: Path,
    order: Sequence[str] = (),
    array_store: ArrayStore | None = None,
    path: Path | None = None,
) -> Path:
    """Write the HTML page.

    Args:
        records: the records to report on.
        folder: the results folder that they come from; its name is the page's title.
        order, array_store: see ``prunebench.report.output.html_page.to_html``.
        path: the file to write; by default ``report.html`` in the folder.

    Returns:
        The path of the file.

    Raises:
        OutputError: it cannot be written.
    """
    title = folder.resolve().name or str(folder)
    return write_file(path or own_file(folder, PAGE_NAME), to_html(records, title, order, array_store))


def own_file(folder: Path, name: str) -> Path:
    """The path of a file that a report writes into a results folder unasked.

    Raises:
        OutputError: a link, a pipe or a device is in its place.
    """
    if kind := irregular(folder / name):
        raise OutputError(f"cannot write {folder / name}: it is {kind}; remove it, or choose another with --output")
    return folder / name


def write_plots(records: Sequence[Record], folder: Path, style: Literal["svg", "pdf"]) -> list[Path]:
    """Write every plot of the report as a file, with its title and legend.

    Args:
        records: the records to report on.
        folder: the folder to write to; created if needed.
        style: the file format.

    Returns:
        The paths of the files.

    Raises:
        OutputError: the folder cannot be written.
    """
    plots = [plot for section in report_sections(records) for plot in section.plots]
    return [write_file(folder / f"{plot.name}.{style}", draw.to_file(plot, style)) for plot in plots]


def write_file(path: Path, content: str | bytes) -> Path:
    """Write a file atomically, creating its folder if needed.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.encode(errors="replace") if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {describe_os_error(error)}; choose another with --output") from None
    return path
