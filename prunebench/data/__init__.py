"""Text: corpora found by name, and their tokens, from which calibration windows and perplexity sequences are cut."""

from prunebench.data.calibration_text import calibration_text
from prunebench.data.corpora import find_corpus, perplexity_floor
from prunebench.data.corpus import Corpus
from prunebench.data.tokens import calibration_pool, tokenised

__all__ = ["Corpus", "calibration_pool", "calibration_text", "find_corpus", "perplexity_floor", "tokenised"]
