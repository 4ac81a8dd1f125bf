"""Writing files: each all or nothing, and what to do where it cannot be done."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HELPS = {
    errno.ENOSPC: "free some space and try again: what was written before is kept",
    errno.EDQUOT: "make room within your quota and try again: what was written before is kept",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and try again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may write",
    errno.EPERM: "choose a folder that you may write",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def why(error: OSError) -> str:
    """What the system said, and what helps."""
    told = error.strerror or str(error)
    return f"{told}; {_HELPS[error.errno]}" if error.errno in _HELPS else told


def is_of_the_disk(error: OSError) -> bool:
    """Whether an error says that something cannot be written, whatever it is."""
    return error.errno in _HELPS


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside a file, to be written to: flushed to the disk and renamed at the end.

    Yields:
        ``.<name>.<random>.tmp``; removed where the block fails, so that the file is as it was.

    Raises:
        OSError: it cannot be written.
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


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file all or nothing; see ``replacing``.

    A link of that name is replaced and not written through; a device or pipe (``/dev/stdout``) is written to.

    Raises:
        OSError: it cannot be written; the file of that name is as it was.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


MEBIBYTE = 1 << 20


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; a pipe would keep us waiting, a device might never end.

    Args:
        path: the file; a link is followed.
        limit: bytes that it may hold.

    Raises:
        OSError: it is not there, no regular file, too large or cannot be read; ``strerror`` says which.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
        raise OSError(0, kind, str(path))
    if status.st_size > limit:
        raise OSError(0, f"it has {status.st_size} bytes, more than the {limit // MEBIBYTE} MiB allowed", str(path))
    with path.open("rb") as file:
        return file.read(limit)
