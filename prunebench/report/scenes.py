"""Scenes: the records of a report, grouped once into what one plot or table of perplexities compares."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.records.record import Record
from prunebench.report.grouping import SettingGroup, evaluation_texts, measured_on, setting_groups, text_title


@dataclass(frozen=True)
class Scene:
    """What one plot or table of perplexities compares: the cells of one setting on one text.

    Args:
        protocol: of the text.
        title: the protocol, with the text's digest where two texts have one protocol.
        group: the cells.
        dense: perplexity of the dense model; None where it was not measured.
    """

    protocol: str
    title: str
    group: SettingGroup
    dense: float | None

    @property
    def model(self) -> str:
        """The label of the model."""
        return self.group.setting.model

    @property
    def entries(self) -> dict[tuple[str, str], list[Record]]:
        """Measured cells, one record per seed, by (method, sparsity); without those of which a seed failed."""
        return {
            key: records
            for key, records in self.group.entries.items()
            if key not in self.group.failed and all(self.protocol in record.perplexity for record in records)
        }


def scenes(records: Sequence[Record]) -> list[Scene]:
    """Group the records of a report once for all that compares perplexities: by text, model and setting.

    Args:
        records: those to show; see ``latest_records``.
    """
    found, texts = [], evaluation_texts(records)
    for protocol, digest in texts:
        title = text_title(protocol, digest, texts)
        for group in setting_groups(measured_on(records, protocol, digest)):
            known = [r for r in group.baselines.values() if protocol in r.perplexity]
            untouched = [r for r in known if not any(effort.backward_tokens for effort in r.effort)]
            dense = next((record.perplexity[protocol].value for record in untouched or known), None)
            found.append(Scene(protocol, title, group, dense))
    return found
