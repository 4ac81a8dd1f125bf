"""Captions tell how many trials chose the options of a table's rows, on which text, and what the trials took."""

from typing import Any

from prunebench.records.cell_facts import TuningFacts
from prunebench.records.record import Record
from prunebench.report.sections import all_tables
from prunebench.report.tuning import tuning_caption, tuning_cost
from tests.helpers.records import record


def tuned(method: str, at: str = "0.5", **facts: Any) -> Record:
    found = record(method, at)
    given = {"trials": 6, "tokens": (524_288,) * 6, "seconds": 30.0, "text": "mine/stream-128", "sparsity": at}
    tuning = TuningFacts.model_validate({**given, "options": {"lr": 0.1}, **facts})
    return found.model_copy(update={"cell": found.cell.model_copy(update={"tuning": tuning})})


def test_trials_tokens_text_and_sparsity() -> None:
    assert tuning_caption([tuned("elsa")]) == (
        "options tuned on mine/stream-128: 6 trials of 524 k training tokens each at 0.5 for elsa"
    )


def test_ranges_over_the_cells_of_a_method() -> None:
    rows = [tuned("elsa"), tuned("elsa", "0.9", trials=3, tokens=(512, None, 1024), text="other/stream-64")]
    assert tuning_caption(rows) == (
        "options tuned on mine/stream-128, other/stream-64: "
        "6 to 3 trials of 512 to 524 k training tokens each at 0.5, 0.9 for elsa"
    )
    assert tuning_cost(rows) == "trials took besides: elsa 1 min 00 s"


def test_seeds_and_sparsities_that_share_trials_count_them_once() -> None:
    rows = [tuned("elsa"), tuned("elsa", "0.7", sparsity="0.5"), tuned("elsa")]
    assert "6 trials of 524 k training tokens each at 0.5 for elsa" in tuning_caption(rows)
    assert tuning_cost(rows) == "trials took besides: elsa 30 s"


def test_trials_of_another_are_said_to_be_so_and_cost_nothing_more() -> None:
    rows = [tuned("short"), tuned("long", like="short")]
    assert tuning_caption(rows).endswith("6 trials of 524 k training tokens each at 0.5 for short; long as short")
    assert tuning_caption(rows[1:]).endswith("long as short, 6 trials of 524 k training tokens each at 0.5")
    assert tuning_cost(rows) == "trials took besides: short 30 s"


def test_methods_that_were_tuned_alike_are_named_together() -> None:
    rows = [tuned("elsa"), tuned("wanda", trials=3), tuned("gmp")]
    assert tuning_caption(rows).endswith(
        "6 trials of 524 k training tokens each at 0.5 for each of elsa, gmp; "
        "3 trials of 524 k training tokens each at 0.5 for wanda"
    )


def test_a_split_is_named() -> None:
    assert tuning_caption([tuned("elsa", split="validation")]).startswith(
        "options tuned on mine/stream-128 (validation): 6 trials"
    )


def test_tokens_that_were_not_counted() -> None:
    assert "6 trials of – training tokens each" in tuning_caption([tuned("elsa", tokens=(None,) * 6)])


def test_what_was_not_tuned_says_nothing() -> None:
    assert tuning_caption([record()]) == tuning_cost([record()]) == ""
    assert not any("tuned on" in table.caption for table in all_tables([record("dense", "0"), record()]))


def test_tables_of_measurements_say_it() -> None:
    captions = [table.caption for table in all_tables([record("dense", "0"), record(), tuned("elsa")])]
    for title in ("Perplexity of", "Zero-shot tasks of"):
        (found,) = (caption for caption in captions if caption.startswith(title))
        assert "options tuned on mine/stream-128: 6 trials of 524 k training tokens each at 0.5 for elsa" in found
    (cost,) = (caption for caption in captions if caption.startswith("Cost of pruning"))
    assert "trials took besides: elsa 30 s" in cost
