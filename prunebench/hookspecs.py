"""The hook specification ``prune``: its docstring is the contract that every pruning method promises to keep."""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunebench.pruning import CalibrationData, Sparsity

PROJECT = "prunebench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def prune(model: "PreTrainedModel", data: "CalibrationData", sparsity: "Sparsity") -> None:
    """Make the prunable matrices of ``model`` sparse, in place.

    A method is a frozen dataclass: its fields are its hyperparameters (typed, documented, defaulted), and its one
    ``@hookimpl`` is this function, with ``self`` in front. It may name fewer arguments; it may not give one a default.

    Args:
        model: a causal language model in eval mode, on its device. Its prunable matrices are what
            ``prunebench.pruning.prunable(model, sparsity)`` yields: every linear matrix inside the decoder blocks,
            never embeddings, head, norms or routers.
        data: calibration text as tokens: ``data.windows``, LongTensor (nsamples, seqlen), the same for every method of
            a seed; ``data.batches(batch_size, start)``, an endless iterator of LongTensors (batch_size, seqlen);
            ``data.seed``, the only source of randomness; ``data.teacher``, the dense model, made when it is asked for.
        sparsity: the pattern asked for, ``Unstructured(ratio)`` or ``NM(n, m)`` with n kept of every m inputs, perhaps
            with a pattern of its own for each layer.

    Returns:
        None. On return

        * each prunable matrix holds exactly the zeros asked for (``target.mask`` counts exactly), its dtype, device
          and shape unchanged, and no NaN or infinity;
        * nothing else has changed, bit for bit, unless the class says ``changes: ClassVar[str] = "all"``
          (the default is ``"prunable"``; a method that says ``"nothing"`` is a baseline, run once for each model, or
          once for each seed if it takes data);
        * no hooks or wrappers stay behind; train or eval mode and ``config.use_cache`` are as they were found;
        * the global random generators are untouched and ``data`` is unchanged;
        * nothing was printed to stdout, and nothing is kept in the instance, its class or their module for a next call.

        ``prunebench.contract.rules`` names these clauses, and ``prunebench plugins check`` looks for each.

        A method that is not for every kind of pattern says ``patterns: ClassVar[tuple[str, ...]] = ("unstructured",)``;
        cells of another kind ("n:m") are then not planned. At sparsity 0 one that trains may train; any other changes
        no weight.

        A method that can follow another on the model which that has pruned says ``mask: ClassVar[str] = "held"``, and
        then leaves every zero where it finds it, or ``"moves"``; one that only follows says ``after: ClassVar[bool] =
        True``, and one that may also follow a baseline ``control: ClassVar[bool] = True``.

        A method finishes with one layer of ``calibrated(...)``, or one block of ``blocks(...)``, before it asks for the
        next, or writes to none while it walks, and carries nothing from one to the next: an interrupted run goes on in
        the middle of the walk. One that does carry something says ``calibrated(..., resume=False)``. Where a model is
        larger than memory, a layer of ``calibrated`` or ``prunable`` is in memory until one of the next block is asked
        for.

    Raises:
        Exception: any, when the contract cannot be met. The cell is then recorded as failed and the sweep goes on.
            What was adjusted in order to meet it (more damping, say) is told by ``prunebench.pruning.note``.
    """
