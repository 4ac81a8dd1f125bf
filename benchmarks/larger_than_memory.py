"""What a model on disk takes of memory: it should not depend on how many blocks there are.

    python benchmarks/larger_than_memory.py                  LLaMAs of 2, 4 and 8 GB, Wanda and SparseGPT
    python benchmarks/larger_than_memory.py --sizes 2 4 --methods wanda
    python benchmarks/larger_than_memory.py --sizes 0.01 0.02 --hidden 64 --intermediate 128 --vocabulary 512

Randomly initialised fp32 LLaMAs are written block by block into a temporary folder and run as cells with ``device:
disk``, each in a process of its own: loading, calibration on 32 windows of 256 tokens, pruning at 50 %, the check of
what was written, and perplexity. The peak is the most that was resident (VmHWM) from the start of the process to its
end, torch and transformers included; the last column is the peak over that of the smallest model. It takes twice the
largest model of disk, in the folder that TMPDIR names.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from prunebench.models.offload.safetensors_io import write_tensors
from prunebench.runner.in_process import run_cell
from prunebench.runner.progress import display_for
from prunebench.runner.resources import Resources

POLL = 0.05  # seconds; the mark is reset as pruning begins, so that a single look at the end would not do


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def matrices(config: LlamaConfig, index: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each parameter of a block."""
    wide, deep = config.hidden_size, config.intermediate_size
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield f"model.layers.{index}.self_attn.{name}.weight", (wide, wide)
    for name, shape in (("gate_proj", (deep, wide)), ("up_proj", (deep, wide)), ("down_proj", (wide, deep))):
        yield f"model.layers.{index}.mlp.{name}.weight", shape
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"model.layers.{index}.{name}.weight", (wide,)


def write_model(folder: Path, size: float, options: argparse.Namespace) -> int:
    """A randomly initialised model of about ``size`` GB; returns how many blocks it has."""
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_attention_heads=max(1, options.hidden // 128),
        num_hidden_layers=1,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="float32",
    )
    block = sum(torch.Size(shape).numel() for _, shape in matrices(config, 0))
    around = 2 * options.vocabulary * options.hidden
    config.num_hidden_layers = max(1, round((size * 1e9 / 4 - around) / block))
    parts = [dict(matrices(config, index)) for index in range(config.num_hidden_layers)]
    ends = ("model.embed_tokens.weight", "lm_head.weight")
    parts.append({**dict.fromkeys(ends, (options.vocabulary, options.hidden)), "model.norm.weight": (options.hidden,)})
    folder.mkdir()
    weight_map = {}
    for number, part in enumerate(parts):
        name = f"model-{number:05}.safetensors"
        layout = {key: (torch.float32, shape) for key, shape in part.items()}
        write_tensors(folder / name, layout, drawn(part, number), {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config.save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *words(options)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return int(config.num_hidden_layers)


def drawn(part: dict[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, shape in part.items():
        yield name, torch.randn(shape, generator=generator) * 0.02 if len(shape) == 2 else torch.ones(shape)


def words(options: argparse.Namespace) -> list[str]:
    return [f"w{number}" for number in range(options.vocabulary - 3)]


def write_suite(folder: Path, method: str, options: argparse.Namespace) -> Path:
    """A suite of one cell over ``folder``/model."""
    for name, documents in (("calibration", 40), ("test", 4)):
        drawn_words = random.Random(name)
        lines = [json.dumps({"text": " ".join(drawn_words.choices(words(options), k=256))}) for _ in range(documents)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    content = {
        "name": "larger-than-memory",
        "models": [{"id": str(folder / "model"), "device": "disk"}],
        "calibration": {"corpus": str(folder / "calibration.jsonl"), "nsamples": options.nsamples, "seqlen": 256},
        "sparsities": [0.5],
        "methods": [method],
        "evaluations": [{"name": "perplexity", "corpus": str(folder / "test.jsonl"), "seqlen": 256}],
    }
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run_one(suite: Path) -> None:
    """In a process of its own: run the one cell of a suite, and tell what came of it as JSON."""
    from prunebench.suite.file import load_suite
    from prunebench.suite.planning import plan

    (cell,) = plan(load_suite(suite))
    resources = Resources(output=suite.parent)
    resources.prepare([cell])
    with display_for(sys.stderr) as display:
        record, _ = run_cell(cell, resources, display)
    say(record.model_dump_json(by_alias=True))


def peak_of(process: "subprocess.Popen[bytes]") -> int:
    """The most bytes that a process held resident at once; returns when it has ended."""
    peak = 0
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(POLL)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[2, 4, 8], metavar="GB")
    parser.add_argument("--methods", nargs="+", default=["wanda", "sparsegpt"])
    parser.add_argument("--nsamples", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--intermediate", type=int, default=5632)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--run-one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run_one:
        run_one(options.run_one)
        return
    say(f"{'GB':>6} {'blocks':>6}  {'method':10} {'peak, GB':>9} {'wall s':>8} {'prune s':>8}  peak over the smallest")
    first: dict[str, int] = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            blocks = write_model(folder / "model", size, options)
            for method in options.methods:
                suite = write_suite(folder, method, options)
                began = time.perf_counter()
                with tempfile.TemporaryFile() as told:
                    command = [sys.executable, __file__, "--run-one", str(suite)]
                    process = subprocess.Popen(command, stdout=told, stderr=subprocess.DEVNULL)
                    peak = peak_of(process)
                    told.seek(0)
                    record = json.loads(told.read() or '{"status": "failed", "error": "no record"}')
                if record["status"] != "ok":
                    sys.exit(f"{method} on {size} GB failed: {record['error']}")
                seconds, pruning = time.perf_counter() - began, record["cost"]["prune_seconds"]
                growth = peak / first.setdefault(method, peak) - 1
                say(f"{size:6g} {blocks:6}  {method:10} {peak / 1e9:9.2f} {seconds:8.0f} {pruning:8.0f}  {growth:+.1%}")


if __name__ == "__main__":
    main()
