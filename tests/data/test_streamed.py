"""Calibration text longer than memory holds: each part in its turn, and any batch may be the first."""

import pytest
import torch

from prunebench.data import calibration_pool
from prunebench.data.calibration_text import calibration_text
from prunebench.data.corpus import Corpus
from prunebench.data.streamed import StreamedPool
from prunebench.pruning import CalibrationData
from prunebench.pruning.calibration import note_repeated_text
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.pools import Pool, TokenPool
from prunebench.runner.events import EventRecorder, Silent
from tests.helpers.text import WORDS, letters, tokenizer

SEQLEN = 4
# 26 documents of one letter each, of 9 tokens with <s>; blank ones between them.
TEXTS = [text for word in WORDS for text in (" ".join([word] * 8), " ")]


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of five documents: 45 tokens, or 20 of documents' beginnings."""
    monkeypatch.setattr("prunebench.data.tokens.POOL_TOKENS", 40)


def corpus(texts: list[str] = TEXTS, *, once: bool = False) -> Corpus:
    return Corpus("mine", "", lambda: iter(texts), once=once)


def text(windows: str = "stream", texts: list[str] = TEXTS) -> Pool:
    return calibration_text(corpus(texts), tokenizer(), seqlen=SEQLEN, windows=windows)  # type: ignore[arg-type]


def data(pool: Pool, seed: int = 0) -> CalibrationData:
    return CalibrationData(pool, nsamples=6, seqlen=SEQLEN, seed=seed)


def words_of(batch: torch.Tensor) -> set[str]:
    return {WORDS[token - 4] for token in batch.flatten().tolist() if token >= 4}


