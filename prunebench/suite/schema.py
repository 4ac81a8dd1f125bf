"""The suite: what a file asks for, checked and complete."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from prunebench.data.text_files import is_text_file
from prunebench.errors import quoted, suggest
from prunebench.pruning.sparsity import NM, Pattern, PatternError, Unstructured, parse_pattern
from prunebench.registry.entry_points import EVALUATIONS, sources


def _fits_a_file_system(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > 4000 or any(
        len(part.encode("utf-8", "replace")) > 255 for part in text.split("/")
    ):
        raise ValueError(f"{quoted(text)} is longer than a path can be (4000 bytes, 255 a part): give a shorter one")
    return text


Place = Annotated[str, Field(min_length=1), AfterValidator(_fits_a_file_system)]
"""A path, or what may be one: a model, a corpus."""
FieldName = Annotated[str, Field(min_length=1)]
Noise = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Windows = Literal["stream", "document", "random"]
Count = Annotated[int, Field(gt=0)]
Length = Annotated[int, Field(gt=1)]
MOST_COMBINATIONS = 100_000
"""Of a grid: more were never meant to be listed."""


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and names the nearest valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {quoted(key)}: {suggest(str(key)[:80], cls.model_fields)}")
        return value


class Sparing(Strict):
    """A part of a cell that leaves out of its JSON those later fields that are at their defaults.

    So records of before and after such a field was added say the same.
    """

    spared: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        return {k: v for k, v in content.items() if k not in self.spared or v not in (fields[k].default, [])}


def _pattern(value: Any) -> Pattern:
    """A sparsity as people write it, 0.9 or 2:4."""
    if isinstance(value, Unstructured | NM):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"sparsity {quoted(value)} is neither a fraction of zeros in [0, 1), as 0.9, nor n:m, as 2:4")
    try:
        pattern = parse_pattern(str(value)) if len(str(value)) <= 40 else None
    except PatternError as error:
        raise ValueError(str(error)) from None
    if pattern is None or len(str(pattern)) > 40:  # 1e-300 has few digits until it is written out
        raise ValueError(f"sparsity {quoted(value)} has more digits than can matter")
    return pattern


PatternText = Annotated[
    Pattern, PlainValidator(_pattern), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
"""A sparsity: a pattern in memory, its text ("0.9", "2:4") in files."""
DENSE = Unstructured(0.0)


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


class AllocationEntry(Strict):
    """How zeros are shared out among the layers.

    Args:
        name: uniform, owl, file or magnitude-global.
        label: what tables call it; by default its name, of a file the file's. Tells two entries of one name apart.
        options: its hyperparameters; what is not named has its default.
        path: of ``file``, a YAML or JSON mapping of layer names to fractions of zeros.
    """

    name: str = Field(min_length=1)
    label: str = ""
    options: dict[str, Any] = {}
    path: Place | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

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


def _entries(value: Any) -> Any:
    """One entry or several, as several."""
    return value if value is None or isinstance(value, list | tuple) else [value]


class EvaluationEntry(Strict):
    """What all entries of evaluations have in common: a name, for which cells they are, and options by name."""

    axes: ClassVar[tuple[str, ...]] = ("models", "sparsities")
    name: str
    models: tuple[str, ...] | None = Field(default=None, min_length=1)
    sparsities: tuple[PatternText, ...] | None = Field(default=None, min_length=1)

    @property
    def given_options(self) -> Mapping[str, Any]:
        """The options that the entry gives, by name; those that come with prunebench have them as keys of their own."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("name", *self.axes)}

    def is_for(self, model: str, sparsity: Pattern = DENSE) -> bool:
        """Whether a model is measured.

        Args:
            model: by its label.
            sparsity: that it is pruned to; dense models are measured by all that is for some sparsity.
        """
        asked = self.sparsities is None or sparsity == DENSE or sparsity in self.sparsities
        return asked and (self.models is None or model in self.models)

    def located(self, locate: Callable[[str], str]) -> Self:
        """The same entry with paths counted from the suite file.

        Args:
            locate: makes a relative path absolute.
        """
        return self


