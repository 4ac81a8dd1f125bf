"""Sparsity patterns and exact masks.

A *pattern* says which zeros a matrix shall have. A *target* is a pattern for one matrix: it computes the exact number
of weights to prune and turns scores into a boolean mask, True = kept. Among equal scores the lower index is kept.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor


class PatternError(ValueError):
    """A pattern that does not exist or does not fit its matrix."""


@dataclass(frozen=True)
class Unstructured:
    """A share ``ratio`` of the weights is zero, anywhere in the matrix.

    Args:
        ratio: fraction of zeros, 0 ≤ ratio < 1, read as the decimal it was written as (0.7 is 7/10).
    """

    ratio: float
    kind: ClassVar[str] = "unstructured"

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise PatternError(f"sparsity {self.ratio} is outside [0, 1): give the fraction of zeros, as 0.9")

    def __str__(self) -> str:
        return format(Decimal(str(self.ratio)).normalize(), "f")

    @property
    def group(self) -> None:
        """How many consecutive columns must be selected together: None, since any may be."""
        return None

    def zeros(self, shape: tuple[int, int]) -> int:
        """Number of weights to prune in a matrix of ``shape``: ratio · numel, rounded half up."""
        exact = Decimal(str(self.ratio)) * (shape[0] * shape[1])
        return int(exact.to_integral_value(rounding=ROUND_HALF_UP))

    def for_layer(self, name: str) -> "Pattern":
        """The pattern of one layer: the same for all."""
        return self


@dataclass(frozen=True)
class NM:
    """Of every ``m`` consecutive inputs of a row, ``n`` are **kept**.

    Wanda, SparseGPT and llm-compressor count the removed ones: 2:4 hides the difference, 1:4 does not.

    Args:
        n: weights kept in each group.
        m: weights in a group.
    """

    n: int
    m: int
    kind: ClassVar[str] = "n:m"

    def __post_init__(self) -> None:
        if not 0 < self.n <= self.m:
            raise PatternError(f"pattern {self.n}:{self.m} keeps {self.n} of every {self.m}: n must be 1 to m, as 2:4")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def ratio(self) -> float:
        """Fraction of zeros."""
        return 1 - self.n / self.m

    @property
    def group(self) -> int:
        """How many consecutive columns must be selected together: m."""
        return self.m

    def zeros(self, shape: tuple[int, int]) -> int:
        """Number of weights to prune in a matrix of ``shape`` (out, in).

        Raises:
            PatternError: the input dimension is no multiple of m.
        """
        if shape[1] % self.m:
            raise PatternError(f"pattern {self} does not fit {shape[1]} inputs: they are no multiple of {self.m}")
        return shape[0] * shape[1] // self.m * (self.m - self.n)

    def for_layer(self, name: str) -> "Pattern":
        """The pattern of one layer: the same for all."""
        return self


Pattern = Unstructured | NM


@dataclass(frozen=True)
class Allocated:
    """A pattern for each layer by name, as an allocation (uniform, OWL, …) passes it to a method.

    Args:
        pattern: the pattern asked for on the whole.
        layers: layer name → its own pattern; a layer that is not named gets ``pattern``.
    """

    pattern: Pattern
    layers: Mapping[str, Pattern] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Fraction of zeros asked for on the whole."""
        return self.pattern.ratio

    def __str__(self) -> str:
        return str(self.pattern)

    def for_layer(self, name: str) -> Pattern:
        """The pattern of one layer."""
        return self.layers.get(name, self.pattern)


@dataclass(frozen=True)
class Held:
    """The sparsity of a model that is sparse already, for a method that follows another: its masks are the targets'.

    Args:
        sparsity: what the model was pruned to.
    """

    sparsity: Unstructured | NM | Allocated

    @property
    def ratio(self) -> float:
        """Fraction of zeros on the whole."""
        return self.sparsity.ratio

    def __str__(self) -> str:
        return str(self.sparsity)

    def for_layer(self, name: str) -> Pattern:
        """The pattern of one layer."""
        return self.sparsity.for_layer(name)


