"""Entries of a suite for what is measured."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from prunebench.data.text_files import is_text_file
from prunebench.pruning.sparsity import Pattern
from prunebench.suite.fields import DENSE, Count, FieldName, Length, Noise, PatternText, Place, Strict


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
    options: dict[str, Any] = Field(default={})

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
