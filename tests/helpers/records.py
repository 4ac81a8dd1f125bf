"""Records and arrays made up for tests, without a run."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.records.canonical_json import content_digest
from prunebench.records.record import Record
from prunebench.records.schema1 import upgraded
from prunebench.records.store import read_record, write_record
from tests.helpers.paths import GOLDEN_RECORD

PROTOCOL = "tinystories_eval/document-256"  # the perplexity of the golden record
ARRAYS = {f"perplexity/{PROTOCOL}/losses": np.arange(4.0), f"perplexity/{PROTOCOL}/counts": np.ones(4, np.int64)}

# Of the made-up measurements of ``kept``: predicted tokens and difficulty of each sequence.
COUNTS = np.random.default_rng(0).integers(20, 60, 400)
HARD = np.random.default_rng(1).normal(0, 0.4, 400)
QUESTIONS = 200


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


def kept(
    folder: Path, method: str = "wanda", *, worse: float = 0.0, noise: int = 0, right: float = 0.5, **facts: object
) -> Record:
    """A record with evidence: a perplexity ``worse`` by a fraction, and the share of questions answered."""
    nll = 1 + math.log1p(worse) + HARD + np.random.default_rng(noise).normal(0, 0.02, 400)
    losses = COUNTS * nll
    made = record(method, value=float(np.exp(losses.sum() / COUNTS.sum())), **facts)  # type: ignore[arg-type]
    arrays = {f"perplexity/{PROTOCOL}/losses": losses, f"perplexity/{PROTOCOL}/counts": COUNTS}
    for task in ("arc_easy", "piqa"):
        made.zero_shot["results"][task]["acc,none"] = right
        arrays[f"zero_shot/{task}/acc"] = (np.arange(QUESTIONS) < QUESTIONS * right).astype(float)
    return read_record(write_record(folder, made, arrays))
