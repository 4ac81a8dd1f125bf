"""JSON as records hold it: what the standard has is read, anything else refused."""

from pathlib import Path

import pytest

from prunebench.errors import RecordError
from prunebench.records.canonical_json import MAX_DEPTH, strict_json
from prunebench.records.store import read_record


class TestJson:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
            (b'{"a": NaN}', "NaN is no number in JSON"),
            (b'{"a": -Infinity}', "-Infinity is no number in JSON"),
            (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH}"),
            (b"[" * 100_000, "nested too deeply"),
            (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
            (b"\xef\xbb\xbf{}", "BOM"),
            (b'{"a": "\xff"}', "invalid start byte"),
            (b"1" * 5000, "digits"),
            (b"", "Expecting value"),
        ],
    )
    def test_what_the_standard_does_not_have_is_refused(self, content: bytes, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            strict_json(content)

    def test_what_it_has_is_read(self) -> None:
        assert strict_json(b'{"a": [1, -0.5e3, "\\u00fc", null, true, {}]}') == {"a": [1, -500, "ü", None, True, {}]}
        assert strict_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)

    @pytest.mark.parametrize(("number", "words"), [("1e999", "not JSON compliant"), ('"\\ud800"', "surrogates")])
    def test_what_has_no_digest_is_no_record(self, tmp_path: Path, number: str, words: str) -> None:
        path = tmp_path / "x.json"
        path.write_text(f'{{"schema": 1, "digest": "00", "a": {number}}}')
        with pytest.raises(RecordError, match=words):
            read_record(path)
