"""OWL: outlier weighed layerwise sparsity (Yin et al., arXiv 2310.05175)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from prunebench.allocations.budget import sizes_of, spread
from prunebench.pruning import CalibrationData, FeatureNorm, Layer, Pattern, Unstructured, calibrated
from prunebench.pruning.layers import resident_layers

ANY = Unstructured(0.5)  # calibration passes over layers of which no zero is asked


@dataclass(frozen=True)
class OWL:
    """Fewer zeros where more weights stand out.

    A weight's score is |W_ij|·‖X_j‖₂, and it is an outlier where that exceeds M times the mean. The share D of outliers
    decides the density: densities differ as D does, scaled to 2λ between the lowest and the highest, and average to
    what is asked for. A single outlying block may thus lie further than λ from the average, as in the authors' code.

    Args:
        M: how many times the mean an outlier is.
        lmda: λ, half the distance between the lowest and the highest sparsity.
        per: what has a mean, a D and a sparsity of its own: block, as in the paper, or layer, each matrix.
    """

    M: float = 5.0
    lmda: float = 0.08
    per: Literal["block", "layer"] = "block"
    revision: ClassVar[int] = 1
    needs: ClassVar[Literal["data"]] = "data"

    def __post_init__(self) -> None:
        if not self.M > 0:
            raise ValueError(f"M {self.M} is not positive: give a multiple of the mean, as 5")
        if not 0 <= self.lmda < 0.5:
            raise ValueError(f"lmda {self.lmda} is outside [0, 0.5): give a difference of ratios, as 0.08")
        if self.per not in ("block", "layer"):
            raise ValueError(f"per {self.per!r} is unknown: valid: block, layer")

    def __call__(self, model: nn.Module, data: CalibrationData, pattern: Unstructured) -> Mapping[str, Pattern]:
        """Count the dense model's outliers, and spread the ratios by them."""
        walk = calibrated(model, data, ANY, FeatureNorm, resume=False)  # the norms of all layers are wanted
        norms = {layer.name: norm.value for layer, norm, _ in walk}
        outliers: dict[str, float] = {}
        for layers in resident_layers(model):
            for group in [layers] if self.per == "block" else [[layer] for layer in layers]:
                D = outlier_share(group, norms, self.M)
                outliers.update({layer.name: D for layer in group})
        low, high = min(outliers.values()), max(outliers.values())
        scale = 2 * self.lmda / (high - low) if high > low else 0.0
        return spread({name: -D * scale for name, D in outliers.items()}, sizes_of(model), pattern)


def outlier_share(layers: list[Layer], norms: Mapping[str, Tensor], M: float) -> float:
    """Layerwise outlier distribution D, equation 1 of the paper, with one mean for all of ``layers``.

    Args:
        layers: the matrices spoken of.
        norms: layer name → ‖X_j‖₂ of its inputs, fp32 (in,).
        M: multiple of the mean.

    Returns:
        The share of weights whose score exceeds M times the mean.
    """

    def scores() -> Iterator[Tensor]:  # one matrix at a time
        return (layer.weight.float().abs() * norms[layer.name] for layer in layers)

    numel = sum(layer.weight.numel() for layer in layers)
    limit = M * sum(float(A.double().sum()) for A in scores()) / numel
    return sum(int(A.gt(limit).sum()) for A in scores()) / numel
