"""The conformance kit: a method runs on tiny models of each architecture, and every rule of the contract is checked."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from prunebench.contract.rules import RULES, Rule, Violation
from prunebench.errors import MethodError, UnknownMethodError, UsageError, suggest
from prunebench.pruning import Hessian, Sparsity, Unstructured, calibrated
from prunebench.pruning.apply import held
from prunebench.pruning.sparsity import PatternError, parse_pattern
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.testing.models import MODELS, calibration
from prunebench.testing.trial import (
    InterruptingCheckpointer,
    Interruption,
    Outcome,
    Trial,
    backward_passes,
    differences,
    peak_bytes,
    prune_by_magnitude,
    run_trial,
)

PATTERNS = ("0.5", "0.83", "2:4", "1:4")

# The ceiling on memory beyond the model: so many copies of the model and so many walks over its blocks. That is enough
# for the states of an optimiser that trains every parameter, but not for the inputs of every layer.
COPIES = 32
WALKS = 2


@dataclass(frozen=True)
class Verdict:
    """Whether a method holds to one rule.

    Args:
        rule: the rule.
        tried: in how many trials it was checked; 0 where it does not apply or an earlier failure prevented it.
        breaches: (where, what was measured) of each trial in which it did not hold.
    """

    rule: Rule
    tried: int
    breaches: tuple[tuple[str, str], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no breach was found."""
        return not self.breaches

    def __str__(self) -> str:
        """The rule, the first breach with its measured value, and how to repair the method."""
        if self.holds:
            return f"{self.rule.name}: holds ({_with_noun(self.tried, 'trial')})"
        where, measured = self.breaches[0]
        return (
            f"{self.rule.name}: fails ({_with_noun(len(self.breaches), 'breach')} in "
            f"{_with_noun(self.tried, 'trial')})\n"
            f"  promised: {self.rule.promise}\n"
            f"  measured: {measured} ({where})\n"
            f"  to mend:  {self.rule.mend}"
        )


