"""The conformance kit: a method runs on tiny models of each architecture, and every rule of the contract is checked."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from prunebench.contract.rules import RULES, Rule, Violation
from prunebench.errors import MethodError, UnknownMethodError, UsageError, suggest
from prunebench.pruning import Hessian, Unstructured, calibrated
from prunebench.pruning.sparsity import PatternError, parse_pattern
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.testing.models import MODELS, calibration
from prunebench.testing.trial import Interruption, Memory, Outcome, Trial, differences, peak_beyond, run_trial

PATTERNS = ("0.5", "0.83", "2:4", "1:4")

# A ceiling on what is allocated beyond the model: room for the states of an optimiser that trains every parameter and
# for two walks over the blocks, but not for the inputs of every layer.
COPIES = 32
WALKS = 2


@dataclass(frozen=True)
class Verdict:
    """Whether one rule holds.

    Args:
        rule: the rule.
        tried: how often it was looked at; 0 where it does not apply or something else came before.
        breaches: (where, what was measured) of each time that it did not hold.
    """

    rule: Rule
    tried: int
    breaches: tuple[tuple[str, str], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no breach was found."""
        return not self.breaches

    def __str__(self) -> str:
        """The rule, the first measured value, and how to mend it."""
        if self.holds:
            return f"{self.rule.name}: holds ({_counted(self.tried, 'trial')})"
        where, measured = self.breaches[0]
        return (
            f"{self.rule.name}: fails ({_counted(len(self.breaches), 'breach')} in {_counted(self.tried, 'trial')})\n"
            f"  promised: {self.rule.promise}\n"
            f"  measured: {measured} ({where})\n"
            f"  to mend:  {self.rule.mend}"
        )


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


