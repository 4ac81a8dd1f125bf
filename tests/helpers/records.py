"""Records and arrays made up for tests, without a run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.records.canonical_json import content_digest
from prunebench.records.record import Record
from prunebench.records.schema1 import upgraded
from tests.helpers.paths import GOLDEN_RECORD

PROTOCOL = "tinystories_eval/document-256"  # the perplexity of the golden record
ARRAYS = {f"perplexity/{PROTOCOL}/losses": np.arange(4.0), f"perplexity/{PROTOCOL}/counts": np.ones(4, np.int64)}


def record(
    method: str = "wanda",
    sparsity: str = "0.5",
    seed: int = 0,
    value: float = 10.0,
    *,
    error: str | None = None,
    started: str = "2026-01-01T00:00:00+00:00",
    **cell: Any,
) -> Record:
    """The golden record, changed.

    Args:
        value: its perplexity.
        error: the message with which it failed; None: it is ok.
        cell: other facts of its cell.
    """
    content: dict[str, Any] = upgraded(json.loads(GOLDEN_RECORD.read_text()))
    facts = content["cell"]
    facts |= {"method": method, "sparsity": sparsity, "seed": seed} | cell
    facts["stages"] = [{name: facts[name] for name in ("method", "plugin", "options")}]
    facts["pattern"] = {"kind": "n:m" if ":" in sparsity else "unstructured", "text": sparsity}
    facts["key"] = [facts["model"], method, sparsity, facts["allocation"], seed, facts["calibration"]["corpus"]]
    words = (facts["model"], method, sparsity, seed, started)
    facts["id"] = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", str(word)).strip("-.")[:60] for word in words)
    content["environment"] |= {"started": started, "model_digest": facts["model_digest"]}
    content["perplexity"][PROTOCOL]["value"] = value
    content["notes"] = {}
    if error is not None:
        content |= {"status": "failed", "error": {"type": "ContractError", "message": error}}
        content |= {"perplexity": {}, "zero_shot": {}}
    return Record.model_validate(content)


def resealed(content: dict[str, Any]) -> str:
    """The JSON of a record whose content was changed, with the digest that belongs to it."""
    content = {name: value for name, value in content.items() if name != "digest"}
    return json.dumps(content | {"digest": content_digest(content)})


def arrays_file(path: Path) -> Path:
    """The one file of arrays that the record at a path names."""
    (name,) = json.loads(path.read_bytes())["arrays"].values()
    return path.with_name(name)
