"""The toolkit: all that a pruning method may import besides torch.

It holds the sparsity patterns and their exact masks, the prunable matrices of a model, the calibration data, the walk
over the decoder blocks with statistics of each layer's inputs, training and its losses, progress reports and notes, and
saved states for resuming. Names are resolved when they are first used, so that a suite can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.pruning.calibration import CalibrationData
    from prunebench.pruning.callbacks import account, note, trace, track
    from prunebench.pruning.layers import Layer, UnknownMatrixError, decoder_blocks, prunable
    from prunebench.pruning.loss_curve import LossCurve
    from prunebench.pruning.losses import distillation_loss, language_loss
    from prunebench.pruning.masters import trainable
    from prunebench.pruning.model_gradients import gradients
    from prunebench.pruning.nested import apply
    from prunebench.pruning.resume import due, forget, keep, kept
    from prunebench.pruning.sparsity import NM, Allocated, Held, Pattern, PatternError, Sparsity, Target, Unstructured
    from prunebench.pruning.statistics import (
        FactorisationError,
        FeatureMoments,
        FeatureNorm,
        Hessian,
        Statistic,
        StatisticError,
        damped_cholesky,
    )
    from prunebench.pruning.training import fit, masks
    from prunebench.pruning.walk import Block, blocks, calibrated

REVISION = 1
"""Part of every cell's id: raised when any method's weights change by the toolkit or by how its data is made."""

__all__ = [
    "NM",
    "Allocated",
    "Block",
    "CalibrationData",
    "FactorisationError",
    "FeatureMoments",
    "FeatureNorm",
    "Held",
    "Hessian",
    "Layer",
    "LossCurve",
    "Pattern",
    "PatternError",
    "Sparsity",
    "Statistic",
    "StatisticError",
    "Target",
    "UnknownMatrixError",
    "Unstructured",
    "account",
    "apply",
    "blocks",
    "calibrated",
    "damped_cholesky",
    "decoder_blocks",
    "distillation_loss",
    "due",
    "fit",
    "forget",
    "gradients",
    "keep",
    "kept",
    "language_loss",
    "masks",
    "note",
    "prunable",
    "trace",
    "track",
    "trainable",
]

_MODULES = {
    "calibration": "CalibrationData",
    "callbacks": "account note trace track",
    "layers": "Layer UnknownMatrixError decoder_blocks prunable",
    "loss_curve": "LossCurve",
    "losses": "distillation_loss language_loss",
    "masters": "trainable",
    "model_gradients": "gradients",
    "nested": "apply",
    "resume": "due forget keep kept",
    "sparsity": "NM Allocated Held Pattern PatternError Sparsity Target Unstructured",
    "statistics": "FactorisationError FeatureMoments FeatureNorm Hessian Statistic StatisticError damped_cholesky",
    "training": "fit masks",
    "walk": "Block blocks calibrated",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
