"""Two runners on one folder: each cell runs once."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from prunebench.errors import OutputError, SuiteError
from prunebench.records.merge import merge_records
from prunebench.records.record import CellFacts, Record
from prunebench.records.store import read_arrays, read_record, write_record
from prunebench.runner import claims
from prunebench.runner.claims import Abandoned, Claims
from prunebench.runner.events import Display
from prunebench.runner.in_process import InProcess
from prunebench.runner.isolated import Isolated
from prunebench.runner.presence import Presence
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan, shard_of
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import GOLDEN_RECORD

Write = Callable[..., Path]


def others(folder: Path, runner: str = "elsewhere", generation: int = 1) -> Path:
    """A claim of somebody else on the cell "a--1.5"."""
    path = folder / claims.FOLDER / f"a--1.5.{generation}"
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = {"host": socket.gethostname(), "pid": os.getppid(), "runner": runner, "claim": "x"}
    path.write_text(json.dumps(holder) + "\n")
    return path


def process_that(code: str) -> subprocess.Popen[str]:
    """A Python process that runs a piece of code and says something on its standard output."""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


HOLDS = """
import sys
from pathlib import Path
from prunebench.runner.claims import Claims
claim = Claims(Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER), lease=LEASE).take("a--1.5")
print(claim is not None, flush=True)
sys.stdin.read()
"""


def holder(folder: Path, lease: float = 1000) -> subprocess.Popen[str]:
    """A process that has the cell "a--1.5" until its input ends."""
    process = process_that(HOLDS.replace("FOLDER", repr(str(folder))).replace("LEASE", str(lease)))
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


class TestClaims:
    def test_one_has_it_until_it_is_released(self, tmp_path: Path) -> None:
        first, second = Claims(tmp_path), Claims(tmp_path)
        claim = first.take("a--1.5")
        assert claim is not None
        assert claim()
        assert second.take("a--1.5") is None
        assert second.take("a--1") is not None
        claim.release()
        assert second.take("a--1.5") is not None

    def test_of_many_threads_one_wins(self, tmp_path: Path) -> None:
        won: list[object] = []
        every = [Claims(tmp_path) for _ in range(16)]
        gate = threading.Barrier(len(every))

        def reach(mine: Claims) -> None:
            gate.wait()
            if claim := mine.take("a"):
                won.append(claim)

        threads = [threading.Thread(target=reach, args=(mine,)) for mine in every]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="no locks that end with their process")
    def test_the_dead_of_this_machine_are_known_at_once(self, tmp_path: Path) -> None:
        other, own = holder(tmp_path), Claims(tmp_path, lease=1000)
        assert own.take("a--1.5") is None
        other.kill()
        other.wait()
        claim = own.take("a--1.5")
        assert claim is not None
        assert claim.took_over

    def test_what_says_that_a_holder_is_dead_is_a_lock_and_no_number(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With hidepid /proc hides the living; and a process number means nothing on another machine."""
        other, own = holder(tmp_path, lease=0.3), Claims(tmp_path, lease=0.3)

        def gone(*_: object) -> None:
            raise ProcessLookupError

        monkeypatch.setattr(os, "kill", gone)
        monkeypatch.setattr(psutil, "Process", gone)
        real = Path.read_text
        monkeypatch.setattr(
            Path, "read_text", lambda path, *a, **o: gone() if str(path).startswith("/proc") else real(path, *a, **o)
        )
        for _ in range(8):
            assert own.take("a--1.5") is None
            time.sleep(0.1)
        monkeypatch.undo()
        other.communicate()

    def test_a_living_holder_of_another_machine_with_the_same_ids_keeps_its_cell(self, tmp_path: Path) -> None:
        """Its host, boot id and numbers may be those of this machine; its lock is not here."""
        path = others(tmp_path, runner="0" * 32)
        own = Claims(tmp_path, lease=0.3)
        for _ in range(8):
            assert own.take("a--1.5") is None
            with path.open("a") as file:
                file.write(".")
            time.sleep(0.1)

    @pytest.mark.parametrize("runner", ["../x", "/etc/passwd", "", "0" * 31, None, 7, ["a"]])
    def test_a_token_that_is_none_says_nothing(self, tmp_path: Path, runner: Any) -> None:
        presence = Presence(tmp_path)
        (tmp_path / "x").write_text("")
        assert not presence.is_dead(runner)
        assert (tmp_path / "x").exists()

    def test_a_presence_ends_with_its_owner_alone(self, tmp_path: Path) -> None:
        first, second = Presence(tmp_path), Presence(tmp_path)
        assert not second.is_dead(first.token)
        if (child := os.fork()) == 0:
            first.close()  # of a process that was forked: not its own
            os._exit(0)
        os.waitpid(child, 0)
        assert not second.is_dead(first.token)
        first.close()
        assert not second.is_dead(first.token)  # nothing is known of one that has gone in order
        assert [path.name for path in tmp_path.iterdir()] == [second.token]

    @pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
    def test_a_holder_that_is_stopped_is_overtaken_after_the_lease(self, tmp_path: Path) -> None:
        other, own = holder(tmp_path, lease=0.5), Claims(tmp_path, lease=0.5)
        other.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        while (claim := own.take("a--1.5")) is None:
            assert own.holder("a--1.5") == f"process {other.pid} on {socket.gethostname()}"
            assert time.monotonic() - began < 20
            time.sleep(0.05)
        assert time.monotonic() - began >= 0.5
        other.send_signal(signal.SIGCONT)
        other.communicate()
        assert claim()  # the end of the other takes nothing away

    @pytest.mark.parametrize("kind", ["link", "pipe", "file"])
    def test_a_folder_of_claims_that_is_none_is_refused(self, tmp_path: Path, kind: str) -> None:
        place = tmp_path / claims.FOLDER
        (tmp_path / "elsewhere").mkdir()
        if kind == "link":
            place.symlink_to(tmp_path / "elsewhere")
        else:
            os.mkfifo(place) if kind == "pipe" else place.touch()
        with pytest.raises(OutputError, match=r"\.claims: it is a (symbolic link|pipe|file); remove it"):
            Claims(tmp_path).take("a--1.5")
        assert not list((tmp_path / "elsewhere").iterdir())

    @pytest.mark.parametrize("kind", ["link", "pipe"])
    def test_a_claim_that_is_no_file_is_not_read(self, tmp_path: Path, kind: str) -> None:
        """Reading a pipe would wait for ever; its lease decides."""
        (tmp_path / claims.FOLDER).mkdir()
        place = tmp_path / claims.FOLDER / "a--1.5.1"
        if kind == "link":
            place.symlink_to("/dev/zero")
        else:
            os.mkfifo(place)
        own = Claims(tmp_path, lease=0.1)
        assert own.take("a--1.5") is None
        time.sleep(0.15)
        claim = own.take("a--1.5")
        assert claim is not None
        claim.release()

    def test_elsewhere_a_whole_lease_of_silence_is_waited_for(self, tmp_path: Path) -> None:
        path = others(tmp_path)
        mine = Claims(tmp_path, lease=0.2)
        assert mine.take("a--1.5") is None
        time.sleep(0.15)
        with path.open("a") as file:
            file.write(".")  # a sign of life
        assert mine.take("a--1.5") is None
        time.sleep(0.15)
        assert mine.take("a--1.5") is None
        time.sleep(0.1)
        claim = mine.take("a--1.5")
        assert claim is not None
        claim.release()
        assert not list(path.parent.iterdir())  # the dead one's is gone too

    def test_the_clock_of_the_file_system_does_not_matter(self, tmp_path: Path) -> None:
        path = others(tmp_path)
        os.utime(path, (0, 0))
        assert Claims(tmp_path, lease=10).take("a--1.5") is None

    def test_a_holder_gives_signs_and_learns_that_it_lost(self, tmp_path: Path) -> None:
        claim = Claims(tmp_path, lease=0.06).take("a--1.5")
        assert claim is not None
        before = claim._path.stat().st_size
        time.sleep(0.1)
        assert claim._path.stat().st_size > before
        taken = others(tmp_path, generation=2)
        assert not claim()
        claim.release()
        assert [path.name for path in taken.parent.iterdir()] == [taken.name]

    def test_another_claim_of_the_same_number_is_not_mistaken_for_it(self, tmp_path: Path) -> None:
        """The holder slept; others took the cell over, gave it free, and claimed it anew."""
        sleeper = Claims(tmp_path, lease=1000).take("a--1.5")
        assert sleeper is not None
        sleeper._path.unlink()
        other = Claims(tmp_path).take("a--1.5")
        assert other is not None
        assert not sleeper()
        sleeper.release()
        assert other()
        other.release()

    def test_a_claim_whose_making_was_not_acknowledged_is_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.link

        def link(source: Path, target: Path) -> None:
            real(source, target)
            raise FileExistsError

        monkeypatch.setattr(os, "link", link)
        claim = Claims(tmp_path).take("a")
        assert claim is not None
        claim.release()

    def test_a_torn_claim_runs_out_like_any_other(self, tmp_path: Path) -> None:
        others(tmp_path).write_text('{"pla')
        mine = Claims(tmp_path, lease=0.05)
        assert mine.take("a--1.5") is None
        time.sleep(0.1)
        assert mine.take("a--1.5") is not None

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot claim a cell"):
            Claims(tmp_path / "file").take("a")


