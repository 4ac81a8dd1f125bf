"""Context managers that keep the output of third-party libraries off stdout and mostly off stderr."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Send what libraries and plugins print to stderr, and silence their warnings and progress bars.

    The environment (``TRANSFORMERS_VERBOSITY``, ``PYTHONWARNINGS`` …) can still turn their output on.
    """
    for variable, value in (
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DATASETS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
    ):
        os.environ.setdefault(variable, value)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        if not sys.warnoptions:
            foreign = r"(torch|transformers|datasets|lm_eval|huggingface_hub|tokenizers)(\.|$)"
            warnings.filterwarnings("ignore", module=foreign)
        yield


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give attributes of a library's module other values inside this context.

    Args:
        owner: the module.
        values: by name of the attribute.

    Raises:
        AttributeError: it has no such attribute, as after a release that moved it.
    """
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


HUB_LIBRARIES = ("lm_eval", "datasets", "transformers", "huggingface_hub")


@contextmanager
def quiet_hub_libraries(level: int = logging.ERROR) -> Iterator[None]:
    """Silence the progress bars of the Hugging Face libraries and their logs below ``level``; restored on exit."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with ExitStack() as undo:
        for name in HUB_LIBRARIES:
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(level)
        if not are_progress_bars_disabled():
            undo.callback(enable_progress_bars)
            disable_progress_bars()
        if (datasets := sys.modules.get("datasets")) and not datasets.are_progress_bars_disabled():
            undo.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        if transformers := sys.modules.get("transformers"):
            bars = transformers.utils.logging
            if bars.is_progress_bar_enabled():
                undo.callback(bars.enable_progress_bar)
                bars.disable_progress_bar()
        yield