class PerplexityEntry(EvaluationEntry):
    """Perplexity of a corpus under a named protocol.

    Args:
        name: perplexity.
        models: labels of those of the suite's models that it is for; by default all.
        sparsities: those of the suite's that it is for, beside dense models; by default all.
        corpus: as in calibration.
        seqlen: tokens in a window, or scored of a document; None (documents only) scores all of it.
        windows: ``stream``, ``document``, or ``paper`` (the procedure that papers use for this corpus);
            ``stream-bos`` and ``paper-bos`` put BOS in the place of each window's first token; ``paper-random`` draws
            windows of C4's documents, as ALPS does.
        split: by default test (c4: validation); a local file has none.
        field: as in calibration.
        limit: how many windows or documents of ``seqlen`` tokens are scored, from the first on; by default all.
        noise: as in calibration.
    """

    label: ClassVar[str] = ""
    name: Literal["perplexity"]
    corpus: Place
    seqlen: Length | None = None
    windows: Literal["stream", "document", "paper", "stream-bos", "paper-bos", "paper-random"] = "stream"
    split: str | None = None
    field: FieldName | None = None
    limit: Count | None = None
    noise: Noise | None = None

    @model_validator(mode="after")
    def _windows_have_a_length(self) -> "PerplexityEntry":
        if self.windows.startswith("stream") and self.seqlen is None:
            raise ValueError(f"windows: {self.windows} needs a seqlen, as 2048")
        return self

    def located(self, locate: Callable[[str], str]) -> Self:
        """The same entry with the path of a local corpus counted from the suite file."""
        return self.model_copy(update={"corpus": locate(self.corpus)}) if is_text_file(self.corpus) else self


class ValidationText(PerplexityEntry):
    """The text that trials are measured on.

    Args:
        name: perplexity, which need not be said.
        models, sparsities: no keys of it: every trial is measured.
        corpus, seqlen, windows, split, field, limit, noise: as of an evaluation ``perplexity``.
    """

    name: Literal["perplexity"] = "perplexity"
    models: None = None
    sparsities: None = None

    @field_validator("models", "sparsities", mode="before")
    @classmethod
    def _for_every_trial(cls, value: Any, info: ValidationInfo) -> None:
        if value is not None:
            what = "model" if info.field_name == "models" else "sparsity"
            raise ValueError(
                f"trials are measured on every {what}: leave out {info.field_name!r}; an entry may name its own"
            )


