"""``windows: random``: the loaders' rule, where its draws may fall, and that nothing but text and seed decides them."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prunebench.data.calibration_text import calibration_text, pool_of, tensors_of
from prunebench.data.corpus import Corpus
from prunebench.data.random_windows import StoredDocuments
from prunebench.errors import CorpusError
from prunebench.pruning import CalibrationData
from prunebench.pruning.pools import Pool
from tests.helpers.text import letters, tokenizer

SEQLEN = 5
# With <s>: 1 + the letters. Longer than a window are numbers 1, 3 and 5, of 6, 9 and 13 tokens.
LENGTHS = {0: 3, 1: 6, 2: 5, 3: 9, 4: 0, 5: 13}
TEXTS = [letters(2), letters(5, 3), letters(4), letters(8, 9), "  ", letters(12, 18)]


def corpus(texts: list[str], *, once: bool = False) -> Corpus:
    return Corpus("mine", "", lambda: iter(texts), once=once)


def pool(texts: list[str] = TEXTS, *, once: bool = False, seqlen: int = SEQLEN) -> Pool:
    return calibration_text(corpus(texts, once=once), tokenizer(), seqlen=seqlen, windows="random")


def data(source: Pool, nsamples: int = 40, seed: int = 0) -> CalibrationData:
    return CalibrationData(source, nsamples=nsamples, seqlen=SEQLEN, seed=seed)


def loader(texts: list[str], nsamples: int, seqlen: int, draw: torch.Generator) -> Iterator[list[int]]:
    """The papers' rule in plain words, with no cache: a document, again if it is too short, and a place in it."""
    tokenise = tokenizer()
    for _ in range(nsamples):
        while True:
            number = int(torch.randint(len(texts), (1,), generator=draw))
            ids = tokenise(texts[number])["input_ids"]
            if len(ids) > seqlen:
                break
        places = len(ids) - seqlen + 1  # the papers' loaders leave out the last of them
        begin = int(torch.randint(places, (1,), generator=draw))
        yield ids[begin : begin + seqlen]


@pytest.mark.parametrize("once", [False, True])
def test_the_draws_are_the_loaders(once: bool) -> None:
    drawn = pool(once=once).windows(50, SEQLEN, torch.Generator().manual_seed(7))
    assert drawn.windows.tolist() == [*loader(TEXTS, 50, SEQLEN, torch.Generator().manual_seed(7))]
    assert drawn.windows.dtype == torch.int64
    assert drawn.text == {number: LENGTHS[number] for number in (1, 3, 5)}


def test_every_place_of_every_long_document_is_drawn_as_often_as_it_should_be() -> None:
    """A document in three, each of its places alike, the first with <s> and the last too; χ² at one in a thousand."""
    draws = 6000
    drawn = pool().windows(draws, SEQLEN, torch.Generator().manual_seed(1)).windows
    seen = Counter(tuple(window) for window in drawn.tolist())
    expected = {}
    for number in (1, 3, 5):
        ids = tokenizer()(TEXTS[number])["input_ids"]
        places = len(ids) - SEQLEN + 1
        expected |= {tuple(ids[k : k + SEQLEN]): draws / 3 / places for k in range(places)}
    assert seen.keys() == expected.keys()
    chi2 = sum((seen[window] - count) ** 2 / count for window, count in expected.items())
    assert len(expected) == 2 + 5 + 9
    assert chi2 < 37.7  # 15 degrees of freedom


def test_a_document_of_one_token_more_than_a_window_has_two_places() -> None:
    drawn = pool([letters(SEQLEN)]).windows(40, SEQLEN, torch.Generator().manual_seed(0)).windows
    assert {tuple(window) for window in drawn.tolist()} == {(1, 4, 5, 6, 7), (4, 5, 6, 7, 8)}


def test_a_seed_decides_and_nothing_that_was_drawn_before() -> None:
    fresh, used = pool(), pool()
    next(data(used, seed=9).batches(30))
    for seed in (0, 1):
        assert torch.equal(data(fresh, seed=seed).windows, data(used, seed=seed).windows)
    assert not torch.equal(data(fresh).windows, data(fresh, seed=1).windows)
    batches = data(fresh).batches(4)
    first = [next(batches) for _ in range(4)]
    assert torch.equal(next(data(pool()).batches(4, start=2)), first[2])
    assert not torch.equal(first[0], first[1])


