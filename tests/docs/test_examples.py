"""The examples of single files: an evolutionary allocation, a divergence from the dense model, self-made text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import prunebench as pb
from prunebench.allocations.budget import budget_of, sizes_of
from prunebench.errors import UsageError
from prunebench.pruning import Unstructured
from prunebench.registry.plugin_files import plugins_in
from prunebench.testing import calibration
from prunebench.testing.models import llama
from prunebench.tinyworld import model_folder
from tests.helpers.paths import ROOT

EXAMPLES = ROOT / "docs" / "examples"
EVOLVED, KL, SELF = (EXAMPLES / f"{name}.py" for name in ("evolved", "kl_to_dense", "self_generated"))


@pytest.mark.parametrize(
    ("file", "kind", "lines"), [(EVOLVED, "allocation", 85), (KL, "evaluation", 30), (SELF, "corpus", 30)]
)
def test_a_single_file_of_few_lines(file: Path, kind: str, lines: int) -> None:
    assert list(plugins_in(file)) == [kind]
    assert len(file.read_text().splitlines()) <= lines


def load() -> Any:
    return AutoModelForCausalLM.from_pretrained(model_folder("tinyworld-llama-300k"), dtype=torch.float32)


class TestKL:
    def test_of_the_dense_model_it_is_zero(self) -> None:
        model = llama()
        cls = plugins_in(KL)["evaluation"]["kl-to-dense"]
        with torch.no_grad():
            assert cls().measure(model, None, dense=model, windows=calibration().windows) == {"nats": 0.0}

    def test_it_is_the_sum_over_the_vocabulary(self) -> None:
        model, dense = llama(), llama()
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(0.5)
            windows = calibration(nsamples=3).windows
            (found,) = plugins_in(KL)["evaluation"]["kl-to-dense"]().measure(model, None, dense, windows).values()
            p, q = (m(input_ids=windows).logits.double().softmax(-1) for m in (dense, model))
        assert found == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-4)

    def test_through_evaluate(self) -> None:
        model, dense, windows = llama(), llama(), calibration().windows
        tokenizer = AutoTokenizer.from_pretrained(model_folder("tinyworld-llama-300k"))
        pb.prune(model, None, "magnitude", 0.5)
        instance = plugins_in(KL)["evaluation"]["kl-to-dense"](count=4)
        for given in (instance, {"name": "kl-to-dense", "options": {"count": 4}}):
            scores = pb.evaluate(model, tokenizer, evaluations=[given], plugins=[KL], dense=dense, windows=windows)
            assert scores.measures["kl-to-dense"]["nats"] > 0
        with pytest.raises(UsageError, match="an evaluation asks for 'dense': pass dense="):
            pb.evaluate(model, tokenizer, evaluations=[instance], windows=windows)


class TestEvolved:
    def test_it_meets_the_budget_and_leaves_the_model_as_it_was(self) -> None:
        model = llama()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        pruned: list[str] = []

        def method(model: Any, data: Any, sparsity: Any) -> None:
            pruned.append(str(sparsity))
            for name, parameter in model.named_parameters():
                if "proj" in name:
                    parameter.data[torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) < 0.5] = 0

        rule = plugins_in(EVOLVED)["allocation"]["evolved"](generations=2, offspring=2)
        patterns = rule(model, calibration(), Unstructured(0.5), method)
        assert pruned == ["0.4", "0.45", "0.5", "0.55", "0.6"]
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        sizes = sizes_of(model)
        assert sum(patterns[name].zeros((1, size)) for name, size in sizes.items()) == budget_of(
            sizes, Unstructured(0.5)
        )

    def test_it_finds_something_better_than_uniform(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model_folder("tinyworld-llama-300k"))
        values = {}
        for allocation in ("uniform", "evolved"):
            model = load()
            given = {"calibration": "builtin/tinyworld", "nsamples": 16, "seqlen": 64, "plugins": [EVOLVED]}
            pruned = pb.prune(model, tokenizer, "wanda", 0.7, allocation=allocation, **given)
            assert pruned.counts.reached == pytest.approx(0.7, abs=1e-4)
            scores = pb.evaluate(model, tokenizer, {"corpus": "builtin/tinyworld", "seqlen": 128})
            (values[allocation],) = (facts.value for facts in scores.perplexity.values())
        assert values["evolved"] < values["uniform"]


def test_text_of_ones_own_depends_on_the_seed_alone() -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(model_folder("tinyworld-llama-300k")), load()
    corpus = plugins_in(SELF)["corpus"]["self-generated"]
    one, again, other = (next(corpus("train", model, tokenizer, seed)) for seed in (0, 0, 1))
    assert one == again != other
    before = torch.get_rng_state()
    next(corpus("train", model, tokenizer, 0))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(one.split()) > 20
    pruned = pb.prune(
        model, tokenizer, "wanda", 0.5, calibration="self-generated", nsamples=8, seqlen=64, plugins=[SELF]
    )
    assert pruned.cost.tokens_seen == 8 * 64
