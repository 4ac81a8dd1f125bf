"""A suite over a tiny model, which is planned within moments."""

import json
from pathlib import Path

from tests.helpers import tiny
from tests.helpers.text import letters, tokenizer


def small_suite(folder: Path) -> Path:
    """Write the model, a text and the suite into a folder.

    Returns:
        The suite's file.
    """
    tiny.llama().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": letters(40, i)}) + "\n" for i in range(8)))
    path = folder / "small.yaml"
    path.write_text(
        "name: small\nmodels: [{id: model, label: m}]\n"
        "calibration: {corpus: text.jsonl, nsamples: 4, seqlen: 8}\nsparsities: [0.5, 2:4]\nseeds: [0, 1]\n"
        "methods: [dense, magnitude, {name: wanda, label: w, allocation: [uniform]},"
        " {name: sparsegpt, options: {percdamp: 0.1}}]\n"
        "evaluations: [{name: perplexity, corpus: text.jsonl, seqlen: 8}]\n"
    )
    return path
