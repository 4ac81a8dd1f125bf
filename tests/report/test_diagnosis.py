"""Each failure signature, provoked: from curves made up for it, from bad runs of ELSA, and never on healthy cells."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from prunebench_plugins.elsa import Elsa

from prunebench.pruning import CalibrationData, Unstructured
from prunebench.pruning.callbacks import use_observer
from prunebench.records.record import Failure, MatrixCount, Record
from prunebench.records.store import read_records, write_record
from prunebench.report import report_sections, to_html, to_markdown
from prunebench.report.diagnosis import (
    DIVERGENCE,
    ERROR,
    MASK,
    MEMORY,
    NO_MEMORY,
    PROJECTION,
    REMEDIES,
    RESIDUAL,
    SHORT_TRAVEL_NOTE,
    TRAVEL,
    ZEROS,
    diagnose,
    runs,
)
from prunebench.report.scenes import Scenes
from prunebench.report.tables.diagnosis import diagnosis_tables
from prunebench.runner.memory import memory_bytes
from tests.helpers import tiny
from tests.helpers.command_line import prunebench
from tests.helpers.observers import RecordingObserver
from tests.helpers.paths import ROOT
from tests.helpers.records import record

FALLING = [0.8 * 0.9**n for n in range(20)]
STEADY = [0.8] * 20


def traced(found: Record | None = None, **columns: list[float]) -> Record:
    """A record with curves; a shorter one is that of the last steps."""
    rows: list[dict[str, float]] = [{"step": 8.0 * n} for n in range(max(map(len, columns.values())))]
    for name, values in columns.items():
        for row, value in zip(rows[-len(values) :], values, strict=True):
            row[name] = value
    return (found or record("theirs")).model_copy(update={"trace": tuple(rows)})


def spending(found: Record | None = None, **amounts: object) -> Record:
    found = found or record("theirs")
    return found.model_copy(update={"cost": found.cost.model_copy(update=amounts)})


def signs(found: Record) -> list[str]:
    return [finding.signature for finding in diagnose(found)]


CURVES: list[tuple[str, dict[str, list[float]], list[str]]] = [
    ("falls", {"primal": FALLING}, []),
    ("stays", {"primal": STEADY}, [RESIDUAL]),
    ("rises", {"primal": FALLING[::-1]}, [RESIDUAL]),
    ("is NaN in the end", {"primal": [*FALLING, math.nan]}, [RESIDUAL]),
    ("has too few points", {"primal": STEADY[:3]}, []),
    ("loss stays", {"loss": [1.0, 1.2], "projected_loss": [1.3]}, []),
    ("loss jumps", {"loss": [1.0, 1.2], "projected_loss": [1.5]}, [PROJECTION]),
    ("loss is lost", {"loss": [1.0, 1.2], "projected_loss": [math.nan]}, [PROJECTION]),
    ("mask settles", {"mask_change": [0.5] * 10 + [0.02] * 5}, []),
    ("mask settles, then is projected", {"mask_change": [0.02] * 5 + [0.9]}, []),
    ("mask changes", {"mask_change": [0.7] * 10}, [MASK]),
    ("mask changes as that of ADMM does", {"mask_change": [0.43] * 10}, []),
    ("other names", {"residual": STEADY, "loss": [1.0, 9.0]}, []),
]


@pytest.mark.parametrize(("columns", "expected"), [case[1:] for case in CURVES], ids=[case[0] for case in CURVES])
def test_a_signature_of_a_curve(columns: dict[str, list[float]], expected: list[str]) -> None:
    assert signs(traced(**columns)) == expected


def test_the_evidence_is_in_numbers() -> None:
    (finding,) = diagnose(traced(loss=[0.9, 1.21], projected_loss=[4.69]))
    assert finding.evidence == "the loss is 1.21 before the last projection and 4.69 after it"
    (finding,) = diagnose(traced(primal=STEADY))
    assert finding.evidence == "the residual begins at 0.8 and ends at 0.8"
    (finding,) = diagnose(traced(mask_change=[0.75] * 6))
    assert finding.evidence == "each of the last updates exchanges 75 % of the kept weights"


def test_runs_one_after_another_count_each_for_itself() -> None:
    """Of a layer-wise method steps begin anew with each layer; the start of one is not the end of another."""

    def layers(*curves: list[float]) -> Record:
        rows = tuple({"step": float(n), "primal": value} for curve in curves for n, value in enumerate(curve))
        return record("theirs").model_copy(update={"trace": rows})

    assert signs(layers(FALLING, FALLING, FALLING)) == []
    assert signs(layers(FALLING, STEADY, FALLING)) == []
    (finding,) = diagnose(layers(FALLING, STEADY, STEADY))
    assert finding.evidence.endswith("and so in 2 of 3 runs")


def test_rows_without_a_step_or_with_none_that_is_a_number() -> None:
    made = record()
    rows = tuple({"primal": value} for value in STEADY)
    assert [len(curve) for curve in runs(made.model_copy(update={"trace": rows}), "primal")] == [len(STEADY)]
    odd = ({"step": math.nan, "primal": 1.0}, {"step": 1.0, "primal": 1.0}, {"step": 2.0, "primal": 1.0})
    assert [len(curve) for curve in runs(made.model_copy(update={"trace": odd}), "primal")] == [1, 2]


def test_a_projection_is_held_against_the_loss_of_its_own_run() -> None:
    """A stage that retrains begins anew and ends lower than the weights that were projected."""

    def then_retrained(loss: float, projected: float) -> Record:
        rows = [{"step": 1.0, "loss": 3.0}, {"step": 2.0, "loss": loss, "projected_loss": projected}]
        rows += [{"step": float(n), "loss": 1.0} for n in range(1, 5)]
        return record("theirs").model_copy(update={"trace": tuple(rows)})

    assert signs(then_retrained(2.0, 2.1)) == []
    (finding,) = diagnose(then_retrained(2.0, 3.5))
    assert finding.evidence == "the loss is 2 before the last projection and 3.5 after it"


def test_weights_that_could_not_travel() -> None:
    assert signs(spending(travel=2.9)) == [TRAVEL]
    assert signs(spending(travel=3.1)) == []
    assert signs(spending(traced(primal=FALLING), travel=2.0)) == [], "they arrived all the same"
    assert signs(spending(traced(primal=STEADY), travel=2.0)) == [TRAVEL], "which is why the residual does not fall"
    noted = record("theirs").model_copy(update={"notes": {f"{SHORT_TRAVEL_NOTE} three times their rms": 1}})
    assert signs(noted) == [TRAVEL]
    assert signs(spending(noted, travel=9.0)) == [], "the number counts where there is one"
    (finding,) = diagnose(spending(travel=0.4))
    assert finding.evidence == "in the whole run a weight can move by 0.4 times the weights' rms"


@pytest.mark.parametrize(("zeros", "expected"), [((50, 50, 50), []), ((30, 30, 89), []), ((20, 20, 99), [ZEROS])])
def test_a_layer_that_holds_the_zeros(zeros: tuple[int, ...], expected: list[str]) -> None:
    found = record("theirs")
    assert found.sparsity is not None
    matrices = {f"model.layers.{n}.q": MatrixCount(numel=100, zeros=count) for n, count in enumerate(zeros)}
    found = found.model_copy(update={"sparsity": found.sparsity.model_copy(update={"matrices": matrices})})
    assert signs(found) == expected
    if expected:
        assert diagnose(found)[0].evidence == "model.layers.2.q keeps 1 % of its weights, all matrices together 53.7 %"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.1, 0.1, 0.12, 0.11], []),
        ([0.6, 0.7, 0.65, 0.7], []),
        ([0.01, 0.01, 0.01, 0.1], []),
        ([0.1, 0.1, 0.9, 0.12], [ERROR]),
        ([0.1, 0.1, math.nan, 0.1], [ERROR]),
    ],
    ids=["even", "bad everywhere", "small", "outlier", "nan"],
)
def test_a_layer_that_carries_the_loss(errors: list[float], expected: list[str]) -> None:
    assert signs(spending(layer_error={f"layer {n}": error for n, error in enumerate(errors)})) == expected


@pytest.mark.parametrize("odd", ["many", [1.0], {"a": "b"}, {"a": None, "b": True}, None])
def test_amounts_of_another_kind_are_passed_over(odd: object) -> None:
    assert signs(spending(layer_error=odd, travel=odd)) == []


def test_memory_near_its_limit_and_beyond() -> None:
    def of(peak: int, there: object) -> Record:
        found = spending(peak_bytes=peak)
        return found.model_copy(update={"environment": found.environment | {"memory_bytes": there}})

    assert signs(of(95 << 30, 100 << 30)) == [MEMORY]
    assert signs(of(85 << 30, 100 << 30)) == signs(of(95 << 30, None)) == []
    assert diagnose(of(76 << 30, 80 << 30))[0].evidence == "the peak while pruning is 76 GiB of 80 GiB"
    for error in (
        Failure(type="MemoryLimit", message="the cell took more than 4 GiB"),
        Failure(type="OutOfMemoryError", message="CUDA out of memory"),
        Failure(type="WorkerKilled", message="the worker was killed", signal="SIGKILL"),
    ):
        assert signs(record(error="x").model_copy(update={"error": error})) == [NO_MEMORY]
    assert signs(record(error="another")) == []


def test_the_memory_of_this_machine() -> None:
    there = memory_bytes("cpu")
    assert there is None or there > 1 << 28


def test_a_loss_that_became_infinite() -> None:
    error = Failure(type="FloatingPointError", message="the loss is nan at step 3: try a smaller lr than 10")
    assert signs(record(error="x").model_copy(update={"error": error})) == [DIVERGENCE]


def test_the_dense_model_has_no_signature() -> None:
    assert signs(traced(record("dense", "0"), primal=STEADY)) == []


# Bad runs of ELSA itself: what it traces is what the signatures read.
GOOD: dict[str, Any] = {"steps": 60, "lr": 2e-2, "lmda": 1.0, "interval": 2, "batch_size": 4}
RUNS: list[tuple[str, float, dict[str, Any], set[str], set[str]]] = [  # …, expected, possible
    ("good", 0.5, {}, set(), set()),
    ("hardly any penalty", 0.8, {"lmda": 1e-6}, {RESIDUAL, PROJECTION, MASK}, set()),
    # Where a run that diverges ends hangs on the last bits, and so on the processor.
    ("a learning rate that diverges", 0.8, {"lr": 1.0}, {RESIDUAL, MASK}, {PROJECTION}),
    ("hardly any learning rate", 0.8, {"lr": 1e-5}, {TRAVEL, MASK}, set()),
]


@pytest.mark.parametrize(
    ("ratio", "options", "expected", "possible"), [case[1:] for case in RUNS], ids=[case[0] for case in RUNS]
)
def test_a_run_of_elsa(ratio: float, options: dict[str, Any], expected: set[str], possible: set[str]) -> None:
    text = torch.arange(48).repeat(8) % tiny.VOCAB
    data = CalibrationData(text, nsamples=4, seqlen=24, seed=0)
    observer = RecordingObserver()
    with use_observer(observer):
        Elsa(**GOOD | options).prune(model=tiny.llama(), data=data, sparsity=Unstructured(ratio))
    found = spending(record("elsa"), **observer.amounts).model_copy(update={"trace": tuple(observer.traces)})
    assert expected <= set(signs(found)) <= expected | possible


@pytest.mark.parametrize("folder", ["extreme", "smoke"])
def test_healthy_cells_have_no_signature(folder: str) -> None:
    records = read_records(ROOT / "results" / "reference" / folder)
    assert records
    assert {found.cell.id: signs(found) for found in records if signs(found)} == {}


def test_a_report_names_signature_evidence_and_what_to_try(tmp_path: Path) -> None:
    bad = traced(record("theirs", seed=1), primal=STEADY)
    records = [traced(record("theirs"), primal=FALLING), bad, record("dense", "0"), record("wanda")]
    table, remedies = diagnosis_tables(Scenes.of(records).settings)
    evidence = "the residual begins at 0.8 and ends at 0.8 (seed 1 of 2)"
    assert table.rows == (("theirs", "0.5", RESIDUAL, evidence),)
    assert remedies.rows == ((RESIDUAL, REMEDIES[RESIDUAL]),)
    sections = {section.name: section for section in report_sections(records)}
    assert "diagnosis" in sections
    assert any(
        p.lead == "1 cell shows a sign of a run that went wrong: see Diagnosis." for p in sections["summary"].paragraphs
    )
    assert evidence in to_markdown([table])
    assert evidence in to_html(records, "a report")
    for found in records:
        write_record(tmp_path, found, {})
    for form in ("table", "markdown", "html"):
        result = prunebench("report", tmp_path, "--format", form)
        said = result.stdout + "".join(path.read_text() for path in tmp_path.glob("*.html"))
        assert RESIDUAL in said


def test_a_report_of_healthy_records_has_no_diagnosis() -> None:
    assert diagnosis_tables(Scenes.of([record("wanda"), record("dense", "0")]).settings) == []


def test_every_signature_has_a_remedy_and_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text()
    for signature, remedy in REMEDIES.items():
        assert remedy.endswith(".")
        assert f"**{signature}**" in page.lower()
    for name in ("primal", "projected_loss", "mask_change", "travel", "layer_error", "memory_bytes"):
        assert f"`{name}`" in page
