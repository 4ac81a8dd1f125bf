"""Perplexity against a plain statement of it, and against known figures of a real model."""

import math

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from prunebench.data.corpora import find_corpus
from prunebench.errors import CorpusError
from prunebench.evaluation.perplexity import PerplexityResult, perplexity, summarise
from prunebench.evaluation.protocols import Sequences, evaluation_sequences, protocol_name
from prunebench.models.loading import load_model
from prunebench.models.source import find_model
from prunebench.pruning.callbacks import use_observer
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver
from tests.helpers.paths import SHARED, needs_shared

LENGTHS = (2, 31, 7, 7, 64, 12, 30)


def sequences(lengths: tuple[int, ...] = LENGTHS) -> Sequences:
    return Sequences(tuple(tiny.tokens(seed, length) for seed, length in enumerate(lengths)), 5)


def plainly(model: PreTrainedModel, cut: Sequences) -> tuple[float, list[float]]:
    """Each sequence by itself, with the model's own loss."""
    with torch.no_grad():
        losses = [
            model(tokens[None], labels=tokens[None]).loss.double().item() * (len(tokens) - 1) for tokens in cut.tokens
        ]
    return math.exp(sum(losses) / sum(len(tokens) - 1 for tokens in cut.tokens)), losses


@pytest.mark.parametrize("name", sorted(tiny.MODELS))
@pytest.mark.parametrize("max_logit_bytes", [1 << 29, 40 * 64 * 4, 1])
def test_equals_each_sequence_by_itself(name: str, max_logit_bytes: int) -> None:
    model = tiny.MODELS[name]()
    cut = sequences()
    found = perplexity(model, cut, protocol="mine/document", max_logit_bytes=max_logit_bytes)
    value, losses = plainly(model, cut)
    assert found.value == pytest.approx(value, rel=1e-4)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
    assert found.counts.tolist() == [length - 1 for length in LENGTHS]
    assert (found.protocol, found.tokens, found.dropped_tokens) == ("mine/document", sum(LENGTHS) - len(LENGTHS), 5)


@pytest.mark.parametrize("max_logit_bytes", [1 << 29, 30 * 64 * 4, 1])
def test_logits_stay_within_the_budget(max_logit_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.llama()
    sizes: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, _i, logits: sizes.append(logits.numel() * logits.element_size()))
    perplexity(model, sequences(), protocol="mine/document", max_logit_bytes=max_logit_bytes)
    # One position is the least there is.
    assert max(sizes) <= max(max_logit_bytes, 64 * 4)


def test_a_uniform_model_has_the_vocabulary_as_perplexity() -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = perplexity(model, sequences(), protocol="p")
    assert found.value == pytest.approx(tiny.VOCAB, rel=1e-6)
    assert found.stderr == pytest.approx(0, abs=1e-5)


def test_a_broken_model_is_a_result() -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    assert math.isnan(perplexity(model, sequences(), protocol="p").value)
    huge = summarise(np.array([2000.0, 2100.0]), np.array([1, 1]), protocol="p", dropped_tokens=0)
    assert huge.value == math.inf


def test_model_and_generators_are_left_alone() -> None:
    model = tiny.llama()
    state = torch.get_rng_state()
    perplexity(model, sequences(), protocol="p")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_sequence_beyond_the_context_is_refused() -> None:
    # The last token is predicted but never read, so 65 tokens fit a context of 64.
    perplexity(tiny.opt(), sequences((65,)), protocol="p")
    with pytest.raises(CorpusError, match=r"mine/document: a sequence of 65 tokens .* context, 64: set 'seqlen'"):
        perplexity(tiny.opt(), sequences((66,)), protocol="mine/document")


def test_progress_is_told() -> None:
    observer = RecordingObserver()
    with use_observer(observer):
        perplexity(tiny.llama(), sequences(), protocol="p")
    label, done, total = observer.steps[-1]
    assert label == "batch"
    assert done == total


def test_stderr_is_that_of_resampling_sequences() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(50, 150, 400)
    losses = counts * rng.normal(2.0, 0.3, 400)

    def measured(rows: np.ndarray) -> PerplexityResult:
        return summarise(losses[rows], counts[rows], protocol="p", dropped_tokens=0)

    resampled = [measured(rng.integers(0, 400, 400)).value for _ in range(500)]
    assert measured(np.arange(400)).stderr == pytest.approx(np.std(resampled), rel=0.12)
    assert math.isnan(measured(np.arange(1)).stderr)


@pytest.mark.shared
@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(("seqlen", "value", "tokens"), [(None, 5.24, 89189), (256, 5.22, 87993)])
def test_known_figure_of_a_real_model(seqlen: int | None, value: float, tokens: int) -> None:
    model, tokenizer = load_model(find_model(str(SHARED / "models/stories3M")), dtype="float32", device="cpu")
    corpus = find_corpus(str(SHARED / "data/tinystories/tinystories_eval.jsonl"), None, "perplexity")
    cut = evaluation_sequences(corpus, tokenizer, seqlen=seqlen, windows="document")
    found = perplexity(model, cut, protocol=protocol_name(corpus.name, "document", seqlen))
    assert len(found.losses) == 463
    assert found.tokens == tokens
    assert round(found.value, 2) == value
