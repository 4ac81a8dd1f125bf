"""The pool of a calibration text: in memory, streamed where it is longer, or documents for ``windows: random``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from prunebench.data.corpus import Corpus
from prunebench.data.random_windows import HeldDocuments, RandomPool, StoredDocuments, held_documents
from prunebench.data.streamed import StreamedPool
from prunebench.data.tokens import calibration_pool, first_part
from prunebench.errors import CorpusError
from prunebench.pruning.pools import Pool, TokenPool

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

CalibrationWindows = Literal["stream", "document", "random"]


def calibration_text(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", *, seqlen: int, windows: CalibrationWindows
) -> Pool:
    """The pool that calibration windows are drawn from.

    Args:
        corpus: the text.
        tokenizer: the model's own; each document has the special tokens that it adds.
        seqlen: tokens per window.
        windows: "stream": all documents joined; "document": the first ``seqlen`` tokens of each one that has them;
            "random": see ``prunebench.data.random_windows``.

    Raises:
        CorpusError: the corpus is too short for one window, or no document is long enough.
    """
    if corpus.once:
        return pool_of(tensors_of(corpus, tokenizer, seqlen=seqlen, windows=windows), corpus.name, seqlen, windows)
    if windows == "random":
        documents = StoredDocuments(corpus.documents(), tokenizer, seqlen, special=not corpus.templated)
        return RandomPool(documents, corpus.name, seqlen)
    first = first_part(corpus, tokenizer, seqlen=seqlen, windows=windows)
    if first.last:
        return TokenPool(first.tokens)
    return StreamedPool(corpus, tokenizer, seqlen=seqlen, windows=windows, first=first)


def tensors_of(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", *, seqlen: int, windows: CalibrationWindows
) -> dict[str, "Tensor"]:
    """A corpus that is read once, as tensors for ``pool_of``: its first ``POOL_TOKENS`` tokens.

    Args:
        corpus, tokenizer, seqlen, windows: as in ``calibration_text``.

    Raises:
        CorpusError: the corpus is too short for one window.
    """
    if windows != "random":
        return {"pool": calibration_pool(corpus, tokenizer, seqlen=seqlen, windows=windows).contiguous()}
    lengths, tokens = held_documents(corpus.documents(), tokenizer, seqlen, special=not corpus.templated)
    return {"lengths": lengths, "tokens": tokens}


def pool_of(tensors: Mapping[str, "Tensor"], corpus: str, seqlen: int, windows: CalibrationWindows) -> Pool:
    """The pool of tensors from ``tensors_of``, which code of others may have made.

    Args:
        tensors: by name.
        corpus: its name, for a message.
        seqlen, windows: as in ``calibration_text``.

    Raises:
        CorpusError: they are no such tensors, or no document is long enough.
    """
    import torch

    dims = {"lengths": 1, "tokens": 1} if windows == "random" else {"pool": 1 if windows == "stream" else 2}
    found = {name: (tensor.dtype, tensor.dim()) for name, tensor in tensors.items()}
    sound = found == {name: (torch.int64, dim) for name, dim in dims.items()}
    sound = sound and all(tensor.numel() == 0 or int(tensor.min()) >= 0 for tensor in tensors.values())
    if sound and windows == "random":
        lengths, tokens = tensors["lengths"], tensors["tokens"]
        sound = int(lengths[lengths > seqlen].sum()) == len(tokens)
    elif sound:
        sound = tensors["pool"].numel() >= seqlen and (windows == "stream" or tensors["pool"].shape[1] == seqlen)
    if not sound:
        shapes = ", ".join(f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise CorpusError(f"corpus {corpus} was not tokenised: {shapes}")
    if windows == "random":
        return RandomPool(HeldDocuments(tensors["lengths"], tensors["tokens"], seqlen), corpus, seqlen)
    return TokenPool(tensors["pool"])
