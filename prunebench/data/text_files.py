"""Local files of text: JSON lines, JSON, CSV, Parquet and plain text, the first three and the last also as gzip.

A file of records has its text in one field: ``text``, else ``messages``, or the one that is named. A field holds texts,
or chats: lists of messages with a role and a content, which the tokenizer's chat template turns into text.
"""

import codecs
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from prunebench.data.chats import Messages, as_messages, render_chats
from prunebench.data.corpus import Corpus, half_character
from prunebench.errors import CorpusError, first_line, quoted

FIELDS = ("text", "messages")  # where the text is, if nobody says it
GZIP = ".gz"
CSV_BLOCK = 1 << 24  # bytes of a CSV file that are read at a time; one record has to fit

Located = tuple[str, Any]
"""Where in a file a record is, and what it holds: a mapping of its fields."""


def kind_of(path: Path) -> str | None:
    """What a file is by its name: a key of ``READERS``; None for what is not read."""
    name = path.name.lower()
    kind = Path(name.removesuffix(GZIP)).suffix
    return kind if kind in READERS and not (kind == ".parquet" and name.endswith(GZIP)) else None


def is_text_file(corpus: str) -> bool:
    """Whether a corpus's name is the path of a local file."""
    return kind_of(Path(corpus)) is not None


def local_corpus(path: Path, split: str | None, field: str | None) -> Corpus:
    """The corpus of a file, which is read through once.

    Args:
        path: of the file.
        split: has to be None.
        field: of its records that holds the text; None for the first of ``FIELDS`` that they have.

    Raises:
        CorpusError: there is no such file or field, it holds no text, or cannot be read.
    """
    if split is not None:
        raise CorpusError(f"corpus {path} is a file and has no splits: leave out 'split' (it says {split!r})")
    kind = kind_of(path)
    if kind is None:
        valid = ", ".join(READERS)
        what = "is a folder: name one of its files" if path.is_dir() else "is neither of these files"
        raise CorpusError(f"corpus {path} {what} ({valid}; all but .parquet may be .gz): convert it")
    if not path.is_file():
        raise CorpusError(f"corpus {path} does not exist or is not a file: check the path")
    if kind == ".txt" and field is not None:
        raise CorpusError(f"corpus {path} is plain text and has no fields: leave out 'field' (it says {field!r})")
    read = partial(documents_of, path, field)
    with _readable(path):
        digest, empty, chats = hashlib.sha256(), True, False
        for document in read():
            chats = not isinstance(document, str)
            empty = empty and isinstance(document, str) and not document.strip()
            digest.update((_as_json(document) if chats else document).encode() + b"\0")
        if empty:
            raise CorpusError(f"corpus {path} is empty: it holds no text")
        # What stands in such a file is its content; the other files say the same in other bytes.
        if kind in (".jsonl", ".txt") and field is None and not chats:
            with _opened(path) as content:
                digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type]
    name = Path(path.name[: -len(GZIP)] if path.name.lower().endswith(GZIP) else path.name).stem
    if not chats:
        return Corpus(name, digest.hexdigest(), read)
    digest.update(b"chats")
    documents = partial(render_chats, str(path), read)
    return Corpus(name, digest.hexdigest(), documents, wants=("tokenizer",), templated=True)


def _as_json(messages: Messages) -> str:
    return json.dumps(messages, sort_keys=True, ensure_ascii=False, default=str)


def documents_of(path: Path, field: str | None = None) -> Iterator[Any]:
    """The documents of a file, all texts or all chats, in its order.

    Args:
        path: a file of a kind that is read.
        field: as in ``local_corpus``.

    Raises:
        CorpusError: a record lacks the field, or the file is not what its name says.
    """
    with _readable(path):
        if (kind := kind_of(path)) == ".txt":
            with _text_of(path) as lines:
                yield lines.read()
            return
        assert kind is not None
        yield from field_of(f"corpus {path}", READERS[kind](path, field), field)


def field_of(corpus: str, records: Iterable[Located], field: str | None) -> Iterator[str | Messages]:
    """One field of each record, all texts or all chats.

    Args:
        corpus: how messages begin.
        records: with the place of each.
        field: as in ``local_corpus``; that of the first record counts for all.

    Raises:
        CorpusError: a record lacks it, or has neither text nor messages in it.
    """
    first: type | None = None
    for place, record in records:
        where = f"{corpus}, {place}"
        fields = list(record) if isinstance(record, Mapping) else []
        if field is None:
            field = next((name for name in FIELDS if name in fields), FIELDS[0])
        value = record.get(field) if isinstance(record, Mapping) else None
        if isinstance(value, list) and value:
            value = as_messages(value, f"{where}: the field {field!r}")
        elif not isinstance(value, str):
            found = f"it is {quoted(value, 30)}" if field in fields else told(fields)
            raise CorpusError(f"{where}: no field {field!r} that is a string{found and '; '}{found}")
        if half := half_character(value):
            raise CorpusError(f"{where}: {half}")
        if first not in (None, type(value)):
            raise CorpusError(f"{where}: the field {field!r} holds texts and chats in one file: divide it in two")
        first = type(value)
        yield value


