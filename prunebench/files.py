"""Reading and writing of files: atomic replacement, bounded reads, and advice when the disk refuses."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "free some space and try again: what was written before is kept",
    errno.EDQUOT: "make room within your quota and try again: what was written before is kept",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and try again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may write",
    errno.EPERM: "choose a folder that you may write",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def describe_os_error(error: OSError) -> str:
    """The system's error message, followed by advice where there is any."""
    message = error.strerror or str(error)
    return f"{message}; {_ADVICE[error.errno]}" if error.errno in _ADVICE else message


def is_disk_error(error: OSError) -> bool:
    """Whether an error means that the disk refuses to write, whatever is written."""
    return error.errno in _ADVICE


@contextmanager
def atomic_replacement(path: Path) -> Iterator[Path]:
    """Replace a file atomically: write to a temporary path, which is flushed to disk and renamed at the end.

    Args:
        path: the file to replace or create.

    Yields:
        The temporary path ``.<name>.<random>.tmp`` in the same folder. If the block raises, it is removed and the file
        stays as it was.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a whole file atomically; see ``atomic_replacement``.

    A symbolic link is replaced, not followed; a device or pipe (``/dev/stdout``) is written to directly.

    Args:
        path: the file.
        content: all of its bytes.

    Raises:
        OSError: the file cannot be written; an existing file stays as it was.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return
    with atomic_replacement(path) as temporary:
        temporary.write_bytes(content)


MEBIBYTE = 1 << 20


def read_regular_file(path: Path, limit: int) -> bytes:
    """Read a regular file of bounded size.

    Other kinds are refused: a pipe would block, a device might never end.

    Args:
        path: the file; a symbolic link is followed.
        limit: the largest size allowed, in bytes.

    Raises:
        OSError: it is missing, not a regular file, too large or unreadable; ``strerror`` says which.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
        raise OSError(0, kind, str(path))
    if status.st_size > limit:
        raise OSError(0, f"it has {status.st_size} bytes, more than the {limit // MEBIBYTE} MiB allowed", str(path))
    with path.open("rb") as file:
        return file.read(limit)
