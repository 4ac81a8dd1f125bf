"""The way to the hub and back, against a stand-in on the loopback device: downloads, the cache, and every refusal."""

import csv
import gzip
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunebench.data.hub_corpora import C4, WIKITEXT2
from prunebench.records import read_records
from prunebench.tinyworld import model_folder
from tests.helpers.hub import Repository, StandInHub

FIND = """
import sys
from prunebench.errors import PrunebenchError
from prunebench.models import find_model
for source in sys.argv[1:]:
    try:
        found = find_model(source)
        print(f"{found.revision} {found.digest}")
    except PrunebenchError as error:
        print(error)
"""
READ = """
from prunebench.data.corpora import find_corpus
from prunebench.errors import CorpusError
for source, field in [("me/articles", "content"), ("me/articles", None), ("me/chats", None)]:
    try:
        corpus = find_corpus(source, "train", "calibration", field=field)
        print(corpus.name, corpus.wants, "" if corpus.templated else [text[:9] for text in corpus.documents()])
    except CorpusError as error:
        print(error)
"""
MODEL = {path.name: path for path in model_folder("tinyworld-llama-300k").iterdir()}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StandInHub]:
    """A hub with one good model, three bad ones, and the pinned files of C4 and WikiText-2."""
    words = ["Anna", "has", "three", "stamps", "and", "David", "Bell", "owns", "a", "horse", "."]
    documents = [" ".join(random.Random(number).choices(words, k=120)) for number in range(40)]
    with gzip.open(tmp_path / "c4.json.gz", "wt") as shard:
        shard.writelines(json.dumps({"text": document}) + "\n" for document in documents)
    pq.write_table(pa.table({"text": documents}), tmp_path / "wikitext.parquet")
    models = {
        "some/model": Repository(MODEL),
        "some/gated": Repository(MODEL, gated=True),
        "some/cut": Repository(MODEL, cut={"model.safetensors"}),
        "some/bare": Repository({name: path for name, path in MODEL.items() if name != "tokenizer.json"}),
    }
    datasets = {
        C4.repository: Repository(dict.fromkeys(C4.files.values(), tmp_path / "c4.json.gz"), C4.commit),
        WIKITEXT2.repository: Repository(
            dict.fromkeys(WIKITEXT2.files.values(), tmp_path / "wikitext.parquet"), WIKITEXT2.commit
        ),
    }
    with StandInHub(models, datasets) as server:
        yield server


def find(environment: dict[str, str], *sources: str) -> list[str]:
    """What ``find_model`` says of each source in a process of its own: revision and digest, or the error."""
    command = [sys.executable, "-c", FIND, *sources]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_model_comes_by_name_or_commit_and_is_there_offline(hub: StandInHub, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path / "cache")
    commit = hub.repositories["models"]["some/model"].commit
    online = find(environment, "some/model", f"some/model@{commit}", "some/model@main")
    assert len(set(online)) == 1
    assert online[0].startswith(commit)

    hub.requests.clear()
    assert find({**environment, "HF_HUB_OFFLINE": "1"}, "some/model", f"some/model@{commit}") == online[:2]
    assert hub.requests == []


def test_each_refusal_has_its_line(hub: StandInHub, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path / "cache")
    sources = ["some/model@1.0", "some/gated", "some/none", "some/bare", "some/cut"]
    revision, gated, none, bare, cut = find(environment, *sources)
    assert "some/model has no such revision" in revision
    assert f"gated: accept its terms at {hub.url}/some/gated" in gated
    assert f"{hub.url} has no some/none" in none
    assert "has no tokenizer" in bare
    assert "run the same command again" in cut

    hub.repositories["models"]["some/cut"].cut.clear()
    assert find(environment, "some/cut", "some/model")[0].split() == find(environment, "some/model")[0].split()


@pytest.mark.slow
def test_a_sweep_over_the_hub_s_model_and_texts_and_again_offline(hub: StandInHub, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "name: remote\nmodels: [some/model]\nsparsities: [0.5]\nmethods: [dense, wanda]\n"
        "calibration: {corpus: c4, nsamples: 4, seqlen: 32, windows: document}\n"
        "evaluations: [{name: perplexity, corpus: wikitext2, seqlen: 64}]\n"
    )
    environment = hub.environment(tmp_path / "cache")

    def run(output: str, **more: str) -> dict[str, object]:
        command = [sys.executable, "-m", "prunebench", "run", suite, "--output", tmp_path / output]
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {record.cell.id: record.perplexity for record in read_records(tmp_path / output)}

    online = run("online")
    hub.requests.clear()
    assert run("offline", HF_HUB_OFFLINE="1") == online
    assert hub.requests == []


def test_a_corpus_that_is_cut_off_is_told_in_a_line(hub: StandInHub, tmp_path: Path) -> None:
    hub.repositories["datasets"][C4.repository].cut.update(C4.files.values())
    code = "from prunebench.data.hub_corpora import C4\nnext(iter(C4('train')))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=hub.environment(tmp_path / "cache"), capture_output=True, text=True, check=False)
    assert "CorpusError: corpus c4 (allenai/c4) cannot be had" in done.stderr.splitlines()[-1]


