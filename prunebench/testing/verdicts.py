"""The verdicts of the conformance kit, one for each rule of the contract."""

from collections.abc import Mapping
from dataclasses import dataclass

from prunebench.contract.rules import RULES, Rule, Violation
from prunebench.text import printable


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


def verdicts_on(
    method: str, distribution: str, version: str, tried: Mapping[str, int], violations: list[tuple[Violation, str]]
) -> Conformance:
    """The verdicts on a method.

    Args:
        method, distribution, version: its name, and where it is from.
        tried: by rule, in how many trials it was checked.
        violations: each with where it was found.
    """

    def breaches(name: str) -> tuple[tuple[str, str], ...]:
        return tuple(
            (where, printable(violation.measured)) for violation, where in violations if violation.rule == name
        )

    verdicts = {name: Verdict(rule, tried.get(name, 0), breaches(name)) for name, rule in RULES.items()}
    return Conformance(method, distribution, version, verdicts)
