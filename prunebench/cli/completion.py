"""What a shell completes: names of installed methods, without importing any of them."""

from importlib.metadata import entry_points

GROUP = "prunebench"  # of methods; ``prunebench.registry.entry_points`` would import much more


def method_names(incomplete: str) -> list[str]:
    """Installed methods whose names begin like the word at the cursor."""
    return sorted({entry.name for entry in entry_points(group=GROUP) if entry.name.startswith(incomplete)})
