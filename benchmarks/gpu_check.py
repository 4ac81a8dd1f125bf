"""Check on a GPU that every kernel is right, and measure what the methods cost there.

    python benchmarks/gpu_check.py                          parts a to c, three minutes on an H100
    python benchmarks/gpu_check.py --parts abcd             and torch's 2:4 tensors
    python benchmarks/gpu_check.py --parts e --text FILE    a small model trained on a text, pruned and retrained

(a) every Triton kernel and the exact selection against plain torch; (b) a step of ELSA and ELSA-L beside AdamW, their
memory, the fused pass beside a device copy; (c) SparseGPT, ALPS, ADMM and Wanda on one matrix and on a whole random
model of 1 B beside two bare forwards, and selection beside torch's; (d) to_sparse_semi_structured; (e) ELSA-L
against GMP and against ALPS with retraining at growing budgets.

Needs torch, transformers, triton, numpy, safetensors and pluggy, and this checkout; nothing is downloaded and nothing
need be installed. OUT/gpu_check.json is written after each part. Without a GPU everything runs in miniature, the
kernels in Triton's interpreter. The exit code is 1 if a part fails or a result is wrong, not if a goal is missed.
"""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

PARTS = {  # letter → module of gpu_parts, title
    "a": ("kernels", "kernels against plain torch"),
    "b": ("elsa", "ELSA and ELSA-L beside AdamW(fused=True)"),
    "c": ("layerwise", "layer-wise methods and exact selection"),
    "d": ("two_four", "2:4 by torch.sparse.to_sparse_semi_structured"),
    "e": ("small_model", "a small model: ELSA-L, GMP, and ALPS with retraining, at growing budgets"),
}


def letters(text: str) -> str:
    if not text or set(text) - set(PARTS):
        raise argparse.ArgumentTypeError(f"parts {text!r}: give letters of {''.join(PARTS)}, as abc")
    return "".join(sorted(set(text)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu-check", help="folder of gpu_check.json")
    parser.add_argument("--parts", type=letters, default="abc")
    parser.add_argument("--text", type=Path, help="UTF-8 text for part e")
    parser.add_argument("--train-seconds", type=float, default=120.0, help="of the dense model of part e")
    options = parser.parse_args()
    if "e" in options.parts and not (options.text and options.text.is_file()):
        parser.error(f"part e trains on a text: give a file by --text (it is {options.text})")
    return options


def main() -> int:
    options = parse()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is decorated
    from gpu_parts.common import GPU, MINIATURE, Context
    from gpu_parts.report import Report, say

    size = GPU if device == "cuda" else MINIATURE
    context = Context(device, size, options.text, options.train_seconds)
    report = Report(options.out / "gpu_check.json", device, miniature=device == "cpu")
    for letter in options.parts:
        module, title = PARTS[letter]
        with report.part(letter, title):
            import_module(f"gpu_parts.{module}").run(context, report)
    say(f"\n{report.table()}\n\n{report.path}")
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
