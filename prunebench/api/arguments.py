"""Checks of what a caller passes: each wrong argument is one line that says what would be right."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError
from torch import Tensor, nn

from prunebench.data.calibration_text import calibration_text
from prunebench.data.corpora import find_corpus
from prunebench.data.corpus import Corpus
from prunebench.data.noise import noisy
from prunebench.errors import CorpusError, ModelError, UsageError, quoted
from prunebench.pruning import CalibrationData, Pattern
from prunebench.suite.entries import Calibration
from prunebench.suite.fields import PatternText
from prunebench.suite.file import explain

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOADED = "AutoModelForCausalLM.from_pretrained(...)"
SEQLEN, NSAMPLES = 2048, 128  # of calibration text, where the caller does not say

S = TypeVar("S", bound=BaseModel)


def check_model(model: Any, tokenizer: Any, *, needs_tokenizer: bool = True) -> None:
    """Refuse what is no loaded causal language model with its tokenizer.

    Raises:
        ModelError: it is not, or its weights are not all in memory on one device.
    """
    from transformers import PreTrainedTokenizerBase

    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(f"model is {described(model)}: pass a causal language model as {LOADED} returns it")
    if isinstance(tokenizer, PreTrainedTokenizerBase) or (tokenizer is None and not needs_tokenizer):
        devices = {str(parameter.device) for parameter in model.parameters()}
        if len(devices) > 1 or "meta" in devices:
            raise ModelError(
                f"the model's weights are on {', '.join(sorted(devices))}: load all of it on one device (without "
                "device_map), or run a suite with device: disk"
            )
        return
    raise ModelError(f"tokenizer is {described(tokenizer)}: pass AutoTokenizer.from_pretrained(...) of the same model")


def described(value: Any) -> str:
    """A value and its type, for a message."""
    return "None" if value is None else f"{quoted(value, 60)} ({type(value).__name__})"


def context_of(model: Any) -> int | None:
    """The longest sequence, in tokens, that a model is made for; None where its configuration does not say."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) else None


def check_seed(seed: Any) -> int:
    """A seed as a number.

    Raises:
        UsageError: it is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed is {described(seed)}: give an integer from 0, as 0")
    return seed


def check_pattern(sparsity: Any) -> Pattern:
    """A sparsity as a pattern.

    Raises:
        UsageError: it is neither a fraction of zeros nor n:m.
    """
    try:
        return TypeAdapter[Pattern](PatternText).validate_python(sparsity)
    except ValidationError as error:
        raise UsageError(explain(error)) from None


def checked(schema: type[S], what: str, content: Mapping[str, Any]) -> S:
    """A part of a suite from a mapping.

    Args:
        schema: the part.
        what: what a message calls it.
        content: its keys.

    Raises:
        UsageError: a key is unknown, missing or of the wrong type.
    """
    try:
        return schema.model_validate(dict(content))
    except ValidationError as error:
        raise UsageError(f"{what}: {explain(error)}") from None


def check_files(plugins: Any) -> tuple[Path, ...]:
    """Plugin files as paths.

    Raises:
        UsageError: they are no paths.
    """
    files = (plugins,) if isinstance(plugins, str | Path) else tuple(plugins or ())
    for file in files:
        if not isinstance(file, str | Path):
            raise UsageError(f"plugins holds {described(file)}: give paths of Python files")
    return tuple(Path(file).resolve() for file in files)


def calibration_data(
    calibration: Any,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    nsamples: int | None,
    seqlen: int | None,
    windows: str | None,
    seed: int,
    files: Sequence[Path] = (),
    teacher: Callable[[], nn.Module] | None = None,
) -> CalibrationData:
    """What a method is calibrated on.

    Args:
        calibration: a corpus by name, a mapping as in a suite, texts, or token windows.
        model, tokenizer: decide on the tokens, and on the longest window.
        nsamples, seqlen, windows: of a text; None for the default, or for what the mapping says.
        seed: of the draw.
        files: plugin files, whose corpora stand beside the installed ones.
        teacher: makes the dense model, for ``data.teacher``.

    Raises:
        UsageError: it is none of these, too short, or longer than the model's context.
    """
    given = {"nsamples": nsamples, "seqlen": seqlen, "windows": windows}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(calibration, Tensor):
        if given:
            raise UsageError(f"{', '.join(given)} with token windows: their shape says it already; leave it out")
        return _from_windows(calibration, model, seed, teacher)
    context = context_of(model)
    defaults = {"nsamples": NSAMPLES, "seqlen": min(SEQLEN, context or SEQLEN)}
    texts: Sequence[str] | None = None
    if isinstance(calibration, str | Path):
        content: dict[str, Any] = {"corpus": str(calibration)}
    elif isinstance(calibration, Mapping):
        content = dict(calibration)
    elif isinstance(calibration, Sequence) and calibration and all(isinstance(text, str) for text in calibration):
        texts, content = calibration, {"corpus": "texts"}
    else:
        raise UsageError(
            f"calibration is {described(calibration)}: give a corpus by name, as 'c4', a list of texts, or token "
            "windows, a LongTensor (nsamples, seqlen)"
        )
    spec = checked(Calibration, "calibration", {**defaults, **content, **given})
    if context is not None and spec.seqlen > context:
        raise CorpusError(
            f"calibration: a window of {spec.seqlen} tokens is longer than the model's context, {context}: set seqlen "
            f"to at most {context}"
        )
    if texts:
        corpus = _corpus_of(texts) if spec.noise is None else noisy(_corpus_of(texts), spec.noise)
    else:
        corpus = find_corpus(spec.corpus, spec.split, "calibration", files, spec.field, spec.noise)
    if corpus.wants:
        corpus = corpus.given(model=model, tokenizer=tokenizer, seed=seed)
    pool = calibration_text(corpus, tokenizer, seqlen=spec.seqlen, windows=spec.windows)
    return CalibrationData(pool, nsamples=spec.nsamples, seqlen=spec.seqlen, seed=seed, teacher=teacher)


def _corpus_of(texts: Sequence[str]) -> Corpus:
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()
    return Corpus("texts", digest, lambda: iter(texts))


def _from_windows(
    windows: Tensor, model: "PreTrainedModel", seed: int, teacher: Callable[[], nn.Module] | None
) -> CalibrationData:
    shape, context = tuple(windows.shape), context_of(model)
    size = model.config.get_text_config().vocab_size
    if windows.dim() != 2 or windows.is_floating_point() or windows.is_complex() or windows.dtype is torch.bool:
        raise CorpusError(f"calibration is a tensor {shape} of {windows.dtype}: give token ids, (nsamples, seqlen)")
    if shape[0] < 1 or shape[1] < 2:
        raise CorpusError(f"calibration is a tensor {shape}: give at least one window of two tokens")
    if context is not None and shape[1] > context:
        raise CorpusError(f"calibration: windows of {shape[1]} tokens are longer than the model's context, {context}")
    if int(windows.min()) < 0 or int(windows.max()) >= size:
        found = int(windows.min()) if int(windows.min()) < 0 else int(windows.max())
        raise CorpusError(f"calibration holds the token {found}, and the model's vocabulary is 0 to {size - 1}")
    return CalibrationData.from_windows(windows.long().cpu(), seed=seed, teacher=teacher)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode inside this context, and each of its modules back as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
