"""``prunebench submit --check``: a good folder passes, and each way to alter one is found, in a line of its own."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunebench.records.record import arrays_name
from prunebench.tinyworld.corpora import fresh_documents
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.paths import ROOT
from tests.helpers.records import arrays_file, resealed

SUITE = """
name: given
models: [builtin/tinyworld-llama-300k]
calibration: {corpus: builtin/tinyworld, nsamples: 4, seqlen: 128}
sparsities: [0.5, 2:4]
methods: [dense, {name: magnitude, label: ours}]
evaluations:
  - {name: perplexity, corpus: builtin/tinyworld, seqlen: 128}
  - {name: zero_shot, tasks: [tinyworld_agreement], limit: 20}
"""
PROTOCOL = "tinyworld/stream-128"


def submission(folder: Path, suite: str, *words: object) -> Path:
    """A submission as it should be, run as contributors run it: in processes of its own."""
    folder.mkdir()
    (folder / "suite.yaml").write_text(suite)
    (folder / "submission.yaml").write_text("contributor: Somebody\nlicense: CC0-1.0\n")
    environment = {name: value for name, value in os.environ.items() if name != "PRUNEBENCH_IN_PROCESS"}
    asked = ("run", folder / "suite.yaml", "--output", folder, "--save-models", *words)
    done = subprocess.run(
        [sys.executable, "-m", "prunebench", *map(str, asked)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submission(tmp_path_factory.mktemp("good") / "given", SUITE)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "given")
    return tmp_path / "given"


def record_file(folder: Path, sparsity: str = "0.5") -> Path:
    (path,) = folder.glob(f"*--ours--{sparsity}--*.json")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record and give it the digest that belongs to the change, as a careful forger would."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(resealed(content))


def edit_arrays(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the arrays of a record, and all digests that belong to them."""
    old = arrays_file(path)
    with np.load(old) as file:
        arrays = dict(file)
    change(arrays)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    old.unlink()
    name = arrays_name(path.stem, digest)
    path.with_name(name).write_bytes(content.getvalue())
    edit(path, lambda record: record.update(arrays={digest: name}))


def findings(folder: Path, *words: object) -> list[str]:
    result = prunebench("submit", folder, "--check", *words)
    lines = result.stdout.splitlines()
    assert result.exit_code == (1 if lines else 0), result.output
    assert "Traceback" not in result.output
    return lines


def the_finding(folder: Path, *words: object) -> str:
    (line,) = findings(folder, *words)
    return line


class TestGood:
    def test_it_passes(self, good: Path) -> None:
        result = prunebench("submit", good, "--check")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.strip() == "3 records checked: nothing is wrong"

    def test_as_json(self, good: Path) -> None:
        answer = json.loads(prunebench("submit", good, "--check", "--json").stdout)
        assert answer == {"records": 3, "measured": 0, "findings": []}


NARROWED = (
    SUITE.replace("seqlen: 128}\nspar", "seqlen: 128, noise: 0.1}\nspar")
    .replace(
        "seqlen: 128}\n  - {name: zero",
        "seqlen: 128, limit: 20}\n"
        "  - {name: perplexity, corpus: builtin/tinyworld, seqlen: 128, limit: 10, noise: 0.05, sparsities: [0.5]}\n"
        "  - {name: zero",
    )
    .replace("limit: 20}\n\n", "limit: 20, noise: 0.1}\n")
)


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submission(tmp_path_factory.mktemp("narrowed") / "given", NARROWED)


