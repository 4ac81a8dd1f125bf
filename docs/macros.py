"""What the pages take from the program itself, so that they cannot say otherwise.

mkdocs-macros calls ``define_env``; the tests render the pages with the same functions.
"""

import inspect
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
MACROS: dict[str, Callable[..., str]] = {}


def define_env(env: Any) -> None:
    """Make the functions below known to the pages."""
    for name, function in MACROS.items():
        env.macro(function, name)


def macro(function: Callable[..., str]) -> Callable[..., str]:
    MACROS[function.__name__] = function
    return function


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(entries: Sequence[object]) -> str:
        return "| " + " | ".join(str(entry).replace("|", r"\|").replace("\n", " ") for entry in entries) + " |"

    return "\n".join([line(headers), line(["---"] * len(headers)), *map(line, rows)]) + "\n"


def code(value: object) -> str:
    return f"`{value}`"


@macro
def rules() -> str:
    """The rules of the contract, and who checks them."""
    from prunebench.contract.rules import RULES

    return table(
        ("rule", "what is promised", "how to mend a breach", "checked by"),
        (
            (code(rule.name), rule.promise, rule.mend, "runner and kit" if rule.every_cell else "kit")
            for rule in RULES.values()
        ),
    )


@macro
def hook() -> str:
    """The docstring of the hook specification, as it stands in the code."""
    from prunebench import hookspecs

    signature = ", ".join(inspect.signature(hookspecs.prune).parameters)
    return f"```text\nprune({signature})\n\n{inspect.getdoc(hookspecs.prune)}\n```\n"


@macro
def options(name: str) -> str:
    """The options of a method, from its class."""
    from prunebench.registry.describe import describe

    found = describe(name)
    if not found["options"]:
        return "It has no options.\n"
    return table(
        ("option", "type", "default", "what"),
        ((code(o["name"]), code(o["type"]), code(json.dumps(o["default"])), o["docs"]) for o in found["options"]),
    )


@macro
def engine(name: str) -> str:
    """The options of an engine that comes with prunebench, from its class."""
    from prunebench.registry.engines import load_engine

    found = load_engine(name)
    rows = [(code(o), code(json.dumps(default)), found.option_docs.get(o, "")) for o, default in found.options.items()]
    return table(("option", "default", "what"), rows)


@macro
def summary(name: str) -> str:
    """The first lines of a method's docstring."""
    from prunebench.registry.entry_points import load_method

    return (inspect.getdoc(load_method(name).cls) or "").partition("\n\nArgs:")[0] + "\n"


@macro
def measured(name: str) -> str:
    """What the reference records hold of a method, alone or after another: perplexity, the dense model's, time."""
    from prunebench import text
    from prunebench.records.store import read_records
    from prunebench.report.grouping import group_by, latest_records
    from prunebench.report.tables.perplexity import mean_over_seeds

    rows: list[tuple[object, ...]] = []
    for folder in sorted({path.parent for path in REFERENCE.glob("*/*.json")}):
        records, _ = latest_records([record for record in read_records(folder) if record.status == "ok"])
        dense = {
            (record.cell.model, protocol): found.value
            for record in records
            if record.cell.sparsity == "0" and len(record.cell.stages) == 1
            for protocol, found in record.perplexity.items()
        }
        entries = group_by(records, lambda record: (*record.cell.key[:4], record.cell.key[5]))
        for seeds in entries.values():
            cell = seeds[0].cell
            first, *others = (stage.plugin for stage in cell.stages)
            if name not in (others or [first]):  # of several stages those that follow: the first has rows of its own
                continue
            seconds = statistics.median(record.cost.prune_seconds or 0.0 for record in seeds)
            for protocol in seeds[0].perplexity:
                rows.append(
                    (
                        folder.name,
                        cell.model,
                        cell.method,
                        cell.sparsity,
                        code(protocol),
                        mean_over_seeds(seeds, protocol),
                        text.number(dense[cell.model, protocol]) if (cell.model, protocol) in dense else text.MISSING,
                        text.seconds(seconds),
                    )
                )
    if not rows:
        return "No reference record holds this method yet.\n"
    heads = ("suite", "model", "entry", "sparsity", "protocol", "perplexity, mean ± sd of seeds", "dense", "prune time")
    return table(heads, sorted(rows, key=str))


