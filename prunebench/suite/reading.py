"""What can be asked of a process that imports plugins, and its answers; see ``prunebench.registry.reading``."""

from pathlib import Path
from typing import Any, cast

from prunebench.allocations import allocate
from prunebench.data.corpora import find_corpus
from prunebench.evaluation.interface import BoundEvaluation, Shared
from prunebench.models.loading import load_skeleton
from prunebench.models.source import find_model
from prunebench.pruning.sparsity import parse_pattern
from prunebench.registry.describe import summary_of, try_loading
from prunebench.registry.entry_points import describe_method
from prunebench.registry.plugin_files import names_in
from prunebench.suite.allocations import CellAllocation, describe_allocation


def answer(what: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Import a plugin, and say what is asked of it.

    Args:
        what: "names" (of the plugins in ``file``), "method", "description" (of a method, with its options),
            "loads" (whether a plugin can be imported), "evaluation", "allocation", "corpus", or "share out" (try an
            allocation on a model's shapes).
        asked: the arguments of the functions that are called; ``files`` are plugin files.

    Raises:
        UsageError: the plugin cannot be had, or refuses what it is given.
        KeyError: there is no such question.
    """
    files = [Path(file) for file in asked.pop("files", ())]
    match what:
        case "names":
            return cast(dict[str, Any], names_in(Path(asked["file"])))
        case "method":
            origin = {"name", "distribution", "version", "file"}
            return describe_method(asked["name"], asked["options"], files).model_dump(exclude=origin)
        case "description":
            return summary_of(asked["name"], files).model_dump()
        case "loads":
            try_loading(asked["kind"], asked["name"], files)
            return {}
        case "evaluation":
            bound = BoundEvaluation.from_options(asked["name"], asked["label"], asked["options"], Shared(), files)
            facts = {**bound.facts, "needs_whole_model": bound.needs_whole_model}
            return {"facts": facts, "label": bound.label}
        case "allocation":
            return describe_allocation(asked["name"], asked["options"], files)[1].model_dump()
        case "corpus":
            corpus = find_corpus(asked["source"], asked["split"], asked["purpose"], files)
            return {
                "name": corpus.name,
                "digest": corpus.digest,
                "wants": corpus.wants,
                "makes_text": corpus.makes_text,
            }
        case "share out":
            skeleton = load_skeleton(find_model(asked["model"], trust_remote_code=asked["trust_remote_code"]))
            rule = CellAllocation.model_validate(asked["rule"]).make()
            allocate(rule, cast(Any, skeleton), None, parse_pattern(asked["sparsity"]))
            return {}
    raise KeyError(what)