def told(fields: Iterable[Any]) -> str:
    """The fields of a record, for a message."""
    names = [str(name)[:40] for name in fields]
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"its fields: {shown}; name one with 'field'" if names else ""


def _json_lines(path: Path, _: str | None = None) -> Iterator[Located]:
    """Each line of a file of JSON values."""
    with _text_of(path) as lines:
        yield from _parsed(path, lines)


def _json(path: Path, _: str | None = None) -> Iterator[Located]:
    """The values of a JSON list, or of lines of JSON, as some files of that name hold."""
    with _text_of(path) as lines:
        begin = list(itertools.takewhile(lambda line: not line.strip(), lines))
        # The line that ended it is lost to ``takewhile``, so the file is read from its beginning again.
    with _text_of(path) as lines:
        first = next(itertools.islice(lines, len(begin), None), "")
        if not first.lstrip().startswith("["):
            yield from _parsed(path, itertools.chain([first], lines), len(begin) + 1, LIST_OR_LINES)
            return
        try:
            values = json.loads(first + lines.read())
        except json.JSONDecodeError as error:
            line = len(begin) + error.lineno
            raise CorpusError(f"corpus {path}, line {line}: not JSON ({error.msg}, column {error.colno})") from error
    for number, value in enumerate(values, start=1):
        yield f"record {number}", value


LIST_OR_LINES = "; a .json file holds a list of records, or one record in each line"


def _parsed(path: Path, lines: Iterable[str], start: int = 1, hint: str = "") -> Iterator[Located]:
    for number, line in enumerate(lines, start=start):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            place = f"column {error.colno}"
            raise CorpusError(f"corpus {path}, line {number}: not JSON ({error.msg}, {place}){hint}") from error


def _csv(path: Path, field: str | None = None) -> Iterator[Located]:
    """The records of a CSV file with a header; all values are texts, and a cell may have several lines."""
    import pyarrow as pa
    from pyarrow import csv

    with _opened(path) as content:
        head = content.read(CSV_BLOCK)
    if not head.strip():
        return
    options = csv.ParseOptions(newlines_in_values=True)
    reading = csv.ReadOptions(block_size=CSV_BLOCK)
    names = csv.open_csv(io.BytesIO(head), reading, options).schema.names
    column = _column(path, names, field)
    convert = csv.ConvertOptions(column_types={column: pa.string()}, include_columns=[column])
    with _opened(path) as content:
        yield from _records(csv.open_csv(content, reading, options, convert))


def _parquet(path: Path, field: str | None = None) -> Iterator[Located]:
    """The records of a Parquet file, a piece at a time."""
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    column = _column(path, file.schema_arrow.names, field)
    yield from _records(file.iter_batches(batch_size=1024, columns=[column]))


def _records(batches: Iterable[Any]) -> Iterator[Located]:
    numbers = itertools.count(1)
    for batch in batches:
        for record in batch.to_pylist():
            yield f"record {next(numbers)}", record


def _column(path: Path, names: list[str], field: str | None) -> str:
    """The column that holds the text.

    Raises:
        CorpusError: there is none.
    """
    for name in FIELDS if field is None else (field,):
        if name in names:
            return name
    raise CorpusError(f"corpus {path}: no field {field or FIELDS[0]!r}; {told(names)}")


READERS: Mapping[str, Callable[[Path, str | None], Iterator[Located]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": lambda path, field: iter(()),  # has no records; see ``documents_of``
}
"""By the end of a file's name: what reads its records."""


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked, after the mark of UTF-8 that some programs write first."""
    opener: Callable[..., Any] = gzip.open if path.name.lower().endswith(GZIP) else open
    with opener(path, "rb") as content:
        if (start := content.read(3)) != codecs.BOM_UTF8:
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise CorpusError(f"corpus {path} is not UTF-8 but UTF-16: save it as UTF-8")
            content.seek(0)
        yield content


@contextmanager
def _text_of(path: Path) -> Iterator[IO[str]]:
    with _opened(path) as content:
        yield io.TextIOWrapper(content, encoding="utf-8")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What a reader says of a file that is not what its name says, in one line."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(f"corpus {path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"corpus {path} is not a whole gzip file: {first_line(error)}; fetch it again") from error
    except (ValueError, NotImplementedError, RecursionError) as error:  # the first two are what pyarrow raises
        raise CorpusError(f"corpus {path} cannot be read as {kind_of(path)}: {first_line(error)}") from error
    except OSError as error:
        raise CorpusError(f"corpus {path} cannot be read: {error.strerror or first_line(error)}") from error