def test_memory_is_bounded_and_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pool().windows(60, SEQLEN, torch.Generator().manual_seed(3)).windows
    monkeypatch.setattr("prunebench.data.tokens.POOL_TOKENS", 1)
    documents = StoredDocuments(TEXTS, tokenizer(), SEQLEN)
    assert [documents.length(number) for number in range(len(documents))] == [*LENGTHS.values()]
    for number in (1, 3, 5, 3):
        assert documents.tokens(number).tolist() == tokenizer()(TEXTS[number])["input_ids"]
        assert len(documents._kept) == 1
    assert torch.equal(pool().windows(60, SEQLEN, torch.Generator().manual_seed(3)).windows, whole)


def test_only_documents_that_are_drawn_are_tokenised() -> None:
    texts = [letters(9, number % 26) for number in range(5000)]
    documents = StoredDocuments(texts, tokenizer(), SEQLEN)
    asked = []
    inner = documents._tokenise
    documents._tokenise = lambda number: asked.append(number) or inner(number)  # type: ignore[method-assign, func-returns-value]
    from prunebench.data.random_windows import RandomPool

    RandomPool(documents, "mine", SEQLEN).windows(128, SEQLEN, torch.Generator().manual_seed(0))
    assert len(asked) <= 129


def test_forked_processes_read_the_same_file() -> None:
    """What a template made is used by its children, at once and in any order."""
    source = pool([letters(20, number % 26) for number in range(200)])
    expected = data(source, nsamples=100, seed=5).windows
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            os._exit(0 if torch.equal(data(source, nsamples=100, seed=5).windows, expected) else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("prunebench.data.random_windows.TemporaryFile", lambda: full)
        with pytest.raises(CorpusError, match=r"do not fit in .*: No space left on device; set TMPDIR to a folder"):
            pool()


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("texts", "longest"), [([letters(2), letters(4), " "], 5), ([], 0)])
def test_no_long_document_is_one_line(texts: list[str], longest: int, once: bool) -> None:
    with pytest.raises(CorpusError) as caught:
        pool(texts, once=once)
    assert str(caught.value) == (
        "corpus mine has no document of over 5 tokens, which 'windows: random' draws from; its longest has "
        f"{longest}: lower 'seqlen' (it is 5), or use 'windows: stream'"
    )


def test_one_long_document_among_many_is_found() -> None:
    texts = [letters(2)] * 300 + [letters(9)]
    assert set(pool(texts).windows(3, SEQLEN, torch.Generator().manual_seed(0)).text) == {300}


def test_passes_are_over_the_documents_that_were_drawn() -> None:
    seen = data(pool(), nsamples=4)
    assert seen.passes == 0.0
    batches = seen.batches(10)
    for _ in range(20):
        next(batches)
    assert seen.tokens_seen == 20 * 10 * SEQLEN
    assert seen.passes == pytest.approx(20 * 10 * SEQLEN / (6 + 9 + 13))
    resumed = data(pool(), nsamples=4)
    resumed.restore(seen.state())
    assert (resumed.passes, resumed.tokens_seen) == (seen.passes, seen.tokens_seen)


def test_what_another_process_read_is_checked() -> None:
    tensors = tensors_of(corpus(TEXTS), tokenizer(), seqlen=SEQLEN, windows="random")
    assert tensors["lengths"].tolist() == [*LENGTHS.values()]
    pool_of(tensors, "mine", SEQLEN, "random")
    for wrong in (
        {"pool": tensors["tokens"]},
        {**tensors, "tokens": tensors["tokens"][1:]},
        {**tensors, "tokens": -tensors["tokens"]},
        {**tensors, "lengths": tensors["lengths"].float()},
    ):
        with pytest.raises(CorpusError, match="corpus mine was not tokenised"):
            pool_of(wrong, "mine", SEQLEN, "random")
    with pytest.raises(CorpusError, match="corpus mine was not tokenised"):
        pool_of({"pool": torch.ones(3, 4, dtype=torch.int64)}, "mine", SEQLEN, "document")
