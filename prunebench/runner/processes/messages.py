"""What a process that runs cells says: JSON arrays, one a line. All are bounded, and of a shape that is checked.

The process that ran a method may say anything: what is malformed or too large ends it, and fails its cell.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from prunebench.runner.events import NAME_LENGTH, NOTE_LENGTH, TRACE_VALUES

LINE = 16 << 20  # bytes of one message
AT_ONCE = 1 << 20  # bytes that one call of ``Lines.read`` takes, so that its caller sees to other things meanwhile
MALFORMED = "MalformedMessage"
ARRAYS = "arrays.safetensors"

_Name = Annotated[str, StringConstraints(max_length=NAME_LENGTH)]
_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_SHAPES: dict[str, TypeAdapter[Any]] = {
    "phase": TypeAdapter(tuple[_Name]),
    "step": TypeAdapter(tuple[_Name, _Count, _Count | None]),
    "note": TypeAdapter(tuple[Annotated[str, StringConstraints(max_length=NOTE_LENGTH)], dict[str, Any]]),
    "trace": TypeAdapter(tuple[int, Annotated[dict[_Name, float], Field(max_length=TRACE_VALUES)]]),
    "allocated": TypeAdapter(tuple[dict[_Name, _Name]]),
    "masks": TypeAdapter(tuple[dict[_Name, _Name]]),
    "pruned": TypeAdapter(tuple[dict[str, Any]]),
    "measured": TypeAdapter(tuple[dict[str, Any]]),
    "failed": TypeAdapter(tuple[dict[str, Any]]),
    "read": TypeAdapter(tuple[dict[str, Any]]),
    "refused": TypeAdapter(tuple[_Name, str]),
    "stopped": TypeAdapter(tuple[()]),
    "done": TypeAdapter(tuple[()]),
    "forked": TypeAdapter(tuple[int]),
    "exited": TypeAdapter(tuple[int, int, int, int]),
}


class Malformed(Exception):  # noqa: N818
    """What a process said is no message of ours."""


def encode(event: str, *content: Any) -> bytes:
    """A message as a line; what is not JSON is sent as text."""
    return json.dumps([event, *content], default=str).encode() + b"\n"


def decode(line: bytes) -> tuple[str, Any]:
    """The name and the content of a message.

    Raises:
        Malformed: it is none.
    """
    try:
        name, *content = json.loads(line)
        return name, _SHAPES[name].validate_python(tuple(content))
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError):
        raise Malformed(f"a message that is none: {line[:60].decode('utf-8', 'replace')!r}") from None


class Lines:
    """Lines that arrive on a descriptor, which is read without waiting.

    Args:
        descriptor: taken over; closed by ``close``.
        limit: the longest line, in bytes.
    """

    def __init__(self, descriptor: int, limit: int = LINE) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor, self._limit = descriptor, limit
        self._rest = bytearray()
        self.ended = False

    def read(self) -> Iterator[bytes]:
        """The whole lines that are there now, without their ends; of a writer that never pauses those of ``AT_ONCE``.

        Raises:
            Malformed: one is longer than allowed.
        """
        left = AT_ONCE
        while not self.ended and left > 0:
            try:
                some = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return
            except OSError:
                some = b""
            self.ended = not some
            left -= len(some)
            start = len(self._rest)
            self._rest += some
            while (end := self._rest.find(b"\n", start)) >= 0:
                line = bytes(self._rest[:end])
                del self._rest[: end + 1]
                start = 0
                yield line
            if len(self._rest) > self._limit:
                raise Malformed(f"a message of more than {self._limit:,} bytes")

    @property
    def rest(self) -> bytes:
        """What came after the last whole line."""
        return bytes(self._rest)

    def drop(self) -> bytes:
        """The same, which is forgotten."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def close(self) -> None:
        """Close the descriptor."""
        self.ended = True
        with suppress(OSError):
            os.close(self.descriptor)
