"""What a step of ELSA costs beside plain AdamW training, and what its states cost in memory.

    python benchmarks/elsa_step.py                 CPU: LLaMA of 1 M, 8 × 128 tokens; goal at most 1.15 × AdamW
    python benchmarks/elsa_step.py --device cuda   GPU: LLaMA of 1 B, 8 × 2048 tokens, bf16 autocast; goals at most
                                                   1.05 × AdamW(fused=True), the pass at 80 % of a copy's bandwidth

The model is random, updates of z and u every 32 steps are included, both sides clip. A round times each variant once,
in turn; the ratio is taken within a round and the median over rounds printed, so that a busy machine matters less.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from prunebench_plugins.elsa import Elsa, ElsaL
from prunebench_plugins.elsa.algorithm import elsa
from prunebench_plugins.elsa.method import nbytes
from prunebench_plugins.elsa.training import TaskGradient
from prunebench_plugins.elsa.variables import Matrix, Variable, fused
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from prunebench.pruning import Unstructured, prunable, trainable

INTERVAL = 32
VARIANTS: dict[str, Elsa | None] = {
    "adamw": None,
    "elsa": Elsa(),
    "elsa two-state": Elsa(layout="two-state"),
    "elsa-l": ElsaL(),
    "elsa-l bf16": ElsaL(c_dtype="bf16"),
    "elsa-l two-state": ElsaL(layout="two-state"),
}
SIZES = {
    "1m": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4,
           "num_key_value_heads": 4, "vocab_size": 1024, "tie_word_embeddings": True},
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
           "num_key_value_heads": 4, "vocab_size": 32000},
}  # fmt: skip


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def batches(vocabulary: int, seqlen: int, batch_size: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randint(vocabulary, (batch_size, seqlen), generator=generator)


def states(
    model: LlamaForCausalLM, parameters: list[torch.nn.Parameter], method: Elsa
) -> tuple[list[Matrix], list[Variable]]:
    matrices = [
        Matrix(layer.parameter, method.moments(layer.weight), method.split(layer.weight), target)
        for layer, target in prunable(model, Unstructured(0.9))
    ]
    chosen = {id(matrix.x) for matrix in matrices}
    return matrices, [Variable(x, method.moments(x.detach())) for x in parameters if id(x) not in chosen]


class Timer:
    """Seconds a step, from the first step's gradient to that of step ``steps``."""

    def __init__(self, gradient: Callable[[int], Tensor], steps: int, device: str) -> None:
        self._gradient, self._steps, self._device = gradient, steps, device
        self._began = self.seconds = 0.0

    def __call__(self, t: int) -> Tensor:
        if t in (0, self._steps):
            synchronize(self._device)
            self.seconds, self._began = (time.perf_counter() - self._began) / self._steps, time.perf_counter()
        return self._gradient(t)


def one_round(name: str, model: LlamaForCausalLM, options: argparse.Namespace) -> tuple[float, int, float]:
    """Train for a while; seconds a step, peak bytes (CUDA), and state bytes for each pruned weight."""
    method = VARIANTS[name]
    if options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with trainable(model, grad_checkpointing=options.grad_checkpointing) as parameters:
        source = batches(model.config.vocab_size, options.seqlen, options.batch_size)
        timer = Timer(TaskGradient(model, lambda _: source, 1), options.steps, options.device)
        held = 0.0
        if method is None:
            optimizer = torch.optim.AdamW(parameters, lr=1e-6, betas=(0.9, 0.95), fused=True)
            for t in range(options.steps + 1):
                timer(t)
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        else:
            matrices, others = states(model, parameters, method)
            bytes_held = sum(nbytes([x.W, *x.moments.tensors(), *x.split.tensors()]) for x in matrices)
            held = bytes_held / sum(x.W.numel() for x in matrices)
            elsa(
                matrices, others, timer, steps=options.steps + 1, lr=1e-6, penalty=lambda _: 0.01, interval=INTERVAL
            )  # fmt: skip
    return timer.seconds, torch.cuda.max_memory_allocated() if options.device == "cuda" else 0, held


def projection_share(model: LlamaForCausalLM, step_seconds: float, device: str) -> float:
    """Seconds of one update of all matrices, over those of the steps between two updates."""
    with trainable(model, grad_checkpointing=False) as parameters, torch.no_grad():
        matrices, _ = states(model, parameters, Elsa())
        for matrix in matrices:
            matrix.start()
        seconds = []
        for _ in range(5):
            synchronize(device)
            began = time.perf_counter()
            for matrix in matrices:
                matrix.update(1.0, "objective")
            synchronize(device)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) / (INTERVAL * step_seconds)


def bandwidth(method: Elsa, numel: int = 2**27) -> float:
    """The fused pass's bytes a second over those of a device copy."""

    def seconds(work: Callable[[], object]) -> float:
        times = []
        for _ in range(12):
            torch.cuda.synchronize()
            began = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return statistics.median(times[2:])

    W, g = torch.randn(numel, device="cuda").view(-1, 4096), torch.randn(numel, device="cuda").view(-1, 4096)
    moments, split = method.moments(W), method.split(W)
    split.update(W, W.abs() > 1)
    one_pass, clip = fused(W, moments, split), torch.ones((), device="cuda")
    if one_pass is None:
        return float("nan")
    took = seconds(lambda: one_pass(W, g, moments, 1e-6, 1, clip, lmda=0.01, split=split))
    moved = 2 * nbytes([W, *moments.tensors()]) + nbytes([g, *split.tensors()])
    copy = 2 * nbytes([W]) / seconds(lambda: g.copy_(W))
    return moved / took / copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=INTERVAL)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seqlen", type=int)
    parser.add_argument("--grad-checkpointing", action="store_true")
    parser.add_argument("--only", nargs="*", choices=[name for name in VARIANTS if VARIANTS[name]])
    options = parser.parse_args()
    size = "1b" if options.device == "cuda" else "1m"
    options.seqlen = options.seqlen or (2048 if size == "1b" else 128)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES[size], max_position_embeddings=options.seqlen)).to(options.device)
    names = ["adamw", *(options.only or [name for name in VARIANTS if VARIANTS[name]])]
    say(
        f"LLaMA of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M on {options.device}, "
        f"{options.batch_size} × {options.seqlen} tokens, {options.steps} steps a round, {options.rounds} rounds, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    rounds = [{name: one_round(name, model, options) for name in names} for _ in range(options.rounds + 1)][1:]
    for name in names:
        seconds = statistics.median(one[name][0] for one in rounds)
        ratio = statistics.median(one[name][0] / one["adamw"][0] for one in rounds)
        memory = f", peak {max(one[name][1] for one in rounds) / 2**30:.1f} GiB" if options.device == "cuda" else ""
        held = f", {rounds[0][name][2]:.2f} bytes a pruned weight" if VARIANTS[name] else ""
        say(f"{name:17} {1000 * seconds:8.1f} ms a step, {ratio:.3f} × AdamW{memory}{held}")
        if name == "elsa":
            share = projection_share(model, seconds, options.device)
            say(f"{'':17} updates of z and u every {INTERVAL} steps: {100 * share:.2f} % of the time")
    if options.device == "cuda":
        for name in ("elsa", "elsa-l"):
            method = VARIANTS[name]
            assert method is not None
            say(f"{name:17} fused pass at {100 * bandwidth(method):.0f} % of a device copy's bandwidth")


if __name__ == "__main__":
    main()