class TestNarrowed:
    """Suites with limits, noise, and evaluations for some sparsities alone."""

    def test_it_passes(self, narrowed: Path) -> None:
        assert findings(narrowed) == []

    @pytest.mark.slow
    def test_it_is_confirmed_by_its_weights(self, narrowed: Path) -> None:
        result = prunebench("submit", narrowed, "--check", "--fresh")
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert "2 cells measured again" in result.stderr

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("limit: 20}\n  - {name: perp", "limit: 10}\n  - {name: perp", "does not ask for tinyworld/stream-20x128"),
            ("limit: 20}\n  - {name: perp", "}\n  - {name: perp", "does not ask for tinyworld/stream-20x128"),
            (", noise: 0.05", "", "does not ask for tinyworld-noise-0.05/stream-10x128"),
            ("128, noise: 0.1}", "128}", "the calibration and options that it says"),
            ("{corpus: builtin/tinyworld,", "{corpus: builtin/other,", "the calibration and options that it says"),
            ("sparsities: [0.5]}", 'sparsities: ["2:4"]}', "the suite asks for 3 evaluations, and it has 2"),
        ],
    )
    def test_another_suite(self, narrowed: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
        assert old in NARROWED
        shutil.copytree(narrowed, tmp_path / "given")
        (tmp_path / "given" / "suite.yaml").write_text(NARROWED.replace(old, new))
        lines = findings(tmp_path / "given")
        assert any(message in line for line in lines), lines


class TestRecords:
    def test_an_edited_record(self, folder: Path) -> None:
        path = record_file(folder)
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
        lines = findings(folder)
        assert lines[0] == (f"{path.name}: {path.name} was altered after it was written: its digest does not match")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r["perplexity"][PROTOCOL].update(value=2.0), "its value is 2, its losses give 3."),
            (lambda r: r["perplexity"][PROTOCOL].update(stderr=0.001), "its stderr is 0.001, its losses give"),
            (lambda r: r["perplexity"][PROTOCOL].update(tokens=9), "it says 9 tokens, its counts give"),
            (
                lambda r: r["zero_shot"]["results"]["tinyworld_agreement"].update({"acc,none": 0.99}),
                "tinyworld_agreement: its acc is 0.99, its answers give",
            ),
            (lambda r: r["sparsity"].update(reached=0.6), "reached is 0.6, but its matrices hold"),
            (lambda r: r["cell"]["options"].update(extra=1), "its settings give the id"),
            (lambda r: r["cell"].update(seed=7), "its settings give the id"),
            (lambda r: r["cell"]["evaluations"][0].update(seqlen=64), "has the settings of tinyworld/stream-64"),
            (
                lambda r: r["cell"]["evaluations"][0].update(windows=None),
                "the settings of tinyworld/stream-128 are none",
            ),
            (
                lambda r: r["cell"].update(source="builtin/tinyworld-llama-1m"),
                "the suite has no model 'tinyworld-llama-300k' from builtin/tinyworld-llama-1m",
            ),
            (lambda r: r.update(measured="in-process"), "only what was measured in a process of its own"),
            (lambda r: r["environment"]["versions"].pop("torch"), "it tells no version of torch"),
            (lambda r: r["environment"]["versions"].update(prunebench="99.0"), "made by prunebench 99.0"),
            (lambda r: r["environment"]["versions"].update(prunebench="9" * 5000), "made by prunebench 999"),
            (lambda r: r["environment"].pop("weights_digest"), "its environment tells no weights_digest"),
        ],
    )
    def test_an_altered_value(self, folder: Path, change: Callable[[Any], object], message: str) -> None:
        edit(record_file(folder), change)
        assert any(message in line for line in findings(folder)), findings(folder)

    def test_a_matrix_with_fewer_zeros(self, folder: Path) -> None:
        def fewer(content: dict[str, Any]) -> None:
            counts = content["sparsity"]
            first, second = list(counts["matrices"].values())[:2]
            first["zeros"] -= 10
            second["zeros"] += 10

        edit(record_file(folder), fewer)
        assert "holds fewer zeros than 0.5 asks for" in the_finding(folder)

    def test_failed_cells_and_old_schemas_and_names(self, folder: Path) -> None:
        path = record_file(folder)
        old = next((ROOT / "tests" / "fixtures" / "schema1").glob("*.json"))
        for name in (old.name, json.loads(old.read_text())["cell"]["id"] + ".npz"):
            shutil.copy(old.with_name(name), folder)
        (folder / old.name).write_text(json.dumps(json.loads(old.read_text()), separators=(",", ":")))
        assert f"{old.name}: its schema is older than 2: run the suite again" in findings(folder)
        for name in (old.name, old.with_suffix(".npz").name):
            (folder / name).unlink()
        shutil.copy(path, folder / "copy.json")
        assert the_finding(folder) == f"copy.json: it is the record of {path.stem}: name it so"
        (folder / "copy.json").rename(folder / f"{path.stem}.failed.json")
        lines = findings(folder)
        assert any("a failed cell is no result" in line for line in lines)


