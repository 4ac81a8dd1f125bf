"""A corpus of people counting."""

from collections.abc import Iterator

SPLITS = {"train": range(0, 400), "test": range(400, 500)}


def counting(split: str) -> Iterator[str]:
    """Documents of a split: fifty numbers each."""
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}: valid: {', '.join(SPLITS)}")
    for start in SPLITS[split]:
        yield " ".join(f"w{(start + step) % 50}" for step in range(50))
