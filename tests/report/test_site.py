"""The site: a table for each text and task, links to records, suites that run a cell again, wrong folders told."""

import re
import shlex
from pathlib import Path

import pytest

from prunebench.errors import RecordError
from prunebench.records.record import Record
from prunebench.records.store import read_records, write_record
from prunebench.report.site.boards import boards, budget_of
from prunebench.report.site.gather import Source, clashes, gather
from prunebench.report.site.page import to_page
from prunebench.report.site.recipe import command, recipe
from prunebench.report.trend.series import Commit, Metric, trends
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.paths import ROOT
from tests.helpers.records import PROTOCOL, record

REFERENCE = ROOT / "results" / "reference"


def on_text(found: Record, digest: str) -> Record:
    """The record, measured on another text of the same name."""
    evaluations = tuple(part | ({"digest": digest} if "protocol" in part else {}) for part in found.cell.evaluations)
    return found.model_copy(update={"cell": found.cell.model_copy(update={"evaluations": evaluations})})


def folder(path: Path, *records: Record) -> Path:
    for found in records:
        write_record(path, found.model_copy(update={"arrays": {}, "saved": None}), {})
    return path


def source(name: str, *records: Record) -> Source:
    return Source(Path(name), name, records)


class TestBoards:
    def test_rows_of_other_texts_and_tasks_never_mix(self) -> None:
        one, two = record(value=6.0), on_text(record("magnitude", value=5.0), "c" * 64)
        found = boards([source("a", one), source("b", two)])
        texts = [board for board in found if board.measure == "perplexity"]
        assert [[row.record.cell.method for row in board.rows] for board in texts] == [["wanda"], ["magnitude"]]
        assert all(board.title.startswith(f"{PROTOCOL} (text ") for board in texts)
        assert len({board.title for board in texts}) == 2
        (line,) = clashes([source("a", one), source("b", two)])
        assert line.startswith(f"{PROTOCOL} is 2 texts, kept apart: ")
        assert "in a; cccccccc in b" in line

    def test_a_task_with_other_questions_has_a_table_of_its_own(self) -> None:
        one, two = record(), record("magnitude")
        for count in two.zero_shot["n-samples"].values():
            count["effective"] = 7
        titles = [board.title for board in boards([source("a", one, two)]) if board.measure == "accuracy"]
        assert len(titles) == len(set(titles)) == 2 * len(boards([source("a", one)])[1:])

    @pytest.mark.parametrize("noise", [None, 0.05])
    def test_a_task_of_other_files_has_a_table_of_its_own(self, noise: float | None) -> None:
        name = "mine" if noise is None else f"mine-noise-{noise}"
        made = record(evaluations=[{"name": "zero_shot", "tasks": ["mine"], "noise": noise, "digest": "a" * 64}])
        made = made.model_copy(update={"zero_shot": {"results": {name: {"acc,none": 0.5}}}})
        facts = ({**made.cell.evaluations[0], "digest": "b" * 64},)
        other = made.model_copy(update={"cell": made.cell.model_copy(update={"evaluations": facts}), "digest": "x"})
        titles = [
            board.title for board in boards([source("a", made), source("b", other)]) if board.measure != "perplexity"
        ]
        assert titles == [f"{name} (files aaaaaaaa)", f"{name} (files bbbbbbbb)"]
        commits = [
            Commit(number, "", (each,)) for number, each in (("1", made), ("2", made), ("3", other), ("4", other))
        ]
        assert [len(found.values) for found in trends(commits, Metric.ACCURACY, 0.01)] == [2, 2]

    def test_the_best_first_for_each_model_and_sparsity_and_times_dense(self) -> None:
        dense = record("dense", "0", value=4.0)
        others = [record("b", "0.5", value=6.0), record("a", "0.5", value=5.0), record("c", "0.9", value=4.5)]
        board = boards([source("x", dense, *others)])[0]
        shown = [(row.record.cell.method, row.times) for row in board.rows]
        assert shown == [("dense", "1.000"), ("a", "1.250"), ("b", "1.500"), ("c", "1.125")]

    def test_two_models_of_one_name_are_told_apart(self) -> None:
        one, two = record(model_digest="a" * 64), record("other", model_digest="b" * 64)
        labels = [row.model for row in boards([source("x", one, two)])[0].rows]
        assert sorted(labels) == ["stories (aaaaaaaa)", "stories (bbbbbbbb)"]

    def test_a_copy_counts_once(self, tmp_path: Path) -> None:
        paths = [folder(tmp_path / name, record()) for name in ("a", "b")]
        assert len(boards(gather(paths, print))[0].rows) == 1

    def test_trials_are_no_results(self, tmp_path: Path) -> None:
        tuned = folder(tmp_path / "tuned", record())
        trials = folder(tuned / "trials", record(value=1.0))
        assert [found.folder for found in gather([tmp_path], print)] == [tuned]
        assert [found.folder for found in gather([trials], print)] == [trials]  # but for who names them

    def test_budgets(self) -> None:
        records = read_records(REFERENCE / "gpu" / "suite")
        by_method = {found.cell.method: budget_of(found) for found in records}
        assert by_method["dense"] == "dense"
        assert by_method["sparsegpt"] == "one-shot"
        assert by_method["gmp"] == "end to end, 65.5 k tokens"

    def test_what_a_shell_names_besides(self, tmp_path: Path) -> None:
        """``results/*`` names files, and folders without records: told, and no reason to write nothing."""
        write_record(tmp_path / "a", record(), {})
        (tmp_path / "README.md").touch()
        (tmp_path / "b").mkdir()
        said: list[str] = []
        assert [found.name for found in gather(sorted(tmp_path.iterdir()), said.append)] == ["a"]
        assert [line.partition(" is no")[0] for line in said] == [
            f"left out: {tmp_path / 'README.md'}",
            f"left out: {tmp_path / 'b'}",
        ]
        for named in ([tmp_path / "b"], [tmp_path / "README.md"], [tmp_path / "b", tmp_path / "README.md"]):
            with pytest.raises(RecordError, match="no results folder"):
                gather(named, said.append)
        with pytest.raises(RecordError, match="there is no results folder"):
            gather([tmp_path / "a", tmp_path / "nowhere"], said.append)


