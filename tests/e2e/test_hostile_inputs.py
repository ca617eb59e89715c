"""Whatever is sent, over either interface: an answer of the 4xx kind, and a process that lives."""

from __future__ import annotations

import base64
import contextlib
import gc
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.errors import BY_CODE
from services.rpc.mien.v1 import face_pb2
from tests.hostile import encoded, gradient, hostile_images
from tests.integration.harness import MienProcess, code_of
from tests.integration.pictures import jpeg, portrait

_MEMORY_SLACK = 60 * 1024 * 1024
_GOOD = encoded(gradient(), "JPEG")
_PICTURE = base64.b64encode(_GOOD).decode()
_JSON = {"content-type": "application/json"}
_FORM = {"content-type": "multipart/form-data; boundary=edge"}
_FAIR_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


@dataclass(frozen=True)
class Body:
    """A REST request that must be refused."""

    name: str
    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(_JSON))
    path: str = "/v1/verify"


def part(name: str, data: bytes, extra: str = '; filename="x"') -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode("latin-1") + data + b"\r\n"


_PARTS = part("probe", _GOOD) + part("reference", _GOOD)
_END = b"--edge--\r\n"


def json_bodies() -> Iterator[Body]:
    pair: dict[str, Any] = {"probe": _PICTURE, "reference": _PICTURE}
    for name, text in {
        "nothing": b"",
        "a brace": b"{",
        "no JSON": b"probe=1",
        "two documents": b"{}{}",
        "a byte-order mark": b"\xef\xbb\xbf{}",
        "no UTF-8": b'{"probe": "\xff\xfe"}',
        "UTF-16": json.dumps(pair).encode("utf-16")[:-1],
        "100000 brackets": b"[" * 100_000,
        "100000 braces": b'{"a":' * 100_000,
        "100000 brackets, closed": b"[" * 100_000 + b"]" * 100_000,
        "5000 digits": b'{"fmr": ' + b"9" * 5000 + b"}",
        "a comment": b'{"probe": 1} // note',
        "single quotes": b"{'probe': 'x'}",
        "a trailing comma": b'{"probe": "",}',
        "a null byte": b'{"probe": "\0"}',
        "the literal null": b"null",
        "a list": b"[]",
        "a number": b"1e400",
        "NaN": b"NaN",
        "a string": b'"probe"',
        "a lone surrogate as name": b'{"\\ud800": 1}',
        "a lone surrogate as value": b'{"probe": "\\ud800", "reference": "\\udfff"}',
        "a name of a megabyte": b'{"' + b"x" * 1_000_000 + b'": 1}',
        "a million names": json.dumps({str(n): 0 for n in range(100_000)}).encode(),
        "a name given twice": b'{"probe": "A", "probe": "B"}',
        "pollution": b'{"__proto__": {"probe": ""}, "constructor": 1}',
    }.items():
        yield Body(f"JSON: {name}", text)
    changed: dict[str, dict[str, Any]] = {
        "fmr NaN": {"fmr": float("nan")},
        "fmr infinite": {"fmr": float("inf")},
        "fmr 1e400": {"fmr": "1e400"},
        "fmr of 4000 digits": {"fmr": 10**4000},
        "fmr negative": {"fmr": -0.001},
        "fmr a list": {"fmr": [0.001]},
        "fmr an object": {"fmr": {"$gt": 0}},
        "fmr true": {"fmr": True},
        "fmr empty": {"fmr": ""},
        "fmr and threshold": {"fmr": 0.001, "threshold": 0.3},
        "fmr too small": {"fmr": 5e-324},
        "threshold NaN": {"threshold": float("nan")},
        "threshold infinite": {"threshold": float("-inf")},
        "threshold a word": {"threshold": "high"},
        "threshold of 4000 digits": {"threshold": 10**4000},
        "model a number": {"model": 1},
        "model null": {"model": None},
        "model a path": {"model": "../../etc/passwd"},
        "model of null bytes": {"model": "\0\0"},
        "model endless": {"model": "x" * 100_000},
        "model a surrogate": {"model": "\ud800"},
        "model with a version of nothing": {"model": "sface@"},
        "face unknown": {"face": "ugliest"},
        "face a null byte": {"face": "largest\0"},
        "face null": {"face": None},
        "index negative": {"face": "index", "probe_index": -1},
        "index a fraction": {"face": "index", "probe_index": 0.5},
        "index a word": {"face": "index", "reference_index": "zero"},
        "probe a number": {"probe": 1},
        "probe a list": {"probe": [_PICTURE]},
        "probe null": {"probe": None},
        "probe empty": {"probe": ""},
        "probe no base64": {"probe": "*" * 100},
        "probe base64 of a wrong length": {"probe": _PICTURE[:-3]},
        "probe base64 with breaks": {"probe": "\n".join(_PICTURE[:80])},
        "probe base64 for addresses": {"probe": "-_-_"},
        "probe padding only": {"probe": "===="},
        "probe beyond ASCII": {"probe": "ä" * 100},
        "probe a data URL of nothing": {"probe": "data:"},
        "probe a data URL of text": {"probe": "data:text/plain,hello"},
        "probe a web address": {"probe": "http://127.0.0.1/x.jpg"},
        "probe a file address": {"probe": "file:///etc/passwd"},
        "references empty": {"reference": None, "references": []},
        "references a string": {"references": _PICTURE},
        "references of null": {"references": [None]},
        "references nested": {"references": [[_PICTURE]]},
        "1000 references": {"references": [_PICTURE] * 1000},
        "a field unheard of": {"callback": "http://127.0.0.1/"},
        "a field of null bytes": {"\0": 1},
    }
    for name, changes in changed.items():
        yield Body(f"JSON: {name}", json.dumps(pair | changes).encode())
    for name, body in {
        "image missing": {},
        "image a number": {"image": 5},
        "image and more": {"image": _PICTURE, "model": "sface"},
    }.items():
        yield Body(f"detect: {name}", json.dumps(body).encode(), path="/v1/detect")


