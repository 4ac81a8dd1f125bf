"""Protocols with BOS in each window, and with windows drawn from documents: what is scored, and their names."""

import random
from typing import get_args

import pytest
import torch

from prunebench.data.corpus import Corpus
from prunebench.errors import CorpusError
from prunebench.evaluation.perplexity import perplexity
from prunebench.evaluation.protocols import Windows, evaluation_sequences, protocol_name
from prunebench.suite.evaluation_entries import PerplexityEntry
from tests.helpers import tiny
from tests.helpers.text import letters, tokenizer


def corpus(texts: list[str], name: str = "mine") -> Corpus:
    return Corpus(name, "", lambda: iter(texts))


def test_every_window_begins_with_bos_in_the_place_of_its_first_token() -> None:
    """ELSA's evaluation of Gemma: windows are cut as ever, then their first token is overwritten."""
    texts = [letters(4), letters(5, 9)]
    plain = evaluation_sequences(corpus(texts), tokenizer(), seqlen=3, windows="stream")
    begun = evaluation_sequences(corpus(texts), tokenizer(), seqlen=3, windows="stream-bos")
    assert [tokens.tolist() for tokens in plain.tokens] == [[1, 4, 5], [6, 7, 1], [13, 14, 15]]
    assert [tokens.tolist() for tokens in begun.tokens] == [[1, 4, 5], [1, 7, 1], [1, 14, 15]]
    assert (plain.dropped_tokens, begun.dropped_tokens) == (2, 2 + 2)


def test_papers_windows_with_bos() -> None:
    for name, texts, count in (("wikitext2", [letters(5000)], 2), ("c4", [letters(600)] * 1100, 256)):
        plain = evaluation_sequences(corpus(texts, name), tokenizer(), seqlen=None, windows="paper")
        begun = evaluation_sequences(corpus(texts, name), tokenizer(), seqlen=None, windows="paper-bos")
        assert len(plain.tokens) == len(begun.tokens) == count
        assert all(tokens[0] == 1 for tokens in begun.tokens)
        assert sum(int(tokens[0] == 1) for tokens in plain.tokens) == 1
        pairs = zip(plain.tokens, begun.tokens, strict=True)
        assert all(torch.equal(one[1:], other[1:]) for one, other in pairs)


def test_the_perplexity_is_that_of_the_same_targets_after_bos() -> None:
    """Against the definition: exp of the mean loss of tokens 2 to seqlen, given BOS and what stands between."""
    model, texts = tiny.llama(), [letters(40, number) for number in range(5)]
    begun = evaluation_sequences(corpus(texts), tokenizer(), seqlen=8, windows="stream-bos")
    losses = []
    stream = [token for text in texts for token in tokenizer()(text)["input_ids"]]
    for start in range(0, len(stream) - 7, 8):
        ids = torch.tensor([[1, *stream[start + 1 : start + 8]]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].double()
        losses += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").tolist()
    expected = torch.tensor(losses).mean().exp()
    assert perplexity(model, begun, protocol="x").value == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("windows", "seqlen", "name"), [("stream-bos", 4, "mine"), ("paper-bos", None, "c4")])
def test_a_model_without_bos_is_refused(windows: Windows, seqlen: int | None, name: str) -> None:
    with pytest.raises(CorpusError) as caught:
        evaluation_sequences(corpus([letters(9)], name), tokenizer(bos=False), seqlen=seqlen, windows=windows)
    assert str(caught.value) == (
        f"perplexity on {name}: the model's tokenizer has no BOS, which 'windows: {windows}' puts at the start of each "
        f"window: use 'windows: {windows.removesuffix('-bos')}' for this model"
    )


def test_256_windows_of_documents_as_the_loader_draws_them() -> None:
    """The loader's rule for C4's validation text in plain words: Python's generator from seed 0."""
    texts = [letters(count, count) for count in (10, 2047, 2048, 2500, 6000)] + [" "]
    cut = evaluation_sequences(corpus(texts, "c4"), tokenizer(), seqlen=None, windows="paper-random")
    draw, expected = random.Random(0), []
    while len(expected) < 256:
        ids = tokenizer()(texts[draw.randint(0, len(texts) - 1)])["input_ids"]
        if len(ids) > 2048:
            begin = draw.randint(0, len(ids) - 2048 - 1)
            expected.append(ids[begin : begin + 2048])
    assert [tokens.tolist() for tokens in cut.tokens] == expected
    assert 0 <= cut.dropped_tokens < 2049 + 2501 + 6001
    with pytest.raises(CorpusError, match=r"no document of over 2048 tokens, which c4/random-256x2048 draws from"):
        evaluation_sequences(corpus([letters(2047)], "c4"), tokenizer(), seqlen=None, windows="paper-random")


def test_no_two_protocols_share_a_name() -> None:
    names = [
        protocol_name(name, windows, seqlen)
        for name in ("c4", "wikitext2")
        for windows in ("stream", "stream-bos", "document", "paper", "paper-bos")
        for seqlen in ((2048, None) if windows == "document" else (2048,))
    ]
    assert len({*names, protocol_name("c4", "paper-random", None)}) == len(names) + 1
    assert protocol_name("mine", "stream-bos", 128) == "mine/stream-bos-128"
    assert protocol_name("wikitext2", "paper-bos", None) == "wikitext2/paper-bos-2048"
    assert protocol_name("c4", "paper-bos", 2048) == "c4/paper-bos-256x2048"
    assert protocol_name("c4", "paper-random", None) == "c4/random-256x2048"
    with pytest.raises(CorpusError, match="no paper's protocol for corpus 'wikitext2'"):
        protocol_name("wikitext2", "paper-random", None)
    with pytest.raises(CorpusError, match="'windows: stream-bos' needs a 'seqlen'"):
        protocol_name("mine", "stream-bos", None)


def test_a_suite_has_the_same_windows() -> None:
    assert get_args(PerplexityEntry.model_fields["windows"].annotation) == get_args(Windows)
