"""A stand-in for the Hugging Face hub on the loopback device: it serves folders by the hub's HTTP interface.

``huggingface_hub`` reads its endpoint when it is imported, so programs that are to use this server run in processes of
their own, with ``environment()``.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(/(?P<verb>revision|tree|paths-info)/(?P<rev>[^/]+))?.*"
)
FILE = re.compile(r"/(?P<datasets>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")


@dataclass
class Repository:
    """One repository with one commit.

    Args:
        files: path in the repository → where its bytes are.
        commit: 40 hex digits.
        gated: ask for a token that nobody has.
        cut: paths of which half is sent before the connection is closed.
    """

    files: Mapping[str, Path]
    commit: str = "c0ffee" + "0" * 34
    gated: bool = False
    cut: set[str] = field(default_factory=set)


class StandInHub:
    """The server, as a context manager; ``requests`` lists what was asked of it, as "GET /path"."""

    def __init__(self, models: Mapping[str, Repository], datasets: Mapping[str, Repository] | None = None) -> None:
        self.repositories = {"models": dict(models), "datasets": dict(datasets or {})}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "StandInHub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, cache: Path) -> dict[str, str]:
        """The environment of a process that takes this server for the hub, with a cache of its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {**inherited, "HF_ENDPOINT": self.url, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[StandInHub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if asked := API.fullmatch(path):
            self._api(asked)
        elif asked := FILE.fullmatch(path):
            self._file(asked, with_body=with_body)
        else:
            self._send(200, b"{}", {"Content-Type": "application/json"})

    def _repository(self, kind: str, name: str, revision: str | None) -> Repository | None:
        """The repository, or None after an error was sent."""
        repository = self.hub.repositories[kind].get(name)
        if repository is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif repository.gated:
            message = f"Access to {name} is restricted: log in"
            self._send(401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        elif revision not in {None, "main", repository.commit}:
            self._send(
                404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
            )
        else:
            return repository
        return None

    def _api(self, asked: re.Match[str]) -> None:
        repository = self._repository(asked["kind"], asked["repo"], asked["rev"])
        if repository is None:
            return
        sizes = {path: file.stat().st_size for path, file in repository.files.items()}
        listed: list[dict[str, Any]] = [
            {"type": "file", "path": path, "size": size, "oid": hashlib.sha1(path.encode()).hexdigest()}
            for path, size in sizes.items()
        ]
        info = {
            "id": asked["repo"],
            "sha": repository.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sizes],
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        answer: Any = listed if asked["verb"] in {"tree", "paths-info"} else info
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, asked: re.Match[str], *, with_body: bool) -> None:
        kind = "datasets" if asked["datasets"] else "models"
        repository = self._repository(kind, asked["repo"], asked["rev"])
        if repository is None:
            return
        file = repository.files.get(asked["path"])
        if file is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            self._send(404, b"", {**headers, "X-Repo-Commit": repository.commit})
            return
        content = file.read_bytes()
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self._send(200, content, headers, with_body=with_body, cut=asked["path"] in repository.cut)

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str], *, with_body: bool = True, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True
