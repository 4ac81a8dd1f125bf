"""Tables are made from records alone."""

import math
from typing import Any

import pytest

from prunebench.records.record import PublishedFigure, Record
from prunebench.report.budgets import HEADERS
from prunebench.report.scenes import Scenes
from prunebench.report.sections import all_tables, report_sections
from prunebench.report.tables.cost import cost_tables
from prunebench.report.tables.other_texts import other_text_tables
from prunebench.report.tables.perplexity import perplexity_tables
from prunebench.report.tables.table import Table
from prunebench.report.tables.zero_shot import zero_shot_tables
from tests.helpers.records import PROTOCOL, record

Change = dict[str, Any]


def cells_of(table: Table) -> dict[str, dict[str, str]]:
    start = 3 if table.headers[1:3] == HEADERS else 1
    return {row[0]: dict(zip(table.headers[start:], row[start:], strict=True)) for row in table.rows}


UNKNOWN = ("not measured", "–")  # the training of records of schema 1 that took calibration text


class TestPerplexity:
    def test_methods_by_sparsities_with_the_dense_value_in_the_caption(self) -> None:
        records = [
            record("dense", "0", value=5.2401),
            record("wanda", "2:4", value=61.514),
            record("wanda", "0.9", value=9330.4),
            record("wanda", "0.70", value=16.5),
            record("magnitude", "0.9", value=1.234e6),
        ]
        (table,) = perplexity_tables(Scenes.of(records).texts)
        assert table.caption == (
            f"Perplexity of stories on {PROTOCOL}; dense 5.240; calibrated on tinystories_calib; one seed"
        )
        assert table.headers == ("method", "training", "trained on", "0.70", "0.9", "2:4")
        assert table.rows == (
            ("magnitude", *UNKNOWN, "–", "1.23e+06", "–"),
            ("wanda", *UNKNOWN, "16.50", "9330", "61.51"),
        )

    def test_seeds_are_averaged_and_counted(self) -> None:
        records = [record(seed=seed, value=value) for seed, value in enumerate((10.0, 11.0, 12.0))]
        (table,) = perplexity_tables(Scenes.of([*records, record("magnitude", value=20.0)]).texts)
        assert cells_of(table) == {"magnitude": {"0.5": "20.00"}, "wanda": {"0.5": "11.00 ± 1.00"}}
        assert "the dense model was not measured" in table.caption
        assert "mean ± standard deviation over 3 seeds (one where ± is missing)" in table.caption

    def test_a_failed_seed_is_told_and_not_averaged_away(self) -> None:
        (table,) = perplexity_tables(
            Scenes.of([record(seed=0), record(seed=1, error="x"), record("magnitude", error="x")]).texts
        )
        assert cells_of(table) == {"magnitude": {"0.5": "failed"}, "wanda": {"0.5": "10.00 (1 failed)"}}

    @pytest.mark.parametrize(("value", "shown"), [(math.inf, "inf"), (math.nan, "nan")])
    def test_what_is_not_finite_is_shown_as_such(self, value: float, shown: str) -> None:
        (table,) = perplexity_tables(Scenes.of([record(value=value), record(seed=1)]).texts)
        assert table.rows == (("wanda", *UNKNOWN, shown),)

    def test_dense_alone_is_a_table_too(self) -> None:
        (table,) = perplexity_tables(Scenes.of([record("dense", "0", value=5.24)]).texts)
        assert table.rows == (("dense", "–", "–", "5.240"),)

    def test_methods_keep_the_order_asked_for(self) -> None:
        (table,) = perplexity_tables(Scenes.of([record(name) for name in "abcd"], ["c", "missing", "b"]).texts)
        assert [row[0] for row in table.rows] == ["c", "b", "a", "d"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"allocation": "owl"}, "allocation owl"),
            ({"calibration": {"corpus": "c4"}}, "calibrated on c4"),
            ({"dtype": "bfloat16"}, "bfloat16"),
            ({"model_digest": "ff99"}, "weights ff99"),
            ({"evaluations": [{"name": "perplexity", "protocol": PROTOCOL, "digest": "ee77"}]}, "(text ee77)"),
        ],
    )
    def test_a_table_mixes_nothing(self, change: Change, words: str) -> None:
        first, second = perplexity_tables(Scenes.of([record(value=10.0), record("other", value=20.0, **change)]).texts)
        assert first.rows == (("wanda", *UNKNOWN, "10.00"),)
        assert second.rows == (("other", *UNKNOWN, "20.00"),)
        assert words in second.caption
        assert words not in first.caption

    def test_the_dense_model_stands_beside_every_calibration_text(self) -> None:
        records = [record("dense", "0", value=5.24), record(), record(calibration={"corpus": "c4"})]
        captions = [table.caption for table in perplexity_tables(Scenes.of(records).texts)]
        assert len(captions) == 2
        assert all("dense 5.240" in caption for caption in captions)

    def test_another_checkpoint_has_another_dense_model(self) -> None:
        _, second = perplexity_tables(Scenes.of([record("dense", "0"), record(), record(model_digest="ff99")]).texts)
        assert "the dense model was not measured" in second.caption

    def test_two_models_have_two_tables(self) -> None:
        tables = all_tables([record(model="b"), record(model="a")])
        assert [table.caption.split(" on ")[0] for table in tables if "Perplexity" in table.caption] == [
            "Perplexity of b",
            "Perplexity of a",
        ]

    def test_two_records_of_one_cell_are_not_two_seeds(self) -> None:
        old, new = record(value=10.0, started="2026-01-01"), record(value=20.0, started="2026-02-01")
        tables = all_tables([new, old])
        assert tables[0].rows == (("wanda", *UNKNOWN, "20.00"),)
        assert tables[-1].caption == "Left out: a later record of the same cell is there"
        assert tables[-1].rows == ((old.cell.id, "2026-01-01"),)


