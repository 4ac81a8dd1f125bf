"""Who says how OpenMP threads wait: the user, else prunebench."""

import subprocess
from typing import Any

import pytest

from prunebench.runner.openmp import SPIN, VARIABLES, own_setting, waiting
from prunebench.runner.processes.parent import Template


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_bounded_spin_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (own_setting(), waiting()) == ({}, SPIN)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert own_setting() == waiting() == {"OMP_WAIT_POLICY": "ACTIVE"}


@pytest.mark.parametrize("own", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE"}])
def test_the_first_process_is_started_with_it(own: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime reads it when torch is imported, so that it must be there before."""
    seen: dict[str, str] = {}

    def started(words: list[str], *, env: dict[str, str], **_: Any) -> None:
        seen.update(env)
        raise FileNotFoundError

    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(FileNotFoundError):
        Template.start()
    assert {name: seen[name] for name in VARIABLES if name in seen} == (own or SPIN)
