"""Parts of other libraries that they do not promise to keep, and that this program relies on.

A release that moves one fails here, by name, rather than in the middle of a sweep. ``pyproject.toml`` keeps releases
that may move them out (``transformers<6``, ``lm-eval<0.5``, ``torch<2.14``).
"""

import inspect
import re
import tomllib
from importlib import import_module
from typing import Any

import pytest
import torch
import transformers

from prunebench.pruning.experts import INTERFACE
from prunebench.testing.models import mixtral
from tests.helpers.paths import ROOT

PRIVATE = {
    "transformers": [
        "pytorch_utils:Conv1D",
        "models.auto.configuration_auto:CONFIG_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
        "models.auto.modeling_auto:MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
        "conversion_mapping:get_model_conversion_mapping",
        "core_model_loading:WeightConverter",
        "core_model_loading:WeightRenaming",
        "core_model_loading:convert_and_load_state_dict_in_model",
        "core_model_loading:rename_source_key",
        "core_model_loading:revert_weight_conversion",
        "modeling_utils:LoadStateDictConfig",
        "utils.logging:is_progress_bar_enabled",
    ],
    "lm_eval": [
        "api.task:tqdm",
        "api.model:tqdm",
        "models.huggingface:tqdm",
        "models.huggingface:HFLM",
        "tasks:TaskManager",
        "tasks._index:Entry.__dataclass_fields__",
        "api.registry:metric_registry",
        "utils:env",
        "utils:apply_template",
    ],
    "huggingface_hub": [
        "constants:HF_HUB_OFFLINE",
        "constants:ENDPOINT",
        "constants:is_offline_mode",
        "utils.tqdm:are_progress_bars_disabled",
    ],
    "datasets": ["config:HF_HUB_OFFLINE", "are_progress_bars_disabled", "Dataset.from_parquet"],
    "accelerate": ["init_empty_weights"],
}


def resolve(library: str, name: str) -> Any:
    module, _, attribute = name.rpartition(":")
    found: Any = import_module(f"{library}.{module}" if module else library)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("library", "name"), [(library, name) for library, names in PRIVATE.items() for name in names])
def test_a_part_that_is_relied_on_is_there(library: str, name: str) -> None:
    assert resolve(library, name) is not None


def test_experts_offer_the_interface_that_pruning_uses() -> None:
    experts = next(module for name, module in mixtral().named_modules() if name.endswith("experts"))
    assert all(hasattr(experts, name) for name in INTERFACE)
    assert experts.get_parameter("gate_up_proj").dim() == experts.get_parameter("down_proj").dim() == 3


def test_blocks_are_converted_by_transformers_own_functions() -> None:
    from transformers import core_model_loading as loading

    def required(function: Any) -> list[str]:
        parameters = inspect.signature(function).parameters.values()
        return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]

    given = {"model", "state_dict", "load_config", "tp_plan"}
    assert set(required(loading.convert_and_load_state_dict_in_model)) <= given
    assert len(required(loading.revert_weight_conversion)) == 2
    assert 3 <= len(required(loading.rename_source_key)) <= 5


def test_decoders_keep_logits_of_chosen_positions_alone() -> None:
    assert "logits_to_keep" in inspect.signature(transformers.LlamaForCausalLM.forward).parameters


def test_lm_eval_takes_a_loaded_model_and_keeps_what_is_read_of_its_tasks() -> None:
    from lm_eval import evaluate
    from lm_eval.api.task import Task
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    assert {"pretrained", "tokenizer", "batch_size"} <= set(inspect.signature(HFLM).parameters)
    assert {"lm", "task_dict", "limit", "bootstrap_iters", "log_samples"} <= set(inspect.signature(evaluate).parameters)
    assert {"include_path", "include_defaults"} <= set(inspect.signature(TaskManager).parameters)
    assert hasattr(Task, "set_fewshot_seed")
    manager = TaskManager(include_defaults=False)
    assert all(hasattr(manager, name) for name in ("task_index", "all_tasks", "load"))


def test_saved_tensors_and_versions_are_told_by_torch() -> None:
    tensor = torch.zeros(2)
    before = tensor._version
    tensor.detach().add_(1)
    assert tensor._version == before + 1
    assert hasattr(torch.autograd.graph, "saved_tensors_hooks")


def test_each_of_these_libraries_has_a_floor_and_those_that_move_a_ceiling() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[\[<>=]", entry)[0]: entry for entry in project["dependencies"]}
    for name in ("torch", "transformers", "lm-eval"):
        assert ">=" in wanted[name]
        assert ",<" in wanted[name]
    assert all(">=" in entry for entry in wanted.values())


def test_production_code_replaces_nothing_by_mocks() -> None:
    for path in [*(ROOT / "prunebench").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        assert "unittest" not in path.read_text(encoding="utf-8"), path