class Scribe:
    """An executor that only writes the records, taking its time."""

    def __init__(self, record: Record, seconds: float = 0.1) -> None:
        self._record, self._seconds = record, seconds

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool) -> None: ...

    def run(
        self, cell: Cell, output: Path, display: Display, *, save_models: bool, wanted: Callable[[], bool], **_: Any
    ) -> Record:
        time.sleep(self._seconds)
        facts = CellFacts.model_validate(cell.model_dump(mode="json"))
        record = self._record.model_copy(update={"cell": facts})
        return read_record(write_record(output, record, {}))


class TestTwoRunners:
    @pytest.fixture
    def good(self) -> Record:
        return read_record(GOLDEN_RECORD)

    def test_each_cell_runs_once(self, write_suite: Write, tmp_path: Path, good: Record) -> None:
        cells = plan(load_suite(write_suite(sparsities="sparsities: [0.2, 0.3, 0.4, 0.5]")))
        displays = [SilentDisplay(), SilentDisplay()]
        returned: list[list[Record]] = []

        def sweep(display: SilentDisplay) -> None:
            returned.append(run_suite(cells, tmp_path / "out", display, executor=Scribe(good)))

        threads = [threading.Thread(target=sweep, args=(display,)) for display in displays]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        begun = displays[0].begun + displays[1].begun
        assert sorted(begun) == sorted(cell.id for cell in cells)
        assert min(len(display.begun) for display in displays) > 1
        assert returned[0] == returned[1]
        assert not list((tmp_path / "out").glob(".*"))

    def beside_another(
        self, cell: Cell, output: Path, good: Record, ends: Callable[[], object]
    ) -> tuple[Record, list[str]]:
        """A sweep of a cell that another runner has until ``ends`` was called: its record, and what it ran itself."""
        claim = Claims(output, lease=0.4).take(cell.id)
        assert claim is not None

        def end() -> None:
            time.sleep(0.3)
            ends()
            claim.release()

        other, display = threading.Thread(target=end), SilentDisplay()
        other.start()
        (record,) = run_suite([cell], output, display, lease=0.4, executor=Scribe(good))
        other.join()
        return record, display.begun

    @pytest.fixture
    def cell(self, write_suite: Write) -> Cell:
        return plan(load_suite(write_suite(methods="methods: [magnitude]", sparsities="sparsities: [0.5]")))[0]

    def test_a_failure_of_the_other_is_its_outcome(self, cell: Cell, tmp_path: Path, good: Record) -> None:
        """Tried again by the next run, not by one that waited for it."""
        fails = Scribe(good.model_copy(update={"status": "failed"}))
        record, ran = self.beside_another(
            cell,
            tmp_path,
            good,
            lambda: fails.run(cell, tmp_path, SilentDisplay(), save_models=False, wanted=lambda: True),
        )
        assert record.status == "failed"
        assert ran == []
        assert run_suite([cell], tmp_path, SilentDisplay(), executor=Scribe(good))[0].status == "ok"

    def test_a_cell_that_was_taken_over_is_given_up(self, cell: Cell, tmp_path: Path, good: Record) -> None:
        output, others_work = tmp_path / "out", Scribe(good, seconds=0)

        class Slept(Scribe):
            """Wakes up to find that another has the cell, and its record."""

            def run(
                self, cell: Cell, output: Path, display: Display, *, save_models: bool, wanted: Any, **_: Any
            ) -> Record:
                assert wanted()
                taken = output / claims.FOLDER / f"{cell.id}.2"
                taken.touch()
                assert not wanted()
                others_work.run(cell, output, display, save_models=save_models, wanted=wanted)
                taken.unlink()
                raise Abandoned

        (record,) = run_suite([cell], output, SilentDisplay(), executor=Slept(good))
        assert record.status == "ok"

    def test_whoever_lost_the_cell_writes_no_record(self, cell: Cell, tmp_path: Path, good: Record) -> None:
        """It does not notice while it works: the check immediately before the renaming holds it back."""
        output, attempts = tmp_path / "out", 0

        class Oblivious(Scribe):
            def run(
                self, cell: Cell, output: Path, display: Display, *, save_models: bool, wanted: Any, **_: Any
            ) -> Record:
                nonlocal attempts
                attempts += 1
                facts = CellFacts.model_validate(cell.model_dump(mode="json"))
                made = self._record.model_copy(update={"cell": facts, "notes": {"attempt": attempts}})
                taken = output / claims.FOLDER / f"{cell.id}.2"
                if attempts == 1:
                    taken.touch()
                try:
                    return read_record(write_record(output, made, {"x": np.zeros(3)}, fence=wanted))
                finally:
                    taken.unlink(missing_ok=True)

        (record,) = run_suite([cell], output, SilentDisplay(), executor=Oblivious(good))
        assert attempts == 2
        assert record.notes == {"attempt": 2}
        assert len(list(output.iterdir())) == 2

    def test_whoever_lost_the_cell_saves_no_model(self, cell: Cell, tmp_path: Path, monkeypatch: Any) -> None:
        """Neither is anything removed of what the new holder writes."""
        theirs = tmp_path / "models" / f".{cell.id}.abcd.tmp"
        theirs.mkdir(parents=True)
        executor = InProcess()
        executor.prepare([cell], tmp_path)
        with pytest.raises(Abandoned):
            executor.run(cell, tmp_path, SilentDisplay(), save_models=True, wanted=lambda: False)
        assert [path.name for path in (tmp_path / "models").iterdir()] == [theirs.name]
        assert not list(tmp_path.glob("*.json"))

    def test_the_process_that_saves_asks_for_itself(self, cell: Cell, tmp_path: Path) -> None:
        """The cell is taken over while it is measured, which only the process that measures sees in time."""
        output = tmp_path / "out"

        class TakenOver(SilentDisplay):
            def phase(self, name: str) -> None:
                if name == "test/stream-16":
                    (output / claims.FOLDER / f"{cell.id}.2").touch()

        with Isolated() as executor:
            executor.prepare([cell], output, save_models=True)
            claim = Claims(output).take(cell.id)
            assert claim is not None
            try:
                with pytest.raises(Abandoned):
                    executor.run(cell, output, TakenOver(), save_models=True, wanted=claim)
            finally:
                claim.release()
        assert not [path.name for path in output.rglob("*") if path.suffix in (".json", ".safetensors")]

    def test_one_who_was_stopped_before_the_renaming_cannot_rename(
        self, cell: Cell, tmp_path: Path, good: Record
    ) -> None:
        """Between the check and the renaming the cell is taken over, which removes the temporary file."""
        facts = CellFacts.model_validate(cell.model_dump(mode="json"))
        mine, theirs = (good.model_copy(update={"cell": facts, "notes": {"of": number}}) for number in (1, 2))
        first = Claims(tmp_path, lease=0.2).take(cell.id)
        assert first is not None

        def stopped() -> bool:
            """The check goes well; then the process sleeps for longer than the lease."""
            assert first()
            first._over.set()
            first._thread.join()

            class Writes(Scribe):
                def run(
                    self, cell: Cell, output: Path, display: Display, *, save_models: bool, wanted: Any, **_: Any
                ) -> Record:
                    return read_record(write_record(output, theirs, {}, fence=wanted))

            run_suite([cell], tmp_path, SilentDisplay(), executor=Writes(good), lease=0.2)
            return True

        with pytest.raises(Abandoned):
            write_record(tmp_path, mine, {}, fence=stopped)
        assert read_record(tmp_path / f"{cell.id}.json").notes == {"of": 2}
        assert not [path.name for path in tmp_path.glob(".*.tmp")]

    def test_the_one_that_waits_says_for_whom(
        self, cell: Cell, tmp_path: Path, good: Record, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.beside_another(cell, tmp_path, good, lambda: Scribe(good).run(
            cell, tmp_path, SilentDisplay(), save_models=False, wanted=lambda: True))  # fmt: skip
        (line,) = [entry.getMessage() for entry in caplog.records if "waiting" in entry.getMessage()]
        who = f"process {os.getpid()} on {socket.gethostname()}"
        assert line == f"waiting for {who}, which has {cell.id}; overtaken after 0.4 s of silence"

    @pytest.mark.parametrize("name", [".claims", ".partial", ".set-aside", "models", "sparse"])
    def test_a_link_in_a_results_folder_is_refused(self, cell: Cell, tmp_path: Path, good: Record, name: str) -> None:
        """As ``.partial`` it made a run delete a stranger's folders."""
        output, precious = tmp_path / "out", tmp_path / "precious"
        (precious / cell.id).mkdir(parents=True)
        (precious / "old" / "x").mkdir(parents=True)
        os.utime(precious / "old", (0, 0))
        output.mkdir()
        (output / name).symlink_to(precious)
        with pytest.raises(OutputError, match=rf"{re.escape(name)} is a symbolic link, where"):
            run_suite([cell], output, SilentDisplay(), executor=Scribe(good))
        assert (precious / cell.id).is_dir()
        assert (precious / "old" / "x").is_dir()

    def test_a_link_in_place_of_what_a_cell_kept_is_refused(self, cell: Cell, tmp_path: Path, good: Record) -> None:
        (tmp_path / "precious").mkdir()
        (tmp_path / "out" / ".partial").mkdir(parents=True)
        (tmp_path / "out" / ".partial" / cell.id).symlink_to(tmp_path / "precious")
        with pytest.raises(OutputError, match="is a symbolic link, where prunebench keeps a folder"):
            run_suite([cell], tmp_path / "out", SilentDisplay(), executor=Scribe(good))
        assert (tmp_path / "precious").is_dir()

    def test_a_record_that_another_is_writing_is_left_alone(self, cell: Cell, tmp_path: Path, good: Record) -> None:
        """Its arrays are there before it is: that is no damage while somebody has the cell."""
        facts = CellFacts.model_validate(cell.model_dump(mode="json"))
        whole = good.model_copy(update={"cell": facts, "arrays": {}})
        path = write_record(tmp_path, whole, {"x": np.zeros(3)})
        content = path.read_bytes()
        path.write_bytes(content.replace(b"e", b"f", 1))

        def ends() -> None:
            path.unlink(missing_ok=True)
            path.write_bytes(content)

        record, ran = self.beside_another(cell, tmp_path, good, ends)
        assert ran == []
        assert record == read_record(path)
        assert not (tmp_path / ".set-aside").exists()

    def test_what_a_dead_writer_left_is_cleared_away(self, cell: Cell, tmp_path: Path) -> None:
        torn = tmp_path / "out" / f".{cell.id}.json.123.tmp"
        torn.parent.mkdir()
        torn.write_text("{")
        run_suite([cell], tmp_path / "out", SilentDisplay())
        assert not torn.exists()


class TestShards:
    def test_they_are_all_cells_each_once(self, write_suite: Write) -> None:
        cells = plan(load_suite(write_suite()))
        for parts in (1, 2, 3, len(cells) + 2):
            shares = [shard_of(cells, f"{part}/{parts}") for part in range(1, parts + 1)]
            assert sorted(cell.id for share in shares for cell in share) == sorted(cell.id for cell in cells)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1

    @pytest.mark.parametrize("told", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "1.5/2"])
    def test_nonsense_is_refused(self, write_suite: Write, told: str) -> None:
        with pytest.raises(SuiteError, match="--shard"):
            shard_of(plan(load_suite(write_suite())), told)


