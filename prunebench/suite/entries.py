"""Entries of a suite for models, calibration, allocations and the engine."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from prunebench.suite.fields import Count, FieldName, Length, Named, Noise, Place, Strict, Windows


class ModelEntry(Strict):
    """A model to prune: a builtin, a local folder, or a hub id (``id@revision``).

    Args:
        id: where it comes from.
        label: what tables call it; by default the last part of ``id``.
        dtype: float32, bfloat16, float16, or auto (what the checkpoint holds); by default auto on CUDA and float32 on
            the CPU.
        device: cpu, cuda, auto (cuda where there is one), or disk for a model larger than memory: the CPU, with one
            decoder block in memory at a time.
        trust_remote_code: let code that the model's folder brings run on this machine, with all your rights; without
            it such a model is refused. The record tells of it.
        tokenizer: where another tokenizer than the model's own is: a builtin, a local folder, or a hub id.
        attn_implementation: eager, sdpa or flex_attention, as transformers computes attention; by default its choice.
    """

    id: Place
    label: str = ""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None = None
    device: Literal["cpu", "cuda", "auto", "disk"] = "auto"
    trust_remote_code: bool = Field(default=False, strict=True)
    tokenizer: Place | None = None
    attn_implementation: Literal["eager", "sdpa", "flex_attention"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_id(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.label or Path(self.id.split("@")[0]).name


class Calibration(Strict):
    """The text that methods may use.

    Args:
        corpus: a builtin, an alias (c4, wikitext2), a hub id, or a local file: .jsonl, .json, .csv, .parquet or .txt.
        nsamples: windows a layer-wise method sees.
        seqlen: tokens in a window.
        windows: ``stream`` cuts windows from the joined documents; ``document`` takes the first ``seqlen`` tokens of
            documents that are long enough; ``random`` draws a document of more than ``seqlen`` tokens and a place in
            it, as the literature does for C4.
        split: by default train (the builtin's: calibration); a local file has none.
        field: of a file's or the hub's records that holds the text, or chats, which the tokenizer's chat template
            writes; by default ``text``, and where there is none ``messages``.
        noise: the share of letters and digits that are wrong, missing, doubled or in the other order; by default none.
    """

    corpus: Place
    nsamples: Count = 128
    seqlen: Length = 2048
    windows: Windows = "stream"
    split: str | None = None
    field: FieldName | None = None
    noise: Noise | None = None


class CalibrationChange(Strict):
    """What one method entry changes of the suite's calibration; what is not named stays.

    Args:
        corpus, nsamples, seqlen, windows, split, field, noise: as in the suite's own; another corpus has its own field
            and noise.
    """

    corpus: Place | None = None
    nsamples: Count | None = None
    seqlen: Length | None = None
    windows: Windows | None = None
    split: str | None = None
    field: FieldName | None = None
    noise: Noise | None = None


class AllocationEntry(Named):
    """How zeros are shared out among the layers.

    Args:
        name: uniform, owl, file or magnitude-global.
        label: what tables call it; by default its name, of a file the file's. Tells two entries of one name apart.
        options: its hyperparameters; what is not named has its default.
        path: of ``file``, a YAML or JSON mapping of layer names to fractions of zeros.
    """

    name: str = Field(min_length=1)
    label: str = ""
    options: dict[str, Any] = Field(default={})
    path: Place | None = None

    @model_validator(mode="after")
    def _a_file_has_a_path(self) -> "AllocationEntry":
        if (self.name == "file") != (self.path is not None):
            raise ValueError("the allocation 'file', and no other, needs a path: {name: file, path: ratios.yaml}")
        return self

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or (Path(self.path).stem if self.path else self.name)


UNIFORM = AllocationEntry(name="uniform")


class EngineEntry(Named):
    """Where the cells of a suite run; never part of what they are.

    Args:
        name: local, ray, slurm, or the engine of a plugin.
        options: of the engine; what is not named has its default.
    """

    name: str = Field(min_length=1)
    options: dict[str, Any] = Field(default={})
