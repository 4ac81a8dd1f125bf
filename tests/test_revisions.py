"""No built-in changes what it makes without raising its revision; see ``tests.revisions``."""

from typing import Any

import numpy as np
import prunebench_plugins.wanda
import pytest

from tests import revisions
from tests.revisions import ARRAYS, DIGESTS, complaint, recorded, same_share, subjects, this_platform

SUBJECTS = subjects()


def complaint_of(name: str, **changes: Any) -> str | None:
    """The complaint about a built-in as it is now."""
    content, arrays = recorded()
    stated, make = SUBJECTS[name]
    outcome, digest = make()
    known = {
        "revisions": stated,
        "outcome": outcome,
        "digest": digest,
        "known": content["subjects"].get(name),
        "same_platform": content["platform"] == this_platform(),
        "arrays": arrays,
    }
    return complaint(name, **{**known, **changes})


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_built_in_makes_what_it_made_under_its_revision(name: str) -> None:
    assert complaint_of(name) is None


def test_nothing_is_recorded_that_is_not_there_any_more() -> None:
    assert set(recorded()[0]["subjects"]) == set(SUBJECTS)
    assert ARRAYS.stat().st_size + DIGESTS.stat().st_size < 200_000


def test_a_change_is_noticed_here_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunebench_plugins.wanda, "wanda_scores", lambda W, norm: W.abs() * norm.sqrt())
    here = complaint_of("method wanda", same_platform=True)
    assert here is not None
    assert "method wanda makes something else than it did under the same revision (prunebench revision 1" in here
    elsewhere = complaint_of("method wanda", same_platform=False)
    assert elsewhere is not None
    assert "are what they were elsewhere: raise its revision" in elsewhere


def test_a_change_of_the_toolkit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "damped_cholesky", lambda A, percdamp, name: A)
    for same_platform in (True, False):
        assert "raise" in str(complaint_of("toolkit", same_platform=same_platform))


def test_what_another_machine_rounds_otherwise_is_no_change() -> None:
    rounded = {key: array * np.float16(1.001) for key, array in SUBJECTS["method wanda"][1]()[0].items()}
    assert complaint_of("method wanda", outcome=rounded, digest="another", same_platform=False) is None
    assert complaint_of("method wanda", outcome=rounded, digest="another", same_platform=True)


def test_a_raised_revision_and_a_new_built_in_are_recorded_again() -> None:
    assert "has another revision (prunebench revision 1, toolkit 1 → 2)" in str(
        complaint_of("method wanda", revisions="2")
    )
    assert "method wanda is new" in str(complaint_of("method wanda", known=None))


def test_how_much_is_the_same() -> None:
    values = np.linspace(-1, 1, 200)
    assert same_share(values, values) == 1
    assert same_share(values, values[:-1]) == 0
    assert same_share(values, values + 0.001) == 1
    assert same_share(values, np.where(np.arange(200) % 10, values, 0)) == pytest.approx(0.9)
    assert same_share(values > 0, values > 0.5) == pytest.approx(0.75, abs=0.01)
