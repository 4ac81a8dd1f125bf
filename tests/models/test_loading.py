"""Finding, checking and loading models."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunebench.errors import DeviceError, ModelError
from prunebench.models.config import check_config
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model, load_skeleton
from prunebench.models.source import find_model, pick_device, pick_dtype
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.tinyworld import MODELS, model_folder
from tests.helpers import tiny
from tests.helpers.paths import SHARED, needs_shared
from tests.helpers.text import tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mine"
    tiny.llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "mine"))


@pytest.mark.parametrize("name", MODELS)
def test_a_builtin_model_would_pass_the_check_that_it_is_spared(name: str) -> None:
    check_config(f"builtin/{name}", model_folder(name), trust_remote_code=False)


def refused(folder: Path) -> str:
    """The message with which a folder is refused, by whichever function sees what is wrong."""
    with pytest.raises(ModelError) as caught:
        load_model(find_model(str(folder)), dtype="float32", device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_local_folder(folder: Path) -> None:
    source = find_model(str(folder))
    assert (source.source, source.folder, source.revision) == (str(folder), folder, None)
    model, words = load_model(source, dtype="float32", device="cpu")
    assert not model.training
    assert model.dtype == torch.float32
    assert words("a")["input_ids"] == [1, 4]
    assert weights_digest(model) == weights_digest(tiny.llama())


def test_the_digest_is_that_of_the_content(folder: Path, tmp_path: Path) -> None:
    before = find_model(str(folder)).digest
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("says nothing about the model")
    assert find_model(str(moved)).digest == before
    (moved / "generation_config.json").write_text('{"repetition_penalty": 1.3}')
    generating = find_model(str(moved)).digest
    assert generating != before
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert find_model(str(moved)).digest not in (before, generating)


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "no readable config.json" in refused(folder)


def test_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "config.json is not JSON" in refused(folder)


def test_unknown_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "lama"}))
    assert "model_type 'lama'" in refused(folder)


def test_an_architecture_that_is_no_language_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    assert "cannot be loaded" in refused(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in refused(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin, a pickle" in refused(folder)


@pytest.mark.parametrize("size", [0, 4, 200, -1000])
def test_truncated_weights(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert "fetch it again" in refused(folder)


def test_missing_shard(folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00001-of-00002.safetensors" in refused(folder)


@pytest.mark.parametrize("shard", ["../mine/model.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "..", "\0"])
def test_an_index_leads_nowhere_else(folder: Path, shard: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    assert "is no .safetensors file of its folder" in refused(folder)


@pytest.mark.parametrize("content", ["[]", '{"model_type": []}', "[" * 5000, '{"model_type": 3}', "\udcff"])
def test_configurations_that_are_none(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    refused(folder)


@pytest.mark.parametrize("offsets", ['["a", "b"]', "[1]", "3", "{}"])
def test_headers_that_are_none(folder: Path, offsets: str) -> None:
    header = f'{{"x": {{"data_offsets": {offsets}}}}}'.encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b" ")
    assert "is not a whole safetensors file" in refused(folder)


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
class MineConfig(LlamaConfig):
    model_type = "mine"
class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""


@pytest.fixture
def own_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that brings code; what transformers copies of it goes to the test's own folder."""
    modules = str(folder.parent / "modules")
    for place in ("transformers.dynamic_module_utils", "transformers.utils.hub"):
        monkeypatch.setattr(f"{place}.HF_MODULES_CACHE", modules, raising=False)
    monkeypatch.syspath_prepend(modules)
    names = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": names, "architectures": ["MineForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(CODE)
    return folder


class TestCodeOfItsOwn:
    def test_it_is_refused_and_the_flag_named(self, own_code: Path) -> None:
        assert "not run unless its entry in the suite says trust_remote_code: true" in refused(own_code)

    def test_it_runs_where_it_is_trusted(self, own_code: Path) -> None:
        source = find_model(str(own_code), trust_remote_code=True)
        model, _ = load_model(source, dtype="float32", device="cpu")
        assert type(model).__name__ == "MineForCausalLM"
        assert type(load_skeleton(source)).__name__ == "MineForCausalLM"
        (own_code / "mine.py").write_text(CODE + "# another\n")
        assert find_model(str(own_code), trust_remote_code=True).digest != source.digest

    def test_code_from_elsewhere_is_refused_even_then(self, own_code: Path) -> None:
        config = json.loads((own_code / "config.json").read_text())
        config["auto_map"]["AutoConfig"] = "someone/else--mine.MineConfig"
        (own_code / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="runs code from another repository"):
            find_model(str(own_code), trust_remote_code=True)

    def test_of_a_tokenizer(self, folder: Path) -> None:
        place = folder / "tokenizer_config.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"auto_map": {"AutoTokenizer": ["x.X", None]}}))
        assert "trust_remote_code: true" in refused(folder)

    def test_the_cell_tells_of_it_and_other_ids_stay(self, world: Path, write_suite: Callable[..., Path]) -> None:
        plain, trusted = (
            plan(load_suite(write_suite(models=f"models: [{{id: {world / 'model'}, trust_remote_code: {flag}}}]")))[0]
            for flag in ("false", "true")
        )
        assert plain.id == plan(load_suite(write_suite()))[0].id != trusted.id
        assert trusted.model_dump()["trust_remote_code"] is True


