"""What the layer-wise methods cost, beside plain textbook forms of them and beside bare forwards.

    python benchmarks/layerwise.py                     all of it: layers of 2048 × 2048 and 5632 × 2048, a small LLaMA
    python benchmarks/layerwise.py --shapes 4096x4096  other layers
    python benchmarks/layerwise.py --parts model       only whole models

(a) layers: each method's solve at 90 %, selection included, from a Hessian that is there; the oracle is the same
    method in tests/oracles, in fp32: full sorts, whole products, an inverse at each change of ρ. The layer error
    tr((W − Ŵ)H(W − Ŵ)ᵀ) is shown over the oracle's.
(b) model: pruning a LLaMA of 4 blocks and hidden size 256 on 128 × 256 tokens, beside the oracles on a plain walk (a
    statistic for each layer, one sample a call, two whole forwards a block) and beside the floor, two bare forwards of
    the calibration set with the same attention.

A round times everything once, in turn, and ratios are taken within a round: medians over rounds, with the smallest and
the largest. CPU seconds are those of the process, all threads; run with OMP_WAIT_POLICY=PASSIVE, so that threads that
wait do not count.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from prunebench_plugins.admm import ADMM, System, admm
from prunebench_plugins.alps import ALPS, Problem, alps, conjugate_gradients
from prunebench_plugins.sparsegpt import SparseGPT, sparsegpt
from prunebench_plugins.wanda import Wanda, wanda_scores
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from prunebench.pruning import CalibrationData, Hessian, Layer, Target, Unstructured

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.oracles.admm import admm_textbook
from tests.oracles.alps import alps_textbook
from tests.oracles.leastsquares import layer_error
from tests.oracles.sparsegpt import sparsegpt_textbook
from tests.oracles.walk import walk_textbook
from tests.oracles.wanda import wanda_textbook

P = ParamSpec("P")
T = TypeVar("T")

METHODS = ("selection", "wanda", "sparsegpt", "admm", "alps")


class Spent(NamedTuple):
    """Seconds of the process and of the clock."""

    cpu: float
    wall: float


def timed(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, Spent]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = work(*args, **kwargs)
    return result, Spent(time.process_time() - cpu, time.perf_counter() - wall)


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def spread(values: list[float], form: str = "{:.2f}") -> str:
    """Median, and the range it comes from."""
    low, middle, high = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low}–{high})"


# (a) layers


def inputs_like_activations(columns: int) -> Tensor:
    """Correlated inputs: a spectrum that falls off, of twice as many tokens as there are columns."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(2 * columns, columns // 3, generator=generator)
    latent *= torch.arange(1, columns // 3 + 1) ** -0.5
    X = latent @ torch.randn(columns // 3, columns, generator=generator)
    return (X + 0.3 * torch.randn(X.shape, generator=generator)) * torch.rand(columns, generator=generator)


def statistic_of(kind: type[Hessian], X: Tensor) -> Hessian:
    linear = nn.Linear(X.shape[1], 1, bias=False)
    statistic = kind(Layer("layer", linear, linear.weight, transposed=False))
    statistic.add(X)
    return statistic


def solve(name: str, W: Tensor, X: Tensor, target: Target) -> Callable[[], Tensor]:
    """The method's own solve; its statistic is summed before the clock starts, its factors are not."""
    if name == "selection":
        return lambda: W * target.mask(W.abs())
    if name == "wanda":
        norm = X.norm(dim=0)
        return lambda: W.masked_fill(~target.mask(wanda_scores(W, norm), per="row"), 0)
    if name == "sparsegpt":
        H = statistic_of(Hessian, X)
        return lambda: sparsegpt(W, H.factor(0.01), target, dead=H.dead)
    if name == "admm":
        system = statistic_of(System, X)
        assert isinstance(system, System)
        return lambda: admm(W, system, target, iterations=20, ramp=0)
    problem = statistic_of(Problem, X)
    assert isinstance(problem, Problem)
    return lambda: solve_alps(W, problem, target)


def solve_alps(W: Tensor, problem: Problem, target: Target) -> Tensor:
    scaled = W * problem.scale
    D, support = alps(scaled, problem, target, rho=0.1, iterations=300)
    return conjugate_gradients(scaled, D, support, problem.A, steps=10) / problem.scale


def selection_textbook(W: Tensor, zeros: int) -> Tensor:
    threshold = W.abs().flatten().sort().values[zeros - 1]
    return W * (W.abs() > threshold)


def oracle(name: str, W: Tensor, norm: Tensor, H: Tensor, zeros: int) -> Tensor:
    if name == "selection":
        return selection_textbook(W, zeros)
    if name == "wanda":
        return wanda_textbook(W, norm, zeros)
    if name == "sparsegpt":
        return sparsegpt_textbook(W, H, zeros)
    if name == "admm":
        return admm_textbook(W, H, zeros, iterations=20, ramp=0)
    return alps_textbook(W, H, zeros)


def layers(options: argparse.Namespace) -> None:
    for rows, columns in options.shapes:
        X = inputs_like_activations(columns)
        W = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)) / columns**0.5
        H, norm = statistic_of(Hessian, X).matrix, X.norm(dim=0)
        target = Target.of(Unstructured(options.sparsity), (rows, columns))
        say(f"\n(a) solve of {rows} × {columns} at {options.sparsity:.0%}: median (range) of {options.rounds} rounds")
        say(
            f"{'':10} {'CPU s':>24} {'wall s':>24} {'oracle CPU s':>24} {'faster, CPU':>22} {'faster, wall':>22}  error"
        )
        for name in options.methods:
            ours, theirs, errors = [], [], []
            for _ in range(options.rounds):
                pruned, one = timed(solve(name, W, X, target))
                expected, other = timed(oracle, name, W, norm, H, target.zeros)
                ours.append(one)
                theirs.append(other)
                errors.append(layer_error(W, pruned, H) / layer_error(W, expected, H))
            say(row(name, ours, theirs) + f"  {statistics.median(errors):.4f} × oracle's")


