"""(e) A small LLaMA trained on a text's bytes, pruned at 90 % and retrained with growing budgets of tokens.

ELSA-L spends its budget inside ADMM; ALPS prunes at once and spends it on AdamW with the mask held. Both see the same
batches. What is shown is the loss on the text's last twentieth, which neither sees.
"""

import copy
import math
import time
from dataclasses import dataclass

import torch
from prunebench_plugins.alps import ALPS
from prunebench_plugins.elsa import ElsaL
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from gpu_parts.common import Context, free_memory, parameters_of, random_llama
from gpu_parts.report import Report, Row
from prunebench.pruning import CalibrationData, Unstructured, language_loss, prunable, trainable

SPARSITY = Unstructured(0.9)
NSAMPLES = 128
TRAIN_LR, RETRAIN_LR, WARM_UP = 1e-3, 5e-4, 100
TRAVEL, UPDATES = 5, 32  # ELSA-L: how far weights can travel, in their rms; updates of z and u in a run
HELD_OUT = 20  # a twentieth of the text
MOST_WINDOWS = 64


@dataclass(frozen=True)
class Text:
    """A text as bytes: calibration data from its beginning, windows (count, seqlen) from its end."""

    data: CalibrationData
    held_out: Tensor


def read_text(context: Context) -> Text:
    """Split the file.

    Raises:
        ValueError: it holds fewer bytes than one window in each part.
    """
    assert context.text is not None
    seqlen = context.size.small_seqlen
    tokens = torch.frombuffer(bytearray(context.text.read_bytes()), dtype=torch.uint8).long()
    cut = len(tokens) - len(tokens) // HELD_OUT
    if len(tokens) - cut < seqlen:
        raise ValueError(f"{context.text} holds {len(tokens)} bytes: give at least {HELD_OUT * seqlen}")
    windows = tokens[cut:][: (len(tokens) - cut) // seqlen * seqlen].view(-1, seqlen)[:MOST_WINDOWS]
    return Text(CalibrationData(tokens[:cut], nsamples=NSAMPLES, seqlen=seqlen, seed=0), windows)


def run(context: Context, report: Report) -> None:
    """Train, prune, retrain, compare."""
    text, size = read_text(context), context.size
    dense = random_llama(context, size.small)
    steps = train_dense(dense, text, context)
    tokens = steps * size.small_batch * size.small_seqlen
    report.add(Row("model", parameters_of(dense) / 1e6, "M", note=f"trained on {tokens:,} bytes, {steps} steps"))
    show(report, "dense", dense, text, context)
    at_once = copy.deepcopy(dense)
    ALPS().prune(model=at_once, data=text.data, sparsity=SPARSITY)
    show(report, "alps, no retraining", at_once, text, context)
    for budget in size.budgets:
        steps = max(1, round(budget / (size.small_batch * size.small_seqlen)))
        model = copy.deepcopy(dense)
        settings = elsa_settings(model, steps, context)
        settings.prune(model=model, data=text.data, sparsity=SPARSITY)
        show(report, f"elsa-l, {budget:,} tokens", model, text, context, note=f"lr {settings.lr:.2g}, {steps} steps")
        model = copy.deepcopy(at_once)
        retrain(model, text, context, steps)
        show(report, f"alps, masked AdamW, {budget:,} tokens", model, text, context, note=f"{steps} steps")
        free_memory(context.device)


def elsa_settings(model: nn.Module, steps: int, context: Context) -> ElsaL:
    """A learning rate with which weights can travel several times their rms, and enough updates for any budget."""
    weights = [layer.weight for layer, _ in prunable(model, SPARSITY)]
    squares = sum(float(W.float().norm()) ** 2 for W in weights)
    rms = math.sqrt(squares / sum(W.numel() for W in weights))
    return ElsaL(
        steps=steps,
        lr=2 * TRAVEL * rms / steps,
        lmda=context.lmda,
        interval=max(1, steps // UPDATES),
        batch_size=context.size.small_batch,
    )


def train_dense(model: LlamaForCausalLM, text: Text, context: Context) -> int:
    """Train for a stated time; the learning rate falls linearly with it. Returns the number of steps."""
    began, share, steps = time.perf_counter(), 0.0, 0

    def rate() -> float:
        return TRAIN_LR * min(1.0, (steps + 1) / WARM_UP) * (1 - share)

    with trainable(model, grad_checkpointing=False) as parameters:
        optimizer = torch.optim.AdamW(parameters, lr=TRAIN_LR, betas=(0.9, 0.95), weight_decay=0.1)
        for ids in text.data.batches(context.size.small_batch):
            step(model, optimizer, ids, context, rate())
            steps += 1
            if context.device == "cuda" and steps % 10 == 0:
                torch.cuda.synchronize()  # or the clock would run ahead of the work
            share = (time.perf_counter() - began) / context.train_seconds
            if share >= 1:
                return steps
    raise AssertionError("batches never end")


def retrain(model: LlamaForCausalLM, text: Text, context: Context, steps: int) -> None:
    """AdamW on all parameters with the zeros of the pruned matrices held."""
    masks = [(layer.parameter, layer.parameter != 0) for layer, _ in prunable(model, SPARSITY)]
    with trainable(model, grad_checkpointing=False) as parameters:
        optimizer = torch.optim.AdamW(parameters, lr=RETRAIN_LR, betas=(0.9, 0.95), weight_decay=0.0)
        for t, ids in zip(range(steps), text.data.batches(context.size.small_batch), strict=False):
            step(model, optimizer, ids, context, RETRAIN_LR * (1 - t / steps))
            for parameter, mask in masks:
                parameter.data.mul_(mask)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor, context: Context, lr: float) -> None:
    """One step of AdamW with clipping."""
    language_loss(model, ids.to(context.device)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([x for group in optimizer.param_groups for x in group["params"]], 1.0)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def held_out_loss(model: nn.Module, text: Text, context: Context) -> float:
    """Mean loss, nats a byte."""
    batches = torch.split(text.held_out, context.size.small_batch)
    total = sum(float(language_loss(model, ids.to(context.device))) * len(ids) for ids in batches)
    return total / len(text.held_out)


def show(report: Report, what: str, model: nn.Module, text: Text, context: Context, note: str = "") -> None:
    """The held-out loss, and whether the zeros are what was asked for."""
    correct = None
    if what != "dense":
        pairs = [(layer.weight, target) for layer, target in prunable(model, SPARSITY)]
        correct = all(int((W == 0).sum()) == target.zeros for W, target in pairs)
    loss = held_out_loss(model, text, context)
    report.add(Row(what, loss, "nats/byte", correct=correct, note=note))
