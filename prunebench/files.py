"""Reading and writing of files: atomic replacement, bounded reads, and advice when the disk refuses."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Abandoned(Exception):  # noqa: N818 - no error
    """A cell is given up half-way: another runner has taken it over."""


Fence = Callable[[], bool]
"""Whether the writer may still write: asked immediately before a new file takes the place of the old."""

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
def atomic_replacement(path: Path, fence: Fence | None = None) -> Iterator[Path]:
    """Replace a file atomically: write to a temporary path, which is flushed to disk and renamed at the end.

    The name is flushed too, so that what is done after this returns is never on disk before it.

    Args:
        path: the file to replace or create.
        fence: asked immediately before the renaming.

    Yields:
        The temporary path ``.<name>.<random>.tmp`` in the same folder. If the block raises, it is removed and the file
        stays as it was.

    Raises:
        OSError: the file cannot be written.
        Abandoned: the fence said no, or the temporary file was taken away by whoever took over.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        if fence is not None and not fence():
            raise Abandoned
        try:
            temporary.replace(path)
        except FileNotFoundError:
            if fence is not None:
                raise Abandoned from None
            raise
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Flush a file's content to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system can do that."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that flushes no folders
            raise
    finally:
        os.close(number)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, and flush their names to disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, however deep, folders that were closed included; links are not followed.

    Folders are brought up before they are removed: no path grows too long, and nothing recurses.

    Raises:
        OSError: it is no folder, or something in it cannot be removed; the rest may be gone.
    """
    if kind := irregular(folder, folder=True):
        raise OSError(0, f"it is {kind}", str(folder))
    folder.chmod(0o700)
    while entries := list(folder.iterdir()):
        for entry in entries:
            if irregular(entry, folder=True):
                entry.unlink()
                continue
            entry.chmod(0o700)
            for inner in list(entry.iterdir()):
                if irregular(inner, folder=True):
                    inner.unlink()
                else:
                    inner.chmod(0o700)
                    inner.rename(folder / secrets.token_hex(8))
            entry.rmdir()
    folder.rmdir()


def discard_tree(folder: Path) -> None:
    """Remove what ``remove_tree`` can of a folder, or of a link itself; what stays is no error."""
    with suppress(OSError):
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            remove_tree(folder)


def with_home(text: str) -> Path:
    """A path with ``~`` replaced by a home folder; as it is where nobody of that name has one."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def irregular(path: Path, *, folder: bool = False) -> str | None:
    """What stands in the way of a regular file, or of a folder: "a symbolic link", "a pipe" …; None if nothing does.

    Links are never followed: in a results folder they would lead reading and writing elsewhere.

    Args:
        path: where the file or folder is, or will be.
        folder: whether it is a folder that is expected.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    expected = stat.S_ISDIR if folder else stat.S_ISREG
    return None if expected(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}


def write_atomically(path: Path, content: bytes | memoryview, fence: Fence | None = None) -> None:
    """Write a whole file atomically; see ``atomic_replacement``.

    A symbolic link is replaced, not followed; a device or pipe (``/dev/stdout``) is written to directly.

    Args:
        path: the file.
        content: all of its bytes.
        fence: asked immediately before the file is replaced.

    Raises:
        OSError: the file cannot be written; an existing file stays as it was.
        Abandoned: the fence said no.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return
    with atomic_replacement(path, fence) as temporary:
        temporary.write_bytes(content)


MEBIBYTE = 1 << 20


def read_regular_file(path: Path, limit: int, *, follow_links: bool = True) -> bytes:
    """Read a regular file of bounded size.

    Other kinds are refused: a pipe would block, a device might never end.

    Args:
        path: the file.
        limit: the largest size allowed, in bytes.
        follow_links: whether it may be a symbolic link.

    Raises:
        OSError: it is missing, not a regular file, too large or unreadable; ``strerror`` says which.
    """
    if not follow_links and (kind := irregular(path)):
        raise OSError(0, f"it is {kind}", str(path))
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
        raise OSError(0, kind, str(path))
    if status.st_size > limit:
        raise OSError(0, f"it has {status.st_size} bytes, more than the {limit // MEBIBYTE} MiB allowed", str(path))
    with path.open("rb") as file:
        return file.read(limit)
