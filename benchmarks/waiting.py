"""How OpenMP threads should wait: a step of training with the machine idle, and beside a busy process.

    python benchmarks/waiting.py [--rounds 15] [--threads 2] [--spins 1000 2000 3000 5000]

A thread that waits for others spins for a while before it sleeps. Where a core is taken by another process, spinning
takes the time of the thread that is waited for. For each setting a process of its own takes the median time of steps
of AdamW on ELSA's benchmark (``elsa_step.py``: LLaMA of 1 M, 8 × 128 tokens), once alone and once beside a process
that keeps one core busy; rounds alternate between all settings. Printed are medians over rounds, and medians of the
ratios within a round: idle to the default, busy to OMP_WAIT_POLICY=PASSIVE. Run it on a machine that does nothing else.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
BUSY = "while True: pass"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def work(count: int, threads: int) -> None:
    """Be a child: for each line of input take some steps, and print the median milliseconds of one."""
    import torch
    from elsa_step import SIZES, batches
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = LlamaForCausalLM(LlamaConfig(**SIZES["1m"], max_position_embeddings=128))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    source = batches(model.config.vocab_size, 128, 8)
    for _ in sys.stdin:
        times = []
        for batch in (next(source) for _ in range(count)):
            began = time.perf_counter()
            model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            times.append(1000 * (time.perf_counter() - began))
        say(f"{statistics.median(times):.3f}")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that each keep a core busy."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


class Child:
    """A process under a setting that takes some steps whenever it is asked to.

    Args:
        setting: environment variables.
        options: of the command line.
    """

    def __init__(self, setting: dict[str, str], options: argparse.Namespace) -> None:
        clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        words = [sys.executable, str(Path(__file__)), "--child", "--steps", str(options.steps)]
        words += ["--threads", str(options.threads)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, env={**clean, **setting}, stdin=pipe, stdout=pipe, text=True)

    def measured(self) -> float:
        """The median milliseconds of its next steps."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--spins", type=int, nargs="*", default=[1000, 2000, 3000, 5000])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return work(options.steps, options.threads)
    settings: dict[str, dict[str, str]] = {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
    settings |= {f"spin {count}": {"GOMP_SPINCOUNT": str(count)} for count in options.spins}
    say(f"{options.threads} threads, {options.steps} steps, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    children = {name: Child(setting, options) for name, setting in settings.items()}
    for child in children.values():
        child.measured()  # the first steps pay for what is set up once
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(options.rounds):
        names = list(settings) if number % 2 == 0 else list(reversed(settings))
        for name in names:
            for others in (0, 1):
                with busy(others):
                    found.setdefault((name, others), []).append(children[name].measured())
        say("  ".join(f"{name}: {found[name, 0][-1]:.0f} / {found[name, 1][-1]:.0f} ms" for name in settings))
    for child in children.values():
        child.end()
    say(f"{'setting':12} {'idle':>9} {'busy':>9} {'idle / default':>15} {'busy / passive':>15}")
    for name in settings:
        row = [f"{statistics.median(found[name, others]):6.1f} ms" for others in (0, 1)]
        for others, base in ((0, "default"), (1, "passive")):
            ratios = [a / b for a, b in zip(found[name, others], found[base, others], strict=True)]
            row.append(f"{statistics.median(ratios):15.2f}")
        say(f"{name:12} {' '.join(row)}")


if __name__ == "__main__":
    main()
