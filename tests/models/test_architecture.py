"""Which configurations are refused before weights are read: other tasks, encoders, packed weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from transformers.models.auto import modeling_auto

from prunebench.errors import DeviceError, ModelError
from prunebench.models.architecture import check_architecture
from prunebench.models.loading import load_model
from prunebench.models.saving import save_checkpoints
from prunebench.models.source import find_model
from prunebench.pruning import Unstructured
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

CAUSAL = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
ENCODERS = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "predicts masked tokens"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "sees both sides of a token"),
        ({"model_type": "roberta"}, "sees both sides of a token"),
        ({"model_type": "modernbert"}, "sees both sides of a token"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "an encoder beside its decoder"),
        ({"model_type": "t5"}, "an encoder beside its decoder"),
        ({"model_type": "bart", "architectures": ["BartForConditionalGeneration"]}, "an encoder beside its decoder"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "as a reward model does"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}, "is quantised by gptq"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "AWQ"}}, "is quantised by awq"),
    ],
)
def test_what_is_no_causal_language_model_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_architecture("it", config)


@pytest.mark.parametrize("model_type", sorted(set(CAUSAL) - set(ENCODERS)))
def test_every_causal_model_of_transformers_passes(model_type: str) -> None:
    check_architecture("it", {"model_type": model_type, "architectures": [CAUSAL[model_type]]})
    check_architecture("it", {"model_type": model_type, "quantization_config": {"quant_method": "fp8"}})


def test_an_encoder_that_is_a_decoder_passes() -> None:
    check_architecture("it", {"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True})


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_quantised_model_is_refused_on_disk(world: Path, write_suite: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    change_config(tmp_path / "model", quantization_config={"quant_method": "fp8", "weight_block_size": [32, 32]})
    suite = load_suite(write_suite(models=f"models: [{tmp_path / 'model'}]"))
    with pytest.raises(DeviceError, match="'model' is quantised, and device 'disk' reads weights as they are stored"):
        plan(suite, device="disk")
    assert plan(suite, device="cpu")


def test_a_saved_stock_model_names_no_code(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    code = {"AutoConfig": "configuration_llama.LlamaConfig", "AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}
    change_config(tmp_path / "model", auto_map=code)
    model, tokenizer = load_model(find_model(str(tmp_path / "model")), dtype="float32", device="cpu")
    save_checkpoints(model, tokenizer, tmp_path, "cell", Unstructured(0.5))
    for form in ("models", "sparse"):
        (folder,) = (tmp_path / form).iterdir()
        assert "auto_map" not in json.loads((folder / "config.json").read_text())
    (folder,) = (tmp_path / "models").iterdir()
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