class TestZeroShot:
    def test_accuracies_with_errors_and_their_mean(self) -> None:
        (table,) = zero_shot_tables(
            Scenes.of([record(sparsity="0.9"), record(sparsity="0.5"), record("dense", "0")]).tasks
        )
        assert table.headers == ("method", "sparsity", "arc_easy", "piqa", "mean")
        assert [row[:2] for row in table.rows] == [("dense", "0"), ("wanda", "0.5"), ("wanda", "0.9")]
        # Wilson's intervals of 50 and of 110 of 200; √(5.49² + 6.92²) / 2 and √(6.43² + 6.74²) / 2 for the mean
        assert table.rows[0][2:] == ("25.0 (19.5–31.4)", "55.0 (48.1–61.7)", "40.0 (35.6–44.7)")
        assert "percent" in table.caption

    def test_seeds_do_not_shrink_the_error_of_the_same_questions(self) -> None:
        (table,) = zero_shot_tables(Scenes.of([record(), record(seed=1)]).tasks)
        assert table.rows[0][2:] == ("25.0 (19.5–31.4)", "55.0 (48.1–61.7)", "40.0 (35.6–44.7)")
        assert table.caption.endswith("mean over 2 seeds")

    def test_failed_and_missing(self) -> None:
        half = record("half", evaluations=[{"name": "zero_shot", "tasks": ["arc_easy"]}])
        (table,) = zero_shot_tables(Scenes.of([record(), record("broken", error="x"), half]).tasks)
        shown = {row[0]: row[2:] for row in table.rows}
        assert shown["broken"] == ("failed", "failed", "failed")
        assert shown["half"] == ("25.0 (19.5–31.4)", "–", "–")

    def test_another_number_of_questions_is_another_column(self) -> None:
        other = record("other")
        other.zero_shot["n-samples"]["piqa"]["effective"] = 50
        (table,) = zero_shot_tables(Scenes.of([record(), other]).tasks)
        assert {"piqa (200 questions)", "piqa (50 questions)"} <= set(table.headers)

    def test_a_group_stands_for_its_members(self) -> None:
        grouped = record(evaluations=[{"name": "zero_shot", "tasks": ["piqa", "blimp"]}])
        grouped.zero_shot["results"]["blimp_wh"] = {"acc,none": 0.7, "acc_stderr,none": 0.02}
        grouped.zero_shot["groups"]["blimp"] = {"acc,none": 0.6, "acc_stderr,none": 0.01, "sample_len": 400}
        (table,) = zero_shot_tables(Scenes.of([grouped]).tasks)
        assert table.headers == ("method", "sparsity", "piqa", "blimp", "mean")
        assert table.rows[0][3] == "60.0 (55.1–64.7)"

    def test_a_tag_stands_for_its_tasks(self) -> None:
        (table,) = zero_shot_tables(Scenes.of([record(evaluations=[{"name": "zero_shot", "tasks": ["my_tag"]}])]).tasks)
        assert table.headers == ("method", "sparsity", "arc_easy", "piqa", "mean")

    def test_other_metrics_are_named_and_only_shares_are_averaged(self) -> None:
        mixed = record(evaluations=[{"name": "zero_shot", "tasks": ["arc_easy", "piqa", "gsm8k", "text"]}])
        mixed.zero_shot["results"] |= {
            "gsm8k": {"alias": "gsm8k", "exact_match,strict": 0.1, "exact_match_stderr,strict": 0.01},
            "text": {"alias": "text", "word_perplexity,none": 1234.5, "word_perplexity_stderr,none": "N/A"},
        }
        mixed.zero_shot["n-shot"] |= {"gsm8k": 5}
        (table,) = zero_shot_tables(Scenes.of([mixed]).tasks)
        assert table.headers[2:] == (
            "arc_easy", "piqa", "gsm8k (exact_match, 5-shot)", "text (word_perplexity)", "mean"
        )  # fmt: skip
        # 10 ± 1.96 · 1.0, since the number of questions is unknown
        assert table.rows[0][4:] == ("10.0 (8.0–12.0)", "1234", "30.0 (27.0–33.2)")


