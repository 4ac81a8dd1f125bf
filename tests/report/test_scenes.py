"""Records are grouped once, into the same scenes for all tables and plots of a report."""

from prunebench.records.record import Effort, Record
from prunebench.report.grouping import latest_records
from prunebench.report.scenes import Scenes
from prunebench.report.tables.diagnosis import diagnosis_tables
from tests.helpers.records import PROTOCOL, record

OTHER = {"corpus": "c4"}


def trained(method: str, **facts: object) -> Record:
    """A dense model that was trained on."""
    effort = Effort(stage=0, forward_tokens=10, backward_tokens=10, flops=1.0, seconds=1.0)
    return record(method, "0", **facts).model_copy(update={"effort": (effort,)})  # type: ignore[arg-type]


def test_cells_stand_in_the_order_of_the_report_and_not_of_its_files() -> None:
    records = [record("b", "2:4"), record("b", "0.9"), record("a", "0.5", error="x"), record("dense", "0")]
    (scene,) = Scenes.of(records, ["a", "b"]).settings
    assert list(scene.rows) == [("dense", "0"), ("a", "0.5"), ("b", "0.9"), ("b", "2:4")]
    assert list(scene.cells) == list(scene.rows)[1:]
    assert scene.failed == {("a", "0.5")}
    assert list(scene.succeeded().rows) == [("dense", "0"), ("b", "0.9"), ("b", "2:4")]


def test_each_setting_has_the_baselines_of_its_checkpoint() -> None:
    records = [record("dense", "0"), record(), record(calibration=OTHER), record(model_digest="ff99")]
    same, other, without = Scenes.of(records).settings
    assert same.baselines == other.baselines == {"dense": [records[0]]}
    assert without.baselines == {}


def test_of_two_baselines_of_one_seed_the_one_of_the_setting_counts() -> None:
    """A model that was trained on one calibration text is no control for what was pruned with another."""
    controls = [trained("control"), trained("control", calibration=OTHER), trained("control", seed=1)]
    own, other = Scenes.of([record(), record(calibration=OTHER), *controls]).settings
    assert {r.cell.seed: r for r in own.baselines["control"]} == {0: controls[0], 1: controls[2]}
    assert {r.cell.seed: r for r in other.baselines["control"]} == {0: controls[1], 1: controls[2]}


def test_the_dense_model_is_the_one_as_it_is() -> None:
    (scene,) = Scenes.of([trained("control", value=4.0), record("dense", "0", value=5.0), record()]).texts
    assert scene.dense == 5.0
    assert (list(scene.controls), [r.cell.method for r in scene.untouched]) == (["control"], ["dense"])
    (alone,) = Scenes.of([trained("control", value=4.0), record()]).texts
    assert (alone.dense, alone.untouched) == (4.0, [])


def test_a_setting_is_called_the_same_whatever_is_shown_of_it() -> None:
    """One of two settings was measured on a second text, too: its name does not depend on the other's being there."""
    found = record()
    asked = {"name": "perplexity", "protocol": "second", "digest": "22"}
    cell = found.cell.model_copy(update={"evaluations": (*found.cell.evaluations, asked)})
    both = found.model_copy(
        update={"cell": cell, "perplexity": {**found.perplexity, "second": found.perplexity[PROTOCOL]}}
    )
    scenes = Scenes.of([both, record(calibration=OTHER)])
    labels = [(scene.protocol, scene.label) for scene in scenes.texts]
    own, other = (scene.label for scene in scenes.settings)
    assert labels == [(PROTOCOL, own), (PROTOCOL, other), ("second", own)]
    assert own != other


def test_a_model_that_nothing_was_pruned_of_is_a_scene_and_else_no_baseline_is() -> None:
    dense = [record("dense", "0"), record("dense", "0", calibration=OTHER)]
    assert len(Scenes.of(dense).settings) == 1
    (scene,) = Scenes.of([*dense, record()]).settings
    assert list(scene.cells) == [("wanda", "0.5")]


def test_nothing_and_failures_alone_make_no_trouble() -> None:
    assert Scenes.of([]).first == []
    (scene,) = Scenes.of([record(error="x")]).texts
    assert (scene.dense, scene.measured, scene.sparsities) == (None, {}, ["0.5"])


def test_a_diagnosis_tells_settings_apart() -> None:
    records = [record(error="gone"), record(calibration=OTHER, error="gone")]
    ill = [
        r.model_copy(update={"error": r.error.model_copy(update={"type": "MemoryError"})}) for r in records if r.error
    ]
    captions = [table.caption for table in diagnosis_tables(Scenes.of(ill).settings)]
    assert ["calibrated on c4" in caption for caption in captions] == [False, True, False]


def test_seeds_with_other_options_are_no_seeds() -> None:
    """Trials chose 1, then with a larger grid 2, and then 1 again, with one more seed."""
    chosen = ((0, 1, "2026-01-01"), (0, 2, "2026-01-02"), (1, 1, "2026-01-03"))
    records = [record(seed=seed, options={"rho": rho}, started=day) for seed, rho, day in chosen]
    assert latest_records(records) == ([records[0], records[2]], [records[1]])
    assert latest_records(records[:2]) == ([records[1]], [records[0]])
