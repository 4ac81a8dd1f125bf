"""The way to the hub and back, against a stand-in on the loopback device: downloads, the cache, and every refusal."""

import gzip
import json
import random
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
