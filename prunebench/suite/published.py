"""Figures that others published, read from a CSV file, to stand beside our own."""

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prunebench.errors import SuiteError
from prunebench.evaluation.protocols import PAPER_PROTOCOLS
from prunebench.files import MEBIBYTE, read_regular_file
from prunebench.pruning.sparsity import PatternError, parse_pattern
from prunebench.records.published_figures import dense_disagreements
from prunebench.records.record import PublishedFigure

COLUMNS = ("model", "dataset", "seqlen", "method", "sparsity", "perplexity", "source")


@dataclass(frozen=True)
class PublishedRow:
    """One line of the file: for which cells it is, and the figure."""

    model: str
    method: str
    sparsity: str
    figure: PublishedFigure

    def is_for(self, models: Iterable[str], methods: Iterable[str], sparsity: str) -> bool:
        """Whether it is for a cell, whose model and method have several names."""
        return (
            self.model.casefold() in {name.casefold() for name in models}
            and self.method in set(methods)
            and self.sparsity == sparsity
        )


def read_published(path: Path) -> list[PublishedRow]:
    """Read published perplexities.

    Args:
        path: a CSV file with the columns ``COLUMNS``, and if wanted ``protocol``, ``exponent``, ``tolerance`` and
            ``note``; ``sparsity`` is as in a suite (the dense model's is 0). Where no protocol is named, a corpus and
            window length that papers share stand for the papers' own (``PAPER_PROTOCOLS``). ``exponent`` and
            ``tolerance`` are those of ``PublishedFigure``. A cell may have rows of several sources.

    Returns:
        A row each, in the order of the file.

    Raises:
        SuiteError: the file cannot be read, lacks a column or holds a value that is no number.
    """
    try:  # spreadsheets put a byte order mark in front, hence -sig
        text = read_regular_file(path, 64 * MEBIBYTE).decode("utf-8-sig")
        with io.StringIO(text, newline="") as file:
            lines = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
            if missing:
                raise SuiteError(f"{path}: no column {missing[0]!r}: published figures need {', '.join(COLUMNS)}")
            return [_row(path, lines.line_num, line) for line in lines]
    except OSError as error:
        raise SuiteError(f"cannot read the published figures {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SuiteError(f"{path} is no CSV file in UTF-8: {error}") from None


def published_disagreements(rows: Iterable[PublishedRow]) -> list[str]:
    """A line for each dense model whose published perplexities disagree; see ``dense_disagreements``."""
    dense: dict[str, list[PublishedFigure]] = {}
    for row in rows:
        if row.sparsity == "0":
            dense.setdefault(row.model.casefold(), []).append(row.figure)
    return [f"{model}, dense: {found}" for model, figures in dense.items() for found in dense_disagreements(figures)]


def _row(path: Path, number: int, line: dict[str, str | None]) -> PublishedRow:
    entry = {name: (value or "").strip() for name, value in line.items() if isinstance(name, str)}
    try:
        seqlen = int(entry["seqlen"]) if entry["seqlen"] else None
        value = float(entry["perplexity"])
        if not 0 < value < math.inf:
            raise ValueError(f"perplexity {value} is no finite number above 0")
        exponent = entry.get("exponent") or None
        if exponent and not re.fullmatch(r"[1-9][0-9]{0,8}/[1-9][0-9]{0,8}", exponent):
            raise ValueError(f"exponent {exponent!r} is no fraction, as 2047/2048")
        tolerance = float(entry["tolerance"]) if entry.get("tolerance") else None
        if tolerance is not None and not 0 < tolerance < 1:
            raise ValueError(f"tolerance {tolerance} is no part of a figure: give a number between 0 and 1, as 0.02")
        sparsity = "0" if entry["sparsity"] in ("0", "0.0") else str(parse_pattern(entry["sparsity"]))
    except (ValueError, PatternError) as error:
        raise SuiteError(f"{path}, line {number}: {error}") from None
    paper = PAPER_PROTOCOLS.get(entry["dataset"])
    shared = paper.name if paper is not None and paper.seqlen == seqlen else None
    return PublishedRow(
        model=entry["model"],
        method=entry["method"],
        sparsity=sparsity,
        figure=PublishedFigure(
            corpus=entry["dataset"],
            seqlen=seqlen,
            protocol=entry.get("protocol") or shared,
            perplexity=value,
            source=entry["source"],
            note=entry.get("note", ""),
            exponent=exponent,
            tolerance=tolerance,
        ),
    )
