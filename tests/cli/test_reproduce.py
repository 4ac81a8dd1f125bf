"""What ``prunebench reproduce`` asks of a paper's suite; runs of it are in ``tests/test_hub.py``."""

import json

from prunebench.cli.reproduce import narrowed


def test_sparsities_without_a_figure_are_not_run() -> None:
    """ELSA's paper has figures of OPT-125M for SparseGPT at 0.5 and 0.7 that state a tolerance, and for dense."""
    *_, overrides = narrowed("elsa", None)
    methods = json.loads(dict(text.split("=", 1) for text in overrides)["methods"])
    sparsities = {entry["name"]: entry["sparsities"] for entry in methods if entry["name"] != "elsa"}
    assert sparsities["dense"] is None
    assert sparsities["sparsegpt"] == ["0.5", "0.7"]
    assert all(entry["sparsities"] for entry in methods if entry["name"] != "dense")