def test_a_data_set_with_a_field_of_another_name_or_with_chats(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Who has a horse?"}, {"role": "assistant", "content": "Anna."}]
    records = {"articles": {"content": "Anna has a horse.", "id": 1}, "chats": {"messages": chat}}
    for name, record in records.items():
        (tmp_path / f"{name}.jsonl").write_text(f"{json.dumps(record)}\n" * 2)
    data = {f"me/{name}": Repository({"train.jsonl": tmp_path / f"{name}.jsonl"}) for name in records}
    with StandInHub({}, data) as server:
        environment = server.environment(tmp_path / "cache")
        command = [sys.executable, "-c", READ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    content, text, messages = done.stdout.splitlines()
    assert content == "articles () ['Anna has ', 'Anna has ']"
    assert text == "corpus me/articles has no field 'text'; its fields: content, id; name one with 'field'"
    assert messages.split() == ["chats", "('tokenizer',)"]


@pytest.mark.slow
class TestReproduce:
    """A paper's experiment on the hub's model: figures that hold, one that does not, and an interruption."""

    SUITE = (
        "name: paper\nmodels: [some/model, some/other]\nsparsities: [0.5]\npublished: paper.csv\n"
        "methods: [dense, magnitude, {name: wanda, models: [other]}]\n"
        "calibration: {corpus: c4, nsamples: 4, seqlen: 32, windows: document}\n"
        "evaluations:\n  - {name: perplexity, corpus: wikitext2, seqlen: 64, models: [model]}\n"
        "  - {name: zero_shot, tasks: [arc_easy], models: [other]}\n"
    )
    COLUMNS = ("model", "dataset", "seqlen", "method", "sparsity", "perplexity", "protocol", "tolerance", "source")

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "prunebench", *map(str, words)]

    def publish(self, folder: Path, figures: dict[str, float]) -> Path:
        with (folder / "paper.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self.COLUMNS)
            for method, value in figures.items():
                sparsity = "0" if method == "dense" else "0.5"
                writer.writerow(
                    ["some/model", "wikitext2", 64, method, sparsity, value, "wikitext2/stream-64", 0.02, "A paper"]
                )
        (folder / "paper.yaml").write_text(self.SUITE)
        return folder / "paper.yaml"

    def test_a_pass_a_fail_and_an_interruption(self, hub: StandInHub, tmp_path: Path) -> None:
        environment = {**hub.environment(tmp_path / "cache"), "PRUNEBENCH_IN_PROCESS": "1"}
        suite, out = self.publish(tmp_path, {"dense": 1.0, "magnitude": 1.0}), tmp_path / "out"

        def reproduce(*more: str) -> tuple[int, dict[str, str]]:
            words = self.command("reproduce", suite, "--output", out, *more)
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
            assert (out / "reproduction" / "paper--model.json").is_file(), done.stderr
            outcome = json.loads((out / "reproduction" / "paper--model.json").read_text())
            verdicts = {row["method"]: row["verdict"] for row in outcome["figures"]}
            assert outcome["passed"] is (done.returncode == 0)
            assert all(verdict in done.stdout for verdict in verdicts.values())
            assert [len(row["cells"]) for row in outcome["figures"]] == [1, 1]  # none of another call's records
            return done.returncode, verdicts

        words = self.command("reproduce", suite, "--output", out)
        apart = {**environment, "PRUNEBENCH_IN_PROCESS": ""}  # cells in processes of their own, as users have them
        with subprocess.Popen(
            words,
            env=apart,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Where these tests run in the background, Ctrl-C is ignored, and would be there too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if line.startswith("[1/2]"))
            process.send_signal(signal.SIGINT)
            said = process.communicate()[1]
        assert process.returncode == 130, said
        assert not (out / "reproduction").exists()

        assert reproduce() == (1, {"dense": "FAIL", "magnitude": "FAIL"})
        ours = {record.cell.method: record.perplexity["wikitext2/stream-64"].value for record in read_records(out)}
        assert set(ours) == {"dense", "magnitude"}
        self.publish(tmp_path, {"dense": ours["dense"] * 1.01, "magnitude": ours["magnitude"] * 1.05})
        assert reproduce() == (1, {"dense": "pass", "magnitude": "FAIL"})
        self.publish(tmp_path, {"dense": ours["dense"] * 0.99, "magnitude": ours["magnitude"] * 1.019})
        assert reproduce() == (0, {"dense": "pass", "magnitude": "pass"})
        reproduce("--set", "models.0.dtype=bfloat16")
        assert len(list(read_records(out))) == 4
        assert reproduce() == (0, {"dense": "pass", "magnitude": "pass"})

    def test_refused_in_a_line(self, hub: StandInHub, tmp_path: Path) -> None:
        suite = self.publish(tmp_path, {"dense": 1.0})
        for words, message in (
            (["nobody"], "no paper's suite is called 'nobody': valid:"),
            ([suite, "--model", "some/third"], "paper.yaml has no model 'some/third': "),
            ([suite, "--model", "other"], "has no published perplexity of some/other that states a tolerance"),
        ):
            command = self.command("reproduce", *words)
            done = subprocess.run(
                command, env=hub.environment(tmp_path / "cache"), capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
            assert message in done.stderr
