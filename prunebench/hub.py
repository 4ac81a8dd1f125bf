"""Access to the Hugging Face hub: a quick check that it is reachable, downloads, and an offline mode.

Without a network ``huggingface_hub`` and ``datasets`` retry for some 23 s before they fail; checking first gives an
answer within five.
"""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunebench.errors import first_line
from prunebench.quiet import quiet_hub_libraries, replaced

CONNECT_SECONDS = 2.0


def is_reachable(timeout: float = CONNECT_SECONDS) -> bool:
    """Whether the hub's endpoint answers.

    Respects ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and proxies. The request runs on a thread of its own, because Python
    has no time limit for resolving a host name.

    Args:
        timeout: seconds after which the hub counts as unreachable.

    Returns:
        True when any HTTP answer came back, an error status included.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    answered = threading.Event()

    def attempt() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD", headers={"User-Agent": "prunebench"})
        try:
            urllib.request.urlopen(request, timeout=timeout).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def unreachable_message() -> str:
    """The end of an error message about a source that is only on the hub: why it cannot be had, and what to do."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "it is not in the local cache and HF_HUB_OFFLINE is set: unset it, or name a local path or a builtin"
    return f"it is not in the local cache and {constants.ENDPOINT} does not answer: name a local path or a builtin"


def failure(repo: str, error: Exception) -> str:
    """The end of an error message about something that the hub did not hand out: its reason, and what to do.

    Args:
        repo: id of the model or data set, ``owner/name``.
        error: what ``huggingface_hub`` raised.
    """
    from huggingface_hub import constants, errors

    match error:
        case errors.GatedRepoError():
            return f"it is gated: accept its terms at {constants.ENDPOINT}/{repo}, then log in (`hf auth login`)"
        case errors.RepositoryNotFoundError():
            return f"{constants.ENDPOINT} has no {repo}, or it is private: check the name, or log in (`hf auth login`)"
        case errors.RevisionNotFoundError():
            return f"{repo} has no such revision: name a branch, a tag or a commit of it"
        case errors.EntryNotFoundError():
            return f"{repo} has no such file at this revision: {first_line(error)}"
        case _:
            reason = first_line(error).rstrip(".:")
            return f"{reason}; run the same command again: what has arrived whole is kept"


def download(repo: str, file: str, revision: str) -> Path | None:
    """Download one file of a data set at a pinned commit, or take it from the local cache.

    Args:
        repo: data set id, ``owner/name``.
        file: path inside the repository.
        revision: commit hash.

    Returns:
        The local path, or None when the file is not cached and the hub does not answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = hf_hub_download(repo, file, repo_type="dataset", revision=revision, local_files_only=True)
        return Path(cached)
    except LocalEntryNotFoundError:
        if not is_reachable():
            return None
    with quiet_hub_libraries():
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))


@contextmanager
def offline_mode() -> Iterator[None]:
    """Restrict ``huggingface_hub`` and ``datasets`` to local files and their caches."""
    import datasets.config
    import huggingface_hub.constants

    with (
        replaced(huggingface_hub.constants, HF_HUB_OFFLINE=True),
        replaced(datasets.config, HF_HUB_OFFLINE=True),
    ):
        yield
