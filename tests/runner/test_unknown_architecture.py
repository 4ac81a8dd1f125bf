"""A model that cannot be pruned is refused before anything runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from tests.helpers.command_line import prunebench


@pytest.mark.parametrize("words", [["plan"], ["run", "--in-process"], ["run"]])
def test_an_unknown_architecture_is_refused_at_planning(
    words: list[str], world: Path, write_suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words == ["run"]:
        monkeypatch.delenv("PRUNEBENCH_IN_PROCESS")
    config = transformers.LongcatFlashConfig(
        vocab_size=64, hidden_size=32, ffn_hidden_size=48, num_layers=2, num_attention_heads=4, num_key_value_heads=4,
        kv_lora_rank=8, q_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=4,
        moe_topk=2, expert_ffn_hidden_size=16, zero_expert_num=1, max_position_embeddings=64,
    )  # fmt: skip
    folder = tmp_path / "longcat"
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((world / "model" / file).read_bytes())
    suite = write_suite(models=f"models: [{folder}]")
    output = ["--output", str(tmp_path / "results")]
    result = prunebench(words[0], suite, *output, *words[1:])
    assert result.exit_code == 2
    assert "error: model longcat cannot be pruned: LongcatFlashForCausalLM: expected one list of" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "results").glob("*.json"))
