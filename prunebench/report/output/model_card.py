"""Model cards for saved checkpoints, made from the record alone."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunebench import text
from prunebench.errors import OutputError
from prunebench.files import describe_os_error, write_atomically
from prunebench.records.record import SPARSE_FOLDER, Record
from prunebench.records.saved_models import model_folders
from prunebench.report.output.text_tables import escape_markdown, to_markdown
from prunebench.report.tables.scores import task_scores
from prunebench.report.tables.table import Table

FORM_TEXTS = {
    False: "An ordinary checkpoint: its zeros are stored, and its configuration is that of the dense model. "
    "`transformers.AutoModelForCausalLM.from_pretrained` loads it.",
    True: "The compact form: a bit for every weight and the values that are kept. `prunebench.load_sparse` loads it.",
}


def model_card(record: Record, *, compact: bool = False) -> str:
    """The ``README.md`` of a saved model, with the metadata (``model-index``) that the Hugging Face hub reads.

    Args:
        record: the record of the cell whose model was saved.
        compact: whether the card is for the compact form.
    """
    from huggingface_hub import EvalResult, ModelCardData

    cell = record.cell
    source = text.printable((cell.model_extra or {}).get("source", cell.model))
    base = source.partition("@")[0] if cell.revision else None
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=metric,
            metric_name=metric,
            metric_value=value,
        )
        for dataset, metric, value in _results(record)
        if math.isfinite(value)
    ]
    data = ModelCardData(
        base_model=base,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["prunebench", "pruned", f"sparsity-{text.printable(cell.sparsity)}"],
        model_name=cell.id,
        eval_results=results or None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {escape_markdown(f'{cell.model}, pruned by {cell.method} to {cell.sparsity}')}",
        _sentences(record, base),
        to_markdown([_quality(record), _facts(record)]),
        FORM_TEXTS[compact],
    ]
    return "\n\n".join(parts) + "\n"


def write_cards(folder: Path, records: Iterable[Record]) -> None:
    """Write a model card into the folders of both forms of every saved model.

    Args:
        folder: the results folder.
        records: the records of its cells.

    Raises:
        OutputError: the folder cannot be written.
    """
    for record in records:
        for form, target in model_folders(folder, record).items():
            if target.is_dir() and not target.is_symlink():
                try:
                    write_atomically(target / "README.md", model_card(record, compact=form == SPARSE_FOLDER).encode())
                except OSError as error:
                    raise OutputError(f"cannot write a model card in {target}: {describe_os_error(error)}") from None


def _results(record: Record) -> list[tuple[str, str, float]]:
    results = [(protocol, "perplexity", perplexity.value) for protocol, perplexity in record.perplexity.items()]
    results += [(column.task, column.metric, score.value) for column, score in task_scores(record).items()]
    return [(text.printable(of), text.printable(measure), value) for of, measure, value in results]


def _sentences(record: Record, base: str | None) -> str:
    cell, extra, calibration = record.cell, record.cell.model_extra or {}, record.cell.calibration
    origin = f"{base or cell.model}{f' at revision {cell.revision}' if cell.revision else ''}"
    package = f"{extra.get('distribution', '')} {extra.get('version', '')}".strip()
    sentences = [f"A pruned form of {origin}.", f"Method: {cell.method}{f' of {package}' if package else ''}."]
    for stage in cell.stages:
        if stage.options:
            whose = f" of {stage.plugin}" if len(cell.stages) > 1 else ""
            sentences.append(f"Options{whose}: {json.dumps(stage.options, sort_keys=True)}.")
    if record.sparsity is not None:
        reached, overall = 100 * record.sparsity.reached, 100 * record.sparsity.whole_model
        sentences.append(f"Zero are {reached:.2f} % of the weights in the pruned matrices, {overall:.2f} % of all.")
    if record.method is None or record.method.takes_data:
        amount = f"{calibration.get('nsamples')} windows of {calibration.get('seqlen')} tokens"
        sentences.append(f"Calibrated on {amount} of {calibration.get('corpus')}, seed {cell.seed}.")
    return escape_markdown(" ".join(sentences))


def _quality(record: Record) -> Table:
    def shown(metric: str, value: float) -> str:
        return text.number(value) if metric == "perplexity" else f"{value:.4f}"

    rows = tuple((dataset, metric, shown(metric, value)) for dataset, metric, value in _results(record))
    return Table("Measured", ("text or task", "measure", "value"), rows)


def _facts(record: Record) -> Table:
    environment, saved = record.environment, record.saved
    rows: list[tuple[str, Any]] = [
        ("weights (sha256)", environment.get("weights_digest")),
        ("dense model (sha256)", environment.get("model_digest")),
        ("calibration text (sha256)", environment.get("calibration_digest")),
        ("prunebench", (environment.get("versions") or {}).get("prunebench")),
        ("record", record.cell.id),
    ]
    if saved is not None:
        rows += [
            ("bytes as it is", saved.dense_bytes),
            ("bytes in the compact form", saved.sparse_bytes),
            ("fewest bytes (entropy of the mask + values)", saved.bound_bytes),
        ]
    return Table("Where it comes from", ("what", "value"), tuple((name, str(value)) for name, value in rows if value))
