"""The part of a record that says what ran: the cell, its stages, its pattern, and what others published for it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def _check_id(name: str) -> str:
    if name.endswith(".failed"):
        raise ValueError("it ends like the name of a failed record's file")
    return name


# A cell's id is part of file names: it may not contain a path.
CellId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=200), AfterValidator(_check_id)
]


def replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which plugins and file names may hold and which cannot be written as UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(replace_surrogates)]


class RecordPart(BaseModel):
    """Base of the parts of a record. Unknown keys are preserved: an older version loses nothing of a newer record."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings", populate_by_name=True)


def _check_evaluation(evaluation: dict[str, Any]) -> dict[str, Any]:
    tasks = evaluation.get("tasks", [])
    if not isinstance(tasks, list | tuple) or not all(isinstance(task, str) for task in tasks):
        raise ValueError("tasks are no list of names")
    if evaluation.get("name") == "zero_shot" and not tasks:
        raise ValueError("zero_shot has no tasks")
    noise = evaluation.get("noise")
    if tasks and noise is not None and not isinstance(noise, int | float):
        raise ValueError(f"noise is no number: {noise!r}")
    return evaluation


def task_title(task: str, noise: float | None) -> str:
    """What the results of a task, or of a group, stand under: its name, and the noise that was in its questions."""
    return task if noise is None else f"{task}-noise-{noise:g}"


def task_titles(evaluation: Mapping[str, Any]) -> list[str]:
    """What the results of the tasks that an evaluation asks for stand under; none where it asks for none."""
    return [task_title(str(task), evaluation.get("noise")) for task in evaluation.get("tasks", ())]


class PublishedFigure(RecordPart):
    """A perplexity that somebody else published for a cell.

    Args:
        corpus: the text that it was measured on.
        seqlen: window length in tokens; null if unknown.
        protocol: the protocol of prunebench that measures the same; null if there is none or it is unknown.
        perplexity: the published value.
        source: where it was published.
        note: anything else worth knowing.
        exponent: a fraction, as "2047/2048", where theirs is the mean loss times this before exp is taken: some code
            divides the sum over seqlen - 1 predicted tokens by seqlen. Null where it is 1 or unknown.
        tolerance: the part of it by which a reproduction may differ; null where none is stated.
    """

    corpus: str
    seqlen: int | None
    protocol: str | None
    perplexity: float
    source: str
    note: str = ""
    exponent: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}/[1-9][0-9]{0,8}$")] | None = None
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None

    @property
    def comparable(self) -> float:
        """The perplexity without that exponent."""
        above, _, below = (self.exponent or "1/1").partition("/")
        return float(self.perplexity ** (int(below) / int(above)))


class StageFacts(RecordPart):
    """One method of a cell; a cell is pruned by one stage or by several, one after another.

    Args:
        method: the label of the method's entry, else its name.
        plugin: the name under which the method is installed.
        options: all of the method's options, defaults included.
        code: digest of the method's code, or the revision that its class states; null if unknown.
    """

    method: str
    plugin: str
    options: dict[str, Any]
    code: str | None = None


class PatternFacts(RecordPart):
    """The pattern of the zeros that was asked for.

    Args:
        kind: "unstructured", or "n:m" (n kept of every m).
        text: the pattern as a suite has it, "0.9" or "2:4".
    """

    kind: str
    text: str


class TuningFacts(RecordPart):
    """How a cell's options were chosen.

    Args:
        trials: how many combinations of options were tried.
        tokens: what each trial was trained on, as ``effort.backward_tokens``: one number for each combination and seed;
            null where they were not counted, as of one that failed.
        seconds: of wall clock that the trials took to prune, all together.
        text: the protocol of the validation text, on which the chosen combination had the lowest mean loss.
        split: of the corpus that this text is; null where the suite names none.
        sparsity: at which they were tried.
        like: the label of the entry whose trials they are; null where they are the cell's own entry's.
        options: the combination that was chosen, by option; "retrain.lr" is one of a method that follows.
    """

    trials: Annotated[int, Field(ge=1)]
    tokens: tuple[Annotated[int, Field(ge=0)] | None, ...]
    seconds: Annotated[float, Field(ge=0)]
    text: str
    split: str | None = None
    sparsity: str
    like: str | None = None
    options: dict[str, Any]


class SuiteFacts(RecordPart):
    """The suite that a cell was run for: the first one, where several have it.

    Args:
        name, description: as the suite has them.
    """

    name: Text
    description: Text = ""


class CellFacts(RecordPart):
    """The cell as it ran; see ``prunebench.suite.cell.Cell``.

    Args:
        id: a readable slug and a short hash of everything that can change the outcome; the name of the record's file.
        key: model, method, sparsity, allocation, seed, calibration corpus: what tables and comparisons match cells by.
        model: the model's label.
        revision: commit on the hub; null for a local folder or a builtin.
        method: the label of the method's entry, else its name.
        options: all of the method's options, defaults included.
        stages: the methods that pruned the model, in their order; one where the cell has one method.
        sparsity: as requested, "0.9" or "2:4"; "0" for a baseline.
        pattern: the same, with its kind.
        allocation: how the zeros are distributed over the layers.
        seed: the only source of randomness.
        calibration: corpus, split, nsamples, seqlen, windows and digest of the calibration text.
        evaluations: what was measured, each with its protocol, tasks or options.
        published: published figures for the cell.
        tuning: how the options were chosen, if trials chose them.
        suite: the suite that it was run for.
    """

    id: CellId
    key: tuple[str, str, str, str, int, str]
    model: str
    revision: str | None
    method: str
    options: dict[str, Any]
    stages: Annotated[tuple[StageFacts, ...], Field(min_length=1)]
    sparsity: str
    pattern: PatternFacts
    allocation: str
    seed: int
    calibration: dict[str, Any]
    evaluations: tuple[Annotated[dict[str, Any], AfterValidator(_check_evaluation)], ...]
    published: tuple[PublishedFigure, ...] = ()
    tuning: TuningFacts | None = None
    suite: SuiteFacts | None = None