class TestArrays:
    def test_an_altered_array(self, folder: Path) -> None:
        path = record_file(folder)
        content = bytearray(arrays_file(path).read_bytes())
        content[100] ^= 1
        arrays_file(path).write_bytes(content)
        assert "is no array file of its record: it was altered" in the_finding(folder)

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            (f"perplexity/{PROTOCOL}/losses", lambda a: a * 0.9, "its losses give"),
            (f"perplexity/{PROTOCOL}/losses", lambda a: a[:-1], "losses and"),
            (f"perplexity/{PROTOCOL}/counts", lambda a: a + 1, "its windows predict 128 to 128 tokens, not 128 - 1"),
            (f"perplexity/{PROTOCOL}/counts", None, f"the losses of {PROTOCOL} are missing"),
            ("zero_shot/tinyworld_agreement/acc", lambda a: 1 - a, "its answers give"),
            ("zero_shot/tinyworld_agreement/acc", lambda a: a[:5], "it says 20 questions, its answers are 5"),
            ("zero_shot/tinyworld_agreement/acc", lambda a: a * 2, "are not between 0 and 1"),
            ("zero_shot/tinyworld_agreement/acc", None, "the answers to tinyworld_agreement (acc) are missing"),
            ("mask", lambda a: a | 0xF0, "the sample of its mask holds"),
            ("mask", None, "the sample of its mask is missing"),
            ("mask", lambda a: np.zeros((1 << 24) + 1, np.uint8), "the sample of its mask is none"),
        ],
    )
    def test_altered_with_all_digests(
        self, folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray] | None, message: str
    ) -> None:
        def alter(arrays: dict[str, np.ndarray]) -> None:
            if change is None:
                del arrays[name]
            else:
                arrays[name] = change(arrays[name])

        edit_arrays(record_file(folder), alter)
        assert any(message in line for line in findings(folder)), findings(folder)

    def test_one_weight_too_many_in_a_group(self, folder: Path) -> None:
        def alter(arrays: dict[str, np.ndarray]) -> None:
            arrays["mask"][0] = 0b11100011

        edit_arrays(record_file(folder, "2of4"), alter)
        assert "the sample of its mask breaks 2:4 in 1 of " in the_finding(folder)

    def test_missing_arrays(self, folder: Path) -> None:
        arrays_file(record_file(folder)).unlink()
        assert "cannot read the arrays" in the_finding(folder)

    def test_arrays_of_nobody(self, folder: Path) -> None:
        np.savez(folder / "other.npz", mask=np.zeros(3, np.uint8))
        assert the_finding(folder) == "other.npz: no record names it: remove it"