class TestRecipe:
    def test_the_suite_of_a_record_is_that_of_its_cell(self, tmp_path: Path) -> None:
        """Planned, it gives the very id of the record: the same text, options, measurements and code."""
        records = read_records(REFERENCE / "smoke")
        assert len(records) == 7
        for found in records:
            path = tmp_path / f"{found.cell.id}.yaml"
            path.write_text(recipe(found))
            (cell,) = [cell for cell in plan(load_suite(path)) if cell.method == found.cell.method]
            assert cell.id == found.cell.id

    def test_stages_labels_and_allocations(self, tmp_path: Path) -> None:
        suite = tmp_path / "suite.yaml"
        suite.write_text("""
name: rich
models: [{id: builtin/tinyworld-llama-300k, label: small}]
calibration: {corpus: builtin/tinyworld, nsamples: 4, seqlen: 64, windows: document, noise: 0.1}
sparsities: [0.7]
seeds: [3]
methods:
  - {name: wanda, label: mine, allocation: {name: owl, label: shared, options: {lmda: 0.04}}}
  - {name: wanda, then: {name: retrain, options: {steps: 2}}, sparsities: ["2:4"]}
evaluations:
  - {name: perplexity, corpus: builtin/tinyworld-noisy, windows: document, seqlen: 64}
  - {name: perplexity, corpus: builtin/tinyworld, seqlen: 64, limit: 5, noise: 0.05, sparsities: [0.7]}
  - {name: zero_shot, tasks: [tinyworld_recall], num_fewshot: 2, limit: 10, noise: 0.2}
""")
        for number, cell in enumerate(plan(load_suite(suite))):
            content = record().model_dump(mode="json", by_alias=True) | {"cell": cell.model_dump(mode="json")}
            path = tmp_path / f"again{number}.yaml"
            path.write_text(recipe(Record.model_validate(content)))
            assert [again.id for again in plan(load_suite(path))] == [cell.id]

    def test_nothing_lets_foreign_code_run(self, tmp_path: Path) -> None:
        """What others' models and tasks bring runs only where the reader says so."""
        tasks = {"name": "zero_shot", "tasks": ["boolq"], "trust_remote_code": True}
        told = {"name": "kl", "label": "kl", "entry": {"trust_remote_code": True}}
        made = record(trust_remote_code=True, evaluations=[tasks, told, {"name": "perplexity", "protocol": "c4/x"}])
        comment, _, rest = recipe(made).partition("\n")
        assert comment.startswith(
            "# The model stories and boolq ran with trust_remote_code: true, which lets code that "
        )
        assert "trust_remote_code" not in rest
        write_record(tmp_path, made, {})
        page = to_page(gather([tmp_path], print), "t")
        assert "<small>needs trust_remote_code: The model stories and boolq</small>" in page
        assert "trust" not in recipe(record())

    def test_what_is_not_there_is_said(self) -> None:
        text = recipe(record(plugin_file="/home/me/secret/mine.py", wrapper_files=[], method="mine"))
        assert text.startswith("# It ran with plugin files that are not here: /home/me/secret/mine.py\n")

    def test_a_name_is_no_shell_command(self) -> None:
        """Readers paste the command; a file may be called anything."""
        told = command(record(plugin_file="/x/$(touch a); b.py", wrapper_files=["/y/mine.py"]), "records/x.yaml")
        assert shlex.split(told) == [
            *("prunebench", "run", "records/x.yaml", "--plugin", "$(touch a); b.py", "--plugin", "mine.py")
        ]


