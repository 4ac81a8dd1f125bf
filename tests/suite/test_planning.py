"""From a suite to cells: axes, ids, and what is refused before anything runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.errors import SuiteError, UsageError
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

Write = Callable[..., Path]


def cells_of(path: Path, **options: Any) -> tuple[Cell, ...]:
    return plan(load_suite(path), **options)


class TestPlan:
    def test_axes(self, write_suite: Write) -> None:
        path = write_suite(
            seeds="seeds: [0, 1]",
            methods="methods: [dense, magnitude, wanda, {name: wanda, label: w9, sparsities: [0.9], seeds: [5]}]",
        )
        runs = [(cell.method, str(cell.sparsity), cell.seed) for cell in cells_of(path)]
        # Dense once; magnitude takes no data, so that one seed says it all.
        assert runs == [
            ("dense", "0", 0),
            *[("magnitude", sparsity, 0) for sparsity in ("0.5", "2:4")],
            *[("wanda", sparsity, seed) for sparsity in ("0.5", "2:4") for seed in (0, 1)],
            ("w9", "0.9", 5),
        ]

    def test_cells_are_plain_json(self, write_suite: Write) -> None:
        for cell in cells_of(write_suite()):
            text = cell.model_dump_json(exclude={"id", "key"})
            assert Cell.model_validate_json(text) == cell
            assert Cell.model_validate_json(text).id == cell.id

    def test_no_path_enters_an_id(self, write_suite: Write, world: Path, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere"
        shutil.copytree(world, moved)
        here = [cell.id for cell in cells_of(write_suite())]
        there = write_suite(
            models=f"models: [{moved / 'model'}]",
            calibration=f"calibration: {{corpus: {moved / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}",
            evaluations=f"evaluations: [{{name: perplexity, corpus: {moved / 'test.jsonl'}, seqlen: 16}}]",
        )
        assert [cell.id for cell in cells_of(there)] == here
        with (moved / "calibration.jsonl").open("a") as file:
            file.write('{"text": "w1 w2"}\n')
        assert not set(here) & {cell.id for cell in cells_of(there)}

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("models", "models: [{{id: {world}/model, label: model, dtype: bfloat16}}]"),
            ("calibration", "calibration: {{corpus: {world}/calibration.jsonl, nsamples: 9, seqlen: 16}}"),
            ("evaluations", "evaluations: [{{name: perplexity, corpus: {world}/test.jsonl, seqlen: 12}}]"),
        ],
    )
    def test_an_id_changes_with_what_can_change_the_outcome(
        self, write_suite: Write, world: Path, name: str, line: str
    ) -> None:
        before, after = cells_of(write_suite()), cells_of(write_suite(**{name: line.format(world=world)}))
        assert not {cell.id for cell in before} & {cell.id for cell in after}
        assert [cell.key for cell in before] == [cell.key for cell in after]

    def test_an_option_changes_the_id_but_not_the_key(self, write_suite: Write) -> None:
        plain, other, default = (
            cells_of(write_suite(methods=f"methods: [{{name: sparsegpt, options: {options}}}]"))[0]
            for options in ("{}", "{blocksize: 64}", "{blocksize: 128}")
        )
        assert plain.id != other.id
        assert plain.key == other.key
        assert plain.id == default.id
        assert plain.options == {"percdamp": 0.01, "blocksize": 128}

    def test_an_evaluation_may_be_for_some_models(self, write_suite: Write, world: Path) -> None:
        one, other = (
            f"{{name: perplexity, corpus: {world}/test.jsonl, seqlen: 16, windows: {windows}{models}}}"
            for windows, models in (("stream", ""), ("stream-bos", ", models: [b]"))
        )
        models = "models: [" + ", ".join(f"{{id: {world}/model, label: {label}}}" for label in "ab") + "]"
        cells = cells_of(write_suite(models=models, evaluations=f"evaluations: [{one}, {other}]"))
        measured = {cell.model: [evaluation.facts["protocol"] for evaluation in cell.evaluations] for cell in cells}
        assert measured == {"a": ["test/stream-16"], "b": ["test/stream-16", "test/stream-bos-16"]}
        alone = cells_of(write_suite(models=models, evaluations=f"evaluations: [{one}]"))
        assert [cell.id for cell in alone if cell.model == "a"] == [cell.id for cell in cells if cell.model == "a"]
        with pytest.raises(SuiteError, match="no evaluation is for the model 'a': name it in 'models' of one"):
            cells_of(write_suite(models=models, evaluations=f"evaluations: [{other}]"))

    def test_an_evaluation_may_be_for_some_sparsities(self, write_suite: Write, world: Path) -> None:
        """Dense models are what all else is compared with: all evaluations are for them."""
        entry = f"name: perplexity, corpus: {world}/test.jsonl, seqlen: 16"
        one, other = f"{{{entry}}}", f"{{{entry}, windows: stream-bos, sparsities: [2:4]}}"
        cells = cells_of(write_suite(evaluations=f"evaluations: [{one}, {other}]"))
        measured = {str(cell.sparsity): len(cell.evaluations) for cell in cells}
        assert measured == {"0": 2, "0.5": 1, "2:4": 2}
        alone = cells_of(write_suite(evaluations=f"evaluations: [{one}]"))
        assert [str(old.sparsity) for old, new in zip(alone, cells, strict=True) if old.id == new.id] == ["0.5", "0.5"]
        with pytest.raises(SuiteError, match=r"no evaluation is for 'model' at 0.5: name 0.5 in 'sparsities' of one"):
            cells_of(write_suite(evaluations=f"evaluations: [{other}]"))
        with pytest.raises(SuiteError, match=r"'perplexity' is for sparsity 0.6, and no method is"):
            cells_of(write_suite(evaluations=f"evaluations: [{one}, {other.replace('2:4', '0.6')}]"))

    def test_noise_in_calibration_text_is_another_text(self, write_suite: Write, world: Path) -> None:
        place = f"calibration: {{corpus: {world}/calibration.jsonl, nsamples: 8, seqlen: 16"
        entry = "{name: wanda, label: other, calibration: {corpus: " + f"{world}/test.jsonl" + "}}"
        plain = cells_of(write_suite(methods=f"methods: [wanda, {entry}]"))
        noisy = cells_of(write_suite(methods=f"methods: [wanda, {entry}]", calibration=f"{place}, noise: 0.1}}"))
        assert [cell.calibration.corpus for cell in noisy] == ["calibration-noise-0.1"] * 2 + ["test"] * 2
        assert [old.id == new.id for old, new in zip(plain, noisy, strict=True)] == [False, False, True, True]
        assert "noise" not in plain[0].model_dump(mode="json")["calibration"]
        with pytest.raises(SuiteError, match=r"calibration.noise: Input should be less than 1"):
            cells_of(write_suite(calibration=f"{place}, noise: 5}}"))

    def test_only(self, write_suite: Write) -> None:
        assert {cell.method for cell in cells_of(write_suite(), only=["wanda"])} == {"wanda"}
        with pytest.raises(SuiteError, match=r"--only 'wnda': .*did you mean 'wanda'"):
            cells_of(write_suite(), only=["wnda"])

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ({"methods": "methods: [wnada]"}, "unknown method 'wnada': did you mean 'wanda'"),
            ({"methods": "methods: [{name: sparsegpt, options: {dampening: 0.1}}]"}, "no option 'dampening'"),
            ({"methods": "methods: [{name: sparsegpt, options: {blocksize: many}}]"}, "must be of type int"),
            ({"models": "models: [./no/such/folder]"}, "no/such/folder"),
            ({"models": "models: [builtin/tinyworld-llama-7b]"}, "tinyworld-llama-7b"),
            ({"calibration": "calibration: {corpus: none.jsonl}"}, "none.jsonl"),
            ({"evaluations": "evaluations: [{name: zero_shot, tasks: [tinyworld_recal]}]"}, "tinyworld_recal"),
            ({"evaluations": "evaluations: [{name: zero_shot, tasks: [a], include_path: nowhere}]"}, "nowhere"),
        ],
    )
    def test_what_is_not_there_is_refused_before_anything_runs(
        self, write_suite: Write, lines: dict[str, str], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            cells_of(write_suite(**lines))
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
    def test_a_device_that_is_not_there(self, write_suite: Write) -> None:
        with pytest.raises(UsageError, match="cuda"):
            cells_of(write_suite(), device="cuda")

    def test_an_empty_corpus(self, write_suite: Write, tmp_path: Path) -> None:
        (tmp_path / "empty.jsonl").write_text("")
        with pytest.raises(UsageError, match=r"empty\.jsonl"):
            cells_of(write_suite(calibration="calibration: {corpus: empty.jsonl}"))

    def test_two_corpora_of_one_name(self, write_suite: Write, world: Path, tmp_path: Path) -> None:
        shutil.copy(world / "calibration.jsonl", tmp_path / "test.jsonl")
        entries = ", ".join(
            f"{{name: perplexity, corpus: {corpus}, seqlen: 16}}" for corpus in (world / "test.jsonl", "test.jsonl")
        )
        with pytest.raises(SuiteError, match="two evaluations are both 'test/stream-16'"):
            cells_of(write_suite(evaluations=f"evaluations: [{entries}]"))