class TestFolder:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "there is none: write one with the lines"),
            ("contributor: me\n", "license: Field required"),
            ("contributor: me\nlicense: CC-BY-NC\n", "license 'CC-BY-NC' is not accepted: did you mean 'CC-BY-4.0'"),
            ("contributor: me\nlicense: MIT\nsuite: ../suite.yaml\n", "there is no such suite file in the folder"),
            ("contributor: [\n", "it is no valid YAML"),
        ],
    )
    def test_the_manifest(self, folder: Path, text: str | None, message: str) -> None:
        (folder / "submission.yaml").unlink()
        if text is not None:
            (folder / "submission.yaml").write_text(text)
        assert any(message in line for line in findings(folder)), findings(folder)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("seqlen: 128}\n  - {name: zero", "seqlen: 64}\n  - {name: zero", f"does not ask for {PROTOCOL}"),
            ("nsamples: 4", "nsamples: 8", "the calibration and options that it says"),
            ("label: ours", "label: theirs", "the suite has no method 'ours'"),
            ("[0.5, 2:4]", "[0.5]", "does not ask for ours at 2:4"),
            ("limit: 20", "limit: 10", "does not ask for zero_shot"),
            ("llama-300k", "llama-1m", "the suite has no model 'tinyworld-llama-300k'"),
            ("name: magnitude", "name: wanda", "does not ask for ours at 0.5"),
        ],
    )
    def test_another_suite(self, folder: Path, old: str, new: str, message: str) -> None:
        assert old in SUITE
        (folder / "suite.yaml").write_text(SUITE.replace(old, new))
        assert any(message in line for line in findings(folder)), findings(folder)

    def test_links_pipes_and_code(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("{}")
        (folder / "linked.json").symlink_to(tmp_path / "secret")
        os.mkfifo(folder / "pipe.json")
        (folder / "plugin.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        lines = findings(folder)
        assert "linked.json: it is a symbolic link, which a submission may not hold: remove it" in lines
        assert "pipe.json: it is a pipe, which a submission may not hold: remove it" in lines
        assert "plugin.py: it is no part of a submission: remove it" in lines
        assert not (tmp_path / "ran").exists()

    def test_models_of_nobody(self, folder: Path) -> None:
        (folder / "models" / "other").mkdir()
        (folder / "sparse" / "run.py").touch()
        assert findings(folder) == [
            f"{name}: no record names it: remove it" for name in ("models/other", "sparse/run.py")
        ]

    def test_a_link_in_a_saved_model(self, folder: Path) -> None:
        place = next((folder / "sparse").iterdir())
        (place / "sparse.safetensors").rename(folder.parent / "elsewhere")
        (place / "sparse.safetensors").symlink_to(folder.parent / "elsewhere")
        assert any("is a symbolic link" in line for line in findings(folder))

    def test_an_altered_model(self, folder: Path) -> None:
        path = next((folder / "models").glob("*0.5*")) / "config.json"
        path.write_text(path.read_text() + " ")
        assert "is not the model of its record" in the_finding(folder)

    def test_wrong_requests(self, good: Path, tmp_path: Path) -> None:
        assert "give --check" in one_line(prunebench("submit", good))
        assert "is for --fresh" in one_line(prunebench("submit", good, "--check", "--text", "x.txt"))
        assert "there is no folder" in one_line(prunebench("submit", tmp_path / "x", "--check"))
        assert "holds no records" in one_line(prunebench("submit", tmp_path, "--check"))
        result = prunebench("submit", good, "--check", "--fresh", "--text", tmp_path / "x.txt")
        assert (result.exit_code, "x.txt" in one_line(result)) == (2, True)


def sparse_file(folder: Path) -> Path:
    (path,) = folder.glob("sparse/*ours--0.5*/sparse.safetensors")
    return path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of a saved model, and the digest that its record has of it."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from prunebench.records.saved_models import folder_digest

    path = sparse_file(folder)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata)
    edit(record_file(folder), lambda r: r["saved"]["forms"]["sparse"].update(digest=folder_digest(path.parent)))


def only(folder: Path) -> Path:
    """The folder with one pruned cell."""
    for path in folder.glob("*.json"):
        if path != record_file(folder):
            arrays_file(path).unlink()
            path.unlink()
            for form in ("models", "sparse"):
                shutil.rmtree(folder / form / path.stem, ignore_errors=True)
    return folder


class TestFresh:
    @pytest.mark.slow
    def test_honest_weights_are_confirmed(self, folder: Path) -> None:
        result = prunebench("submit", only(folder), "--check", "--fresh")
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert result.stderr.splitlines()[-1] == "1 record checked, 1 cell measured again: nothing is wrong"
        assert "on other text" in result.stderr

    @pytest.mark.slow
    def test_other_weights_are_not(self, folder: Path) -> None:
        def nudge(tensors: dict[str, Any]) -> None:
            name = next(name for name in tensors if name.endswith("down_proj.weight:values"))
            tensors[name] *= 0.5

        rewrite(only(folder), nudge)
        lines = findings(folder, "--fresh")
        assert any("its saved weights have the digest" in line for line in lines)
        assert any("its weights have" in line and "here, it says" in line for line in lines)

    @pytest.mark.slow
    def test_a_method_that_knows_the_text_is_found_out(self, tmp_path: Path) -> None:
        """Its record is true and whole: only text that it has not seen shows what it is."""
        suite = SUITE.replace("dense, {name: magnitude, label: ours}", "knows-the-text").replace("[0.5, 2:4]", "[0.5]")
        cheat = submission(tmp_path / "given", suite, "--plugin", Path(__file__).with_name("knows_the_text.py"))
        assert findings(cheat) == []
        told = tmp_path / "told.jsonl"
        told.write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in fresh_documents("tinyworld", "test", 10**9))
        )
        for words in ((), ("--text", told)):
            line = the_finding(cheat, "--fresh", *words)
            assert "on other text pruning costs" in line
            assert line.endswith("it knew that text")

    def test_weights_that_are_not_there_or_damaged(self, folder: Path) -> None:
        path = sparse_file(only(folder))
        rewrite(folder, lambda tensors: tensors.pop("model.norm.weight"))
        assert "differ in 1 tensors, model.norm.weight for one" in the_finding(folder, "--fresh")
        path.write_bytes(path.read_bytes()[:1000])
        assert any("cannot be read" in line for line in findings(folder, "--fresh"))
        shutil.rmtree(folder / "sparse")
        assert "run the suite with --save-models" in the_finding(folder, "--fresh")

    @pytest.mark.parametrize(
        "change",
        [
            lambda r: r["cell"]["evaluations"][0].pop("source"),
            lambda r: r["cell"]["evaluations"][0].update(windows=["stream"]),
            lambda r: r["cell"]["evaluations"][0].update(source="~nobody-of-this-name/text"),
            lambda r: r["cell"].update(source="~nobody-of-this-name/model"),
            lambda r: r["cell"].update(dtype="numbers"),
        ],
    )
    def test_odd_settings(self, folder: Path, change: Callable[[Any], object]) -> None:
        edit(record_file(only(folder)), change)
        assert any("cannot be measured again: " in line for line in findings(folder, "--fresh"))

    def test_a_dense_model_that_only_the_contributor_has(self, folder: Path, tmp_path: Path) -> None:
        edit(record_file(only(folder)), lambda r: r["cell"].update(source=str(tmp_path)))
        assert any("is a folder, not one that others have" in line for line in findings(folder, "--fresh"))
