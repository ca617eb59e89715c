"""A server on this machine that misbehaves as real ones do, an index on it, cards that name it."""

import contextlib
import hashlib
import io
import json
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from models.zoo import EmbedderCard, FetchError
from models.zoo.card import complete_card
from models.zoo.card_base import PackageSource, UrlSource, Weights

CONTENT = np.random.default_rng(1).bytes(3_000_000)
PART = 2_500_000
KEPT = 2 * 1024 * 1024  # what is on disk after PART has come: whole chunks
FILE = "model.onnx"
TRACES = ("Traceback", "Errno", "httpx", "httpcore", "ConnectError")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Origin:
    """A server whose behaviour a test sets.

    Attributes:
        files: content by path.
        types: content type by path, if it matters.
        redirects: other path by path.
        refusals: statuses that the next requests get.
        breaks: how many of the next answers stop after PART bytes.
        ranges: whether it honours Range.
        hangs: whether it never answers.
        requests: path and Range header of each request so far.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.refusals: list[int] = []
        self.breaks = 0
        self.ranges = True
        self.hangs = False
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def source(self, path: str = f"/{FILE}") -> UrlSource:
        """A source on this server; cards themselves only take https."""
        return UrlSource.model_construct(kind="url", url=self.url + path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                """Writes nothing."""

            def do_GET(self) -> None:
                origin.answer(self)

        return Handler

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        asked = call.headers.get("Range")
        self.requests.append((call.path, asked))
        if self.hangs:
            self.released.wait(5)
            return
        if self.refusals:
            self._head(call, self.refusals.pop(0), {"Content-Length": "0"})
            return
        if call.path in self.redirects:
            target = self.redirects[call.path]
            self._head(call, 302, {"Location": target, "Content-Length": "0"})
            return
        data = self.files.get(call.path)
        if data is None:
            self._head(call, 404, {"Content-Length": "0"})
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(data) > 0 and start:
            self._head(call, 416, {"Content-Length": "0"})
            return
        headers = {
            "Content-Length": str(len(data) - start),
            "Content-Type": self.types.get(call.path, "application/octet-stream"),
        }
        self._head(call, 206 if start else 200, headers)
        if self.breaks:
            self.breaks -= 1
            call.wfile.write(data[start:PART])
            call.close_connection = True
            return
        with contextlib.suppress(ConnectionError):  # whoever has no room hangs up
            call.wfile.write(data[start:])

    @staticmethod
    def _head(call: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        call.send_response(status)
        for name, value in headers.items():
            call.send_header(name, value)
        call.end_headers()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def refusal(work: Callable[[], object]) -> str:
    """The message of a FetchError, which must read like a sentence for people."""
    with pytest.raises(FetchError) as caught:
        work()
    message = str(caught.value)
    assert not [word for word in TRACES if word in message]
    assert "\n" not in message
    return message


MEMBER = "pack/data/model.onnx"


def wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pack/__init__.py", "")
        archive.writestr(MEMBER, CONTENT)
        archive.writestr("pack/data/second.onnx", b"second")
    return buffer.getvalue()


def sdist(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        entry = tarfile.TarInfo(MEMBER)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


WHEEL, SDIST = wheel(), sdist(CONTENT)
JSON_TYPE = "application/vnd.pypi.simple.v1+json"


class Index:
    """A package index on the server, which pip's own setting names."""

    def __init__(self, origin: Origin, form: str) -> None:
        self.origin = origin
        self.form = form

    def hold(self, name: str, data: bytes, page: str = "my-pack") -> None:
        self.origin.files[f"/files/{name}"] = data
        path = f"/simple/{page}/"
        if self.form == "json":
            files = [
                {"filename": "other-1.0.tar.gz", "url": f"{self.origin.url}/files/other.tar.gz"},
                {"filename": name, "url": f"{self.origin.url}/files/{name}", "hashes": {}},
            ]
            body = json.dumps({"meta": {"api-version": "1.0"}, "name": page, "files": files})
            self.origin.types[path] = JSON_TYPE
        else:
            body = (
                "<!DOCTYPE html><html><body><a>no address</a>"
                '<a href="../../files/other-1.0.tar.gz">other-1.0.tar.gz</a>'
                f'<a href="../../files/{name}#sha256={sha256(data)}">{name}</a></body></html>'
            )
            self.origin.types[path] = "text/html"
        self.origin.files[path] = body.encode()

    @staticmethod
    def source(name: str, data: bytes, **changes: str) -> PackageSource:
        described = {
            "package": "My_Pack",
            "version": "1.0",
            "filename": name,
            "sha256": sha256(data),
            "member": MEMBER,
        }
        return PackageSource(**{**described, **changes})


def card(*sources: PackageSource | UrlSource, content: bytes = CONTENT) -> EmbedderCard:
    weights = Weights(file=FILE, sha256=sha256(content), size_bytes=len(content))
    made = complete_card({"name": "far", "output": {"dimension": 8}}, weights, {"version": "1"})
    reachable = weights.model_copy(update={"sources": sources})
    return made.model_copy(update={"weights": reachable})
