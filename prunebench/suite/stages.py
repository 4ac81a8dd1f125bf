"""Method entries, read: each of its stages described, and refused where one cannot stand where it stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunebench.errors import DeviceError, MethodError
from prunebench.pruning.sparsity import Pattern
from prunebench.registry.entry_points import code_of, describe_method
from prunebench.registry.method_class import MethodClass, MethodDescription
from prunebench.suite.cell import CellStage
from prunebench.suite.method_entries import MethodEntry

WIDTHS = ("nothing", "prunable", "all")  # what a method may change, the widest last


@dataclass(frozen=True)
class PlannedMethod:
    """A method entry of a suite, with what is known of its methods.

    Args:
        entry: as the suite has it.
        stages: its methods, the first one and those that follow.
        codes: what identifies the code of each.
    """

    entry: MethodEntry
    stages: tuple[MethodDescription, ...]
    codes: tuple[str, ...]

    @classmethod
    def of(cls, entry: MethodEntry, files: Iterable[Path]) -> "PlannedMethod":
        """Describe the methods of an entry.

        Raises:
            MethodError: one is not installed, refuses its options, or cannot stand at its place.
        """
        asked = [(entry.name, entry.options), *((stage.name, stage.options) for stage in entry.then)]
        stages = tuple(describe_method(name, options, files) for name, options in asked)
        refuse_misplaced(stages)
        return cls(entry, stages, tuple(code_of("method", stage.name, files) for stage in stages))

    @property
    def first(self) -> MethodDescription:
        """The method that prunes, or a baseline."""
        return self.stages[0]

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is pruned: there is then one sparsity, 0."""
        return self.first.changes == "nothing"

    @property
    def changes(self) -> str:
        """What may change: the widest of the stages."""
        return max((stage.changes for stage in self.stages), key=WIDTHS.index)

    @property
    def takes_data(self) -> bool:
        """Whether any stage takes data; without it there is nothing random."""
        return any(stage.takes_data for stage in self.stages)

    @property
    def cites(self) -> tuple[str, ...]:
        """What to cite for all stages."""
        return tuple(dict.fromkeys(citation for stage in self.stages for citation in stage.cites))

    @property
    def patterns(self) -> list[str]:
        """The kinds of sparsity that all stages are for."""
        return [kind for kind in self.first.patterns if all(kind in stage.patterns for stage in self.stages)]

    def runs_at(self, sparsity: Pattern) -> bool:
        """Whether all stages are for a sparsity; a baseline, which prunes nothing, is not asked."""
        return self.is_baseline or all(stage.is_for(sparsity) for stage in self.stages)

    @property
    def then(self) -> tuple[CellStage, ...]:
        """The methods that follow the first one, as a cell holds them."""
        return tuple(
            CellStage(
                plugin=stage.name,
                distribution=stage.distribution,
                version=stage.version,
                plugin_file=str(stage.file) if stage.file else None,
                changes=stage.changes,
                takes_data=stage.takes_data,
                mask=stage.mask,
                code=code,
                options=stage.options,
            )
            for stage, code in zip(self.stages[1:], self.codes[1:], strict=True)
            if stage.mask is not None  # as all that follow: see refuse_misplaced
        )

    def refuse_device(self, device: str, model: str, *, alone: bool) -> None:
        """Refuse a device that cannot run it.

        Args:
            device: where the model is to be.
            model: what tables call it.
            alone: whether the suite has no other method.

        Raises:
            DeviceError: the model's blocks would lie on disk, and the method needs more.
        """
        if device != "disk" or (self.changes != "all" and len(self.stages) == 1):
            return
        others = "" if alone else ", name its models in its entry (models: [...])"
        if self.changes == "all":
            raise DeviceError(
                f"the method {self.entry.title!r} changes all of a model at once, which device 'disk' of {model!r} "
                f"never holds in memory: use cpu or cuda{others}, or choose other methods with --only"
            )
        raise DeviceError(
            f"the method {self.entry.title!r} has several stages, and device 'disk' of {model!r} does not hand a model "
            f"from one to the next: use cpu or cuda{others}, or choose other methods with --only"
        )


def refuse_misplaced(stages: Sequence[MethodDescription | MethodClass]) -> None:
    """Refuse a method that cannot stand where it stands among the stages of an entry.

    Raises:
        MethodError: the first only follows others, another cannot follow, or something follows a baseline that may not.
    """
    first, *others = stages
    if first.after:
        raise MethodError(
            f"the method {first.name!r} only follows another: write it into that one's entry, as "
            f"{{name: METHOD, then: [{first.name}]}}"
        )
    for stage in others:
        if stage.mask is None:
            raise MethodError(
                f"the method {stage.name!r} cannot follow {first.name!r}: its class does not say what it does with the "
                "masks that it finds; one that follows says mask = 'held' or mask = 'moves'"
            )
        if first.changes == "nothing" and not stage.control:
            raise MethodError(
                f"the method {stage.name!r} cannot follow {first.name!r}, which prunes nothing: after a baseline only "
                "a control makes sense, whose class says control = True"
            )
