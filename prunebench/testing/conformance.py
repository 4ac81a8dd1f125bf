"""The conformance kit: a method runs on tiny models of each architecture, and every rule of the contract is checked."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prunebench.contract.rules import RULES, Violation
from prunebench.errors import MethodError, UnknownMethodError, UsageError, suggest
from prunebench.pruning.sparsity import PatternError, parse_pattern
from prunebench.registry.entry_points import load_method
from prunebench.registry.method_class import MethodClass
from prunebench.testing.checking import Outcome, check_trial, differences
from prunebench.testing.memory import long_calibration
from prunebench.testing.models import MODELS
from prunebench.testing.said import Pruned
from prunebench.testing.trial import Trial
from prunebench.testing.trials import Apart, Here, Processes, Trials
from prunebench.testing.verdicts import Conformance, verdicts_on

PATTERNS = ("0.5", "0.83", "2:4", "1:4")


def check(
    method: str | MethodClass,
    options: Mapping[str, Any] | None = None,
    *,
    architectures: Sequence[str] = (),
    patterns: Sequence[str] = (),
    files: Sequence[Path] = (),
    processes: Processes | None = None,
    in_process: bool = False,
) -> Conformance:
    """Check a method against every rule of the contract. Nothing is downloaded.

    The method runs in processes of its own, as in a sweep, and what it hands over is checked here, where it is never
    imported. Rules that show in its own process alone (hooks, modes, generators, memory …) are told by that process.

    Args:
        method: name of an installed method; or a loaded one, which runs in this process.
        options: in place of the method's defaults; choose those that make it quick.
        architectures: names of tiny models in ``MODELS``; by default all.
        patterns: sparsities, as in a suite; by default the first architecture is tried with all of ``PATTERNS``, and
            each of the others with one ratio and one n:m pattern, in turn.
        files: plugin files, whose methods can be named beside the installed ones.
        processes: where the method's processes come from; several checks that share them take less time.
        in_process: run the method in this process, to debug it.

    Returns:
        A verdict for each rule.

    Raises:
        UsageError: there is no such method, architecture or pattern, or the options are refused.
    """
    names, options = list(architectures) or list(MODELS), dict(options or {})
    for name in names:
        if name not in MODELS:
            raise UsageError(f"unknown architecture {name!r}: {suggest(name, MODELS)}")
    for pattern in patterns:
        try:
            parse_pattern(pattern)
        except PatternError as error:
            raise UsageError(str(error)) from None
    with Processes() if processes is None else nullcontext(processes) as started:
        try:
            if isinstance(method, MethodClass):
                trials: Trials = Here(method, options)
            elif in_process:
                trials = Here(load_method(method, files), options)
            else:
                trials = Apart(method, options, files, started)
        except UnknownMethodError:
            raise
        except MethodError as error:
            return verdicts_on(str(method), "", "", {"loads": 1}, [(Violation("loads", str(error)), "registration")])
        return _check(trials, names, patterns)


def _check(trials: Trials, names: Sequence[str], asked: Sequence[str]) -> Conformance:
    """Check every rule.

    Args:
        trials: of the method.
        names: architectures.
        asked: sparsities; empty for the usual ones.
    """
    facts, known = trials.facts(), (trials.distribution, trials.version)
    if facts.error is not None:
        loads = [(Violation("loads", facts.error), "registration")]
        return verdicts_on(trials.name, "", "", {"loads": 1}, loads)
    kinds, explicit, asked = facts.patterns, bool(asked), asked or PATTERNS
    patterns = [pattern for pattern in asked if parse_pattern(pattern).kind in kinds]
    if not patterns:
        raise UsageError(f"the method {trials.name!r} is for {', '.join(kinds)} sparsity, not for {', '.join(asked)}")
    skipped = tuple(pattern for pattern in asked if pattern not in patterns)
    tried = dict.fromkeys(("loads", "options"), 1)
    violations = [(Violation(breach.rule, breach.measured), "the class") for breach in facts.breaches]
    if not any(violation.rule == "options" for violation, _ in violations):
        method = _Method(trials, facts.changes, kinds, facts.mask, facts.after)
        for counts, found in (
            _check_matrix(method, names, patterns, spread_out=not explicit),
            _check_deterministic(method, names[0], patterns),
            _check_resumes(method, names[0], patterns[0]),
            _check_memory(method, names[0], patterns[0]),
        ):
            for rule, count in counts.items():
                tried[rule] = tried.get(rule, 0) + count
            violations += found
    return replace(verdicts_on(trials.name, *known, tried, violations), skipped=skipped)


@dataclass(frozen=True)
class _Method:
    """A method under check.

    Args:
        trials: runs it.
        changes: what it may change.
        patterns: the kinds of sparsity that it is for.
        mask: what it does with the masks that it finds, if it can follow another.
        after: whether it only follows others.
    """

    trials: Trials
    changes: str
    patterns: tuple[str, ...]
    mask: str | None
    after: bool

    def is_for(self, pattern: str) -> bool:
        """Whether a sparsity is of a kind that it is for."""
        return parse_pattern(pattern).kind in self.patterns

    def run(self, *trials: Trial, interrupted: bool = False) -> list[Outcome]:
        """Run trials in one process, and check what they handed over."""
        with tempfile.TemporaryDirectory() as folder:
            found = self.trials.prune(trials, Path(folder), interrupted=interrupted)
            settings = [trials[0]] * len(found) if interrupted else trials
            return [
                self._checked(trial, pruned, Path(folder) / str(number))
                for number, (trial, pruned) in enumerate(zip(settings, found, strict=True))
            ]

    def _checked(self, trial: Trial, pruned: Pruned, folder: Path) -> Outcome:
        outcome = check_trial(self.changes, self.mask, trial, pruned, folder)
        told = {violation.rule for violation in outcome.violations}
        if trial.reload and pruned.returned and "reload" not in told:
            difference = self.trials.reload_difference(trial, folder)
            if difference is not None:
                return replace(outcome, violations=(*outcome.violations, Violation("reload", difference)))
        return outcome


Findings = tuple[dict[str, int], list[tuple[Violation, str]]]
"""By rule, in how many trials it was checked; and each violation with where it was found."""


def _check_matrix(
    method: _Method,
    architectures: Iterable[str],
    patterns: Sequence[str],
    *,
    spread_out: bool,
) -> Findings:
    """Try architectures with patterns; one also in bfloat16, one with uneven layers, and one at sparsity 0.

    Args:
        method: what is tried.
        architectures, patterns: on what, and with what.
        spread_out: whether all but the first architecture are tried with every other pattern, in turn.
    """
    trials = []
    for index, architecture in enumerate(architectures):
        chosen = patterns[index % 2 :: 2] or patterns if spread_out and index else patterns
        trials += [Trial(architecture, pattern, reload=pattern == chosen[0]) for pattern in chosen]
    trials.append(Trial(trials[0].architecture, trials[0].pattern, torch.bfloat16))
    trials += [Trial(t.architecture, t.pattern, uneven=True) for t in trials if ":" not in t.pattern][:1]
    following = [replace(trial, follows=True) for trial in trials] if method.mask is not None else []
    trials = following if method.after else trials + following[:2]
    outcomes = [outcome for trial in trials for outcome in method.run(trial)]
    violations = [(violation, str(outcome.trial)) for outcome in outcomes for violation in outcome.violations]
    returned = [outcome for outcome in outcomes if outcome.after]
    tried = {name: len(returned) for name, rule in RULES.items() if rule.every_cell}
    tried |= {
        "loads": 0,
        "runs": len(outcomes),
        "groups": sum(":" in outcome.trial.pattern for outcome in returned),
        "tied": sum(outcome.tied for outcome in returned),
        "reload": sum(outcome.trial.reload for outcome in returned),
        "held": sum(outcome.trial.follows for outcome in returned) if method.mask == "held" else 0,
    }
    if method.changes != "all" and not method.after and method.is_for("0"):
        (zero,) = method.run(Trial(trials[0].architecture, "0"))
        tried["runs"] += 1
        if zero.after and zero.backward:  # one that trains may train at sparsity 0 too
            tried["nothing"] = 0
        elif zero.after:
            tried["nothing"] = 1
            texts = differences(zero.before, zero.after)
            violations += [(Violation("nothing", text), str(zero.trial)) for text in texts]
        else:
            violations += [(violation, str(zero.trial)) for violation in zero.violations]
    return tried, violations


def _check_deterministic(method: _Method, architecture: str, patterns: Sequence[str]) -> Findings:
    """Run the same trial three times in one process: with other generators, and after one at another sparsity."""
    pattern, other_one = patterns[0], "0.9" if method.is_for("0.9") else patterns[-1]
    first, again, _, last = method.run(
        Trial(architecture, pattern, follows=method.after),
        Trial(architecture, pattern, noise=1, follows=method.after),
        Trial(architecture, other_one, follows=method.after),
        Trial(architecture, pattern, noise=2, follows=method.after),
    )
    if not all(outcome.after for outcome in (first, again, last)):
        return {}, []
    pairs: list[tuple[Outcome, str]] = [(again, "two runs in a row"), (last, f"a run after one at {other_one}")]
    return {"deterministic": 2}, [
        (Violation("deterministic", text), where)
        for other, where in pairs
        for text in differences(first.after, other.after)
    ]


def _check_resumes(method: _Method, architecture: str, pattern: str) -> Findings:
    """Compare a run interrupted at its second save, of a block or a step, and resumed with an uninterrupted one."""
    outcomes = method.run(Trial(architecture, pattern, follows=method.after), interrupted=True)
    if len(outcomes) != 2 or not all(outcome.after for outcome in outcomes):
        return {}, []  # it saves fewer than two states, or fails
    whole, resumed = outcomes
    texts = differences(whole.after, resumed.after)
    return {"resumes": 1}, [(Violation("resumes", text), "interrupted after the second save") for text in texts]


def _check_memory(method: _Method, architecture: str, pattern: str) -> Findings:
    """The peak of tensors beyond the model with long calibration text."""
    found = method.trials.peak(architecture, pattern)
    if found.peak is None:
        return {}, []
    if found.peak <= found.ceiling:
        return {"memory": 1}, []
    measured = f"{found.peak:,} bytes were alive at once beyond the model, and the ceiling is {found.ceiling:,}"
    where = f"{architecture} at {pattern}, {long_calibration().windows.numel()} tokens"
    return {"memory": 1}, [(Violation("memory", measured), where)]
