"""Fields of the suite's format: what a path, a count or a sparsity may be, and models that refuse unknown keys."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from prunebench.errors import quoted, suggest
from prunebench.pruning.sparsity import NM, Pattern, PatternError, Unstructured, parse_pattern


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


class Named(Strict):
    """An entry that may be given by its name alone."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


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


def as_several(value: Any) -> Any:
    """One entry or several, as several."""
    return value if value is None or isinstance(value, list | tuple) else [value]