class TestOtherTables:
    def test_cost_from_least_to_most(self) -> None:
        quick, slow = record(sparsity="0.5"), record(sparsity="0.9")
        slow = slow.model_copy(
            update={"cost": slow.cost.model_copy(update={"prune_seconds": 200.0, "state_bytes": 2048})}
        )
        (table,) = cost_tables(Scenes.of([quick, slow, record("dense", "0"), record("other", error="x")]).settings)
        assert table.caption.endswith("x86_64, threads: 2")
        assert cells_of(table) == {
            "wanda": {
                "cells": "2",
                "prune time": "2.5 s to 3 min 20 s",
                "tokens seen": "32.8 k",
                "peak memory": "640 MiB",
                "method state": "2 KiB",
            }
        }

    def test_failures_and_notes(self) -> None:
        noted = record().model_copy(update={"notes": {"damping raised": 3}})
        more = record(seed=1).model_copy(update={"notes": {"damping raised": 1}})
        tables = all_tables([noted, more, record("broken", error="holds 0 zeros")])
        failed, notes = tables[-2:]
        assert failed.rows == (("stories", "broken", "0.5", "0", "ContractError", "holds 0 zeros"),)
        assert notes.rows == (("stories", "wanda", "damping raised", "2", "4"),)


def on_two_texts(method: str, sparsity: str, digest: str, value: float) -> Record:
    made = record(method, sparsity)
    asked = {"name": "perplexity", "protocol": "shifted", "digest": digest}
    cell = made.cell.model_copy(update={"evaluations": (*made.cell.evaluations, asked)})
    found = made.perplexity | {"shifted": made.perplexity[PROTOCOL].model_copy(update={"value": value})}
    return made.model_copy(update={"cell": cell, "perplexity": found})


def test_two_texts_of_one_name_have_a_column_each() -> None:
    records = [on_two_texts("dense", "0", "d1", 10.0), on_two_texts("a", "0.5", "d1", 12.0)]
    records.append(on_two_texts("b", "0.5", "d2", 99.0))
    (table,) = other_text_tables(Scenes.of(records).settings)
    assert table.headers[-2:] == ("shifted (text d1)", "shifted (text d2)")
    assert [row[-2:] for row in table.rows] == [("10.00 (×1.000)", "–"), ("12.00 (×1.200)", "–"), ("–", "99.00")]


def test_every_form_of_the_report_tells_of_plugins_measures_texts_and_published_figures() -> None:
    figure = PublishedFigure(corpus="c4", seqlen=8, protocol=None, perplexity=7.0, source="a paper")
    made = on_two_texts("a", "0.5", "d1", 12.0).model_copy(update={"measures": {"speed": {"tokens_per_second": 123.0}}})
    made = made.model_copy(update={"cell": made.cell.model_copy(update={"published": (figure,)})})
    paged = [table.caption for section in report_sections([made]) for table in section.tables]
    for captions in (paged, [table.caption for table in all_tables([made])]):
        for words in ("tokens_per_second", "on several texts", "Published figures"):
            assert any(words in caption for caption in captions), (words, captions)


def test_a_task_with_noise_stands_beside_the_same_without() -> None:
    """What was asked for is shown, and not the members of a group that was."""
    evaluations = [{"name": "zero_shot", "tasks": ["group"]}, {"name": "zero_shot", "tasks": ["group"], "noise": 0.05}]
    results = {name: {"acc,none": share} for name, share in (("group", 0.5), ("group-noise-0.05", 0.25), ("one", 0.75))}
    made = record(evaluations=evaluations).model_copy(update={"zero_shot": {"results": results}})
    (table,) = zero_shot_tables(Scenes.of([made]).tasks)
    assert table.headers[2:4] == ("group", "group-noise-0.05")
    assert "one" not in table.headers
    assert [entry.partition(" ")[0] for entry in table.rows[-1][2:4]] == ["50.0", "25.0"]


def test_a_setting_is_told_once() -> None:
    """Where calibration texts differ, the captions of all tables say which one it is."""
    calibration = record().cell.calibration
    other = record(method="other", calibration={**calibration, "corpus": "code", "digest": "1"})
    more = {"second": record().perplexity[PROTOCOL]}
    both = [r.model_copy(update={"perplexity": {**r.perplexity, **more}}) for r in (record(), other)]
    captions = [table.caption for table in other_text_tables(Scenes.of(both).settings)]
    assert [caption.count("calibrated on") for caption in captions] == [1, 1]
