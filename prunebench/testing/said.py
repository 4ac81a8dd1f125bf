"""What the process of a trial says: bounded, checked in shape, and no more than this."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from prunebench.contract.rules import RULES


class Strict(BaseModel):
    """What the process of a trial says: bounded, and no more than this."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Line = Annotated[str, StringConstraints(max_length=10_000)]


class Breach(Strict):
    """A rule that a trial's own process found broken."""

    rule: Annotated[str, StringConstraints(pattern=f"^({'|'.join(RULES)})$")]
    measured: Line


class Pruned(Strict):
    """What the process of a trial says of it.

    Args:
        returned: whether the method returned, and its tensors were handed over.
        breaches: of rules that show in that process alone, or why the method did not return.
        backward: whether a backward pass ran.
    """

    returned: bool
    breaches: Annotated[tuple[Breach, ...], Field(max_length=10_000)] = ()
    backward: bool = False


class Peak(Strict):
    """Bytes of new tensors alive at once: of the method, and the ceiling; None where the method failed."""

    peak: int | None
    ceiling: int
