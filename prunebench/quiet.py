"""Keeps libraries from saying on their own behalf what nobody asked."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what libraries and plugins say on their own behalf off stdout, and mostly off stderr.

    The environment (``TRANSFORMERS_VERBOSITY``, ``PYTHONWARNINGS`` …) can still ask for it.
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
