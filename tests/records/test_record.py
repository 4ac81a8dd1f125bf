"""Records are read back as they were written, or refused in one line."""

import json
from pathlib import Path

import pytest

from prunebench.errors import OutputError, RecordError
from prunebench.records.record import Record
from prunebench.records.store import read_record, read_records, record_to_json, write_record
from tests.helpers.paths import GOLDEN_RECORD
from tests.helpers.records import PROTOCOL, resealed


class TestRecord:
    def test_the_golden_record_reads_and_is_written_as_it_was(self, tmp_path: Path) -> None:
        golden = read_record(GOLDEN_RECORD)
        assert golden.perplexity[PROTOCOL].value == 12.345
        assert golden.cell.key == ("stories", "wanda", "0.9", "uniform", 0, "tinystories_calib")
        path = write_record(tmp_path, golden, {})
        assert path.name == "stories--wanda--0.9--s0--0123456789.json"
        assert read_record(path).model_copy(update={"digest": None}) == golden.model_copy(update={"digest": None})

    def test_keys_of_a_later_version_survive(self, tmp_path: Path) -> None:
        content = json.loads(record_to_json(read_record(GOLDEN_RECORD)))
        content["later"] = {"a": 1}
        content["cost"]["joules"] = 3.5
        written = write_record(tmp_path, Record.model_validate(content), {})
        assert json.loads(written.read_text()) | {"digest": None} == content | {"digest": None}
        assert read_record(written).model_extra == {"later": {"a": 1}}

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('{"schema": 1, "cell": {', "is not valid JSON (Expecting property name"),
            ("", "is not valid JSON"),
            ('{"a": 1}', "is no record of prunebench: it has no schema number"),
            ("[1, 2]", "is no record of prunebench"),
            ('{"schema": 99}', "has schema 99, newer than 2: update prunebench"),
            ('{"schema": 0}', "has schema 0, where 2 is valid: run the suite again"),
            ('{"schema": true}', "is no record of prunebench"),
            ('{"schema": 1}', "has no digest, so nobody knows whether it is whole; fetch it again"),
            ('{"schema": 1, "digest": 7}', "has no digest"),
            ('{"schema": 1, "digest": "00"}', "was altered after it was written"),
            (resealed({"schema": 1}), "is no valid record: cell: Field required"),
        ],
    )
    def test_what_is_no_record_is_refused_in_one_line(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "x.json"
        path.write_text(content)
        with pytest.raises(RecordError) as caught:
            read_record(path)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2

    def test_a_folder_without_records(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="holds no records: run a suite first"):
            read_records(tmp_path)
        with pytest.raises(OutputError, match="there is no results folder"):
            read_records(tmp_path / "nowhere")

    def test_two_records_of_one_id(self, tmp_path: Path) -> None:
        content = json.loads(GOLDEN_RECORD.read_text())
        for name in ("a", "b"):
            (tmp_path / f"{name}.json").write_text(resealed(content))
        assert len(read_records(tmp_path)) == 1
        content["perplexity"][PROTOCOL]["value"] = "NaN"
        for name in ("a", "b"):
            (tmp_path / f"{name}.json").write_text(resealed(content))
        assert len(read_records(tmp_path)) == 1
        content["perplexity"][PROTOCOL]["value"] = 7.0
        (tmp_path / "b.json").write_text(resealed(content))
        with pytest.raises(RecordError, match=r"a\.json and .*b\.json are both the record of .*, and disagree"):
            read_records(tmp_path)