@pytest.mark.usefixtures("small_pool")
def test_what_the_pool_held_gives_the_same_draws() -> None:
    """The first part is the pool of a version that read no further, and so are the windows and the first batches."""
    held = calibration_pool(corpus(), tokenizer(), seqlen=SEQLEN, windows="stream")
    before, now = CalibrationData(held, nsamples=6, seqlen=SEQLEN, seed=0), data(text())
    assert torch.equal(before.windows, now.windows)
    old, new = before.batches(2), now.batches(2)
    assert all(torch.equal(next(old), next(new)) for _ in range(len(held) // SEQLEN // 2))


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize("windows", ["stream", "document"])
def test_each_part_is_drawn_from_as_often_as_it_holds_windows(windows: str) -> None:
    per_part = 45 // SEQLEN if windows == "stream" else 10  # 10 documents have 40 tokens in windows of 4
    pool = text(windows)
    assert isinstance(pool, StreamedPool)
    draw = data(pool).batches(1)
    documents = 5 if windows == "stream" else 10
    for part in range(26 // documents):
        expected = set(WORDS[part * documents : (part + 1) * documents])
        assert set().union(*(words_of(next(draw)) for _ in range(per_part))) <= expected


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize(("windows", "documents", "held"), [("stream", 5, 5 * 11 + 2), ("document", 10, 26)])
def test_no_part_comes_again_before_the_whole_text_was_drawn_from(windows: str, documents: int, held: int) -> None:
    taken, parts = data(text(windows)), []
    batches = taken.batches(1)
    for _ in range(held):
        assert taken.passes <= 1
        (part,) = {WORDS.index(word) // documents for word in words_of(next(batches))}
        parts.append(part)
    assert parts == sorted(parts)
    assert {*parts} == {*range(-(-26 // documents))}
    assert words_of(next(batches)) <= {*WORDS[:documents]}


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize("windows", ["stream", "document"])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_any_batch_may_be_the_first(windows: str, size: int) -> None:
    """Also in the second pass, from a pool that has read nothing yet."""
    batches = data(text(windows)).batches(size)
    in_order = [next(batches) for _ in range(120)]
    for start in (0, 1, 19, 63, 119):
        fresh = data(text(windows)).batches(size, start=start)
        assert torch.equal(next(fresh), in_order[start])
        if start + 1 < len(in_order):
            assert torch.equal(next(fresh), in_order[start + 1])


@pytest.mark.usefixtures("small_pool")
def test_more_windows_than_one_part_holds_are_different_windows_of_several() -> None:
    pool = text()
    few, many, all_ = (pool.windows(n, SEQLEN, torch.Generator().manual_seed(4)) for n in (11, 30, 500))
    assert torch.equal(many.windows[:11], few.windows)
    assert torch.equal(all_.windows[:22], many.windows[:22])  # of the third part as many as are wanted, in any order
    assert [len(draw.windows) for draw in (few, many, all_)] == [11, 30, 5 * 11 + 2]
    assert [*few.text, *many.text] == [0, 0, 1, 2]
    stream = [token for word in WORDS for token in tokenizer()(" ".join([word] * 8))["input_ids"]]
    parts = [stream[start : start + 45] for start in range(0, len(stream), 45)]
    expected = {tuple(part[k : k + SEQLEN]) for part in parts for k in range(0, len(part) - SEQLEN + 1, SEQLEN)}
    assert {tuple(window) for window in all_.windows.tolist()} == expected


@pytest.mark.usefixtures("small_pool")
def test_two_parts_at_most_are_in_memory() -> None:
    pool = text()
    assert isinstance(pool, StreamedPool)
    batches = data(pool).batches(2)
    for _ in range(200):
        next(batches)
        assert pool._first.tokens.numel() <= 45
        assert pool._current[1].numel() <= 45
    assert pool._complete


@pytest.mark.usefixtures("small_pool")
def test_a_last_part_shorter_than_a_window_is_left_out() -> None:
    pool = text(texts=[letters(8)] * 5 + [letters(2)])
    assert isinstance(pool, StreamedPool)
    taken = data(pool)
    batches = taken.batches(5)
    for _ in range(10):
        next(batches)
    assert taken.passes == pytest.approx(10 * 5 * SEQLEN / 45)


@pytest.mark.usefixtures("small_pool")
def test_passes_count_and_survive_an_interruption() -> None:
    taken = data(text())
    assert taken.passes == 0.0
    batches = taken.batches(11)
    next(batches)
    assert taken.passes == pytest.approx(44 / 45)
    for _ in range(9):
        next(batches)
    whole = 26 * 9
    assert taken.passes == pytest.approx(10 * 44 / whole)
    resumed = data(text())
    resumed.restore(taken.state())
    assert (resumed.tokens_seen, resumed.passes) == (taken.tokens_seen, taken.passes)
    later = resumed.batches(11, start=10)
    assert torch.equal(next(later), next(batches))
    assert resumed.passes == taken.passes == pytest.approx(11 * 44 / whole)


def test_a_text_that_fits_is_held_whole() -> None:
    assert isinstance(text(), TokenPool)


@pytest.mark.usefixtures("small_pool")
def test_a_text_that_is_read_once_is_not_read_again() -> None:
    reads = []
    source = Corpus("mine", "", lambda: reads.append(1) or iter(TEXTS), once=True)  # type: ignore[func-returns-value]
    pool = calibration_text(source, tokenizer(), seqlen=SEQLEN, windows="stream")
    taken = data(pool)
    batches = taken.batches(11)
    for _ in range(3):
        next(batches)
    assert len(reads) == 1
    assert taken.passes == pytest.approx(3 * 44 / 45)


def test_repetition_is_noted_and_nothing_else_is() -> None:
    taken, events = CalibrationData(torch.arange(40), nsamples=2, seqlen=SEQLEN, seed=0), EventRecorder(Silent())
    with use_observer(events):
        _ = taken.windows
        note_repeated_text(taken)
        assert not events.notes
        next(taken.batches(9))
        note_repeated_text(taken)
    assert taken.passes == pytest.approx(44 / 40)
    assert dict(events.notes) == {"calibration text was passed over more than once: see cost.passes": 1}
