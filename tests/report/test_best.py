"""What a table marks: the best and its ties, by the evidence beside the records."""

from pathlib import Path

import numpy as np
import pytest

from prunebench.errors import RecordError
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.records.store import read_record, write_record
from prunebench.report.output.text_tables import to_latex, to_markdown, to_terminal
from prunebench.report.paired import paired_by_seed, perplexity_change, task_answers
from prunebench.report.scenes import Scenes
from prunebench.report.summary import verdict
from prunebench.report.tables.best import MARKED_CAPTION, ONE_SEED_CAPTION, OTHER_SEEDS_CAPTION, perplexity_marks
from prunebench.report.tables.perplexity import perplexity_tables
from prunebench.report.tables.table import Table
from prunebench.report.tables.zero_shot import zero_shot_tables
from tests.helpers.records import PROTOCOL, arrays_file, record

COUNTS = np.random.default_rng(0).integers(20, 60, 200)
HARD = np.random.default_rng(1).normal(0, 0.4, 200)


EASE = np.random.default_rng(2).permutation(200)  # of the questions
SEEDS = (0, 1, 2)


def losses(nll: float, seed: int) -> np.ndarray:
    return COUNTS * (nll + HARD + np.random.default_rng(seed).normal(0, 0.02, 200))


def kept(folder: Path, method: str, nll: float, right: float = 0.5, *, noise: int = 0, **facts: object) -> Record:
    """A record with its evidence; ``right`` is the share of 200 questions answered."""
    made = losses(nll, noise)
    found = record(method, value=float(np.exp(made.sum() / COUNTS.sum())), **facts)  # type: ignore[arg-type]
    arrays = {f"perplexity/{PROTOCOL}/losses": made, f"perplexity/{PROTOCOL}/counts": COUNTS}
    for task in ("arc_easy", "piqa"):
        arrays[f"zero_shot/{task}/acc"] = (200 * right > EASE).astype(float)
    return read_record(write_record(folder, found, arrays))


def seeds(folder: Path, method: str, nll: float, right: float = 0.5, **facts: object) -> list[Record]:
    """Records of three seeds, whose losses differ by 0.1 % of the perplexity."""
    offsets = np.random.default_rng(list(method.encode())).normal(0, 0.001, len(SEEDS))
    return [
        kept(folder, method, nll + offset, right, noise=len(method) * 100 + seed, seed=seed, **facts)
        for seed, offset in zip(SEEDS, offsets, strict=True)
    ]


def marked(table: Table) -> set[tuple[str, str]]:
    return {(table.rows[row][0], table.headers[column]) for row, column in table.marked}


def test_the_lowest_perplexity_and_its_ties(tmp_path: Path) -> None:
    records = [
        *seeds(tmp_path, "best", 1.0),
        *seeds(tmp_path, "tie", 1.0005),
        *seeds(tmp_path, "worse", 1.02),
        *seeds(tmp_path, "alone", 1.0, sparsity="0.9"),
    ]
    (table,) = perplexity_tables(Scenes.of(records).texts, ArrayStore(tmp_path))
    assert marked(table) == {("best", "0.5"), ("tie", "0.5")}
    assert MARKED_CAPTION in table.caption
    assert OTHER_SEEDS_CAPTION not in table.caption


def test_any_subset_of_methods_has_marks_of_its_own(tmp_path: Path) -> None:
    entries = {name: seeds(tmp_path, name, nll) for name, nll in (("best", 1.0), ("fair", 1.05), ("worst", 1.1))}
    store = ArrayStore(tmp_path)
    assert perplexity_marks(entries, PROTOCOL, store) == {"best": "best", "fair": "worse", "worst": "worse"}
    del entries["best"]
    assert perplexity_marks(entries, PROTOCOL, store) == {"fair": "best", "worst": "worse"}
    assert perplexity_marks({"fair": entries["fair"]}, PROTOCOL, store) == {"fair": "unmarked"}
    assert perplexity_marks(entries, PROTOCOL, None) == {"fair": "unmarked", "worst": "unmarked"}