def form_bodies() -> Iterator[Body]:
    for name, content in {
        "nothing": b"",
        "only an end": _END,
        "no boundary inside": b"hello",
        "another boundary": _PARTS.replace(b"--edge", b"--ridge") + b"--ridge--\r\n",
        "cut within a picture": _PARTS[: len(_PARTS) // 3],
        "cut within a header": _PARTS[:30],
        "no name": b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + _END,
        "no disposition": b"--edge\r\nX-Y: z\r\n\r\nx\r\n" + _END,
        "no headers": b"--edge\r\n\r\nx\r\n" + _END,
        "headers without end": b"--edge\r\n" + b"X: y\r\n" * 10_000,
        "a header without end": b"--edge\r\nContent-Disposition: " + b"x" * 1_000_000,
        "a header of null bytes": b"--edge\r\n\0\0: \0\r\n\r\nx\r\n" + _END,
        "a header of no ASCII": b"--edge\r\n\xff\xfe: y\r\n\r\nx\r\n" + _END,
        "line feeds alone": _PARTS.replace(b"\r\n", b"\n"),
        "the picture as text": part("probe", b"x", "") + part("reference", _GOOD) + _END,
        "the picture as long text": part("probe", b"x" * 100_000, "") + _END,
        "a text field as picture": _PARTS + part("fmr", _GOOD) + _END,
        "the probe twice": part("probe", _GOOD) * 2 + part("reference", _GOOD) + _END,
        "no probe": part("reference", _GOOD) + _END,
        "no reference": part("probe", _GOOD) + _END,
        "empty pictures": part("probe", b"") + part("reference", b"") + _END,
        "a field twice": _PARTS + part("fmr", b"0.001", "") * 2 + _END,
        "a field unheard of": _PARTS + part("hint", b"same", "") + _END,
        "a file unheard of": _PARTS + part("portrait", _GOOD) + _END,
        "a name of null bytes": _PARTS + part("\0\0", b"x", "") + _END,
        "a name of no UTF-8": _PARTS + part("\xff\xfe", b"x", "") + _END,
        "a name of 5000 letters": _PARTS + part("n" * 5000, b"x", "") + _END,
        "an empty name": _PARTS + part("", b"x", "") + _END,
        "a value of null bytes": _PARTS + part("fmr", b"0.001\0", "") + _END,
        "a value of no UTF-8": _PARTS + part("face", b"\xff\xfe", "") + _END,
        "fmr NaN": _PARTS + part("fmr", b"nan", "") + _END,
        "fmr of 4000 digits": _PARTS + part("fmr", b"9" * 4000, "") + _END,
        "threshold infinite": _PARTS + part("threshold", b"-inf", "") + _END,
        "index of 4000 digits": _PARTS + part("probe_index", b"-" + b"9" * 4000, "") + _END,
        "index as words": _PARTS + part("probe_index", b"0x10", "") + _END,
        "100 text fields": _PARTS + b"".join(part(f"f{n}", b"", "") for n in range(100)) + _END,
        "100 references": part("probe", _GOOD) + part("reference", _GOOD) * 100 + _END,
        "10000 parts": b"--edge\r\n" * 10_000 + _END,
    }.items():
        yield Body(f"form: {name}", content, dict(_FORM))
    for charset in ("undefined", "nonsense", "utf-16", "idna", "punycode", "hex", "utf-8\\0"):
        yield Body(
            f"form: charset {charset}",
            _PARTS + part("fmr", b"\xff\xfe\0", "") + _END,
            {"content-type": f"multipart/form-data; boundary=edge; charset={charset}"},
        )
    for name, media_type in {
        "no boundary": "multipart/form-data",
        "an empty boundary": "multipart/form-data; boundary=",
        "a boundary of 10000": "multipart/form-data; boundary=" + "b" * 10_000,
        "a boundary of no ASCII": "multipart/form-data; boundary=\xff",
        "a quote left open": 'multipart/form-data; boundary="edge',
        "mixed": "multipart/mixed; boundary=edge",
        "a form": "application/x-www-form-urlencoded",
        "a picture": "image/jpeg",
        "XML": "application/xml",
        "nothing": "",
        "many semicolons": ";" * 5000,
        "JSON lines": "application/jsonl",
        "JSON for a form": "application/json",
    }.items():
        yield Body(f"content type: {name}", _PARTS + _END, {"content-type": media_type})
    large = bytes(1_000_000) * 20
    yield Body("form: a picture of 20 MB", part("image", large) + _END, dict(_FORM), "/v1/detect")


_BODIES = [*json_bodies(), *form_bodies()]


def messages() -> Iterator[tuple[str, str, bytes]]:
    """gRPC requests that must be refused: name, method, bytes."""
    one = face_pb2.Image(content=_GOOD)
    good = face_pb2.VerifyRequest(probe=one, references=[one])

    def changed(**fields: Any) -> bytes:
        request = face_pb2.VerifyRequest()
        request.CopyFrom(good)
        request.MergeFrom(face_pb2.VerifyRequest(**fields))
        return request.SerializeToString()

    yield "nothing", "Verify", b""
    yield "nothing", "Detect", b""
    yield "no reference", "Verify", face_pb2.VerifyRequest(probe=one).SerializeToString()
    yield "no probe", "Verify", face_pb2.VerifyRequest(references=[one]).SerializeToString()
    yield "33 references", "Verify", changed(references=[one] * 32)
    for value in (0, 1, -1, float("nan"), float("inf"), 5e-324, 0.5):
        yield f"fmr {value}", "Verify", changed(fmr=value)
    for value in (float("nan"), float("inf"), float("-inf")):
        yield f"threshold {value}", "Verify", changed(threshold=value)
    for model in ("nobody", "sface@", "@", "\0", "x" * 100_000, "../../etc/passwd", "名"):
        yield f"model {model[:8]!r}", "Verify", changed(model=model)
    strange = face_pb2.Image(content=_GOOD, selection=77)  # type: ignore[arg-type]
    yield "an unknown selection", "Verify", changed(references=[strange])
    yield "an empty reference", "Verify", changed(references=[face_pb2.Image()])
    whole = good.SerializeToString()
    for length in (1, 3, 5, len(whole) // 2, len(whole) - 1):
        yield f"a message of {length} bytes", "Verify", whole[:length]
    for name, data in {
        "ones": b"\xff" * 64,
        "a length of 4 GB": b"\x0a\xff\xff\xff\xff\x0f",
        "a negative length": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "field 0": b"\x00\x00",
        "groups without end": b"\x0b" * 1000,
        "an end of no group": b"\x0c",
        "a model of no UTF-8": whole + b"\x2a\x02\xff\xfe",
        "JSON": json.dumps({"probe": _PICTURE}).encode(),
        "a picture": _GOOD,
    }.items():
        yield name, "Verify", data
        yield name, "Detect", data + b"\xff"
    yield "a method unheard of", "Recognise", whole


@pytest.fixture(scope="module")
def server(
    mien_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MienProcess, Path]]:
    path = tmp_path_factory.mktemp("hostile") / "log"
    with path.open("wb") as log, MienProcess(mien_home, log) as process:
        yield process.wait_until_ready(), path


@contextlib.contextmanager
def unharmed(server: tuple[MienProcess, Path], portraits: Path) -> Iterator[MienProcess]:
    """The process lives, has given its memory back, works, and logged no failure."""
    process, log = server
    good = {
        "probe": jpeg(portrait(portraits, "obama.jpg")),
        "reference": jpeg(portrait(portraits, "obama2.jpg")),
    }
    with process.mien.client() as client, process.mien.faces() as stub:
        large = encoded(gradient(2000, 1500), "BMP")
        for _ in range(3):  # the allocator keeps what ordinary work has needed once
            client.post("/v1/verify", files={"probe": large, "reference": large})
            picture = face_pb2.Image(content=large)
            stub.Verify(face_pb2.VerifyRequest(probe=picture, references=[picture]))
            assert client.post("/v1/verify", files=good).json()["decision"] == "same"
        logged = log.stat().st_size
        before = _resident(process)
        yield process
        assert process.process.poll() is None, "the process has ended"
        assert client.post("/v1/verify", files=good).json()["decision"] == "same"
        deadline = time.monotonic() + 10
        while (after := _resident(process)) > before + _MEMORY_SLACK:
            assert time.monotonic() < deadline, f"{(after - before) >> 20} MB were kept"
            time.sleep(0.5)
    text = log.read_bytes()[logged:].decode(errors="replace")
    assert "Traceback" not in text, text[-5000:]
    assert _PICTURE[:40] not in text


def _resident(process: MienProcess) -> int:
    gc.collect()
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _check(name: str, response: httpx.Response, faults: list[str]) -> None:
    if not 400 <= response.status_code < 500:
        faults.append(f"{name}: {response.status_code} {response.text[:200]}")
        return
    if response.headers.get("content-type") != "application/problem+json":
        faults.append(f"{name}: no problem, but {response.text[:200]}")
        return
    problem = response.json()
    if BY_CODE[problem["code"]].value.http != response.status_code or "Error" in problem["detail"]:
        faults.append(f"{name}: {problem}")


def test_there_are_enough_of_them() -> None:
    pictures = sum(1 for _ in hostile_images())
    assert pictures >= 200
    assert len({body.name for body in _BODIES}) == len(_BODIES) >= 120
    assert len(list(messages())) >= 40


def test_hostile_pictures_over_rest(server: tuple[MienProcess, Path], portraits: Path) -> None:
    faults: list[str] = []
    with unharmed(server, portraits) as process, process.mien.client() as client:
        for number, image in enumerate(hostile_images()):
            if number % 2:
                response = client.post("/v1/detect", files={"image": ("x", image.data)})
            else:
                files = {"probe": ("x", _GOOD), "reference": ("y", image.data)}
                response = client.post("/v1/verify", files=files)
            _check(image.name, response, faults)
        assert not faults, "\n".join(faults)


def test_hostile_pictures_over_grpc(server: tuple[MienProcess, Path], portraits: Path) -> None:
    faults: list[str] = []
    with unharmed(server, portraits) as process, process.mien.faces() as stub:
        for number, image in enumerate(hostile_images()):
            try:
                if number % 2:
                    stub.Detect(face_pb2.DetectRequest(content=image.data), timeout=30)
                else:
                    picture = face_pb2.Image(content=image.data)
                    other = face_pb2.Image(content=_GOOD)
                    request = face_pb2.VerifyRequest(probe=picture, references=[other])
                    stub.Verify(request, timeout=30)
            except grpc.RpcError as error:
                if code_of(error) not in _FAIR_CODES:
                    faults.append(f"{image.name}: {error}")
            else:
                faults.append(f"{image.name}: was accepted")
        assert not faults, "\n".join(faults)


def test_hostile_bodies(server: tuple[MienProcess, Path], portraits: Path) -> None:
    faults: list[str] = []
    with unharmed(server, portraits) as process:
        for body in _BODIES:
            connection = http.client.HTTPConnection("127.0.0.1", process.http_port, timeout=60)
            headers = {name: value.encode("latin-1") for name, value in body.headers.items()}
            connection.request("POST", body.path, body.content, headers)
            answer = connection.getresponse()
            response = httpx.Response(
                answer.status, headers=answer.getheaders(), content=answer.read()
            )
            connection.close()
            _check(body.name, response, faults)
        assert not faults, "\n".join(faults)


def test_hostile_messages(server: tuple[MienProcess, Path], portraits: Path) -> None:
    faults: list[str] = []
    with unharmed(server, portraits) as process, process.mien.channel() as channel:
        for name, method, data in messages():
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"/mien.v1.FaceService/{method}"
            )
            try:
                call(data, timeout=30)
            except grpc.RpcError as error:
                if code_of(error) not in _FAIR_CODES:
                    faults.append(f"{method}, {name}: {error}")
            else:
                faults.append(f"{method}, {name}: was accepted")
        assert not faults, "\n".join(faults)


