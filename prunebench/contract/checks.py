"""The checks of every method after it has run: each rule of ``prunebench.hookspecs`` is measured, none is trusted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn

from prunebench.contract.live import (
    LiveState,
    Watch,
    all_tensors,
    names_violation,
    tensor_digest,
    unchanged_violation,
    watched,
)
from prunebench.contract.rules import Violation
from prunebench.errors import ContractError
from prunebench.pruning import NM, CalibrationData, Layer, Sparsity, UnknownMatrixError
from prunebench.pruning.layers import all_layers, resident_layers, target_of
from prunebench.pruning.offload import resident_tensors
from prunebench.pruning.sparsity import PatternError
from prunebench.records.record import MatrixCount, SparsityFacts

NEAR = 1e-3  # of what is said of weights that were pruned elsewhere

__all__ = ["LiveState", "Snapshot", "Watch", "mask_digests", "watched"]


@dataclass(frozen=True)
class Snapshot:
    """A model before pruning: what must be the same afterwards, how many zeros there were, and what is asked for.

    Args:
        sparsity: the pattern asked for.
        changes: what the method may change: "prunable", "all" or "nothing".
        digests: of the tensors that may not change.
        zeros: in each prunable matrix; of a model that another method pruned, those beyond what is asked for.
        live: what else must be the same in this process.
        masks: digests of the masks of prunable matrices, where a method that follows another holds them; else empty.
    """

    sparsity: Sparsity
    changes: str
    digests: dict[str, str]
    zeros: dict[str, int]
    live: LiveState
    masks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        sparsity: Sparsity,
        changes: str,
        *,
        data: CalibrationData | None = None,
        method: object = None,
        mask: str | None = None,
    ) -> "Snapshot":
        """The snapshot of a model before it is pruned, of the calibration data and of the method's instance.

        Args:
            model: before pruning.
            sparsity: the pattern asked for.
            changes: what the method may change.
            data, method: what else must stay as it is.
            mask: what a method that follows another does with the masks that it finds: "held" or "moves".
        """
        layers, tensors = _layers_by_parameter(model), all_tensors(model)
        for layer in chain(*layers.values()):
            target_of(layer, sparsity)
        digests: dict[str, str] = {}
        zeros, masks = {}, {}
        for name, tensor in resident_tensors(model, sorted(tensors)):
            if changes == "nothing" or (changes == "prunable" and name not in layers):
                digests[name] = tensor_digest(tensor)
            for layer in layers.get(name, ()):
                kept = layer.view(tensor.detach()) != 0
                zeros[layer.name] = int((~kept).sum())
                if mask is not None:
                    zeros[layer.name] = max(zeros[layer.name] - target_of(layer, sparsity).zeros, 0)
                if mask == "held":
                    masks[layer.name] = tensor_digest(kept)
        return cls(sparsity, changes, digests, zeros, LiveState.of(model, data, method), masks)

    def verify(
        self,
        model: nn.Module,
        *,
        data: CalibrationData | None = None,
        method: object = None,
        watch: Watch | None = None,
        counted: bool = False,
    ) -> SparsityFacts:
        """Check every rule of ``contract.rules`` that the runner checks, after pruning.

        Args:
            model: after pruning.
            data, method, watch: what else must be as it was.
            counted: the weights were pruned elsewhere: zeros need not be exact in each matrix, only near on the whole.

        Returns:
            The zeros counted.

        Raises:
            ContractError: a rule is broken; the first one, with the measured value.
        """
        findings = self._inspect_tensors(model)
        for violation in self._violations(findings, model, data, method, watch):
            if not (counted and violation.rule == "zeros"):
                raise violation.error
        matrices = {layer.name: findings.matrices[layer.name] for layer in all_layers(model)}
        zeros, numel = (sum(getattr(count, part) for count in matrices.values()) for part in ("zeros", "numel"))
        if counted and abs(zeros / numel - self.sparsity.ratio) > NEAR:
            raise ContractError(
                f"{zeros / numel:.4f} of the prunable weights are zero where {self.sparsity} is said: weights "
                f"that were pruned elsewhere must come within {NEAR}"
            )
        parameters = list(model.parameters())
        return SparsityFacts(
            requested=0.0 if self.changes == "nothing" else self.sparsity.ratio,
            reached=zeros / numel,
            whole_model=findings.zeros / sum(p.numel() for p in parameters),
            parameters=sum(p.numel() for p in parameters),
            parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
            matrices=matrices,
        )

    def violations(
        self,
        model: nn.Module,
        *,
        data: CalibrationData | None = None,
        method: object = None,
        watch: Watch | None = None,
    ) -> Iterator[Violation]:
        """Every violation of a rule of ``contract.rules`` after pruning; the easiest to understand first."""
        yield from self._violations(self._inspect_tensors(model), model, data, method, watch)

    def _violations(
        self, findings: "_Findings", model: nn.Module, data: CalibrationData | None, method: object, watch: Watch | None
    ) -> Iterator[Violation]:
        yield from self.live.violations(model, data, method, watch, prunes=self.changes != "nothing")
        yield from findings.in_tensors
        yield from findings.in_matrices

    def _inspect_tensors(self, model: nn.Module) -> "_Findings":
        """Check all tensors in one walk over them, for which blocks may be loaded from disk."""
        findings = _Findings()
        after = all_tensors(model)
        if names := set(after) ^ set(self.live.tensors):
            findings.in_tensors.append(names_violation(names))
        failure: Exception | None = None
        layers: dict[str, list[Layer]] = {}
        try:
            layers = _layers_by_parameter(model)
        except (UnknownMatrixError, PatternError, RuntimeError) as error:  # matrices are missing or of another shape
            failure = error
        parameters = {name for name, _ in model.named_parameters()}
        in_tensors: dict[str, Violation] = {}
        in_matrices: dict[str, list[Violation]] = {}
        for name, tensor in resident_tensors(model, sorted(after)):
            if tensor_violation := self._check_tensor(name, after[name], tensor):
                in_tensors[name] = tensor_violation
            if name in parameters:
                findings.zeros += int((tensor == 0).sum())
            for layer in layers.get(name, ()):
                try:
                    W = layer.view(tensor.detach())
                    in_matrices[layer.name] = list(self._check_matrix(layer, W, findings.matrices))
                except (PatternError, RuntimeError) as error:
                    failure = error
        # In the model's order, which need not be that of the walk.
        findings.in_tensors += [in_tensors[name] for name in after if name in in_tensors]
        findings.in_matrices += chain(*(in_matrices.get(layer.name, ()) for layer in chain(*layers.values())))
        if failure is not None and all(violation.rule != "tensors" for violation in findings.in_tensors):
            findings.in_matrices.append(
                Violation("tensors", f"the prunable matrices are not as they were found: {failure}")
            )
        return findings

    def _check_matrix(self, layer: Layer, W: Tensor, matrices: dict[str, MatrixCount]) -> Iterator[Violation]:
        """Count the zeros of a prunable matrix into ``matrices``, and check them."""
        target = target_of(layer, self.sparsity)
        prunes, zeros, before = self.changes != "nothing", int((W == 0).sum()), self.zeros.get(layer.name, 0)
        matrices[layer.name] = MatrixCount(numel=W.numel(), zeros=zeros)
        if not torch.isfinite(W).all():
            yield Violation("finite", f"{layer.name} holds NaN or infinity after pruning")
            return
        if layer.name in self.masks and tensor_digest(W != 0) != self.masks[layer.name]:
            yield Violation("held", f"the mask of {layer.name} was changed, and the method says mask = 'held'")
        # Weights that were zero before pruning may be among the kept ones.
        if prunes and not target.zeros <= zeros <= target.zeros + before:
            yield Violation(
                "zeros", f"{layer.name} holds {zeros} zeros where {target.zeros} of {W.numel()} were asked for"
            )
        if prunes and isinstance(target.pattern, NM):
            n, m = target.pattern.n, target.pattern.m
            worst = int((W.reshape(-1, m) != 0).sum(dim=1).max())
            if worst > n:
                yield Violation("groups", f"{layer.name} keeps {worst} weights in a group of {m} where {n} are allowed")

    def _check_tensor(self, name: str, parameter: Tensor, tensor: Tensor) -> Violation | None:
        """Check one parameter or buffer.

        Args:
            name: its name.
            parameter: the tensor as the model holds it, on the meta device where its block lies on disk.
            tensor: the same in memory.
        """
        if name not in self.live.tensors:
            return None
        if violation := self.live.tensor_violation(name, parameter):
            return violation
        if name in self.digests and tensor_digest(tensor) != self.digests[name]:
            return unchanged_violation(name, self.changes)
        if self.changes == "all" and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return Violation("finite", f"{name} holds NaN or infinity after pruning")
        return None


def mask_digests(model: nn.Module) -> dict[str, str]:
    """By prunable matrix, a digest of which of its weights are not zero."""
    return {layer.name: tensor_digest(layer.weight != 0) for layers in resident_layers(model) for layer in layers}


@dataclass
class _Findings:
    """What was found in the tensors after pruning.

    Args:
        in_tensors: violations in parameters and buffers, in the model's order.
        in_matrices: violations in prunable matrices, in the model's order.
        matrices: weights and zeros of each prunable matrix.
        zeros: in all parameters.
    """

    in_tensors: list[Violation] = field(default_factory=list)
    in_matrices: list[Violation] = field(default_factory=list)
    matrices: dict[str, MatrixCount] = field(default_factory=dict)
    zeros: int = 0


def _layers_by_parameter(model: nn.Module) -> dict[str, list[Layer]]:
    """The prunable matrices in each parameter, by name of the parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers: dict[str, list[Layer]] = {}
    for layer in all_layers(model):
        layers.setdefault(names[id(layer.parameter)], []).append(layer)
    return layers