@dataclass(frozen=True)
class Conformance:
    """What the kit found of one method.

    Args:
        method: its name.
        distribution, version: the package it comes from; empty where it could not be loaded.
        verdicts: one for each rule, by name.
    """

    method: str
    distribution: str
    version: str
    verdicts: Mapping[str, Verdict]

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
        architectures: which of the tiny models; by default all.
        patterns: which sparsities, as in a suite; by default one architecture has all of ``PATTERNS``, and the others
            a ratio and an n:m pattern each, in turn.
        files: plugin files, whose methods stand beside the installed ones.

    Returns:
        A verdict for each rule.

    Raises:
        UsageError: there is no such method, architecture or pattern, or the options are refused.
    """
    wanted, options = list(architectures) or list(MODELS), dict(options or {})
    for name in wanted:
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
    tried = dict.fromkeys(("loads", "options"), 1)
    found = [(violation, "the class") for violation in _of_the_class(loaded)]
    if not any(violation.rule == "options" for violation, _ in found):
        loaded.resolve(options)
        for count, breaches in (
            _matrix(loaded, options, wanted, patterns),
            _repeats(loaded, options, wanted[0], (patterns or PATTERNS)[0]),
            _resumes(loaded, options, wanted[0], (patterns or PATTERNS)[0]),
            _memory(loaded, options, wanted[0]),
        ):
            for rule, times in count.items():
                tried[rule] = tried.get(rule, 0) + times
            found += breaches
    return _verdicts(loaded.name, loaded.distribution, loaded.version, tried, found)


Findings = tuple[dict[str, int], list[tuple[Violation, str]]]


def _verdicts(
    method: str, distribution: str, version: str, tried: Mapping[str, int], found: list[tuple[Violation, str]]
) -> Conformance:
    def breaches(name: str) -> tuple[tuple[str, str], ...]:
        return tuple((where, violation.measured) for violation, where in found if violation.rule == name)

    verdicts = {name: Verdict(rule, tried.get(name, 0), breaches(name)) for name, rule in RULES.items()}
    return Conformance(method, distribution, version, verdicts)


def _of_the_class(method: MethodClass) -> Iterator[Violation]:
    """What the class alone shows."""
    name = method.cls.__name__
    if not method.cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield Violation("loads", f"{name} is a dataclass that is not frozen: write @dataclass(frozen=True)")
    if not method.summary or method.summary.startswith(f"{name}("):  # what dataclasses put where there is none
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
            kind = method.option_types[option]
            yield Violation("options", f"the default of {option!r} is {default!r}, which is no {kind}")
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


def _matrix(
    method: MethodClass, options: dict[str, Any], architectures: Iterable[str], patterns: Sequence[str]
) -> Findings:
    """Every architecture with every pattern, one of them in bfloat16, one with layers unlike, and one at sparsity 0."""
    trials = []
    for place, architecture in enumerate(architectures):
        own = patterns or (PATTERNS[place % 2 :: 2] if place else PATTERNS)
        trials += [Trial(architecture, pattern, reload=pattern == own[0]) for pattern in own]
    trials.append(Trial(trials[0].architecture, trials[0].pattern, torch.bfloat16))
    trials += [Trial(t.architecture, t.pattern, uneven=True) for t in trials if ":" not in t.pattern][:1]
    outcomes = [run_trial(method, options, trial) for trial in trials]
    found = [(violation, str(outcome.trial)) for outcome in outcomes for violation in outcome.violations]
    returned = [outcome for outcome in outcomes if outcome.after]
    tried = {name: len(returned) for name, rule in RULES.items() if rule.every_cell}
    tried |= {
        "loads": 0,
        "runs": len(outcomes),
        "groups": sum(":" in outcome.trial.pattern for outcome in returned),
        "tied": sum(outcome.tied for outcome in returned),
        "reload": sum(outcome.trial.reload for outcome in returned),
    }
    if method.changes != "all":
        zero = run_trial(method, options, Trial(trials[0].architecture, "0"))
        tried["runs"] += 1
        if zero.after:
            tried["nothing"] = 1
            found += [(Violation("nothing", text), str(zero.trial)) for text in differences(zero.before, zero.after)]
        else:
            found += [(violation, str(zero.trial)) for violation in zero.violations]
    return tried, found


def _repeats(method: MethodClass, options: dict[str, Any], architecture: str, pattern: str) -> Findings:
    """The same trial three times, with other global generators, and after a trial of another kind."""
    first, again, _, last = (
        run_trial(method, options, trial)
        for trial in (
            Trial(architecture, pattern),
            Trial(architecture, pattern, noise=1),
            Trial(architecture, "0.9"),
            Trial(architecture, pattern, noise=2),
        )
    )
    if not all(outcome.after for outcome in (first, again, last)):
        return {}, []
    pairs: list[tuple[Outcome, str]] = [(again, "two runs in a row"), (last, "a run after one at 0.9")]
    return {"deterministic": 2}, [
        (Violation("deterministic", text), where)
        for other, where in pairs
        for text in differences(first.after, other.after)
    ]


def _resumes(method: MethodClass, options: dict[str, Any], architecture: str, pattern: str) -> Findings:
    """A run that is ended at its second save, be it of a block or a step, and goes on; beside one that is not."""
    trial, memory = Trial(architecture, pattern), Memory(saves=2)
    try:
        run_trial(method, options, trial, memory)
    except Interruption:
        whole, resumed = run_trial(method, options, trial), run_trial(method, options, trial, memory)
    else:  # it keeps nothing, or fails
        return {}, []
    if not (whole.after and resumed.after):
        return {}, []
    told = differences(whole.after, resumed.after)
    return {"resumes": 1}, [(Violation("resumes", text), "interrupted after the second save") for text in told]


def _memory(method: MethodClass, options: dict[str, Any], architecture: str) -> Findings:
    """Long calibration text, and what is alive at once beyond the model."""
    model, data = MODELS[architecture](), calibration(nsamples=64, seqlen=60)
    sparsity = Unstructured(0.5)

    def walk() -> None:
        for _ in calibrated(model, data, sparsity, Hessian):
            pass

    hook = plugin_manager(method, options).hook
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    ceiling = WALKS * peak_beyond(model, walk) + COPIES * size
    try:
        peak = peak_beyond(model, lambda: hook.prune(model=model, data=data, sparsity=sparsity))
    except Exception:  # told of by the rule "runs"
        return {}, []
    if peak <= ceiling:
        return {"memory": 1}, []
    told = f"{peak:,} bytes were alive at once beyond the model, and the ceiling is {ceiling:,}"
    return {"memory": 1}, [(Violation("memory", told), f"{architecture} at 0.5, {data.windows.numel()} tokens")]
