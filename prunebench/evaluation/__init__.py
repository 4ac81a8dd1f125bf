"""What is measured on a model: perplexity under named protocols, and zero-shot tasks."""

from prunebench.evaluation.lm_eval_tasks import TaskLibrary, check_tasks
from prunebench.evaluation.perplexity import Perplexity, perplexity
from prunebench.evaluation.protocols import PAPER_PROTOCOLS, Sequences, evaluation_sequences, protocol_name
from prunebench.evaluation.zero_shot import ZeroShot, zero_shot

__all__ = [
    "PAPER_PROTOCOLS",
    "Perplexity",
    "Sequences",
    "TaskLibrary",
    "ZeroShot",
    "check_tasks",
    "evaluation_sequences",
    "perplexity",
    "protocol_name",
    "zero_shot",
]
