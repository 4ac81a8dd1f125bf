"""Corpora and the tokens cut from them."""

import gzip
import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from prunebench import hub
from prunebench.data import hub_corpora
from prunebench.data.corpora import Purpose, find_corpus
from prunebench.data.corpus import Corpus
from prunebench.data.tokens import calibration_pool
from prunebench.errors import CorpusError
from prunebench.evaluation.protocols import evaluation_sequences, protocol_name
from tests.helpers.text import jsonl, letters, tokenizer


def corpus(texts: list[str], name: str = "mine") -> Corpus:
    return Corpus(name, "", lambda: iter(texts))


def test_local_jsonl(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "mine.jsonl", ["a b", "", "c"])
    found = find_corpus(source, None, "calibration")
    assert found.name == "mine"
    assert found.digest == hashlib.sha256(Path(source).read_bytes()).hexdigest()
    assert [*found.documents()] == [*found.documents()] == ["a b", "", "c"]


def test_local_text_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a b\n\nc\n")
    assert [*find_corpus(str(tmp_path / "mine.txt"), None, "perplexity").documents()] == ["a b\n\nc\n"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.jsonl", None, "does not exist"),
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b'{"text": " "}\n', "is empty"),
        ("blank.txt", b" \n", "is empty"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("field.jsonl", b'{"text": "a"}\n{"body": "a"}\n', "line 2: no field 'text'"),
        ("list.jsonl", b"[1]\n", "line 1: no field 'text'"),
        ("number.jsonl", b'{"text": 3}\n', "line 1: no field 'text'"),
        ("latin.txt", b"\xff\xfe\xfa", "is not UTF-8"),
        ("table.tsv", b"text\na\n", "is neither of these files"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        find_corpus(str(tmp_path / name), None, "calibration")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_wrong_splits_and_names(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no splits"):
        find_corpus(jsonl(tmp_path / "mine.jsonl", ["a"]), "test", "calibration")
    with pytest.raises(CorpusError, match="did you mean 'builtin/tinyworld'"):
        find_corpus("builtin/tinywrld", None, "calibration")
    with pytest.raises(CorpusError, match="no split 'dev'"):
        find_corpus("builtin/tinyworld", "dev", "calibration")
    with pytest.raises(CorpusError, match=r"no split 'test'.*valid: train, validation"):
        find_corpus("c4", "test", "perplexity")
    with pytest.raises(CorpusError, match="no corpus 'a b'"):
        find_corpus("a b", None, "calibration")


def test_builtin() -> None:
    test = find_corpus("builtin/tinyworld", None, "perplexity")
    assert test.name == "tinyworld"
    assert [*test.documents()] == [*test.documents()]
    assert test.digest == find_corpus("builtin/tinyworld", "test", "calibration").digest
    assert test.digest != find_corpus("builtin/tinyworld", "validation", "perplexity").digest


@pytest.mark.parametrize("source", ["c4", "wikitext2", "some/corpus", "some/corpus:config@abc"])
def test_remote_without_network_fails_fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(CorpusError, match="does not answer") as caught:
        find_corpus(source, None, "perplexity")
    assert time.monotonic() - begin < 5
    assert "\n" not in str(caught.value)


def test_offline_setting_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("went to the network"))
    assert not hub.is_reachable()
    assert "HF_HUB_OFFLINE" in hub.unreachable_message()


def test_a_slow_endpoint_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> None:
        time.sleep(1)
        raise OSError

    monkeypatch.setattr("urllib.request.urlopen", slow)
    begin = time.monotonic()
    assert not hub.is_reachable(timeout=0.1)
    assert time.monotonic() - begin < 0.8


@pytest.mark.parametrize(("purpose", "split"), [("calibration", "train"), ("perplexity", "validation")])
def test_c4_reads_the_pinned_shard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, purpose: Purpose, split: str
) -> None:
    shard = tmp_path / "c4.json.gz"
    with gzip.open(shard, "wt") as file:
        file.write(json.dumps({"text": "a b", "url": "x"}) + "\n")
    asked: list[tuple[str, ...]] = []

    def download(*args: str) -> Path:
        asked.append(args)
        return shard

    monkeypatch.setattr(hub, "download", download)
    found = find_corpus("c4", None, purpose)
    assert (found.name, [*found.documents()]) == ("c4", ["a b"])
    assert set(asked) == {("allenai/c4", hub_corpora.C4.files[split], hub_corpora.C4.commit)}


def test_wikitext_reads_parquet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["", " a "]}).to_parquet(str(tmp_path / "rows.parquet"))
    monkeypatch.setattr(hub, "download", lambda *_: tmp_path / "rows.parquet")
    assert [*find_corpus("wikitext2", None, "perplexity").documents()] == ["", " a "]


