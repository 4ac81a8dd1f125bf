"""What stands at the end of each command's help: one or two commands as somebody would type them."""

EXAMPLES = {
    "run": (
        "prunebench run suites/smoke.yaml",
        "prunebench run suites/extreme.yaml --only wanda --set calibration.nsamples=8",
    ),
    "plan": (
        "prunebench plan suites/extreme.yaml",
        "prunebench plan suites/extreme.yaml --only elsa --forecast",
    ),
    "report": (
        "prunebench report results/smoke",
        "prunebench report results/smoke --format html --output smoke.html",
    ),
    "compare": (
        "prunebench compare results/reference/smoke results/smoke",
        "prunebench compare old new --max-perplexity 2% --format markdown",
    ),
    "merge": ("prunebench merge shards/1 shards/2 --output results/extreme",),
    "site": ("prunebench site results/reference --output site",),
    "trend": (
        "prunebench trend history/*",
        "prunebench trend history/* --metric time --smallest 3",
    ),
    "reproduce": ("prunebench reproduce wanda",),
    "score": (
        "prunebench score pruned --dense ../dense --suite suites/smoke.yaml",
        "prunebench score pruned --dense meta-llama/Llama-2-7b-hf",
    ),
    "submit": (
        "prunebench submit results/extreme --check",
        "prunebench submit results/extreme --check --fresh",
    ),
    "methods": ("prunebench methods", "prunebench methods elsa"),
    "plugins new": (
        "prunebench plugins new my-method",
        "prunebench plugins new my-scores --kind allocation --output work/my-scores",
    ),
    "plugins check": (
        "prunebench plugins check wanda",
        "prunebench plugins check my-method --plugin my_method.py --set steps=10",
    ),
    "plugins list": ("prunebench plugins list",),
    "baseline accept": ("prunebench baseline accept results/smoke baselines/smoke",),
}


def examples_of(command: str) -> str:
    """The examples of a command, as the end of its help.

    Args:
        command: its words, without ``prunebench``.
    """
    title = "Example" if len(EXAMPLES[command]) == 1 else "Examples"
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in EXAMPLES[command])])  # \b: lines stay as they are
