"""The conformance kit: every rule can fail, with a message that helps, and the runner fails the cell."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from prunebench import hookimpl
from prunebench.contract.rules import RULES
from prunebench.errors import MethodError, UnknownMethodError, UsageError
from prunebench.pruning import FeatureNorm, calibrated, prunable
from prunebench.registry.method_class import MethodClass
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.testing import Verdict, check
from prunebench.testing.trials import Processes
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import BROKEN_METHODS, CHEATING_METHODS

# (method of tests/helpers/broken_methods.py, the rule it breaks, what is measured)
BROKEN = [
    ("thawed", "loads", "Thawed is a dataclass that is not frozen"),
    ("misspells", "loads", "the argument 'sparsty' of prune has a default"),
    ("untold", "options", "the option 'power' has no entry under Args:"),
    ("mistyped", "options", "the default of 'power' is '1', which is no float"),
    ("demanding", "options", "the option 'power' has no default"),
    ("raises", "runs", "RuntimeError: out of ideas (broken_methods.py, line "),
    ("too-little", "zeros", "layers.2.mlp.down_proj holds 0 zeros where 768 of 1536 were asked for"),
    ("too-much", "zeros", "layers.0.self_attn.q_proj holds 513 zeros where 512 of 1024 were asked for"),
    ("by-ratio", "zeros", "zeros where"),
    ("groupless", "groups", "keeps 4 weights in a group of 4 where 2 are allowed"),
    ("moves-masks", "held", "the mask of model.layers.0.self_attn.q_proj was changed, and the method says mask ="),
    ("not-a-number", "finite", "holds NaN or infinity"),
    ("touches-embeddings", "unchanged", "embed_tokens.weight was changed"),
    ("changes-dtype", "tensors", "and is torch.float16"),
    ("shrinks", "tensors", "q_proj.weight was torch.float32 (32, 32) on cpu and is torch.float32 (16, 32)"),
    ("wraps", "tensors", "the prunable matrices are not as they were found: "),
    ("leaves-hook", "hooks", "1 hooks or patched forwards were left"),
    ("leaves-train-mode", "mode", "left in another mode"),
    ("turns-cache-off", "use_cache", "config.use_cache was True"),
    ("draws-globally", "generators", "a global random generator was used"),
    ("writes-to-data", "data", "the calibration data was changed"),
    ("remembers", "state", "Remembers.masks was written to, which would leak into the next cell"),
    ("prints", "stdout", "8 characters were printed to stdout, beginning with 'pruned!'"),
    ("writes-late", "order", "q_proj held 0 zeros where 512 were asked for when the next layer was asked for"),
    ("hoards", "memory", "bytes were alive at once beyond the model, and the ceiling is"),
    ("dices", "deterministic", "weights of model.layers.0.self_attn.q_proj.weight differ"),
    ("carries", "resumes", "of model.layers.2."),
    ("scales", "nothing", "weights of model.layers.0.self_attn.q_proj.weight differ"),
    ("unties", "tied", "the output embeddings are no longer the input embeddings' parameter"),
    ("unties-config", "reload", "saved and loaded again, 2048 of 2048 weights of lm_head.weight differ"),
]

# Other rules that a breach breaks besides.
BESIDES = {
    "too-little": {"groups"},
    "too-much": {"nothing"},
    "touches-embeddings": {"nothing"},
    "shrinks": {"nothing", "reload"},
    "wraps": {"hooks", "mode"},
    "changes-dtype": {"nothing", "reload"},
    "draws-globally": {"deterministic"},
    "writes-late": {"resumes"},
    "unties": {"tensors", "reload"},
}


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """Shared by all checks of this module: starting them takes seconds."""
    with Processes() as started:
        yield started


def test_every_rule_can_fail() -> None:
    assert {rule for _, rule, _ in BROKEN} == set(RULES)


@pytest.mark.parametrize(("name", "rule", "measured"), BROKEN, ids=[name for name, *_ in BROKEN])
def test_a_breach_is_told_with_its_rule_its_measure_and_its_mending(name: str, rule: str, measured: str) -> None:
    found = check(name, architectures=["llama"], patterns=["0.5", "2:4"], files=[BROKEN_METHODS], in_process=True)
    assert not found.holds
    verdict = found.verdicts[rule]
    assert measured in verdict.breaches[0][1]
    assert RULES[rule].mend in str(verdict)
    told = {other.rule.name for other in found.verdicts.values() if not other.holds}
    assert told <= {rule, *BESIDES.get(name, ())}


@pytest.mark.parametrize("name", ["misspells", "raises", "prints", "carries", "hoards", "unties-config", "wraps"])
def test_the_verdict_is_the_same_from_processes_of_its_own(name: str, processes: Processes) -> None:
    where: dict[str, Any] = {"architectures": ["llama"], "patterns": ["0.5"], "files": [BROKEN_METHODS]}
    here, apart = check(name, in_process=True, **where), check(name, processes=processes, **where)
    assert [str(verdict) for verdict in apart.verdicts.values()] == [str(verdict) for verdict in here.verdicts.values()]


def test_what_one_architecture_hides_another_shows(processes: Processes) -> None:
    assert check(
        "llama-only", architectures=["llama"], patterns=["0.5"], files=[BROKEN_METHODS], processes=processes
    ).holds
    both = check(
        "llama-only", architectures=["llama", "gpt2"], patterns=["0.5"], files=[BROKEN_METHODS], processes=processes
    )
    verdict = both.verdicts["runs"]
    assert verdict.breaches[0][0] == "gpt2 at 0.5"
    assert "AttributeError" in verdict.breaches[0][1]


@dataclass(frozen=True)
class Trains:
    """Takes a step against the loss, with its mask fixed, whatever the sparsity."""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        batch = next(data.batches(2))
        layers = list(prunable(model, sparsity))
        with torch.enable_grad():
            parameters = [layer.parameter for layer, _ in layers]
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            gradients = torch.autograd.grad(loss, parameters)
        for (layer, target), gradient in zip(layers, gradients, strict=True):
            kept = target.mask(layer.weight.abs())
            layer.weight.sub_(layer.view(gradient), alpha=0.01)
            layer.weight.masked_fill_(~kept, 0)


@dataclass(frozen=True)
class LooksFirst:
    """One walk that only looks, then one that prunes."""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        walk = calibrated(model, data, sparsity, FeatureNorm, resume=False)  # the sum of all is wanted
        total = sum(float(norm.value.sum()) for _, norm, _ in walk)
        for layer, norm, target in calibrated(model, data, sparsity, FeatureNorm):
            layer.weight.masked_fill_(~target.mask(layer.weight.abs() * norm.value / (1 + total)), 0)


@dataclass(frozen=True)
class OnlyGroups:
    """Keeps the largest of each group; is for n:m alone."""

    patterns: ClassVar[tuple[str, ...]] = ("n:m",)

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            assert ":" in str(target.pattern)
            layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)


@pytest.mark.parametrize("cls", [Trains, LooksFirst, OnlyGroups])
def test_what_is_legitimate(cls: type) -> None:
    found = check(MethodClass(cls.__name__.lower(), cls, "somewhere", "1"), architectures=["llama"])
    assert found.holds, [str(verdict) for verdict in found.verdicts.values() if not verdict.holds]
    assert found.skipped == (("0.5", "0.83") if cls is OnlyGroups else ())
    assert found.verdicts["nothing"].tried == (cls is LooksFirst)
    assert found.verdicts["order"].tried


def test_a_method_is_tried_only_with_what_it_is_for() -> None:
    method = MethodClass("only-groups", OnlyGroups, "somewhere", "1")
    assert check(method, architectures=["llama"], patterns=["0.5", "2:4"]).skipped == ("0.5",)
    with pytest.raises(UsageError, match=r"the method 'only-groups' is for n:m sparsity, not for 0\.5"):
        check(method, architectures=["llama"], patterns=["0.5"])


@pytest.mark.slow
def test_the_runner_fails_the_cell_and_goes_on(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / BROKEN_METHODS.name
    file.write_text(BROKEN_METHODS.read_text() + "\n# a module of its own, in which nothing has run yet\n")
    breaches = {name: measured for name, rule, measured in BROKEN if RULES[rule].every_cell and rule != "loads"}
    del breaches["moves-masks"]  # is never alone; see tests/runner/test_stages.py
    del breaches["by-ratio"]  # right where all layers are asked for the same
    del breaches["wraps"]  # told by another rule first
    path = write_suite(methods=f"methods: [{', '.join(breaches)}, magnitude]", sparsities="sparsities: [0.5, 2:4]")
    cells = plan(load_suite(path), plugin_files=[file])
    records = run_suite(cells, tmp_path / "out", SilentDisplay())
    for name, measured in breaches.items():
        messages = [r.error.message for r in records if r.cell.method == name and r.error is not None]
        assert messages, name
        assert any(measured.removeprefix("RuntimeError: ") in message for message in messages), (name, messages)
    assert [record.status for record in records[-2:]] == ["ok", "ok"]


def test_a_method_that_does_not_load_is_refused_before_anything_runs(write_suite: Callable[..., Path]) -> None:
    with pytest.raises(MethodError, match="the argument 'sparsty' of prune has a default"):
        plan(load_suite(write_suite(methods="methods: [misspells, magnitude]")), plugin_files=[BROKEN_METHODS])


def test_wrong_requests(processes: Processes) -> None:
    with pytest.raises(UnknownMethodError, match="did you mean 'magnitude'"):
        check("magnitud", processes=processes)
    with pytest.raises(UsageError, match="unknown architecture 'lama': did you mean 'llama'"):
        check("magnitude", architectures=["lama"])
    with pytest.raises(UsageError, match=r"sparsity 1\.5 is outside"):
        check("magnitude", patterns=["1.5"])
    with pytest.raises(MethodError, match="has no option 'pwer'"):
        check("magnitude", {"pwer": 1}, processes=processes)


def test_a_verdict_reads_as_one_would_say_it() -> None:
    assert str(Verdict(RULES["zeros"], 4)) == "zeros: holds (4 trials)"
    assert str(Verdict(RULES["zeros"], 4, (("llama at 0.5", "x holds 3 zeros"),))).splitlines() == [
        "zeros: fails (1 breach in 4 trials)",
        "  promised: each prunable matrix holds exactly the zeros asked for",
        "  measured: x holds 3 zeros (llama at 0.5)",
        "  to mend:  set to zero what target.mask(scores) does not keep, and keep nothing else at zero",
    ]


# (method of tests/helpers/cheating_methods.py, the rule that it does not get around, what is measured)
CHEATING = [
    ("patches-the-checks", "zeros", "holds 0 zeros where 512 of 1024 were asked for"),
    ("patches-at-import", "zeros", "holds 0 zeros where 512 of 1024 were asked for"),
    ("tells-lies", "zeros", "holds 0 zeros where 512 of 1024 were asked for"),
    ("puts-back", "zeros", "holds 0 zeros where 512 of 1024 were asked for"),
    ("leaves", "runs", "SystemExit: sys.exit(0) was called"),
    ("crashes", "runs", "the process was killed by SIGSEGV"),
    ("vanishes", "runs", "the process ended with exit status 0"),
]


@pytest.mark.parametrize(("name", "rule", "measured"), CHEATING, ids=[name for name, *_ in CHEATING])
def test_a_method_cannot_change_its_verdict(name: str, rule: str, measured: str, processes: Processes) -> None:
    found = check(name, architectures=["llama"], patterns=["0.5"], files=[CHEATING_METHODS], processes=processes)
    assert measured in found.verdicts[rule].breaches[0][1]
    assert "CHEATING_METHODS_WERE_IMPORTED" not in os.environ
    assert not [name for name in sys.modules if CHEATING_METHODS.stem in name]


def test_an_import_that_kills_its_process_is_a_method_that_does_not_load(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "deadly.py").write_text("import os\n\nos._exit(0)\n")
    found = check("deadly", files=[tmp_path / "deadly.py"], processes=processes)
    assert "the process ended with exit status 0" in found.verdicts["loads"].breaches[0][1]
