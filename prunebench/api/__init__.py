"""What a notebook or a script calls: prune and measure a model that is loaded, run suites, read and compare records.

``prunebench`` offers all of it by name: ``import prunebench as pb; pb.prune(model, tokenizer, "wanda", 0.5, ...)``.
Names are resolved when they are first used, so that importing this package brings no torch.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.api.evaluating import Scores, evaluate
    from prunebench.api.pruning import Pruned, prune
    from prunebench.api.results import Figures, Results
    from prunebench.api.sweeps import compare, plan, read_records, run

__all__ = [
    "Figures",
    "Pruned",
    "Results",
    "Scores",
    "compare",
    "evaluate",
    "plan",
    "prune",
    "read_records",
    "run",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "evaluating": "Scores evaluate",
        "pruning": "Pruned prune",
        "results": "Figures Results",
        "sweeps": "compare plan read_records run",
    },
)
