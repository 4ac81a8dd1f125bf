"""Files of text in the forms that people have them: each kind gives the documents that were written into it."""

import codecs
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from prunebench.data.corpora import find_corpus
from prunebench.data.corpus import Corpus
from prunebench.data.tokens import calibration_pool
from prunebench.errors import CorpusError
from prunebench.evaluation.protocols import evaluation_sequences
from tests.helpers.text import tokenizer

TEXTS = ["a b", 'c, "d"\ne', "ü – f", ""]
CHATS = [
    [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}],
    [{"role": "user", "content": "d"}],
]
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }} . {% endfor %}"


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_csv(path: Path, field: str) -> None:
    cells = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    path.write_text(f"id,{field}\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)), encoding="utf-8")


def packed(path: Path, field: str) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps({field: text}) + "\n" for text in TEXTS).encode()))


WRITERS: dict[str, Callable[[Path, str], object]] = {
    "mine.jsonl": lambda path, field: lines(path, [{"id": 1, field: text} for text in TEXTS]),
    "mine.jsonl.gz": packed,
    "mine.json.gz": packed,
    "mine.json": lambda path, field: path.write_text("\n " + json.dumps([{field: text} for text in TEXTS], indent=1)),
    "mine.csv": as_csv,
    "mine.parquet": lambda path, field: parquet.write_table(pa.table({"id": range(4), field: TEXTS}), path),
}


def found(path: Path, field: str | None = None) -> Corpus:
    return find_corpus(str(path), None, "calibration", field=field)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("field", ["text", "content"])
def test_every_kind_gives_what_was_written(tmp_path: Path, name: str, field: str) -> None:
    WRITERS[name](tmp_path / name, field)
    corpus = found(tmp_path / name, None if field == "text" else field)
    assert corpus.name == "mine"
    assert [*corpus.documents()] == [*corpus.documents()] == TEXTS


@pytest.mark.parametrize("name", WRITERS)
def test_a_field_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, "content")
    for field in (None, "contnt"):
        with pytest.raises(
            CorpusError, match=rf"no field '{field or 'text'}'.*its fields: .*content.*'field'"
        ) as caught:
            found(tmp_path / name, field)
        assert "\n" not in str(caught.value)


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name, "text")
    (tmp_path / "bom.jsonl").write_bytes(codecs.BOM_UTF8 + (tmp_path / "mine.jsonl").read_bytes())
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress((tmp_path / "mine.jsonl").read_bytes()))
    lines_alone = {found(tmp_path / name).digest for name in ("mine.jsonl", "bom.jsonl", "packed.jsonl.gz")}
    assert len(lines_alone) == 1
    assert len({found(tmp_path / name).digest for name in ("mine.json", "mine.csv", "mine.parquet")}) == 1
    before = found(tmp_path / "mine.csv").digest
    (tmp_path / "mine.csv").write_text("text\nother\n")
    assert found(tmp_path / "mine.csv").digest != before


