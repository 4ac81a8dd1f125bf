"""Sizes, timing, and random models and data, shared by the parts."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prunebench.pruning import CalibrationData


@dataclass(frozen=True)
class Shape:
    """A LLaMA: widths, depth, heads, vocabulary."""

    hidden: int
    inner: int
    blocks: int
    heads: int
    kv_heads: int
    vocabulary: int


@dataclass(frozen=True)
class Size:
    """What the parts run on; one for a GPU, one in miniature for a CPU.

    Args:
        model: the random model of parts b and c.
        windows, seqlen: calibration of part c.
        micro_batch, accumulation, rounds: of part b; a step sees micro_batch · accumulation windows of ``seqlen``.
        matrix: (out, in) of the matrix of parts c and d.
        pass_numel: weights of the fused pass whose bandwidth is measured.
        alps_blocks: depth of the model that ALPS prunes; its cost is that of each block, and it is the slowest.
        shapes: (out, in) for ELSA's kernel and selection in part a.
        tiles: (columns, rows) for SparseGPT's kernel in part a.
        small: the model of part e; small_batch · small_seqlen bytes a step.
        budgets: tokens of retraining in part e.
    """

    model: Shape
    windows: int
    seqlen: int
    micro_batch: int
    accumulation: int
    rounds: int
    matrix: tuple[int, int]
    pass_numel: int
    alps_blocks: int
    shapes: tuple[tuple[int, int], ...]
    tiles: tuple[tuple[int, int], ...]
    small: Shape
    small_batch: int
    small_seqlen: int
    budgets: tuple[int, ...]


GPU = Size(
    model=Shape(2048, 5632, 22, 32, 4, 32000),
    windows=128,
    seqlen=2048,
    micro_batch=4,
    accumulation=2,
    rounds=2,
    matrix=(4096, 4096),
    pass_numel=2**27,
    alps_blocks=4,
    shapes=((20, 96), (33, 125), (1, 257), (1000, 1003), (2048, 2048)),
    tiles=((32, 70), (24, 130), (128, 4096)),
    small=Shape(512, 1408, 8, 8, 8, 256),
    small_batch=32,
    small_seqlen=512,
    budgets=(1_000_000, 4_000_000, 16_000_000),
)
MINIATURE = Size(
    model=Shape(64, 176, 2, 4, 2, 128),
    windows=8,
    seqlen=32,
    micro_batch=2,
    accumulation=2,
    rounds=1,
    matrix=(96, 64),
    pass_numel=2**12,
    alps_blocks=1,
    shapes=((20, 96), (33, 125)),
    tiles=((8, 20), (24, 70)),
    small=Shape(32, 88, 2, 2, 2, 256),
    small_batch=4,
    small_seqlen=32,
    budgets=(1_000, 4_000),
)


@dataclass(frozen=True)
class Context:
    """What a part is given.

    Args:
        device: "cuda" or "cpu".
        size: see ``Size``.
        text: a file to train on, part e.
        train_seconds: how long part e trains its dense model.
    """

    device: str
    size: Size
    text: Path | None
    train_seconds: float

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights of part c's model."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    @property
    def has_kernels(self) -> bool:
        """Whether Triton's kernels can run: on CUDA, or in the interpreter."""
        return find_spec("triton") is not None


def random_llama(context: Context, shape: Shape, blocks: int | None = None, seed: int = 0) -> LlamaForCausalLM:
    """A random LLaMA in fp32 on the device, in eval mode; fewer blocks if asked for."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=blocks or shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    with torch.device(context.device):
        return LlamaForCausalLM(config).eval()


def random_data(context: Context) -> CalibrationData:
    """Calibration windows of random tokens."""
    size = context.size
    generator = torch.Generator().manual_seed(0)
    pool = torch.randint(size.model.vocabulary, (size.windows * size.seqlen,), generator=generator)
    return CalibrationData(pool, nsamples=size.windows, seqlen=size.seqlen, seed=0)


def parameters_of(model: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def synchronize(device: str) -> None:
    """Wait for the device, so that a clock read next counts its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """Seconds of one call, by the clock."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def median_seconds(work: Callable[[], object], device: str, repeats: int = 10) -> float:
    """Median of several calls after two that do not count (compilation, memory)."""
    return statistics.median([seconds(work, device) for _ in range(repeats + 2)][2:])


def free_memory(device: str) -> None:
    """Give cached memory back and start a new peak."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: str) -> float | None:
    """Peak of allocated device memory since ``free_memory``, GiB."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