def test_one_seed_marks_nothing_and_says_how_to_get_marks(tmp_path: Path) -> None:
    records = [kept(tmp_path, "a", 1.0), kept(tmp_path, "b", 1.5)]
    (table,) = perplexity_tables(Scenes.of(records).texts, ArrayStore(tmp_path))
    assert table.marked == frozenset()
    assert ONE_SEED_CAPTION in table.caption
    assert "seeds: [0, 1, 2]" in table.caption
    (scene,) = Scenes.of(records).texts
    assert "the lowest is a with" in verdict(scene, ArrayStore(tmp_path))
    assert "whether that is more than noise is not known" in verdict(scene, ArrayStore(tmp_path))


def test_one_seed_is_enough_for_methods_that_take_no_data(tmp_path: Path) -> None:
    records = []
    for name, nll in (("a", 1.0), ("b", 1.5)):
        made = kept(tmp_path, name, nll)
        assert made.method is not None
        facts = made.method.model_copy(update={"takes_data": False})
        changed = made.model_copy(update={"method": facts})
        records.append(read_record(write_record(tmp_path, changed, dict(ArrayStore(tmp_path).read(made)))))
    (table,) = perplexity_tables(Scenes.of(records).texts, ArrayStore(tmp_path))
    assert marked(table) == {("a", "0.5")}
    assert ONE_SEED_CAPTION not in table.caption


def test_other_seeds_are_compared_and_told(tmp_path: Path) -> None:
    records = [*seeds(tmp_path, "best", 1.0), *seeds(tmp_path, "worse", 1.1)[:2]]
    records += [kept(tmp_path, "late", 1.1 + 0.001 * seed, seed=seed) for seed in (7, 8)]
    (table,) = perplexity_tables(Scenes.of(records).texts, ArrayStore(tmp_path))
    assert marked(table) == {("best", "0.5")}
    assert OTHER_SEEDS_CAPTION in table.caption


def test_nothing_is_marked_without_evidence(tmp_path: Path) -> None:
    records = [kept(tmp_path, "best", 1.0), kept(tmp_path, "worse", 1.5)]
    assert perplexity_tables(Scenes.of(records).texts)[0].marked == frozenset()
    without = records[1].model_copy(update={"arrays": {}})
    write_record(tmp_path, without, {})
    (table,) = perplexity_tables(Scenes.of([records[0], without]).texts, ArrayStore(tmp_path))
    assert table.marked == frozenset()
    assert "marked" not in table.caption


def test_a_failed_seed_does_not_compete(tmp_path: Path) -> None:
    records = [*seeds(tmp_path, "good", 1.1), *seeds(tmp_path, "other", 1.2)]
    lucky = [kept(tmp_path, "lucky", 0.9), record("lucky", seed=1, error="x")]
    (table,) = perplexity_tables(Scenes.of([*records, *lucky]).texts, ArrayStore(tmp_path))
    assert marked(table) == {("good", "0.5")}


def test_a_torn_file_of_arrays_is_refused(tmp_path: Path) -> None:
    records = [kept(tmp_path, "best", 1.0), kept(tmp_path, "worse", 1.5)]
    path = arrays_file(tmp_path / f"{records[1].cell.id}.json")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecordError, match="no array file"):
        perplexity_tables(Scenes.of(records).texts, ArrayStore(tmp_path))


def test_the_highest_accuracy_of_each_sparsity(tmp_path: Path) -> None:
    records = [
        kept(tmp_path, "dense", 1.0, right=0.99, sparsity="0"),
        *seeds(tmp_path, "best", 1.0, right=0.8),
        *seeds(tmp_path, "tie", 1.0, right=0.79),
        *seeds(tmp_path, "worse", 1.0, right=0.5),
        *seeds(tmp_path, "worse", 1.0, right=0.4, sparsity="0.9"),
        *seeds(tmp_path, "worst", 1.0, right=0.2, sparsity="0.9"),
    ]
    (table,) = zero_shot_tables(Scenes.of(records).tasks, ArrayStore(tmp_path))
    rows = {table.rows[row][:2] for row, _ in table.marked}
    assert rows == {("best", "0.5"), ("tie", "0.5"), ("worse", "0.9")}
    assert {table.headers[column] for _, column in table.marked} == {"arc_easy", "piqa", "mean"}