def row(name: str, ours: list[Spent], theirs: list[Spent]) -> str:
    pairs = list(zip(ours, theirs, strict=True))
    return (
        f"{name:10} {spread([s.cpu for s in ours], '{:.3f}'):>24} {spread([s.wall for s in ours], '{:.3f}'):>24} "
        f"{spread([s.cpu for s in theirs], '{:.3f}'):>24} {spread([b.cpu / a.cpu for a, b in pairs]):>22} "
        f"{spread([b.wall / a.wall for a, b in pairs]):>22}"
    )


# (b) a whole model


def prune(name: str, model: LlamaForCausalLM, data: CalibrationData, pattern: Unstructured) -> None:
    method = {"wanda": Wanda, "sparsegpt": SparseGPT, "admm": ADMM, "alps": ALPS}[name]()
    method.prune(model, data, pattern)


def prune_by_oracle(name: str, model: LlamaForCausalLM, windows: Tensor, pattern: Unstructured) -> None:
    def moment(X: Tensor) -> Tensor:
        return X.square().sum(dim=0) if name == "wanda" else X.T @ X

    def prune_layer(W: Tensor, mean: Tensor) -> Tensor:
        return oracle(name, W, mean.sqrt(), mean, pattern.zeros((W.shape[0], W.shape[1])))

    walk_textbook(model, windows, moment, prune_layer)


@torch.no_grad()
def bare_forwards(model: LlamaForCausalLM, windows: Tensor) -> None:
    for _ in range(2):
        for batch in windows.split(16):
            model.model(input_ids=batch, use_cache=False)


def models(options: argparse.Namespace) -> None:
    hidden = options.hidden
    config = LlamaConfig(
        vocab_size=1024, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=4,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, max_position_embeddings=options.seqlen,
    )  # fmt: skip
    torch.manual_seed(0)
    dense = LlamaForCausalLM(config).eval()
    pool = torch.randint(1024, (options.nsamples * options.seqlen,), generator=torch.Generator().manual_seed(0))
    data = CalibrationData(pool, nsamples=options.nsamples, seqlen=options.seqlen, seed=0)
    pattern = Unstructured(options.sparsity)
    names = [name for name in options.methods if name != "selection"]
    floors: list[Spent] = []
    ours: dict[str, list[Spent]] = {name: [] for name in names}
    theirs: dict[str, list[Spent]] = {name: [] for name in names}
    for _ in range(options.rounds):
        floors.append(timed(bare_forwards, dense, data.windows)[1])
        for name in names:
            one, other = copy.deepcopy(dense), copy.deepcopy(dense)
            ours[name].append(timed(prune, name, one, data, pattern)[1])
            theirs[name].append(timed(prune_by_oracle, name, other, data.windows, pattern)[1])
    say(
        f"\n(b) pruning a LLaMA of {sum(p.numel() for p in dense.parameters()) / 1e6:.1f} M, hidden {hidden}, "
        f"{options.nsamples} × {options.seqlen} tokens, at {options.sparsity:.0%}: median (range) of {options.rounds}"
    )
    say(f"floor, two bare forwards: {spread([s.cpu for s in floors])} s CPU, {spread([s.wall for s in floors])} s wall")
    say(f"{'':10} {'CPU s':>24} {'wall s':>24} {'oracle CPU s':>24} {'faster, CPU':>22} {'faster, wall':>22}  × floor")
    for name in names:
        over = [a.cpu / floor.cpu for a, floor in zip(ours[name], floors, strict=True)]
        say(row(name, ours[name], theirs[name]) + f"  {spread(over)}")


def shape(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit()):
        raise argparse.ArgumentTypeError(f"shape {text!r} is not ROWSxCOLUMNS, as 5632x2048")
    return int(rows), int(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("layers", "model"), default=["layers", "model"])
    parser.add_argument("--shapes", nargs="+", type=shape, default=[(2048, 2048), (5632, 2048)])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--nsamples", type=int, default=128)
    parser.add_argument("--seqlen", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    say(f"torch {torch.__version__}, {options.threads} threads, fp32, CPU")
    if "layers" in options.parts:
        layers(options)
    if "model" in options.parts:
        models(options)


if __name__ == "__main__":
    main()
