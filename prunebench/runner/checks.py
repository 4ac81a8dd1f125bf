"""What a stage handed over, checked: here no method is imported."""

from dataclasses import replace
from typing import Any, cast

from prunebench.allocations import check_budget
from prunebench.contract.checks import Snapshot
from prunebench.errors import AllocationError, ContractError
from prunebench.pruning import Allocated, Unstructured
from prunebench.pruning.nested import HELD
from prunebench.records.record import SparsityFacts
from prunebench.runner.declared import HandedOver, sparsity_of
from prunebench.runner.handover import take_over
from prunebench.suite.cell import Cell


def take_over_checked(model: Any, cell: Cell, handed: HandedOver) -> SparsityFacts:
    """Copy what a stage handed over into a stock model, and check it against every rule that tensors can break.

    Args:
        model: as it was before pruning, from its trusted source.
        cell: says what was asked for.
        handed: what the stage handed over.

    Returns:
        The zeros counted.

    Raises:
        ContractError: a rule is broken, or the tensors do not fit.
    """
    sparsity = sparsity_of(cell, handed.layers)
    if isinstance(sparsity, Allocated):  # worked out where plugins run: its sum is reckoned once more
        try:
            check_budget(model, cast(Unstructured, sparsity.pattern), sparsity.layers)
        except AllocationError as error:
            raise ContractError(str(error)) from None
    before = Snapshot.of(model, sparsity, cell.changes)
    if cell.methods[handed.stage].mask == HELD:
        if not handed.masks:
            raise ContractError("the masks that a method holds are not known")
        before = replace(before, masks=handed.masks)
    take_over(model, handed.file)
    return before.verify(model, counted=cell.brought)