class Tune(Strict):
    """A search for an entry's options before its cells run.

    Every combination of the grid's values is a trial: a cell that is measured on the validation text alone. Its record
    is kept in ``trials/``. The combination with the lowest loss there is what the suite's cells run with.

    Args:
        grid: the values to try, by option; ``retrain.lr`` is the option ``lr`` of a method ``retrain`` that follows.
        text: what trials are measured on; no text of the suite's own evaluations.
        trials: how many combinations are tried: by default all, else a draw that is always the same.
        sparsities: at which trials run, by default all of the entry's; another one takes the choice of the nearest.
        seeds: of the trials; by default the first of the entry's.
        like: in place of all that: the label of another entry, whose trials choose this one's options too.
    """

    grid: dict[str, tuple[Any, ...]] = {}
    text: ValidationText | None = None
    trials: Count | None = None
    sparsities: tuple[PatternText, ...] | None = Field(default=None, min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    like: str = ""

    @field_validator("grid", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """``retrain: {lr: ...}`` says the same as ``retrain.lr: ...``, and what comes later replaces it."""
        if not isinstance(value, dict):
            return value
        flat: dict[Any, Any] = {}
        for name, values in value.items():
            flat |= (
                {f"{name}.{option}": v for option, v in values.items()} if isinstance(values, dict) else {name: values}
            )
        for name, values in flat.items():
            if not isinstance(values, list | tuple) or not values:
                raise ValueError(
                    f"{name} is to be tried with {quoted(values)}: give a list of values, as [0.001, 0.01]"
                )
        return flat

    @field_validator("grid")
    @classmethod
    def _each_value_once(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for name, values in grid.items():
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise ValueError(f"{name} is to be tried twice with {quoted(value)}: name each value once")
        return grid

    @model_validator(mode="after")
    def _grid_or_like(self) -> "Tune":
        if self.like:
            for name, field in type(self).model_fields.items():
                if name != "like" and getattr(self, name) != field.default:
                    raise ValueError(f"like takes another entry's trials, so that {name!r} has no place beside it")
            return self
        if not self.grid:
            raise ValueError("there is nothing to try: give a grid, as {lr: [0.001, 0.01]}, or like: LABEL")
        combinations = math.prod(len(values) for values in self.grid.values())
        if combinations > MOST_COMBINATIONS:
            raise ValueError(
                f"the grid has {combinations} combinations, more than {MOST_COMBINATIONS}: name fewer values"
            )
        if self.trials is not None and self.trials > combinations:
            raise ValueError(f"{self.trials} trials of a grid that has {combinations} combinations: ask for fewer")
        if self.text is None:
            raise ValueError("a text is missing that trials are measured on, as {corpus: FILE, seqlen: 128}")
        return self


class StageEntry(Strict):
    """A method that follows another on the model which that has pruned.

    Args:
        name: an installed method that says what it does with the masks that it finds.
        options: its hyperparameters; what is not named has the method's default.
    """

    name: str = Field(min_length=1)
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class MethodEntry(Strict):
    """A method, its options, and what it narrows of the suite's axes.

    Args:
        name: an installed method.
        then: methods that follow it, one after another, on the model that it has pruned.
        label: what tables call it, by default the names joined by plus signs; tells two entries of one method apart.
            Entries for different models, sparsities or allocations may share it: one method, tuned for each.
        options: the method's hyperparameters; what is not named has the method's default.
        models: labels of those of the suite's models that it is for; by default all.
        sparsities, allocation, seeds, calibration: in place of the suite's.
        tune: a search for its options on a validation text, before its cells run.
    """

    name: str = Field(min_length=1)
    then: tuple[StageEntry, ...] = ()
    label: str = ""
    options: dict[str, Any] = {}
    models: tuple[str, ...] | None = Field(default=None, min_length=1)
    sparsities: tuple[PatternText, ...] | None = None
    allocation: tuple[AllocationEntry, ...] | None = None
    seeds: tuple[int, ...] | None = None
    calibration: CalibrationChange | None = None
    tune: Tune | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("allocation", "then", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return _entries(value)

    @property
    def names(self) -> tuple[str, ...]:
        """The methods of all its stages."""
        return (self.name, *(stage.name for stage in self.then))

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or "+".join(self.names)


class ZeroShotEntry(EvaluationEntry):
    """Tasks measured by lm-eval; the names are lm-eval's own.

    Args:
        name: zero_shot.
        models: labels of those of the suite's models that it is for; by default all.
        sparsities: those of the suite's that it is for, beside dense models; by default all.
        tasks: task or group names.
        limit: first documents of each task: a count, or a fraction below 1.
        num_fewshot: examples in the prompt; by default the task's own number.
        include_path: a folder of task files, besides those of lm-eval.
        batch_size: requests in one forward pass; auto is the largest that fits a GPU's memory, and 32 on the CPU.
        apply_chat_template: put each question into the tokenizer's chat template.
        fewshot_as_multiturn: worked examples as turns of the chat; by default where the template is applied.
        gen_kwargs: of tasks that let the model write: arguments of its generation, as max_gen_toks, temperature or
            do_sample, in place of a task's own.
        trust_remote_code: let code that the task files bring (``!function``, metrics to be fetched, templates that
            reach Python's internals) run on this machine, with all your rights; without it such tasks are refused.
            The record tells of it.
        noise: the share of letters and digits that are changed in what the model reads before its answer, as in
            calibration; results stand under the task's name with ``-noise-`` and the share behind it.
    """

    label: ClassVar[str] = ""
    name: Literal["zero_shot"]
    tasks: tuple[str, ...] = Field(min_length=1)
    limit: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    include_path: Place | None = None
    batch_size: Count | Literal["auto"] = 32
    apply_chat_template: bool = Field(default=False, strict=True)
    fewshot_as_multiturn: Annotated[bool, Field(strict=True)] | None = None
    gen_kwargs: Annotated[dict[str, bool | int | float | str | list[str] | None], Field(min_length=1)] | None = None
    trust_remote_code: bool = Field(default=False, strict=True)
    noise: Noise | None = None

    @model_validator(mode="after")
    def _turns_are_of_a_chat(self) -> "ZeroShotEntry":
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn: true needs apply_chat_template: true, whose turns the examples are")
        if self.noise is not None and self.apply_chat_template:
            raise ValueError("noise would change the words of the chat template, too: leave out one of the two")
        return self

    def located(self, locate: Callable[[str], str]) -> Self:
        """The same entry with the folder of task files counted from the suite file."""
        return self.model_copy(update={"include_path": locate(self.include_path)}) if self.include_path else self


class PluginEntry(EvaluationEntry):
    """A measurement that a plugin brings.

    Args:
        name: an installed evaluation.
        models: labels of those of the suite's models that it is for; by default all.
        sparsities: those of the suite's that it is for, beside dense models; by default all.
        label: what tables call it; tells two entries of one evaluation apart.
        options: its options; what is not named has its default.
    """

    name: str = Field(min_length=1)
    label: str = ""
    options: dict[str, Any] = {}

    @property
    def given_options(self) -> Mapping[str, Any]:
        """The options that the entry gives."""
        return self.options


def _kind_of_evaluation(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else getattr(entry, "name", None)
    return name if name in ("perplexity", "zero_shot") else "plugin"


Evaluation = Annotated[
    Annotated[PerplexityEntry, Tag("perplexity")]
    | Annotated[ZeroShotEntry, Tag("zero_shot")]
    | Annotated[PluginEntry, Tag("plugin")],
    Discriminator(_kind_of_evaluation),
]


class EngineEntry(Strict):
    """Where the cells of a suite run; never part of what they are.

    Args:
        name: local, ray, slurm, or the engine of a plugin.
        options: of the engine; what is not named has its default.
    """

    name: str = Field(min_length=1)
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Suite(Strict):
    """Models × methods × sparsities × seeds, and how to measure them.

    Args:
        name: of the suite, and of its results folder.
        description: what it is for.
        models: what to prune.
        calibration: the text that methods may use.
        sparsities: fractions of zeros, as 0.9, or n:m with n kept of every m inputs, as 2:4.
        allocation: how zeros are shared out among the layers.
        seeds: one cell each, for methods that take data.
        methods: what to compare.
        evaluations: what to measure of each pruned model.
        published: a CSV file of figures from elsewhere, or several, to be shown beside ours; a cell may have figures of
            several sources. See ``prunebench.suite.published``.
        timeout: seconds, or a text as 90s, 30m, 2h, 1d, after which a cell fails; by default none.
        memory_limit: bytes, or a text as 20GiB, of resident memory above which a cell fails; by default none.
        engine: where cells run; by default on this machine.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    calibration: Calibration
    sparsities: tuple[PatternText, ...] = Field(min_length=1)
    allocation: tuple[AllocationEntry, ...] = Field(default=(UNIFORM,), min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    methods: tuple[MethodEntry, ...] = Field(min_length=1)
    evaluations: tuple[Evaluation, ...] = Field(min_length=1)
    published: Place | Annotated[tuple[Place, ...], Field(min_length=1)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    memory_limit: Annotated[ByteSize, Field(gt=0)] | None = None
    engine: EngineEntry | None = None

    @property
    def published_files(self) -> tuple[str, ...]:
        """The files of published figures."""
        return (self.published,) if isinstance(self.published, str) else self.published or ()

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhd])\s*", value)
        if not match:
            raise ValueError(f"{quoted(value)} is no duration: give seconds, or a text as 90s, 30m, 2h or 1d")
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]

    @field_validator("allocation", mode="before")
    @classmethod
    def _allocations(cls, value: Any) -> Any:
        return _entries(value)

    @field_validator("evaluations", mode="before")
    @classmethod
    def _known_evaluations(cls, value: Any, info: ValidationInfo) -> Any:
        names = sources(EVALUATIONS, (info.context or {}).get("plugin_files", ()))
        for entry in value if isinstance(value, list | tuple) else ():
            name = entry.get("name") if isinstance(entry, dict) else getattr(entry, "name", entry)
            if not isinstance(name, str) or name not in names:
                raise ValueError(f"unknown evaluation {quoted(name)}: {suggest(str(name)[:80], names)}")
        return value

    @model_validator(mode="after")
    def _labels_are_told_apart(self) -> "Suite":
        allocations = [UNIFORM]  # baselines have it, whatever the suite asks for
        for row in (self.allocation, *(entry.allocation or () for entry in self.methods)):
            allocations += [entry for entry in row if entry not in allocations]
        for kind, labels in (
            ("models", [entry.name for entry in self.models]),
            (
                "methods",
                [entry.title for entry in self.methods if any(self._entries_overlap(entry, x) for x in self.methods)],
            ),
            ("allocations", [entry.title for entry in allocations]),
        ):
            if twice := sorted({label for label in labels if labels.count(label) > 1}):
                raise ValueError(f"two {kind} are called {twice[0]!r}: give each a label of its own")
        return self

    def _entries_overlap(self, one: MethodEntry, other: MethodEntry) -> bool:
        """Whether two entries of one label would make the same cell, or are of different methods."""
        if one is other or one.title != other.title:
            return False
        every = tuple(entry.name for entry in self.models)
        models, sparsities = (
            {*(getattr(one, axis) or all_)} & {*(getattr(other, axis) or all_)}
            for axis, all_ in (("models", every), ("sparsities", self.sparsities))
        )
        own, others = ({rule.title for rule in entry.allocation or self.allocation} for entry in (one, other))
        return one.names != other.names or bool(models and sparsities and own & others)

    @model_validator(mode="after")
    def _narrowed_sparsities_are_there(self) -> "Suite":
        asked = [sparsity for entry in self.methods for sparsity in entry.sparsities or self.sparsities]
        for entry in self.evaluations:
            for sparsity in entry.sparsities or ():
                if sparsity not in asked:
                    raise ValueError(
                        f"the evaluation {entry.label or entry.name!r} is for sparsity {sparsity}, and no method is: "
                        f"{suggest(str(sparsity), dict.fromkeys(map(str, asked)))}"
                    )
        return self

    @model_validator(mode="after")
    def _narrowed_models_are_there(self) -> "Suite":
        names = [entry.name for entry in self.models]
        for kind, title, models in (
            *(("method", entry.title, entry.models) for entry in self.methods),
            *(("evaluation", entry.label or entry.name, entry.models) for entry in self.evaluations),
        ):
            for name in models or ():
                if name not in names:
                    raise ValueError(f"the {kind} {title!r} is for the model {name!r}: {suggest(name, names)}")
        for name in names:
            if not any(entry.is_for(name) for entry in self.evaluations):
                raise ValueError(f"no evaluation is for the model {name!r}: name it in 'models' of one")
        return self