def test_what_is_no_http(server: tuple[MienProcess, Path], portraits: Path) -> None:
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\n"
    faults = []
    with unharmed(server, portraits) as process:
        for sent in (
            b"hello\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
            head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: many\r\n\r\n",
            head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
            head + b"Content-Length: 4000000000\r\n\r\n",
            head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            head + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            head + b"X-Null: \0\r\n\r\n",
            head + b"X-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", process.http_port), timeout=20) as raw:
                with contextlib.suppress(ConnectionError):
                    raw.sendall(sent)
                    raw.shutdown(socket.SHUT_WR)
                answer = b""
                with contextlib.suppress(ConnectionError):
                    answer = raw.recv(65536)
            if answer and not answer.startswith(b"HTTP/1.1 4"):
                faults.append(f"{sent[:60]!r}: {answer[:100]!r}")
        assert not faults, "\n".join(faults)


def test_callers_who_leave_in_the_middle(server: tuple[MienProcess, Path], portraits: Path) -> None:
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
    with unharmed(server, portraits) as process:
        for number in range(50):
            with socket.create_connection(("127.0.0.1", process.http_port), timeout=20) as raw:
                kind = _FORM if number % 2 else _JSON
                raw.sendall(head + b"Content-Type: " + kind["content-type"].encode() + b"\r\n\r\n")
                raw.sendall(_PARTS)
