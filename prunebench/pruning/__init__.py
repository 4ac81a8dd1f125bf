"""The toolkit: all that a pruning method may import besides torch.

It holds the sparsity patterns and their exact masks, the prunable matrices of a model, the calibration data, the walk
over the decoder blocks with statistics of each layer's inputs, progress reports and notes, and saved states for
resuming.
"""

from prunebench.pruning.calibration import CalibrationData
from prunebench.pruning.callbacks import account, note, trace, track
from prunebench.pruning.layers import Layer, UnknownMatrixError, decoder_blocks, prunable
from prunebench.pruning.resume import due, keep, kept
from prunebench.pruning.sparsity import NM, Allocated, Pattern, PatternError, Sparsity, Target, Unstructured
from prunebench.pruning.statistics import (
    FactorisationError,
    FeatureNorm,
    Hessian,
    Statistic,
    StatisticError,
    damped_cholesky,
)
from prunebench.pruning.walk import calibrated

REVISION = 1
"""Part of every cell's id: raised when any method's weights change by the toolkit or by how its data is made."""

__all__ = [
    "NM",
    "Allocated",
    "CalibrationData",
    "FactorisationError",
    "FeatureNorm",
    "Hessian",
    "Layer",
    "Pattern",
    "PatternError",
    "Sparsity",
    "Statistic",
    "StatisticError",
    "Target",
    "UnknownMatrixError",
    "Unstructured",
    "account",
    "calibrated",
    "damped_cholesky",
    "decoder_blocks",
    "due",
    "keep",
    "kept",
    "note",
    "prunable",
    "trace",
    "track",
]
