"""What is wrong with a submission, in one line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        where: the file or cell.
        what: what is wrong with it, its value, and what is expected.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
