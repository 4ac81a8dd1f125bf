"""Ctrl-C and the signals of a scheduler, whatever code they meet."""

import signal
from collections.abc import Iterator

import pytest

from prunebench.cli.signals import Terminated, raise_on_signals, signal_exit_code


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """Where these tests run in the background, Ctrl-C and a closed terminal are ignored, and would be here too."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_each_ends_with_its_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught, raise_on_signals():
        signal.raise_signal(number)
    assert signal_exit_code(caught.value) == code
    assert signal.getsignal(number) == before


def load(number: signal.Signals) -> None:
    """Fail as the import of an extension module does whose initialisation is interrupted."""
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt as interrupt:
        raise ImportError("numpy failed to import") from interrupt


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_one_that_code_made_another_error_of(number: signal.Signals, kind: type[KeyboardInterrupt]) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, raise_on_signals():
        load(number)
    assert type(caught.value) is kind


def test_without_a_signal_an_error_stays() -> None:
    with pytest.raises(ImportError, match="numpy"), raise_on_signals():
        raise ImportError("numpy failed to import")