class TestMerge:
    def test_shards_make_the_whole(self, write_suite: Write, tmp_path: Path) -> None:
        cells = plan(load_suite(write_suite()))
        whole = run_suite(cells, tmp_path / "whole", SilentDisplay())
        for part in ("1/2", "2/2"):
            run_suite(shard_of(cells, part), tmp_path / part[0], SilentDisplay(), save_models=part == "1/2")
        merged = merge_records([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
        assert (merged.cells, merged.copied, merged.conflicts) == (len(cells), len(cells), ())
        for record in whole:
            found = read_record(path := tmp_path / "merged" / f"{record.cell.id}.json")
            assert found.perplexity == record.perplexity
            assert read_arrays(path).keys() == read_arrays(tmp_path / "whole" / path.name).keys()
        models = {path.name for path in (tmp_path / "merged" / "models").iterdir()}
        assert models == {path.name for path in (tmp_path / "1" / "models").iterdir()}
        again = merge_records([tmp_path / "1", tmp_path / "whole"], tmp_path / "merged")
        assert (again.cells, again.copied, again.conflicts) == (len(cells), 0, ())

    def test_what_disagrees_is_told_and_the_first_is_taken(self, write_suite: Write, tmp_path: Path) -> None:
        cells = plan(load_suite(write_suite(methods="methods: [magnitude]")))
        half, pattern = run_suite(cells, tmp_path / "one", SilentDisplay())
        changed = half.model_copy(update={"perplexity": {}})
        write_record(tmp_path / "two", changed.model_copy(update={"arrays": {}}), {})
        failed = pattern.model_copy(update={"status": "failed", "arrays": {}})
        write_record(tmp_path / "two", failed, {})
        merged = merge_records([tmp_path / "one", tmp_path / "two"], tmp_path / "merged")
        (conflict,) = merged.conflicts
        assert (conflict.cell, conflict.differs) == (half.cell.id, "perplexity")
        assert read_record(tmp_path / "merged" / f"{half.cell.id}.json") == half
        assert read_record(tmp_path / "merged" / f"{pattern.cell.id}.json").status == "ok"
        backwards = merge_records([tmp_path / "two", tmp_path / "one"], tmp_path / "backwards")
        assert [found.cell for found in backwards.conflicts] == [half.cell.id]
        assert read_record(tmp_path / "backwards" / f"{pattern.cell.id}.json").status == "ok"

    def test_nothing_is_copied_where_one_record_is_torn(self, write_suite: Write, tmp_path: Path) -> None:
        run_suite(plan(load_suite(write_suite(methods="methods: [magnitude]"))), tmp_path / "one", SilentDisplay())
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "x.json").write_text("{")
        with pytest.raises(OutputError, match=r"x\.json"):
            merge_records([tmp_path / "one", tmp_path / "two"], tmp_path / "merged")
        assert not (tmp_path / "merged").exists()
        with pytest.raises(OutputError, match="no results folder"):
            merge_records([tmp_path / "three"], tmp_path / "merged")