Sparsity = Unstructured | NM | Allocated | Held


def parse_pattern(text: str) -> Pattern:
    """Read "0.9" or "2:4".

    Raises:
        PatternError: neither a fraction in [0, 1) nor n:m with 1 ≤ n ≤ m.
    """
    if match := re.fullmatch(r"\s*(\d{1,4})\s*:\s*(\d{1,4})\s*", text):
        return NM(int(match[1]), int(match[2]))
    try:
        ratio = Decimal(text.strip())
    except InvalidOperation:
        ratio = Decimal("NaN")
    if not ratio.is_finite():
        raise PatternError(f"sparsity {text!r} is neither a fraction of zeros in [0, 1), as 0.9, nor n:m, as 2:4")
    return Unstructured(float(ratio))


@dataclass(frozen=True)
class Target:
    """A pattern for one matrix, or for some consecutive columns of it.

    Args:
        pattern: the pattern asked for.
        shape: (out, in) of the whole matrix.
        start, end: the columns that this target covers, ``end`` exclusive.
        share: the part of the zeros that is asked for, 0 to 1; see ``ramped``.
        held: returns the mask of the whole matrix that every mask is then, boolean (out, in); None where scores decide.
    """

    pattern: Pattern
    shape: tuple[int, int]
    start: int
    end: int
    share: float = 1.0
    held: "Callable[[], Tensor] | None" = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, pattern: Pattern, shape: tuple[int, int]) -> "Target":
        """The target for a whole matrix of ``shape`` (out, in).

        Raises:
            PatternError: the pattern does not fit the shape.
        """
        pattern.zeros(shape)
        return cls(pattern, shape, 0, shape[1])

    def columns(self, start: int, end: int) -> "Target":
        """The target of columns start … end−1; the counts of targets that tile the matrix add up to its exact count."""
        return replace(self, start=self.start + start, end=self.start + end)

    def ramped(self, share: float) -> "Target":
        """The same target with only ``share`` of its zeros, for methods that approach it step by step.

        Without effect on the masks of n:m, which always keep n of every m.
        """
        return replace(self, share=share)

    def step(self, blocksize: int) -> int:
        """How many columns to select at a time when ``blocksize`` are processed together: m for n:m, else all."""
        return self.pattern.group or blocksize

    @property
    def zeros(self) -> int:
        """Exact number of weights to prune, by running totals over columns: ⌊K·end/in⌋ − ⌊K·start/in⌋."""
        total, width = self.pattern.zeros(self.shape), self.shape[1]
        if self.share != 1:
            total = int(total * self.share)
        return total * self.end // width - total * self.start // width

    def mask(self, scores: "Tensor", per: Literal["matrix", "row"] = "matrix") -> "Tensor":
        """The mask that keeps the highest scores; for a sparse model whose masks are held, the mask that is there.

        Args:
            scores: (out, end − start), any float dtype, no NaN.
            per: the group whose scores are compared: the whole matrix, or each row by itself. The rows' counts are
                running totals, so that together they prune ``zeros``. Without effect on n:m, whose groups are part of
                the pattern.

        Returns:
            Boolean (out, end − start), True = kept.

        Raises:
            PatternError: ``scores`` has another shape.
            ValueError: ``scores`` holds NaN.
        """
        from prunebench.pruning.topk import keep_of_groups, keep_of_matrix, keep_of_rows

        shape = (self.shape[0], self.end - self.start)
        if scores.shape != shape:
            raise PatternError(f"scores of shape {tuple(scores.shape)} for a target of shape {shape}")
        if self.held is not None:
            return self.held()[:, self.start : self.end]
        if isinstance(self.pattern, NM):
            return keep_of_groups(scores, self.pattern.n, self.pattern.m)
        return (keep_of_rows if per == "row" else keep_of_matrix)(scores, self.zeros)
