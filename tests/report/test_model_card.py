"""The card of a saved model."""

import math
from pathlib import Path

from prunebench.records.record import SavedFacts
from prunebench.report.output.model_card import model_card, write_cards
from prunebench.yaml12 import read_yaml
from tests.helpers.records import record


class TestCard:
    def test_the_metadata_are_what_the_hub_reads(self) -> None:
        from huggingface_hub import ModelCard

        made = record("wanda", "0.9", value=12.5, revision="abc123", source="owner/name@abc123")
        card = ModelCard(model_card(made))
        assert card.data.base_model == "owner/name"
        found = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results or []}
        assert found["tinystories_eval/document-256", "perplexity"] == 12.5
        assert found["arc_easy", "acc"] == 0.25

    def test_a_broken_model_has_no_metric_and_says_so(self) -> None:
        shown = model_card(record(value=math.nan))
        front = read_yaml(shown.split("---\n")[1])
        types = [result["metrics"][0]["type"] for result in front["model-index"][0]["results"]]
        assert "perplexity" not in types
        assert "| nan" in shown.replace("  ", "").replace("|nan", "| nan")

    def test_a_local_path_is_not_told(self) -> None:
        assert "/models/stories" not in model_card(record())

    def test_names_are_text(self) -> None:
        shown = model_card(record(method="<script>alert(1)</script>\n---\nx: y"))
        assert "<script>" not in shown.split("\n---\n")[1]

    def test_it_stands_beside_both_forms(self, tmp_path: Path) -> None:
        saved = SavedFacts(dense_bytes=1000, sparse_bytes=330, bound_bytes=300)
        made = record().model_copy(update={"saved": saved})
        for form in ("models", "sparse"):
            (tmp_path / form / made.cell.id).mkdir(parents=True)
        write_cards(tmp_path, [made, record("other")])
        assert "from_pretrained" in (tmp_path / "models" / made.cell.id / "README.md").read_text()
        assert "load_sparse" in (tmp_path / "sparse" / made.cell.id / "README.md").read_text()
