"""Processes of cells keep freed memory, unless the user says how malloc is to behave."""

import subprocess
from typing import Any

import pytest

from prunebench.runner.malloc import LARGEST
from prunebench.runner.processes.parent import Template


@pytest.mark.parametrize("own", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_the_first_process_is_started_with_it(own: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    def started(words: list[str], *, env: dict[str, str], **_: Any) -> None:
        seen.update(env)
        raise FileNotFoundError

    for name in LARGEST:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(FileNotFoundError):
        Template.start()
    assert {name: seen[name] for name in LARGEST if name in seen} == (own or LARGEST)
