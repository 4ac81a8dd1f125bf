"""A site written to a folder: the page, copies of the records, the suite of each, and reports if asked for."""

from collections.abc import Sequence
from pathlib import Path

from prunebench.errors import OutputError, UsageError
from prunebench.files import describe_os_error, irregular, make_folder, read_regular_file, remove_tree, write_atomically
from prunebench.records.arrays import ArrayStore
from prunebench.records.store import RECORD_LIMIT, record_path, record_to_json
from prunebench.report.site.gather import Source
from prunebench.report.site.page import GENERATOR, RECORDS, to_page
from prunebench.report.site.recipe import recipe

PAGE, REPORTS = "index.html", "reports"


def write_site(sources: Sequence[Source], output: Path, title: str, *, reports: bool = False) -> Path:
    """Write a site; one that is there already is replaced.

    Args:
        sources: the folders.
        output: the site's folder; created if needed.
        title: the heading of its page.
        reports: whether to write a report of each folder, too.

    Returns:
        The path of its page.

    Raises:
        UsageError: the folder holds other things than a site.
        OutputError: it cannot be written.
    """
    _refuse_other_content(sources, output)
    try:
        make_folder(output)
        for name in (RECORDS, REPORTS):
            if (output / name).exists():
                remove_tree(output / name)
        for source in sources:
            _write_records(source, output / RECORDS / source.name)
            if reports:
                from prunebench.report.output.html_page import to_html

                make_folder(output / REPORTS)
                page = to_html(source.records, source.name, array_store=ArrayStore(source.folder))
                write_atomically(output / REPORTS / f"{source.name}.html", page.encode(errors="replace"))
        write_atomically(output / PAGE, to_page(sources, title, reports=reports).encode(errors="replace"))
    except OSError as error:
        raise OutputError(f"cannot write {output}: {describe_os_error(error)}; choose another with --output") from None
    return output / PAGE


def _refuse_other_content(sources: Sequence[Source], output: Path) -> None:
    if kind := irregular(output, folder=True):
        raise UsageError(f"cannot write {output}: it is {kind}; choose another with --output")
    if output.resolve() in {source.folder.resolve() for source in sources}:
        raise UsageError(f"{output} is one of the results folders: choose another with --output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    try:
        page = read_regular_file(output / PAGE, RECORD_LIMIT, follow_links=False)
    except OSError:
        page = b""
    if f'<meta name="generator" content="{GENERATOR}">'.encode() not in page:
        raise UsageError(f"{output} holds files that are no site of prunebench: choose an empty folder with --output")


def _write_records(source: Source, folder: Path) -> None:
    """Each record as it is, byte for byte, and the suite of its cell."""
    make_folder(folder)
    for record in source.records:
        own = record_path(source.folder, record)
        try:
            content = read_regular_file(own, RECORD_LIMIT, follow_links=False)
        except OSError:  # a copy under another name
            content = record_to_json(record).encode()
        (folder / f"{record.cell.id}.json").write_bytes(content)
        (folder / f"{record.cell.id}.yaml").write_text(recipe(record), encoding="utf-8", errors="replace")
