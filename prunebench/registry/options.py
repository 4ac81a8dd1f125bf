"""Options of plugins: their documentation, their types, and values checked against them."""

import inspect
import re
import typing
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter

from prunebench.errors import MethodError


def argument_docs(cls: type) -> dict[str, str]:
    """What a class's docstring says under ``Args:``, by name."""
    doc = (inspect.getdoc(cls) or "").partition("Args:\n")[2]
    found = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", doc, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def as_type(hint: Any, value: Any) -> Any:
    """``value`` as a ``hint``, without the conversions that hide a mistake ("3" for 3, 1 for True).

    Raises:
        ValidationError: it is of another type.
        MethodError: no value of a suite can be of that type.
    """
    if isinstance(value, list) and typing.get_origin(hint) is tuple:
        value = tuple(value)
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True))
    except PydanticUserError:
        raise MethodError(
            f"an option of type {_type_name(hint)} cannot be read from a suite: use float, int, bool, str, Literal or "
            "a tuple of these"
        ) from None
    return adapter.validate_python(value)
