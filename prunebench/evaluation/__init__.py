"""What is measured of a pruned model: what an evaluation is, perplexity under named protocols, and zero-shot tasks."""

from prunebench.evaluation.interface import BoundEvaluation, Evaluation, Expected, Result, Shared

__all__ = ["BoundEvaluation", "Evaluation", "Expected", "Result", "Shared"]
