"""Calibration text that the dense model writes itself (after arXiv 2410.17170)."""

from collections.abc import Iterator
from typing import Any

import torch

DOCUMENTS, LENGTH, BATCH = 256, 128, 128


def self_generated(split: str, model: Any, tokenizer: Any, seed: int) -> Iterator[str]:
    """Documents sampled from the model, from its first token on; another seed, other documents."""
    if split != "train":
        raise ValueError(f"there is no split {split!r}: valid: train")
    first = next(token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None)
    start = torch.full((BATCH, 1), first, device=model.device)
    for batch in range(DOCUMENTS // BATCH):
        with torch.random.fork_rng():  # generate draws from the global generator
            torch.manual_seed(seed * DOCUMENTS + batch)
            ids = model.generate(start, do_sample=True, top_k=0, max_new_tokens=LENGTH, pad_token_id=first)
        yield from tokenizer.batch_decode(ids, skip_special_tokens=True)
