"""What must hold of anything that is read: it is used as it is, or refused with an error of ours, and soon."""

import hashlib
import io
import json
import math
import random
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from prunebench.errors import PrunebenchError
from prunebench.records.arrays import ArrayStore
from prunebench.records.canonical_json import content_digest
from prunebench.records.store import read_record, read_records, record_to_json, write_record
from prunebench.report.compare import formats as compare_formats
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Tolerances
from prunebench.report.output import text_tables as render
from prunebench.report.output import tidy
from prunebench.report.output.html_page import to_html
from prunebench.report.sections import all_tables
from prunebench.report.site.gather import clashes, gather
from prunebench.report.site.write import write_site
from prunebench.report.trend.series import Metric, read_commits, trends
from prunebench.report.trend.shown import trend_json, trend_tables
from prunebench.submission import check_submission
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.suite.schema import Suite
from prunebench.text import printable
from prunebench.yaml12 import read_yaml
from tests.fuzz.mutate import as_text, mutated, mutated_bytes
from tests.helpers.paths import ROOT

SECONDS = 10  # of processor time: the machine may have other things to do


class Hang(BaseException):
    """A trial that took too long."""


@dataclass(frozen=True)
class Finding:
    """A trial that went wrong: which, from which seed, and how."""

    trial: str
    seed: int
    how: str


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Interrupt what takes more of the processor's time, or sixty times as long by the clock."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = [(kind, signal.signal(kind, stop)) for kind in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in before:
            signal.signal(kind, handler)


