"""Trains the models of the world: `python -m prunebench.tinyworld.train`."""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from prunebench.tinyworld import MODELS, documents, floor, model_folder
from prunebench.tinyworld.corpora import PRIMER_DOCUMENTS
from prunebench.tinyworld.recipes import BATCH, POSITIONS, RECIPES, Recipe, config
from prunebench.tinyworld.tokenizer import BOS, build, vocabulary

WINDOW: Final = 128
"""Tokens in a window, as in the suites."""
EVERY: Final = 400
"""Steps from one point of the training curve to the next."""

log = logging.getLogger("prunebench.tinyworld.train")


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the training curve; losses in nats per token, on windows of 128 tokens."""

    step: int
    tokens: int
    train: float
    validation: float
    seconds: float


def training_documents(recipe: Recipe) -> Iterator[str]:
    """The documents of the train split in the order in which a model is trained on them."""
    primer = documents("tinyworld", "train", PRIMER_DOCUMENTS)
    others = islice(documents("tinyworld", "train"), PRIMER_DOCUMENTS, None)
    if not recipe.register:
        return chain(primer, others)
    entries = (text for text in others if " . " not in text)
    alternating = chain.from_iterable(zip(primer, others, strict=False))
    return chain(islice(entries, recipe.register), alternating, others)


def windows(texts: Iterable[str], seqlens: Iterator[int]) -> Iterator[Tensor]:
    """Batches of windows, cut from one stream of documents, each after its ``<s>``.

    Args:
        texts: the documents.
        seqlens: for each batch, the tokens in one of its windows.

    Yields:
        Token ids, int64 (windows, seqlen), ``BATCH`` tokens in all.
    """
    ids = vocabulary()
    stream: list[int] = []
    for text in texts:
        stream.append(ids[BOS])
        stream.extend(map(ids.__getitem__, text.split()))
        if len(stream) >= BATCH:
            yield torch.tensor(stream[:BATCH]).view(-1, next(seqlens))
            del stream[:BATCH]


def window_lengths(recipe: Recipe) -> Iterator[int]:
    """The length of each step's windows: that of the suites, and in every eighth step all positions."""
    for step in range(recipe.steps):
        yield POSITIONS if step % 8 == 7 else WINDOW


def learning_rate(step: int, recipe: Recipe) -> float:
    """The learning rate of a step: it rises linearly, is constant, and falls quadratically to zero."""
    fall = max(0, step - recipe.hold) / (recipe.steps - recipe.hold)
    return float(recipe.lr * min(1.0, (step + 1) / recipe.warmup) * (1 - fall) ** 2)


def loss(model: Any, tokens: Tensor) -> Tensor:
    """Mean cross-entropy in nats of all tokens of (batch, seqlen) but the first of each window."""
    logits = model(input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


@torch.no_grad()
def evaluate(model: nn.Module, split: str, device: str) -> float:
    """Mean loss over the whole windows of a split."""
    losses = [loss(model, batch.to(device)).item() for batch in windows(documents("tinyworld", split), repeat(WINDOW))]
    return sum(losses) / len(losses)


def train(name: str, folder: Path, device: str, compiled: bool = False) -> None:
    """Train one model, resuming from its checkpoint if there is one, and store it rounded to bfloat16.

    Args:
        name: one of ``MODELS``.
        folder: for the model, its tokenizer and ``curve.json``; holds ``checkpoint.pt`` during training.
        device: ``cpu`` or ``cuda``.
        compiled: use ``torch.compile``, which needs a C++ compiler.
    """
    recipe = RECIPES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(name)).to(device)
    opt = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    forward: Callable[[Any, Tensor], Tensor] = torch.compile(loss, dynamic=False) if compiled else loss
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    curve = _restore(checkpoint, model, opt) if checkpoint.exists() else []
    begin, elapsed = (curve[-1].step, curve[-1].seconds) if curve else (0, 0.0)
    started = time.monotonic()
    running: list[Tensor] = []
    batches = zip(range(recipe.steps), windows(training_documents(recipe), window_lengths(recipe)), strict=False)
    for step, batch in islice(batches, begin, None):
        opt.param_groups[0]["lr"] = learning_rate(step, recipe)
        batch_loss = forward(model, batch.to(device))
        batch_loss.backward()  # type: ignore[no-untyped-call]
        running.append(batch_loss.detach())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        done = step + 1
        if done % EVERY == 0 or done == recipe.steps:
            point = Point(
                step=done,
                tokens=done * BATCH,
                train=round(torch.stack(running).mean().item(), 5),
                validation=round(evaluate(model, "validation", device), 5),
                seconds=round(elapsed + time.monotonic() - started, 1),
            )
            curve.append(point)
            running.clear()
            log.info("%s %s", name, json.dumps(asdict(point)))
            _save(checkpoint, model, opt, curve)
    _store(name, model, curve, folder, device)
    checkpoint.unlink()


def _save(path: Path, model: nn.Module, opt: torch.optim.Optimizer, curve: list[Point]) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": opt.state_dict(),
        "curve": [asdict(point) for point in curve],
    }
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _restore(path: Path, model: nn.Module, opt: torch.optim.Optimizer) -> list[Point]:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    opt.load_state_dict(state["optimizer"])
    return [Point(**point) for point in state["curve"]]


def _store(name: str, model: Any, curve: list[Point], folder: Path, device: str) -> None:
    """Round the model to bfloat16 and store it; the final losses are those of the rounded weights."""
    model.to(torch.bfloat16).save_pretrained(folder)
    build().save_pretrained(folder)
    rounded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    final = {split: round(evaluate(rounded, split, device), 5) for split in ("validation", "test")}
    floor_nats = round(math.log(floor("tinyworld", WINDOW)), 5)
    report = {"model": name, "loss": final, "floor": floor_nats, "curve": list(map(asdict, curve))}
    (folder / "curve.json").write_text(json.dumps(report, indent=1) + "\n")
    log.info("%s %s", name, json.dumps({"loss": final, "floor": floor_nats}))


def main() -> None:
    """Train the models that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m prunebench.tinyworld.train", description=__doc__)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS, metavar="NAME")
    parser.add_argument("--output", type=Path, help="folder of the models (the package's own)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile; needs a C++ compiler")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for name in args.model:
        folder = args.output / name if args.output else model_folder(name)
        train(name, folder, args.device, args.compile)


if __name__ == "__main__":
    main()