def _with_noun(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


@dataclass(frozen=True)
class Conformance:
    """The verdicts of the conformance kit on one method.

    Args:
        method: its name.
        distribution, version: of the package that provides it; empty where it could not be loaded.
        verdicts: one for each rule, by name.
        skipped: patterns that were not tried, since the method is not for them.
    """

    method: str
    distribution: str
    version: str
    verdicts: Mapping[str, Verdict]
    skipped: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every rule holds."""
        return all(verdict.holds for verdict in self.verdicts.values())


def check(
    method: str | MethodClass,
    options: Mapping[str, Any] | None = None,
    *,
    architectures: Sequence[str] = (),
    patterns: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> Conformance:
    """Check a method against every rule of the contract. Nothing is downloaded.

    Args:
        method: name of an installed method, or a loaded one.
        options: in place of the method's defaults; choose those that make it quick.
        architectures: names of tiny models in ``MODELS``; by default all.
        patterns: sparsities, as in a suite; by default the first architecture is tried with all of ``PATTERNS``, and
            each of the others with one ratio and one n:m pattern, in turn.
        files: plugin files, whose methods can be named beside the installed ones.

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
    if isinstance(method, MethodClass):
        loaded = method
    else:
        try:
            loaded = load_method(method, files)
        except UnknownMethodError:
            raise
        except MethodError as error:
            return _verdicts(method, "", "", {"loads": 1}, [(Violation("loads", str(error)), "registration")])
    asked, explicit = patterns or PATTERNS, bool(patterns)
    patterns = [pattern for pattern in asked if loaded.is_for(parse_pattern(pattern))]
    if not patterns:
        kinds, others = ", ".join(loaded.patterns), ", ".join(asked)
        raise UsageError(f"the method {loaded.name!r} is for {kinds} sparsity, not for {others}")
    skipped = tuple(pattern for pattern in asked if pattern not in patterns)
    tried = dict.fromkeys(("loads", "options"), 1)
    violations = [(violation, "the class") for violation in _check_class(loaded)]
    if not any(violation.rule == "options" for violation, _ in violations):
        loaded.resolve(options)
        pattern = patterns[0]
        for trials, found in (
            _check_matrix(loaded, options, names, patterns, spread_out=not explicit),
            _check_deterministic(loaded, options, names[0], patterns),
            _check_resumes(loaded, options, names[0], pattern),
            _check_memory(loaded, options, names[0], pattern),
        ):
            for rule, count in trials.items():
                tried[rule] = tried.get(rule, 0) + count
            violations += found
    return replace(_verdicts(loaded.name, loaded.distribution, loaded.version, tried, violations), skipped=skipped)


Findings = tuple[dict[str, int], list[tuple[Violation, str]]]
"""By rule, in how many trials it was checked; and each violation with where it was found."""


def _verdicts(
    method: str, distribution: str, version: str, tried: Mapping[str, int], violations: list[tuple[Violation, str]]
) -> Conformance:
    def breaches(name: str) -> tuple[tuple[str, str], ...]:
        return tuple((where, violation.measured) for violation, where in violations if violation.rule == name)

    verdicts = {name: Verdict(rule, tried.get(name, 0), breaches(name)) for name, rule in RULES.items()}
    return Conformance(method, distribution, version, verdicts)


def _check_class(method: MethodClass) -> Iterator[Violation]:
    """Check the class without running it: frozen, documented, with defaults that JSON can hold."""
    name = method.cls.__name__
    if not method.cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield Violation("loads", f"{name} is a dataclass that is not frozen: write @dataclass(frozen=True)")
    if not method.summary or method.summary.startswith(f"{name}("):  # the docstring that dataclass generates
        yield Violation("options", f"{name} has no docstring")
    for option, default in method.options.items():
        if default is dataclasses.MISSING:
            yield Violation("options", f"the option {option!r} has no default")
            return
        if not method.option_docs.get(option):
            yield Violation("options", f"the option {option!r} has no entry under Args: of the docstring")
        try:
            method.value(option, default)
        except ValidationError:
            type_name = method.option_types[option]
            yield Violation("options", f"the default of {option!r} is {default!r}, which is no {type_name}")
        except MethodError as error:
            yield Violation("options", str(error))
            return
    try:
        if method.make(json.loads(json.dumps(method.options))) != method.make({}):
            yield Violation("options", "the defaults are not the same when read back from JSON")
    except (TypeError, ValueError) as error:
        yield Violation("options", f"the defaults cannot be recorded as JSON: {error}")
    except MethodError as error:
        yield Violation("options", str(error))


def _check_matrix(
    method: MethodClass,
    options: dict[str, Any],
    architectures: Iterable[str],
    patterns: Sequence[str],
    *,
    spread_out: bool,
) -> Findings:
    """Try architectures with patterns; one also in bfloat16, one with uneven layers, and one at sparsity 0.

    Args:
        method, options: what is tried.
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
    outcomes = [run_trial(method, options, trial) for trial in trials]
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
    if method.changes != "all" and not method.after and method.is_for(Unstructured(0.0)):
        with backward_passes() as passes:
            zero = run_trial(method, options, Trial(trials[0].architecture, "0"))
        tried["runs"] += 1
        if zero.after and passes:  # one that trains may train at sparsity 0 too
            tried["nothing"] = 0
        elif zero.after:
            tried["nothing"] = 1
            texts = differences(zero.before, zero.after)
            violations += [(Violation("nothing", text), str(zero.trial)) for text in texts]
        else:
            violations += [(violation, str(zero.trial)) for violation in zero.violations]
    return tried, violations


def _check_deterministic(
    method: MethodClass, options: dict[str, Any], architecture: str, patterns: Sequence[str]
) -> Findings:
    """Run the same trial three times: with other global generators, and after a trial at another sparsity."""
    pattern, other_one = patterns[0], "0.9" if method.is_for(Unstructured(0.9)) else patterns[-1]
    first, again, _, last = (
        run_trial(method, options, trial)
        for trial in (
            Trial(architecture, pattern, follows=method.after),
            Trial(architecture, pattern, noise=1, follows=method.after),
            Trial(architecture, other_one, follows=method.after),
            Trial(architecture, pattern, noise=2, follows=method.after),
        )
    )
    if not all(outcome.after for outcome in (first, again, last)):
        return {}, []
    pairs: list[tuple[Outcome, str]] = [(again, "two runs in a row"), (last, f"a run after one at {other_one}")]
    return {"deterministic": 2}, [
        (Violation("deterministic", text), where)
        for other, where in pairs
        for text in differences(first.after, other.after)
    ]


def _check_resumes(method: MethodClass, options: dict[str, Any], architecture: str, pattern: str) -> Findings:
    """Compare a run interrupted at its second save, of a block or a step, and resumed with an uninterrupted one."""
    trial, checkpointer = Trial(architecture, pattern, follows=method.after), InterruptingCheckpointer(saves=2)
    try:
        run_trial(method, options, trial, checkpointer)
    except Interruption:
        whole, resumed = run_trial(method, options, trial), run_trial(method, options, trial, checkpointer)
    else:  # it saves fewer than two states, or fails
        return {}, []
    if not (whole.after and resumed.after):
        return {}, []
    texts = differences(whole.after, resumed.after)
    return {"resumes": 1}, [(Violation("resumes", text), "interrupted after the second save") for text in texts]


def _check_memory(method: MethodClass, options: dict[str, Any], architecture: str, pattern: str) -> Findings:
    """Measure the peak of tensors beyond the model with long calibration text."""
    model, data = MODELS[architecture](), calibration(nsamples=64, seqlen=60)
    sparsity: Sparsity = parse_pattern(pattern)
    if method.after:
        prune_by_magnitude(model, sparsity)

    def walk() -> None:
        for _ in calibrated(model, data, sparsity, Hessian):
            pass

    hook = plugin_manager(method, options).hook
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    asked = held(sparsity) if method.after and method.mask == "held" else sparsity
    ceiling = WALKS * peak_bytes(model, walk) + COPIES * size
    try:
        peak = peak_bytes(model, lambda: hook.prune(model=model, data=data, sparsity=asked))
    except Exception:  # reported under the rule "runs"
        return {}, []
    if peak <= ceiling:
        return {"memory": 1}, []
    measured = f"{peak:,} bytes were alive at once beyond the model, and the ceiling is {ceiling:,}"
    where = f"{architecture} at {pattern}, {data.windows.numel()} tokens"
    return {"memory": 1}, [(Violation("memory", measured), where)]
