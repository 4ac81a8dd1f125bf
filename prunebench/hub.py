"""The Hugging Face hub: asked whether it is there before its libraries are, and kept quiet.

Without a network ``huggingface_hub`` and ``datasets`` retry for some 23 s before they say no; a wrong or remote name
deserves an answer within five.
"""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from prunebench.quiet import quiet

CONNECT_SECONDS = 2.0


def reachable(timeout: float = CONNECT_SECONDS) -> bool:
    """Whether the hub's endpoint answers.

    Respects ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and proxies. The attempt runs on a thread of its own, since Python sets
    no time limit to the resolution of a name.

    Args:
        timeout: seconds after which the answer is no.

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


def unreachable() -> str:
    """The end of a message about a source that only the hub has."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "it is not in the local cache and HF_HUB_OFFLINE is set: unset it, or name a local path or a builtin"
    return f"it is not in the local cache and {constants.ENDPOINT} does not answer: name a local path or a builtin"


def download(repo: str, file: str, revision: str) -> Path | None:
    """One file of a data set at a pinned commit, from the local cache where it is there.

    Args:
        repo: data set id, ``owner/name``.
        file: path inside the repository.
        revision: commit.

    Returns:
        The local path, or None when the file is not cached and the hub does not answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = hf_hub_download(repo, file, repo_type="dataset", revision=revision, local_files_only=True)
        return Path(cached)
    except LocalEntryNotFoundError:
        if not reachable():
            return None
    with quiet():
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))


@contextmanager
def offline() -> Iterator[None]:
    """Let ``huggingface_hub`` and ``datasets`` use local files and their caches only."""
    import datasets.config
    import huggingface_hub.constants

    with (
        patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        patch.object(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield
