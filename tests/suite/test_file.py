"""Suite files: what is read, and what is refused with which words."""

from pathlib import Path

import pytest

from prunebench.errors import ModelError, SuiteError
from prunebench.models.source import find_model
from prunebench.suite.file import load_suite
from prunebench.suite.schema import Suite
from prunebench.yaml12 import read_yaml
from tests.helpers.paths import GOLDEN_SUITE

SUITES = Path(__file__).parents[2] / "suites"
MINIMAL = {
    "name": "name: small",
    "models": "models: [builtin/tinyworld-llama-1m]",
    "calibration": "calibration: {corpus: text.jsonl, nsamples: 8, seqlen: 16}",
    "sparsities": "sparsities: [0.5]",
    "methods": "methods: [magnitude]",
    "evaluations": "evaluations: [{name: perplexity, corpus: text.jsonl, seqlen: 16}]",
}


def suite_of(folder: Path, *overrides: str, **lines: str) -> Suite:
    path = folder / "suite.yaml"
    path.write_text("\n".join({**MINIMAL, **lines}.values()))
    return load_suite(path, overrides)


@pytest.mark.parametrize("path", sorted(SUITES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(SUITES)))
def test_the_suites_that_come_with_prunebench(path: Path) -> None:
    assert load_suite(path).name


def test_the_golden_suite() -> None:
    """Every key there is, as a file would hold it."""
    suite = load_suite(GOLDEN_SUITE)
    assert tuple(map(str, suite.sparsities)) == ("0.7", "0.9", "2:4")
    assert [model.name for model in suite.models] == ["tinyworld-llama-1m", "mine"]
    assert suite.models[1].id == str((GOLDEN_SUITE.parent / "../models/mine").resolve())
    assert suite.methods[1].options == {"percdamp": 0.001, "blocksize": 64}
    assert suite.methods[1].title == "sparsegpt-damped"
    assert tuple(map(str, suite.methods[1].sparsities)) == ("0.9",)
    assert [entry.title for entry in suite.allocation] == ["uniform"]
    assert suite.methods[1].allocation is not None
    assert [entry.title for entry in suite.methods[1].allocation] == ["owl-layer", "mine"]
    assert suite.methods[1].allocation[1].path == str((GOLDEN_SUITE.parent / "ratios/mine.yaml").resolve())
    assert suite.methods[1].calibration is not None
    assert suite.methods[1].calibration.nsamples == 32
    assert suite.evaluations[1].corpus == str((GOLDEN_SUITE.parent / "text/stories.jsonl").resolve())  # type: ignore[union-attr]
    assert Suite.model_validate_json(suite.model_dump_json()) == suite


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2:4", "2:4"),
        ("1e-3", 0.001),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("0.70", 0.7),
        ("017", 17),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-02", "2026-01-02"),
        ("true", True),
        ("null", None),
        ("'1e-3'", "1e-3"),
        (".inf", float("inf")),
        ("12_000", "12_000"),
    ],
)
def test_yaml_is_read_as_a_person_reads_it(written: str, read: object) -> None:
    assert read_yaml(f"x: {written}") == {"x": read}


def test_unquoted_patterns_and_exponents_work(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path,
        sparsities="sparsities: [2:4, 1e-1, '0.50', 0]",
        methods="methods: [{name: sparsegpt, options: {percdamp: 1e-3}}]",
    )
    assert tuple(map(str, suite.sparsities)) == ("2:4", "0.1", "0.5", "0")
    assert suite.methods[0].options == {"percdamp": 0.001}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"x": "sparsity: [0.5]"}, "unknown key 'sparsity': did you mean 'sparsities'?"),
        (
            {"calibration": "calibration: {corpus: a.txt, nsample: 3}"},
            "calibration: unknown key 'nsample': did you mean 'nsamples'",
        ),
        (
            {"methods": "methods: [{name: wanda, option: {}}]"},
            "methods.0: unknown key 'option': did you mean 'options'",
        ),
        ({"sparsities": "sparsities: [1.2]"}, r"sparsity 1.2 is outside \[0, 1\): give the fraction of zeros"),
        ({"sparsities": "sparsities: ['4:2']"}, "pattern 4:2 keeps 4 of every 2: n must be 1 to m"),
        ({"sparsities": "sparsities: [true]"}, "sparsity True is neither"),
        ({"sparsities": "sparsities: []"}, "sparsities: "),
        ({"methods": "methods: [wanda, wanda]"}, "two methods are called 'wanda': give each a label"),
        ({"methods": "methods: [{name: wanda, label: x}, {name: admm, label: x, sparsities: [0.9]}]"}, "two methods"),
        ({"methods": "methods: [{name: wanda, models: [m, 3m]}]"}, "'wanda' is for the model 'm'"),
        (
            {"evaluations": "evaluations: [{name: perplexity, corpus: a.txt, seqlen: 8, models: [m]}]"},
            "the evaluation 'perplexity' is for the model 'm'",
        ),
        ({"models": "models: [a/x, b/x]"}, "two models are called 'x'"),
        ({"name": "name: a/b"}, "name: "),
        ({"name": "names: a"}, "unknown key 'names': did you mean 'name'"),
        ({"seeds": "seeds: [-1]"}, r"seeds.0: .*greater than or equal to 0, got -1"),
        ({"evaluations": "evaluations: [{name: perplexty, corpus: a.txt}]"}, "perplexty.*perplexity, zero_shot"),
        ({"evaluations": "evaluations: [{name: [perplexity]}]"}, r"unknown evaluation \['perplexity'\]"),
        ({"evaluations": "evaluations: [{name: {}}]"}, r"unknown evaluation \{\}"),
        ({"sparsities": f"sparsities: ['2:{'9' * 100}']"}, "has more digits than can matter"),
        ({"models": f"models: [{'m' * 300}]"}, "is longer than a path can be"),
        ({"sparsities": "sparsities: [1e-300]"}, "has more digits than can matter"),
        ({"evaluations": "evaluations: [{name: perplexity, corpus: a.txt}]"}, "windows: stream needs a seqlen"),
        ({"evaluations": "evaluations: [{name: zero_shot, tasks: []}]"}, "tasks"),
        ({"allocation": "allocation: [3]"}, "allocation.0: "),
        ({"models": "models: [{id: x, dtype: fp8}]"}, "dtype: .*'float32', 'bfloat16', 'float16' or 'auto', got 'fp8'"),
        ({"name": "name: [}"}, "no valid YAML: line 1"),
        ({"x": "name: twice"}, "the key 'name' stands twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: dict[str, str], message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        suite_of(tmp_path, **lines)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_files_that_are_no_suites(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"cannot read the suite .*No such file"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(SuiteError, match="must be a mapping"):
        load_suite(tmp_path / "list.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match="no text file in UTF-8"):
        load_suite(tmp_path / "binary.yaml")


def test_a_home_that_is_not_there(tmp_path: Path) -> None:
    somewhere = "~nobody-of-this-name/model"
    suite = suite_of(tmp_path, models=f"models: ['{somewhere}']")
    assert suite.models[0].id == str(tmp_path.resolve() / somewhere)
    with pytest.raises(ModelError, match="is not a folder"):
        find_model(somewhere)


def test_overrides(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path,
        "calibration.nsamples=3",
        "sparsities=[0.9, 2:4]",
        "methods.0.options.blocksize=64",
        "evaluations.perplexity.seqlen=8",
        methods="methods: [{name: sparsegpt}]",
    )
    assert suite.calibration.nsamples == 3
    assert tuple(map(str, suite.sparsities)) == ("0.9", "2:4")
    assert suite.methods[0].options == {"blocksize": 64}
    assert suite.evaluations[0].seqlen == 8  # type: ignore[union-attr]


def test_an_override_names_a_label_with_dots(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path,
        "methods.wanda 0.5.sparsities=[0.9]",
        "methods.wanda 2.1M.then.0.options.lr=0.01",
        "models.owner/model-1.5.label=b",
        models="models: [{id: owner/model-1.5}, owner/other]",
        methods="methods: [{name: wanda, label: wanda 0.5}, {name: wanda, label: wanda 2.1M, then: [{name: retrain}]}]",
    )
    assert [str(sparsity) for sparsity in suite.methods[0].sparsities] == ["0.9"]
    assert suite.methods[1].then[0].options == {"lr": 0.01}
    assert [model.name for model in suite.models] == ["b", "other"]


def test_an_override_changes_one_place_and_not_what_an_alias_shares(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path,
        "methods.1.options.percdamp=0.5",
        methods="methods: [{name: sparsegpt, options: &x {percdamp: 0.1}}, {name: sparsegpt, label: b, options: *x}]",
    )
    assert [entry.options["percdamp"] for entry in suite.methods] == [0.1, 0.5]


def test_a_long_override_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as caught:
        suite_of(tmp_path, f"x{'=['}{'y' * 5000}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nsamples", "is no key=value"),
        ("methods.wandb.options={}", "there is no 'wandb'"),
        ("methods.wanda 0.5.options={}", "there is no 'wanda 0'"),
        ("name=[", "no valid YAML"),
        ("calibration.nsample=3", "unknown key 'nsample'"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        suite_of(tmp_path, override)


def test_one_label_for_entries_of_other_models_and_sparsities(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path,
        models="models: [a/x, b/y]",
        sparsities="sparsities: [0.5, 0.9]",
        methods="methods: [{name: wanda, models: [x]}, {name: wanda, models: [y], sparsities: [0.5]},"
        " {name: wanda, models: [y], sparsities: [0.9]}]",
    )
    assert [entry.title for entry in suite.methods] == ["wanda"] * 3
    with pytest.raises(SuiteError, match="two methods are called 'wanda'"):
        suite_of(tmp_path, methods="methods: [wanda, {name: wanda, sparsities: [0.5]}]")


def test_one_label_for_entries_of_other_allocations(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, methods="methods: [wanda, {name: wanda, allocation: owl}]")
    assert [entry.title for entry in suite.methods] == ["wanda"] * 2
    with pytest.raises(SuiteError, match="two methods are called 'wanda'"):
        suite_of(tmp_path, methods="methods: [wanda, {name: wanda, allocation: [owl, uniform]}]")


@pytest.mark.parametrize("entry", ["{name: owl, label: uniform}", "{name: file, path: uniform.yaml}"])
def test_no_other_allocation_is_called_uniform(tmp_path: Path, entry: str) -> None:
    """Baselines have the uniform one, so that its name is taken in every suite."""
    with pytest.raises(SuiteError, match="two allocations are called 'uniform': give each a label of its own"):
        suite_of(tmp_path, allocation=f"allocation: {entry}")
