"""Text: corpora found by name, and their tokens, from which calibration windows and perplexity sequences are cut.

Names are resolved when they are first used, so that a suite can be read without torch.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.data.corpora import find_corpus, perplexity_floor
    from prunebench.data.corpus import Corpus
    from prunebench.data.tokens import calibration_pool, tokenised

__all__ = ["Corpus", "calibration_pool", "find_corpus", "perplexity_floor", "tokenised"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "corpora": "find_corpus perplexity_floor",
        "corpus": "Corpus",
        "tokens": "calibration_pool tokenised",
    },
)
