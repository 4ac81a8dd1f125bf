"""The rules of a method's class, which are checked without running it."""

import dataclasses
import json
from collections.abc import Iterator

from pydantic import ValidationError

from prunebench.contract.rules import Violation
from prunebench.errors import MethodError
from prunebench.registry.method_class import MethodClass


def class_violations(method: MethodClass) -> Iterator[Violation]:
    """Check the class without running it: frozen, documented, with defaults that JSON can hold."""
    name = method.cls.__name__
    if not method.cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield Violation("loads", f"{name} is a dataclass that is not frozen: write @dataclass(frozen=True)")
    if not method.summary or method.summary.startswith(f"{name}("):  # the docstring that dataclass generates
        yield Violation("options", f"{name} has no docstring")
    for option, default in method.options.items():
        if default is dataclasses.MISSING:
            yield Violation("options", f"the option {option!r} has no default")
            return
        if not method.option_docs.get(option):
            yield Violation("options", f"the option {option!r} has no entry under Args: of the docstring")
        try:
            method.value(option, default)
        except ValidationError:
            type_name = method.option_types[option]
            yield Violation("options", f"the default of {option!r} is {default!r}, which is no {type_name}")
        except MethodError as error:
            yield Violation("options", str(error))
            return
    try:
        if method.make(json.loads(json.dumps(method.options))) != method.make({}):
            yield Violation("options", "the defaults are not the same when read back from JSON")
    except (TypeError, ValueError) as error:
        yield Violation("options", f"the defaults cannot be recorded as JSON: {error}")
    except MethodError as error:
        yield Violation("options", str(error))
