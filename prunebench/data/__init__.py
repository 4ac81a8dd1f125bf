"""Text: corpora found by name, and their tokens, from which calibration windows and perplexity sequences are cut."""

from prunebench.data.corpora import find_corpus, perplexity_floor
from prunebench.data.corpus import Corpus
from prunebench.data.tokens import calibration_pool, tokenised

__all__ = ["Corpus", "calibration_pool", "find_corpus", "perplexity_floor", "tokenised"]