def test_calibration_stream_joins_documents_with_their_special_tokens() -> None:
    pool = calibration_pool(corpus(["a b", " ", "c"]), tokenizer(), seqlen=2, windows="stream")
    assert pool.dtype == torch.int64
    assert pool.tolist() == [1, 4, 5, 1, 6]


def test_calibration_documents_are_those_long_enough() -> None:
    pool = calibration_pool(corpus([letters(2), letters(9), letters(3, 5)]), tokenizer(), seqlen=4, windows="document")
    assert pool.tolist() == [[1, 4, 5, 6], [1, 9, 10, 11]]


@pytest.mark.parametrize(("windows", "have"), [("stream", "8 tokens"), ("document", "no document of over 4 tokens")])
def test_a_corpus_shorter_than_a_window(windows: str, have: str) -> None:
    with pytest.raises(CorpusError, match=rf"mine has {have}.*lower 'seqlen' \(it is 9\)"):
        calibration_pool(corpus([letters(3)] * 2), tokenizer(), seqlen=9, windows=windows)  # type: ignore[arg-type]


def test_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunebench.data.tokens.POOL_TOKENS", 10)
    assert len(calibration_pool(corpus([letters(5)] * 9), tokenizer(), seqlen=2, windows="stream")) == 12


def test_stream_drops_its_tail() -> None:
    cut = evaluation_sequences(corpus([letters(4), letters(4)]), tokenizer(), seqlen=3, windows="stream")
    assert [tokens.tolist() for tokens in cut.tokens] == [[1, 4, 5], [6, 7, 1], [4, 5, 6]]
    assert cut.dropped_tokens == 1


def test_documents_begin_with_bos_and_score_their_first_tokens() -> None:
    texts = [letters(5), "z", letters(2)]
    whole = evaluation_sequences(corpus(texts), tokenizer(), seqlen=None, windows="document")
    assert [tokens.tolist() for tokens in whole.tokens] == [[1, 4, 5, 6, 7, 8], [1, 4, 5]]
    assert whole.dropped_tokens == 1
    cut = evaluation_sequences(corpus(texts), tokenizer(), seqlen=3, windows="document")
    assert [tokens.tolist() for tokens in cut.tokens] == [[1, 4, 5, 6], [1, 4, 5]]
    assert cut.dropped_tokens == 3


def test_a_limit_scores_the_first_and_does_not_read_all() -> None:
    text = Corpus("mine", "", lambda: itertools.cycle([letters(5), "z", letters(2)]))  # which has no end
    cut = evaluation_sequences(text, tokenizer(), seqlen=3, windows="document", limit=2)
    assert [tokens.tolist() for tokens in cut.tokens] == [[1, 4, 5, 6], [1, 4, 5]]
    assert cut.dropped_tokens == 3
    stream = evaluation_sequences(text, tokenizer(), seqlen=3, windows="stream", limit=2)
    assert [tokens.tolist() for tokens in stream.tokens] == [[1, 4, 5], [6, 7, 8]]
    assert stream.dropped_tokens == 0
    longer = evaluation_sequences(corpus([letters(5)]), tokenizer(), seqlen=3, windows="document", limit=9)
    assert len(longer.tokens) == 1
    assert protocol_name("mine", "document", 3, 2) == "mine/document-2x3"
    assert protocol_name("mine", "stream-bos", 3, 2) == "mine/stream-bos-2x3"