@pytest.mark.parametrize("name", ["mine.txt", "mine.jsonl", "mine.json", "mine.csv"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    content = {".txt": "a b", ".csv": "text\na b\n", ".json": '[{"text": "a b"}]', ".jsonl": '{"text": "a b"}'}
    (tmp_path / name).write_bytes(codecs.BOM_UTF8 + content[Path(name).suffix].encode())
    assert [*found(tmp_path / name).documents()] == ["a b"]


def test_chats_are_written_by_the_template_alone(tmp_path: Path) -> None:
    lines(tmp_path / "mine.jsonl", [{"messages": chat} for chat in CHATS])
    parquet.write_table(pa.table({"messages": CHATS}), tmp_path / "mine.parquet")
    own = tokenizer()
    own.chat_template = TEMPLATE
    for name in ("mine.jsonl", "mine.parquet"):
        corpus = found(tmp_path / name)
        assert corpus.templated
        given = corpus.given(tokenizer=own)
        assert [*given.documents()] == ["<s>a b . c . ", "<s>d . "]
        # <s> a b . c . and <s> d . : one <s> each, though the tokenizer adds one to other texts.
        assert calibration_pool(given, own, seqlen=4, windows="stream").tolist() == [1, 4, 5, 3, 6, 3, 1, 7, 3]
        cut = evaluation_sequences(given, own, seqlen=None, windows="document")
        assert [tokens.tolist() for tokens in cut.tokens] == [[1, 4, 5, 3, 6, 3], [1, 7, 3]]


def test_what_a_template_says_of_the_day_is_fixed(tmp_path: Path) -> None:
    lines(tmp_path / "mine.jsonl", [{"messages": CHATS[1]}])
    own = tokenizer()
    own.chat_template = "{{ strftime_now('%Y-%m-%d') }}"
    assert [*found(tmp_path / "mine.jsonl").given(tokenizer=own).documents()] == ["2024-07-26"]


def test_a_template_that_is_missing_or_refuses_is_told(tmp_path: Path) -> None:
    lines(tmp_path / "mine.jsonl", [{"messages": chat} for chat in reversed(CHATS)])
    corpus, own = found(tmp_path / "mine.jsonl"), tokenizer()
    with pytest.raises(CorpusError, match="has no chat template"):
        [*corpus.given(tokenizer=own).documents()]
    own.chat_template = "{% if messages | length > 1 %}{{ raise_exception('one message each') }}{% endif %}"
    with pytest.raises(CorpusError, match="chat 2: the model's chat template refuses it: one message each"):
        [*corpus.given(tokenizer=own).documents()]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"data": [\n', r"line 1: not JSON.*list of records"),
        ("a.json", b'[{"text": "a"},\n', r"line 2: not JSON"),
        ("a.json", b"[3]", "record 1: no field 'text' that is a string"),
        ("a.json", b"[" * 100000, "cannot be read as .json"),
        ("a.json", b"[]", "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"text\n", "is empty"),
        ("a.csv", b"text,id\na\n", "cannot be read as .csv: .*Expected 2 columns"),
        ("a.csv", b"text\n\xff\xfa\n", "UTF"),
        ("a.csv", "text\na\n".encode("utf-16"), "not UTF-8 but UTF-16"),
        ("a.parquet", b"no such thing", "cannot be read as .parquet"),
        ("a.jsonl.gz", b'{"text": "a"}\n', "is not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-9], "is not a whole gzip file"),
        ("a.jsonl", b'{"text": null, "b": 1}', "no field 'text' that is a string; it is None"),
        ("a.jsonl", b'{"text": ["a", "b"]}', "'text' is a list, so it has to hold a chat.*'role' and 'content'"),
        ("a.jsonl", b'{"messages": [{"from": "human", "value": "a"}]}', "found the keys from, value"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "a\\ud83d"}]}', "line 1: the text holds half"),
        ("a.json", b'[{"text": "b"}, {"text": "a\\ud83d"}]', "record 2: the text holds half of a character"),
        ("a.jsonl", b'{"text": "a"}\n{"text": [{"role": "user", "content": "b"}]}', "line 2: .*texts and chats"),
        ("a.parquet.gz", b"", "is neither of these files"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        found(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_field_of_what_has_none(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a")
    for source in (tmp_path / "mine.txt", "c4", "builtin/tinyworld"):
        with pytest.raises(CorpusError, match="has no fields: leave out 'field'"):
            find_corpus(str(source), None, "calibration", field="body")
    with pytest.raises(CorpusError, match="is a folder: name one of its files"):
        found(tmp_path)


def test_half_a_character_from_elsewhere_is_refused_before_the_tokenizer() -> None:
    with pytest.raises(CorpusError, match=r"half of a character \('\\ud83d'\)"):
        calibration_pool(Corpus("mine", "", lambda: iter(["a \ud83d"])), tokenizer(), seqlen=2, windows="stream")