class TestCommand:
    def test_every_row_links_to_its_record_and_gives_its_command(self, tmp_path: Path) -> None:
        one = folder(tmp_path / "one", record(), record("magnitude", error="broke <b>"))
        result = prunebench("site", one, "--output", tmp_path / "site")
        assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "site" / "index.html"))
        page = (tmp_path / "site" / "index.html").read_text()
        for address in re.findall(r'href="([^"#:]+)"', page):
            assert (tmp_path / "site" / address).is_file(), address
        (original,) = [path for path in one.glob("*.json") if not path.name.endswith(".failed.json")]
        copy = tmp_path / "site" / "records" / "one" / original.name
        assert copy.read_bytes() == original.read_bytes()
        assert f"<code>prunebench run records/one/{copy.stem}.yaml</code>" in page
        assert "broke &lt;b&gt;" in page

    def test_it_loads_nothing_and_escapes_names(self, tmp_path: Path) -> None:
        evil = record(method='"><script>alert(1)</script>', model="<img src=x onerror=y>")
        page = to_page([source("x", evil)], "<i>title</i>")
        assert page.count("<script") == 1
        assert "<img" not in page
        assert "<i>" not in page
        assert not re.findall(r'(?:src|href)="(?!#|data:,|records/)', page)
        assert "default-src 'none'" in page

    def test_all_reference_folders(self, tmp_path: Path) -> None:
        """What is no results folder among them is left out, in a line."""
        result = prunebench("site", REFERENCE, "--output", tmp_path / "site")
        assert result.exit_code == 0
        (line,) = result.stderr.splitlines()
        assert line.startswith("left out")
        assert "checks" in line
        copies = list((tmp_path / "site" / "records").glob("*/*.json"))
        others = {"checks", "trials"}
        assert len(copies) == len([path for path in REFERENCE.rglob("*--s*.json") if not others & {*path.parts}])

    def test_reports_beside_it(self, tmp_path: Path) -> None:
        one = folder(tmp_path / "one", record())
        assert prunebench("site", one, "--output", tmp_path / "site", "--reports").exit_code == 0
        assert "<title>one · prunebench" in (tmp_path / "site" / "reports" / "one.html").read_text()
        assert 'href="reports/one.html"' in (tmp_path / "site" / "index.html").read_text()

    def test_a_site_is_replaced_and_nothing_else(self, tmp_path: Path) -> None:
        one, two = folder(tmp_path / "one", record()), folder(tmp_path / "two", record("other"))
        site = tmp_path / "site"
        for each in (one, two):
            assert prunebench("site", each, "--output", site).exit_code == 0
        assert [path.name for path in (site / "records").iterdir()] == ["two"]
        assert "is one of the results folders" in one_line(prunebench("site", one, "--output", one))
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").write_text("years")
        assert "holds files that are no site" in one_line(prunebench("site", one, "--output", tmp_path / "mine"))
        (tmp_path / "link").symlink_to(site)
        assert "it is a symbolic link" in one_line(prunebench("site", one, "--output", tmp_path / "link"))

    def test_wrong_folders(self, tmp_path: Path) -> None:
        out = ("--output", tmp_path / "site")
        (tmp_path / "empty").mkdir()
        (tmp_path / "other").mkdir()
        for name in ("a.json", "b.json"):
            (tmp_path / "other" / name).write_text("{}")
        for name, message in (
            ("nowhere", "there is no results folder"),
            ("empty", "neither it nor a folder in it holds records"),
            ("other", "no file in it is a whole record"),
        ):
            result = prunebench("site", tmp_path / name, *out)
            assert result.exit_code == 2
            assert message in one_line(result)
        assert not (tmp_path / "site").exists()
        (tmp_path / "file").touch()
        result = prunebench("site", folder(tmp_path / "own", record()), "--output", tmp_path / "file" / "site")
        assert "choose another with --output" in one_line(result)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        folder(tmp_path / "all" / "own", record())
        folder(tmp_path / "elsewhere", record("other"))
        (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
        assert [found.name for found in gather([tmp_path / "all"], print)] == ["own"]

    @pytest.mark.parametrize("names", [("x/results", "y/results"), ("a b", "a-b")])
    def test_folders_of_one_name(self, names: tuple[str, str], tmp_path: Path) -> None:
        paths = [folder(tmp_path / name, record(method)) for name, method in zip(names, "ab", strict=True)]
        assert len({found.name for found in gather(paths, print)}) == 2
