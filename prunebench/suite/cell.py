"""The cell: one unit of a sweep, as plain JSON."""

import hashlib
import json
import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, computed_field

from prunebench.evaluation.interface import BoundEvaluation
from prunebench.records.record import SCHEMA, PublishedFigure
from prunebench.suite.allocations import CellAllocation
from prunebench.suite.schema import PatternText, Sparing, Strict, Windows


class CellCalibration(Sparing):
    """Calibration text, found: ``corpus`` is its name, ``source`` where it lies, ``digest`` the SHA-256 of it.

    ``plugin_file`` is where its corpus plugin is, if that is not installed; ``made`` says that the model makes it.
    """

    corpus: str
    source: str
    split: str | None
    nsamples: int
    seqlen: int
    windows: Windows
    digest: str
    plugin_file: str | None = None
    made: bool = False
    spared: ClassVar[tuple[str, ...]] = ("plugin_file", "made")


class CellEvaluation(BaseModel):
    """An evaluation to make: its name, and the facts that it resolved to when the suite was planned."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings")

    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """Name and facts as plain JSON."""
        return self.model_dump(mode="json")

    def bound(self) -> BoundEvaluation:
        """The evaluation itself.

        Raises:
            MethodError: it is not installed, or refuses its options.
        """
        return BoundEvaluation.from_facts(self.facts)


class Cell(Strict):
    """One model, pruned by one method to one sparsity from one seed, and how it is measured.

    ``key`` is what tables and comparisons match on; it is stable when a default changes. ``id`` decides whether a
    record is still good: it depends on everything that can change the outcome and on no path.

    ``allocation`` is what tables call how the zeros are shared out, ``allocation_rule`` what does it; None is uniform.
    ``plugin_file`` and ``wrapper_files`` are Python files that its method and wrappers are read from.
    ``published`` is what others found for the cell. ``trust_remote_code`` lets code that the model brings run.
    """

    model: str
    source: str
    revision: str | None
    dtype: str
    device: str
    model_digest: str
    method: str
    plugin: str
    distribution: str
    version: str
    plugin_file: str | None = None
    wrapper_files: tuple[str, ...] = ()
    options: dict[str, Any]
    sparsity: PatternText
    allocation: str
    allocation_rule: CellAllocation | None = None
    seed: int
    calibration: CellCalibration
    evaluations: tuple[CellEvaluation, ...]
    published: tuple[PublishedFigure, ...] = ()
    trust_remote_code: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """(model, method, sparsity, allocation, seed, calibration corpus)."""
        return (self.model, self.method, str(self.sparsity), self.allocation, self.seed, self.calibration.corpus)

    @property
    def skipped(self) -> tuple[CellEvaluation, ...]:
        """Evaluations that are not made, since a model on disk never is in memory as a whole."""
        if self.device != "disk":
            return ()
        return tuple(evaluation for evaluation in self.evaluations if evaluation.bound().needs_whole_model)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """A readable slug and a short hash; the name of the record's file."""
        content = self.model_dump(
            mode="json", exclude={"id", "source", "revision", "device", "plugin_file", "wrapper_files", "published"}
        )
        for part in (content["calibration"], *content["evaluations"]):
            for name in ("source", "include_path", "batch_size", "plugin_file", "corpus_file", "made"):
                part.pop(name, None)
        if self.allocation_rule is None:
            del content["allocation_rule"]
        else:
            content["allocation_rule"].pop("plugin_file", None)
        if not self.trust_remote_code:
            del content["trust_remote_code"]
        if self.skipped:  # else its record would pass for one that has them
            content["skipped"] = len(self.skipped)
        text = json.dumps([SCHEMA, content], sort_keys=True, ensure_ascii=False)
        shared = () if self.allocation_rule is None else (self.allocation,)
        words = (self.model, self.method, str(self.sparsity).replace(":", "of"), *shared, f"s{self.seed}")
        slug = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-.") or "x" for word in words)
        return f"{slug[:96]}--{hashlib.sha256(text.encode()).hexdigest()[:10]}"
