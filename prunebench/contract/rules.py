"""The rules of the contract of pruning methods: what each promises, and how to repair a method that breaks it."""

from dataclasses import dataclass

from prunebench.errors import ContractError


@dataclass(frozen=True)
class Rule:
    """One clause of the contract of ``prunebench.hookspecs``.

    Args:
        name: its name in verdicts.
        promise: what is true of a method that follows the rule.
        mend: how to repair a method that breaks it.
        every_cell: the runner checks it in every cell; otherwise the conformance kit alone does.
    """

    name: str
    promise: str
    mend: str
    every_cell: bool = True


@dataclass(frozen=True)
class Violation:
    """A rule that a method broke.

    Args:
        rule: the rule's name.
        measured: what was found, in one line.
    """

    rule: str
    measured: str

    @property
    def error(self) -> ContractError:
        """What fails a cell: what was found, and how to repair the method."""
        return ContractError(f"{self.measured}; to mend it: {RULES[self.rule].mend}")


KIT_ONLY = False

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "loads",
            "the class is a frozen dataclass whose one hook names arguments of the specification, without defaults",
            "hyperparameters are fields of the class; prune takes only model, data and sparsity, and no default",
        ),
        Rule(
            "options",
            "every option is typed, documented under Args, and has a default that JSON can hold",
            "give the field a type, a default of that type (numbers, text, booleans, tuples), and a line under Args:",
            KIT_ONLY,
        ),
        Rule(
            "runs",
            "prune returns without raising, on every architecture and pattern",
            "go by prunable(model, sparsity) or calibrated(...) rather than by names and shapes of one architecture",
        ),
        Rule(
            "zeros",
            "each prunable matrix holds exactly the zeros asked for",
            "set to zero what target.mask(scores) does not keep, and keep nothing else at zero",
        ),
        Rule(
            "groups",
            "each n:m group of a row keeps at most n weights",
            "choose with target.mask(scores), which knows the groups; columns go along the inputs of layer.weight",
        ),
        Rule(
            "held",
            'a method that follows another and says mask = "held" leaves every zero, and no other, where it found it',
            "choose with target.mask(scores), which is then the mask that is there; fit(..., held=masks(parameters))",
        ),
        Rule(
            "finite",
            "no weight is NaN or infinite",
            "guard divisions and roots; raise an error when a layer cannot be solved",
        ),
        Rule(
            "unchanged",
            "nothing but the prunable matrices has changed, bit for bit",
            'write to layer.weight only; a method that trains all parameters says changes: ClassVar[str] = "all"',
        ),
        Rule(
            "tensors",
            "parameters and buffers are the same in number, dtype, device and shape",
            "write in place, as layer.weight.copy_(W) does, rather than replace parameters or cast the model",
        ),
        Rule(
            "hooks",
            "no hook or patched forward is left behind",
            "remove handles in a finally block, or use calibrated(...), which leaves none",
        ),
        Rule(
            "mode",
            "modules are in train or eval mode as they were found",
            "call model.eval() at the end if you called model.train(), also when something fails",
        ),
        Rule(
            "use_cache",
            "config.use_cache is as it was found",
            "pass use_cache=False to the call instead of writing to the configuration",
        ),
        Rule(
            "generators",
            "the global random generators are untouched",
            "draw from torch.Generator().manual_seed(data.seed) and hand it to the function that draws",
        ),
        Rule(
            "data",
            "the calibration data is left as it was",
            "clone data.windows before writing to it",
        ),
        Rule(
            "state",
            "nothing is kept in the method's instance, class or module for the next cell",
            "keep what a run computes in local variables of prune",
        ),
        Rule(
            "stdout",
            "nothing is printed to stdout",
            "use track(...) for progress, note(...) for adjustments, trace(...) for curves",
        ),
        Rule(
            "order",
            "a layer of calibrated(...) that is written to is finished before the next is asked for",
            "write to layer.weight in its own turn of the loop, or to none before the loop is over: later blocks are "
            "calibrated on what this one became",
        ),
        Rule(
            "deterministic",
            "one seed gives one result, whatever the global generators hold and whatever ran before",
            "draw from a generator seeded by data.seed, and iterate over nothing unordered",
            KIT_ONLY,
        ),
        Rule(
            "resumes",
            "a run that was interrupted and goes on ends with the same weights as one that was not",
            "let nothing but a layer's own statistic decide what is done to it, or say calibrated(..., resume=False)",
            KIT_ONLY,
        ),
        Rule(
            "nothing",
            "sparsity 0 changes no weight, unless the method trains",
            "update only the weights that make up for pruned ones; a layer with target.zeros == 0 needs nothing",
            KIT_ONLY,
        ),
        Rule(
            "tied",
            "a head that shares the embeddings' parameter still does",
            "write in place rather than assign new parameters",
            KIT_ONLY,
        ),
        Rule(
            "reload",
            "a model that was saved and loaded again is the same, zeros included",
            "put the pruned values into the parameters themselves, not into masks, buffers or parametrizations",
            KIT_ONLY,
        ),
        Rule(
            "memory",
            "no more is alive at once than two walks over the blocks and an optimiser's states take",
            "finish one layer before the next, keep statistics instead of inputs, and free what a layer needed",
            KIT_ONLY,
        ),
    )
}