@pytest.mark.parametrize(("windows", "seqlen"), [("document", None), ("paper", 2048)])
def test_a_limit_is_of_windows_with_a_length(windows: Any, seqlen: int | None) -> None:
    with pytest.raises(CorpusError, match="leave out 'limit: 2'"):
        protocol_name("c4", windows, seqlen, 2)


def test_documents_without_bos() -> None:
    eos = evaluation_sequences(corpus([letters(5)]), tokenizer(bos=False), seqlen=3, windows="document")
    assert [tokens.tolist() for tokens in eos.tokens] == [[2, 4, 5, 6]]
    none = evaluation_sequences(corpus([letters(5)]), tokenizer(bos=False, eos=False), seqlen=3, windows="document")
    assert [tokens.tolist() for tokens in none.tokens] == [[4, 5, 6, 7]]
    assert none.dropped_tokens == 1


def test_papers_protocols() -> None:
    rows = ["", letters(3), "", letters(3000)]
    wiki = evaluation_sequences(corpus(rows, "wikitext2"), tokenizer(), seqlen=None, windows="paper")
    assert [len(tokens) for tokens in wiki.tokens] == [2048]
    assert wiki.tokens[0][:5].tolist() == [1, 4, 5, 6, 4]
    assert wiki.dropped_tokens == 3004 - 2048
    longer = evaluation_sequences(corpus(rows, "wikitext2"), tokenizer(), seqlen=3000, windows="paper")
    assert [len(tokens) for tokens in longer.tokens] == [3000]
    assert longer.tokens[0][:2048].tolist() == wiki.tokens[0].tolist()
    c4 = evaluation_sequences(corpus([letters(500)] * 1200, "c4"), tokenizer(), seqlen=2048, windows="paper")
    assert len(c4.tokens) == 256
    assert c4.dropped_tokens == 1100 * 500 + 1 - 256 * 2048


def test_protocol_names() -> None:
    assert protocol_name("mine", "stream", 128) == "mine/stream-128"
    assert protocol_name("mine", "document", 256) == "mine/document-256"
    assert protocol_name("mine", "document", None) == "mine/document"
    assert protocol_name("wikitext2", "paper", None) == "wikitext2/paper-2048"
    assert protocol_name("wikitext2", "paper", 4096) == "wikitext2/paper-4096"
    assert protocol_name("wikitext2", "paper-bos", 4096) == "wikitext2/paper-bos-4096"
    assert protocol_name("c4", "paper", 2048) == "c4/paper-256x2048"
    with pytest.raises(CorpusError, match="no paper's protocol for corpus 'mine'"):
        protocol_name("mine", "paper", None)
    with pytest.raises(CorpusError, match="windows of 2048 tokens"):
        protocol_name("c4", "paper", 512)
    with pytest.raises(CorpusError, match="needs a 'seqlen'"):
        protocol_name("mine", "stream", None)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(CorpusError, match="has 4 tokens, too few"):
        evaluation_sequences(corpus([letters(3)]), tokenizer(), seqlen=5, windows="stream")
    with pytest.raises(CorpusError, match="no document of at least 2 tokens"):
        evaluation_sequences(corpus(["a", "b"]), tokenizer(), seqlen=5, windows="document")


def test_half_a_character_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text('{"text": "whole"}\n{"text": "cut \\ud83d"}\n')
    with pytest.raises(CorpusError, match=r"cut\.jsonl, line 2: the text holds half of a character"):
        find_corpus(str(tmp_path / "cut.jsonl"), None, "calibration")