def change_config(folder: Path, **keys: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))


def test_an_adapter_would_change_the_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x/y"}))
    assert "holds an adapter (adapter_config.json)" in refused(folder)
    (folder / "config.json").unlink()
    assert "merge it into the weights" in refused(folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"_attn_implementation": "kernels-community/flash-attn"},
        {"attn_implementation": "someone/attention@main:forward"},
        {"_attn_implementation_internal": "paged|someone/attention"},
        {"attn_implementation": {"": "sdpa", "text_config": "someone/attention"}},
        {"text_config": {"_attn_implementation": "kernels-community/flash-attn"}},
        {"attn_implementation": "flash_attention_2"},
        {"experts_implementation": "sonicmoe"},
    ],
)
def test_kernels_of_the_hub_are_never_fetched(folder: Path, keys: dict[str, object]) -> None:
    change_config(folder, **keys)
    assert "a kernel that would be fetched from the hub and is part of no digest" in refused(folder)


@pytest.mark.parametrize("name", ["eager", "sdpa", None])
def test_attention_that_is_installed_may_be_named(folder: Path, name: str | None) -> None:
    change_config(folder, attn_implementation=name)
    load_model(find_model(str(folder)), dtype="float32", device="cpu")


def test_a_missing_tensor_is_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing or of the wrong shape, model.layers.1.mlp.up_proj.weight" in refused(folder)


def test_a_tensor_of_the_wrong_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert refused(folder)


def test_missing_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(folder)


def test_names_that_are_nowhere(tmp_path: Path) -> None:
    for source in (str(tmp_path / "nothing"), "./nothing", "../no/model"):
        with pytest.raises(ModelError, match="is not a folder"):
            find_model(source)
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        find_model("not a model")
    with pytest.raises(ModelError, match="did you mean 'builtin/tinyworld-llama-1m'"):
        find_model("builtin/tinyworld-lama-1m")


@pytest.mark.parametrize("source", ["facebook/opt-125m", "facebook/opt-125m@main"])
def test_hub_id_without_network_fails_fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(ModelError, match=r"facebook/opt-125m.*does not answer") as caught:
        find_model(source)
    assert time.monotonic() - begin < 5
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.rglob("*.*")]


def test_hub_id_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--some--model"
    shutil.copytree(whole, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("prunebench.hub.is_reachable", lambda: False)
    for source in ("some/model", f"some/model@{commit}"):
        assert find_model(source).revision == commit


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match="'cuda' was asked for"):
        pick_device("cuda")
    with pytest.raises(DeviceError, match="did you mean 'cuda'"):
        pick_device("cude")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"


def test_dtypes() -> None:
    assert pick_dtype(None, "cpu") == "float32"
    assert pick_dtype(None, "cuda") == "auto"
    assert pick_dtype("bfloat16", "cpu") == "bfloat16"
    with pytest.raises(ModelError, match="did you mean 'bfloat16'"):
        pick_dtype("bfloat", "cpu")


def test_dtype_of_the_checkpoint(folder: Path) -> None:
    tiny.llama().to(torch.bfloat16).save_pretrained(folder)
    source = find_model(str(folder))
    assert load_model(source, dtype="auto", device="cpu")[0].dtype == torch.bfloat16
    assert load_model(source, dtype="float32", device="cpu")[0].dtype == torch.float32


def test_weights_digest() -> None:
    model = tiny.llama()
    digest = weights_digest(model)
    assert digest == weights_digest(tiny.llama())
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    assert weights_digest(model) != digest
    assert weights_digest(tiny.llama().to(torch.bfloat16)) != digest


def test_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(find_model(str(folder)), dtype="float32", device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.shared
@needs_shared
def test_a_real_model() -> None:
    source = find_model(str(SHARED / "models/stories260K"))
    model, words = load_model(source, dtype="float32", device="cpu")
    assert sum(parameter.numel() for parameter in model.parameters()) == 260_032
    assert words("Once")["input_ids"][0] == 1