@macro
def methods() -> str:
    """The methods that come with prunebench."""
    from prunebench.registry.describe import describe_all

    return table(
        ("method", "what it does", "may change"),
        (
            (f"[{m['name']}]({m['name']}.md)", m["summary"], m["changes"])
            for m in describe_all()
            if m["distribution"] == "prunebench" and m["error"] is None
        ),
    )


@macro
def needs() -> str:
    """What each method that comes with prunebench asks for, and what it can be asked for.

    Patterns and places are what its class says; the rest is what its files import of the toolkit.
    """
    from prunebench.registry.describe import describe_all
    from prunebench.registry.entry_points import load_method

    def mark(has: bool) -> str:
        return "yes" if has else "–"

    rows = []
    for name in (m["name"] for m in describe_all() if m["distribution"] == "prunebench" and m["error"] is None):
        method = load_method(name)
        if method.brought:
            continue  # it asks for nothing and does nothing
        used = toolkit_names(method.cls)
        losses, loops = {"language_loss", "distillation_loss"} & used, {"fit", "trainable"} & used
        trains = ("the whole model" if losses else "block by block") if loops else "–"
        place = {None: "alone", "held": "after another; masks held", "moves": "after another; masks move"}[method.mask]
        gradients = bool(losses or loops or "gradients" in used)
        walks = bool({"blocks", "calibrated"} & used)
        patterns = "any" if len(method.patterns) > 1 else ", ".join(method.patterns)
        row = (mark(method.takes_data), mark(gradients), mark(walks), mark("teacher" in used), trains, patterns, place)
        rows.append((f"[{name}]({name}.md)", *row))
    headers = ("method", "data", "gradients", "walks over blocks", "dense model", "trains", "patterns", "place")
    return table(headers, rows)