class Trials:
    """Trials in a folder of their own.

    Args:
        folder: empty; for the files of the trials.
        suite: a suite that can be planned within moments, as tests have it.
    """

    def __init__(self, folder: Path, suite: Path) -> None:
        self._folder, self._small = folder, suite
        places = [*sorted((ROOT / "suites").rglob("*.yaml")), ROOT / "tests/fixtures/suite.yaml", suite]
        self._suites = [place.read_bytes() for place in places]
        golden = (ROOT / "tests/fixtures/record.json").read_bytes()
        schema1, schema2 = ROOT / "tests/fixtures/schema1", ROOT / "results/reference/smoke"
        some = [sorted(folder.glob("*.json"))[0] for folder in (schema1, schema2)]
        self._records = [golden, *(place.read_bytes() for place in some)]
        self._arrays = [
            (place.parent / name).read_bytes() for place in some for name in read_record(place).arrays.values()
        ]

    def all(self) -> dict[str, tuple[Callable[[random.Random], None], float]]:
        """By name: a trial, and its share."""
        return {
            "suite as bytes": (self.suite_bytes, 0.2),
            "suite": (self.suite, 0.35),
            "override": (self.override, 0.05),
            "plan": (self.planned, 0.05),
            "record as bytes": (self.record_bytes, 0.1),
            "record": (self.record, 0.15),
            "report": (self.report, 0.03),
            "page": (self.page, 0.005),
            "arrays": (self.arrays, 0.035),
            "site": (self.site, 0.02),
            "submission": (self.submission, 0.03),
            "trend": (self.trend, 0.02),
        }

    def run(self, examples: int, seed: int = 0, only: str | None = None) -> Iterator[Finding]:
        """Run trials and yield those that went wrong."""
        chosen = {name: entry for name, entry in self.all().items() if only in (None, name)}
        names, shares = list(chosen), [share for _, share in chosen.values()]
        for number in range(examples):
            rng = random.Random(f"{seed}/{number}")
            name = rng.choices(names, shares)[0]
            try:
                with within(SECONDS):
                    chosen[name][0](rng)
            except PrunebenchError as error:
                if "\n" in str(error) or len(str(error)) > 4000:
                    yield Finding(name, number, f"not one line: {str(error)[:200]!r}")
            except (Exception, Hang) as error:
                last = traceback.extract_tb(error.__traceback__)[-3:]
                where = " < ".join(f"{Path(place.filename).name}:{place.lineno}" for place in reversed(last))
                yield Finding(name, number, f"{type(error).__name__}: {str(error)[:200]} ({where})")

    def suite_bytes(self, rng: random.Random) -> None:
        self._load(mutated_bytes(rng, rng.choice(self._suites)))

    def suite(self, rng: random.Random) -> None:
        content = read_yaml(rng.choice(self._suites).decode())
        self._load(as_text(rng, mutated(rng, content)))

    def override(self, rng: random.Random) -> None:
        base = rng.choice(self._suites)
        keys = [*Suite.model_fields, "methods.0.options.x", "models.0", "calibration.nsamples", "a..b", "methods.x"]
        value = as_text(rng, mutated(rng, read_yaml(base.decode()))).decode(errors="replace")
        self._load(base, [f"{rng.choice(keys)}={value[: rng.choice((3, 50, 5000))]}"])

    def _load(self, content: bytes, overrides: list[str] | None = None) -> Suite:
        path = self._folder / "suite.yaml"
        path.write_bytes(content)
        suite = load_suite(path, overrides or ())
        text = suite.model_dump_json()  # where an option that is not finite becomes a word
        assert Suite.model_validate_json(text) == suite or re.search("NaN|Infinity", text), "a suite differs as JSON"
        return suite

    def planned(self, rng: random.Random) -> None:
        content = mutated(rng, read_yaml(self._small.read_text()), most=1)
        cells = plan(self._load(as_text(rng, content)))
        names = {cell.id for cell in cells}
        assert len(names) == len(cells)
        assert all(Path(name).name == name and len(name) < 200 for name in names)

    def record_bytes(self, rng: random.Random) -> None:
        whole = rng.choice(self._records)
        path = self._folder / "record.json"
        path.write_bytes(whole)
        before = read_record(path)
        path.write_bytes(mutated_bytes(rng, whole))
        assert read_record(path) == before, "an altered record was read"

    def _mutant(self, rng: random.Random) -> bytes:
        """A record whose content was changed, with the digest that belongs to it."""
        content = json.loads(rng.choice(self._records))
        named = {key: content.pop(key) for key in ("arrays_digest", "arrays") if key in content}
        del content["digest"]
        content = mutated(rng, content)
        if isinstance(content, dict) and rng.random() < 0.9:
            content.setdefault("schema", 1)
        if isinstance(content, dict):
            content |= named
        try:
            digest = content_digest(content)
        except (ValueError, RecursionError):
            digest = ""
        return json.dumps(content | {"digest": digest}).encode()

    def record(self, rng: random.Random) -> None:
        path = self._folder / "mutant" / "record.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self._mutant(rng))
        found = read_record(path)
        assert path.parent in write_record(path.parent / "again", found, {}).parents
        again = read_record(path.parent / "again" / f"{found.cell.id}.json")
        assert _same(found.model_dump(), again.model_dump() | {"digest": found.digest}), "a record differs, read back"
        assert record_to_json(found) == record_to_json(again)

    def _mutants(self, rng: random.Random, name: str) -> Path:
        """A folder of whole records and one or two changed ones."""
        folder = self._folder / f"{name}{rng.random()}"
        folder.mkdir()
        for number, content in enumerate([*self._records[1:3], self._mutant(rng), self._mutant(rng)]):
            (folder / f"{number}.json").write_bytes(content)
            with suppress(PrunebenchError):
                for digest, file in read_record(folder / f"{number}.json").arrays.items():
                    for arrays in self._arrays:
                        if hashlib.sha256(arrays).hexdigest() == digest:
                            (folder / file).write_bytes(arrays)
        return folder

    def report(self, rng: random.Random) -> None:
        folder = self._mutants(rng, "report")
        records, array_store = read_records(folder, leave_out=lambda _: None), ArrayStore(folder)
        found = all_tables(records, array_store=array_store)
        for text in (
            render.to_terminal(found),
            render.to_markdown(found),
            render.to_latex(found),
            tidy.to_csv(records),
            json.dumps(tidy.to_plain_json(records), allow_nan=False),
        ):
            assert not any(ord(sign) < 32 and sign != "\n" for sign in text), "a control character is shown"
        same = compare_records(records, records, array_store, array_store, Tolerances())
        assert same.exit_code != 1, "a folder is worse than itself"
        for write in (compare_formats.comparison_to_json, compare_formats.comparison_to_markdown,
                      compare_formats.comparison_to_junit):  # fmt: skip
            write(same)
        compare_formats.comparison_to_terminal(same, 100)

    def page(self, rng: random.Random) -> None:
        folder = self._mutants(rng, "page")
        records = read_records(folder, leave_out=lambda _: None)
        assert "<script>alert" not in to_html(records, "x", (), ArrayStore(folder))

    def site(self, rng: random.Random) -> None:
        folder = self._mutants(rng, "site")
        sources = gather([folder], lambda _: None)
        clashes(sources)
        page = write_site(sources, self._folder / f"site{rng.random()}", "x")
        assert "<script>alert" not in page.read_text()

    def submission(self, rng: random.Random) -> None:
        folder = self._mutants(rng, "submission")
        if rng.random() < 0.7:
            (folder / "suite.yaml").write_bytes((ROOT / "suites" / "smoke.yaml").read_bytes())
            (folder / "submission.yaml").write_text("contributor: x\nlicense: MIT\n")
        else:
            content = {"contributor": "x", "license": "MIT", "suite": "suite.yaml", "code": "", "contact": ""}
            (folder / "suite.yaml").write_bytes(
                as_text(rng, mutated(rng, read_yaml(rng.choice(self._suites).decode())))
            )
            (folder / "submission.yaml").write_bytes(as_text(rng, mutated(rng, content)))
        found = check_submission(folder)
        assert found.findings, "a forged record passed"
        assert all("\n" not in printable(finding) for finding in found.findings)

    def trend(self, rng: random.Random) -> None:
        folders = [self._mutants(rng, name) for name in ("older", "newer")]
        commits = read_commits(folders, leave_out=lambda _: None)
        for metric in Metric:
            found = trends(commits, metric, 0.01)
            render.to_terminal(trend_tables(found))
            json.dumps(trend_json(found), allow_nan=False)

    def arrays(self, rng: random.Random) -> None:
        content = rng.choice(self._arrays)
        if rng.random() < 0.5:
            found = dict(np.load(io.BytesIO(content)))
            name = rng.choice(list(found))
            array = found.pop(name)
            other: Any = rng.choice(
                (array[:-1], array[::2], array * 0, array.astype(float) * np.nan, array[:0], array.astype(bool), -array)
            )
            found[rng.choice((name, name + "x", f"perplexity/{name}", "mask", "zero_shot//"))] = other
            file = io.BytesIO()
            np.savez(file, **found)
            content = file.getvalue()
        else:
            content = mutated_bytes(rng, content)
        folder = self._folder / f"arrays{rng.random()}"
        folder.mkdir()
        chosen = rng.randrange(2)
        for number, text in enumerate(self._records[1:3]):
            facts = json.loads(text)
            facts.pop("arrays_digest", None)
            facts.pop("arrays", None)
            if number == chosen:
                digest, name = hashlib.sha256(content).hexdigest(), f"{facts['cell']['id']}.npz"
                facts |= {"arrays_digest": digest} if facts["schema"] == 1 else {"arrays": {digest: name}}
                (folder / name).write_bytes(content)
            del facts["digest"]
            path = folder / f"{facts['cell']['id']}.json"
            path.write_text(json.dumps(facts | {"digest": content_digest(facts)}))
        records, array_store = read_records(folder), ArrayStore(folder)
        render.to_terminal(all_tables(records, array_store=array_store))
        assert compare_records(records, records, array_store, array_store, Tolerances()).exit_code != 1


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other) or (isinstance(one, float) and isinstance(other, float) and math.isnan(one + other))
