"""Records of schema 1 as records of schema 2: nothing that they say is lost, and what they do not say is left open."""

from typing import Any


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a record of schema 1 as one of schema 2.

    Schema 1 had one method in each cell, two kinds of patterns, and at most one file of arrays, ``<cell id>.npz``.

    Args:
        content: of a record file, its digest already checked; whatever does not look like a record is left as it is,
            for the validation to refuse.
    """
    content = {**content, "schema": 2}
    digest, cell = content.pop("arrays_digest", None), content.get("cell")
    if isinstance(cell, dict):
        method, text = cell.get("method"), cell.get("sparsity")
        stage = {"method": method, "plugin": cell.get("plugin", method), "options": cell.get("options"), "code": None}
        kind = "n:m" if isinstance(text, str) and ":" in text else "unstructured"
        content["cell"] = {"stages": [stage], "pattern": {"kind": kind, "text": text}} | cell
        if digest is not None:
            content["arrays"] = {digest: f"{cell.get('id')}.npz"}
    return content