def toolkit_names(cls: type) -> set[str]:
    """What the files of a method import of the toolkit, and the attributes of other objects that they read."""
    import ast

    path = Path(inspect.getfile(cls))
    beside = sorted(path.parent.glob("*.py")) if path.parent.name != "prunebench_plugins" else [path]
    nodes = [node for file in beside for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@macro
def suite_keys() -> str:
    """Every key of a suite file, from the models that read it."""
    from prunebench.registry.options import argument_docs
    from prunebench.suite.json_schema import PARTS

    parts = []
    for model in PARTS:
        told, schema = argument_docs(model), model.model_json_schema()
        required = set(schema.get("required", ()))
        rows = []
        for name, field in model.model_fields.items():
            default = "required" if name in required else code(json.dumps(field.get_default(), default=str))
            rows.append((code(name), told.get(name, ""), default))
        parts.append(f"### {_heading(model.__name__)}\n\n{_first(model)}\n\n{table(('key', 'what', 'default'), rows)}")
    return "\n".join(parts)


def _heading(name: str) -> str:
    words = {
        "Suite": "The suite",
        "ModelEntry": "An entry of models",
        "Calibration": "calibration",
        "MethodEntry": "An entry of methods",
        "AllocationEntry": "An entry of allocation",
        "StageEntry": "An entry of then",
        "Tune": "tune of an entry of methods",
        "ValidationText": "text of tune",
        "CalibrationChange": "calibration of one method",
        "PerplexityEntry": "An evaluation: perplexity",
        "ZeroShotEntry": "An evaluation: zero_shot",
        "PluginEntry": "An evaluation: a plugin's",
        "EngineEntry": "engine",
    }
    return words[name]


def _first(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\nArgs:")[0]


@macro
def record_keys() -> str:
    """Every key of a record, from the models that write it."""
    from prunebench.records.cell_facts import (
        CellFacts,
        PatternFacts,
        PublishedFigure,
        StageFacts,
        SuiteFacts,
        TuningFacts,
    )
    from prunebench.records.record import (
        Cost,
        Effort,
        Failure,
        MatrixCount,
        MethodFacts,
        PerplexityFacts,
        Record,
        SavedFacts,
        SavedForm,
        SparsityFacts,
        VerifiedFacts,
    )
    from prunebench.registry.options import argument_docs

    places = {
        Record: "The record",
        CellFacts: "cell",
        StageFacts: "cell.stages: each stage",
        PatternFacts: "cell.pattern",
        PublishedFigure: "cell.published: each figure",
        TuningFacts: "cell.tuning",
        SuiteFacts: "cell.suite",
        MethodFacts: "method",
        Effort: "effort: each stage",
        Failure: "error",
        SparsityFacts: "sparsity",
        MatrixCount: "sparsity.matrices: each matrix",
        PerplexityFacts: "perplexity: each protocol",
        VerifiedFacts: "verified: each protocol",
        Cost: "cost",
        SavedFacts: "saved",
        SavedForm: "saved.forms: each form",
    }
    parts = []
    for model, place in places.items():
        told = argument_docs(model)
        keys = [field.alias or name for name, field in model.model_fields.items()]
        parts.append(f"### {place}\n\n{table(('key', 'what'), ((code(key), told.get(key, '')) for key in keys))}")
    return "\n".join(parts)


@macro
def frame_columns() -> str:
    """The columns of a data frame of results."""
    from prunebench.report.output.frame import FRAME_COLUMNS

    return table(("column", "what"), ((code(name), what) for name, what in FRAME_COLUMNS.items()))


@macro
def commands() -> str:
    """Every command with its arguments and options, from the program."""
    import typer.main

    from prunebench.cli.app import app
    from prunebench.cli.examples import EXAMPLES

    parts = []
    for words, command in _leaves("prunebench", typer.main.get_command(app)):
        rows = [
            (
                code(", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.metavar or "?"),
                (getattr(parameter, "help", None) or "").replace("[", r"\["),
            )
            for parameter in command.params
            if parameter.name != "help"
        ]
        examples = "\n".join(EXAMPLES[words.removeprefix("prunebench ")])
        parts.append(
            f"### {words}\n\n{(command.help or '').strip()}\n\n```sh\n{examples}\n```\n\n"
            f"{table(('argument', 'what'), rows)}"
        )
    return "\n".join(parts)


def _leaves(words: str, command: Any) -> Iterable[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, part in command.commands.items():
            yield from _leaves(f"{words} {name}", part)
    else:
        yield words, command


@macro
def example(path: str, language: str = "python") -> str:
    """A file of ``docs/examples``, which the tests run."""
    return f"```{language}\n{(ROOT / 'docs' / 'examples' / path).read_text(encoding='utf-8')}```\n"


@macro
def world_stories(count: int) -> str:
    """The first documents of the test text of the embedded world."""
    from prunebench.tinyworld import documents

    return "\n>\n".join(f"> {text}" for text in documents("tinyworld", "test", count)) + "\n"


@macro
def world_questions() -> str:
    """One question of each task of the embedded world."""
    from prunebench.tinyworld.tasks import CHANCE, questions

    rows = []
    for task, chance in CHANCE.items():
        asked = questions(task)[0]
        choices = " / ".join(f"**{c}**" if i == asked["gold"] else c for i, c in enumerate(asked["choices"]))
        rows.append((code(task), asked["context"], choices, f"{chance:.0%}"))
    return table(("task", "so far", "how does it go on", "chance"), rows)


@macro
def world_models() -> str:
    """What the dense models of the embedded world reach, beside the least perplexity possible and chance."""
    from prunebench.records.store import read_records
    from prunebench.tinyworld import CORPORA, MODELS, floor
    from prunebench.tinyworld.tasks import CHANCE

    rows: list[Sequence[object]] = [
        ("*floor, chance*", *(f"{floor(c, 128):.3f}" for c in CORPORA), *(f"{share:.0%}" for share in CHANCE.values()))
    ]
    for record in sorted(read_records(REFERENCE / "dense"), key=lambda record: MODELS.index(record.cell.model)):
        perplexities = (f"{record.perplexity[f'{corpus}/stream-128'].value:.3f}" for corpus in CORPORA)
        found = record.zero_shot["results"]
        accuracies = (f"{found[task]['acc,none']:.1%} ± {100 * found[task]['acc_stderr,none']:.1f}" for task in CHANCE)
        rows.append((code(record.cell.model), *perplexities, *accuracies))
    return table(("model", *CORPORA, *(task.removeprefix("tinyworld_") for task in CHANCE)), rows)


@macro
def world_pruned() -> str:
    """Perplexity over the dense model's, of the embedded models at each ratio, from the reference records."""
    from prunebench import text
    from prunebench.records.store import read_records
    from prunebench.tinyworld import MODELS

    records = [record for record in read_records(REFERENCE / "full") if record.status == "ok"]
    found = {
        (r.cell.model, r.cell.method, r.cell.sparsity): r.perplexity["tinyworld/stream-128"].value for r in records
    }
    ratios = sorted({sparsity for _, _, sparsity in found if sparsity != "0" and ":" not in sparsity})

    def times(model: str, method: str, ratio: str) -> str:
        value = found.get((model, method, ratio))
        return text.MISSING if value is None else text.number(value / found[model, "dense", "0"])

    rows = [
        (code(model), method, *(times(model, method, ratio) for ratio in ratios))
        for model in MODELS
        for method in sorted({how for which, how, _ in found if which == model and how != "dense"})
    ]
    return table(("model", "method", *ratios), rows)


@macro
def world_front() -> str:
    """The smallest dense model beside the largest one at 90 %: non-zero parameters and perplexity."""
    from prunebench import text
    from prunebench.records.store import read_records
    from prunebench.tinyworld import MODELS

    small, large = MODELS[0], "tinyworld-llama-3m"
    rows = []
    for record in read_records(REFERENCE / "full"):
        cell, held = record.cell, record.sparsity
        if held is not None and (cell.model, cell.sparsity) in {(small, "0"), (large, "0.9")}:
            nonzero = held.parameters * (1 - held.whole_model)
            value = record.perplexity["tinyworld/stream-128"].value
            rows.append((value, (code(cell.model), cell.method, f"{nonzero / 1e3:.0f} k", text.number(value))))
    return table(("model", "method", "non-zero parameters", "perplexity"), (row for _, row in sorted(rows)))


@macro
def world_curves() -> str:
    """How the embedded models learned: validation losses along the way."""
    from prunebench.tinyworld import MODELS, model_folder

    shares = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
    rows: list[Sequence[object]] = []
    for model in MODELS:
        kept = json.loads((model_folder(model) / "curve.json").read_text(encoding="utf-8"))
        curve = kept["curve"]
        end = curve[-1]["step"]
        along = [next(point["validation"] for point in curve if point["step"] >= share * end) for share in shares]
        gain = 1 - along[-1] / along[-2]
        rows.append((code(model), f"{curve[-1]['tokens'] / 1e6:.1f} M", *map("{:.3f}".format, along), f"{gain:.2%}"))
    return table(("model", "tokens", *map("{:.0%}".format, shares), "gain of the last tenth"), rows)


@macro
def families() -> str:
    """The architectures of the tests: matrices that are pruned in a tiny model of each, and what its blocks keep."""
    import re
    import sys

    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import transformers

    from prunebench.pruning import Unstructured, prunable
    from tests.helpers import families as tested
    from tests.helpers import tiny

    transformers.logging.set_verbosity_error()  # of the tiny configurations, not of what a reader has

    def last(name: str) -> str:
        return [part for part in name.removesuffix(".weight").split(".") if not part.isdigit()][-1]

    def row(build: Callable[[], Any]) -> tuple[str, ...]:
        model = build()
        layers = [layer for layer, _ in prunable(model, Unstructured(0.5))]
        pruned = {id(layer.parameter) for layer in layers}
        others = [name for name, weight in model.named_parameters() if weight.dim() > 1 and id(weight) not in pruned]
        seeing = re.compile(r"vision|visual")
        kept = [
            last(name) for name in others if re.search(r"(layers|blocks|h)\.\d+\.", name) and not seeing.search(name)
        ]
        kept += ["vision tower"] if any(map(seeing.search, others)) else []
        columns = (map(last, (layer.name for layer in layers)), kept)
        names = (", ".join(dict.fromkeys(map(code, column))) or "–" for column in columns)
        return code(model.config.model_type), type(model).__name__, *names

    builds = [
        *tiny.MODELS.values(),
        *(lambda family=family: tested.build(family) for family in (*tested.PLAIN, *tested.FAMILIES)),
        *(lambda family=family: tested.build_wrapper(family) for family in tested.WRAPPERS),
    ]
    rows = {found[0]: found for found in map(row, builds)}
    return table(("`model_type`", "class of transformers", "pruned", "kept dense in the blocks"), sorted(rows.values()))
