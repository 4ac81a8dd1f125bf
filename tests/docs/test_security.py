"""SECURITY.md tells of every figure in a record whether it is declared or measured."""

import re

from prunebench.records.record import SECTIONS, Cost, MethodFacts
from prunebench.runner.declared import Declared
from tests.helpers.paths import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("## Declared and measured")[2]


def rows(kind: str) -> str:
    return "\n".join(line for line in TABLE.splitlines() if re.match(rf"\| [^|]+\| [^|]*{kind}", line))


def test_what_the_pruning_process_says_is_told_to_be_declared_or_measured_from_outside() -> None:
    names = {"amounts": "other amounts", "wrapper_traces": "traces of wrappers"}
    for field in Declared.model_fields:
        assert names.get(field, field) in TABLE, field


def test_every_figure_of_a_record_is_in_the_table() -> None:
    for name in (*SECTIONS, *Cost.model_fields, *(set(MethodFacts.model_fields) - {"patterns"})):
        assert f"{name}`" in TABLE, name
    assert "tokens_seen" in rows("declared")
    assert "sparsity" in rows("measured")