def test_what_is_not_above_chance_is_not_marked_and_chance_is_shown(tmp_path: Path) -> None:
    found = [*seeds(tmp_path, "good", 1.0, right=0.55), *seeds(tmp_path, "poor", 1.0, right=0.3)]
    records = [made.model_copy(update={"chance": {"arc_easy": 0.25, "piqa": 0.5}}) for made in found]
    (table,) = zero_shot_tables(Scenes.of(records).tasks, ArrayStore(tmp_path))
    # 110 of 200 questions: Wilson's interval begins at 48.1 %, below the 50 % of guessing on piqa.
    assert marked(table) == {("good", "arc_easy"), ("good", "mean")}
    assert table.rows[-1] == ("chance", "", "25.0", "50.0", "37.5")
    assert "not above chance" in table.caption


def test_seeds_are_paired_where_both_sides_have_them() -> None:
    many, some, one = [record(seed=s) for s in (0, 1, 2)], [record("b", seed=s) for s in (2, 0)], [record("c", seed=7)]
    first, second = paired_by_seed(many, some)
    assert [r.cell.seed for r in first] == [r.cell.seed for r in second] == [0, 2]
    assert [len(side) for side in paired_by_seed(many, one)] == [3, 1]
    assert paired_by_seed(many[:2], [record(seed=8), record(seed=9)]) == ([], [])


def test_losses_of_other_sequences_are_not_compared() -> None:
    first = {f"perplexity/{PROTOCOL}/losses": losses(1.0, 0), f"perplexity/{PROTOCOL}/counts": COUNTS}
    other = first | {f"perplexity/{PROTOCOL}/counts": COUNTS + 1}
    assert perplexity_change(PROTOCOL, {0: first}, {0: other}) is None
    assert perplexity_change("missing", {0: first}, {0: first}) is None
    assert task_answers("arc_easy", "acc", [{0: first}, {0: first}]) is None
    same = perplexity_change(PROTOCOL, {0: first}, {0: first})
    assert same is not None
    assert (same.value, same.p) == (1, 1)


def test_every_format_shows_the_mark() -> None:
    table = Table("t", ("method", "0.5"), (("a_b", "1.5"), ("c", "10.5")), frozenset({(0, 1)}))
    assert "a_b        *1.5" in to_terminal([table])
    assert "**1.5**" in to_markdown([table])
    assert r"\textbf{1.5}" in to_latex([table])
    assert "10.5**" not in to_markdown([table])


def test_accuracies_by_other_shots_do_not_compete(tmp_path: Path) -> None:
    zero, five = seeds(tmp_path, "zero", 1.0, right=0.8), seeds(tmp_path, "five", 1.0, right=0.5)
    for made in five:
        made.zero_shot["n-shot"] = {"arc_easy": 5, "piqa": 5}
    (table,) = zero_shot_tables(Scenes.of([*zero, *five]).tasks, ArrayStore(tmp_path))
    assert table.marked == frozenset()


def test_a_failed_seed_wins_in_no_summary(tmp_path: Path) -> None:
    records = [*seeds(tmp_path, "good", 1.1), *seeds(tmp_path, "other", 1.2)]
    lucky = [kept(tmp_path, "lucky", 0.9), record("lucky", seed=1, error="x")]
    every = [*records, *lucky]
    (scene,) = Scenes.of(every).texts
    assert verdict(scene, ArrayStore(tmp_path)).startswith("At 0.5 the best is good with ")
    assert "lucky" not in verdict(scene, ArrayStore(tmp_path))
