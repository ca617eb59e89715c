"""Requests that must be refused, over REST and gRPC: bodies, forms and messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from services.rpc.mien.v1 import face_pb2
from tests.hostile import encoded, gradient

GOOD = encoded(gradient(), "JPEG")
PICTURE = base64.b64encode(GOOD).decode()
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=edge"}


@dataclass(frozen=True)
class Body:
    """A REST request that must be refused."""

    name: str
    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    path: str = "/v1/verify"


def part(name: str, data: bytes, extra: str = '; filename="x"') -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode("latin-1") + data + b"\r\n"


PARTS = part("probe", GOOD) + part("reference", GOOD)
_END = b"--edge--\r\n"


def json_bodies() -> Iterator[Body]:
    pair: dict[str, Any] = {"probe": PICTURE, "reference": PICTURE}
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
        "probe a list": {"probe": [PICTURE]},
        "probe null": {"probe": None},
        "probe empty": {"probe": ""},
        "probe no base64": {"probe": "*" * 100},
        "probe base64 of a wrong length": {"probe": PICTURE[:-3]},
        "probe base64 with breaks": {"probe": "\n".join(PICTURE[:80])},
        "probe base64 for addresses": {"probe": "-_-_"},
        "probe padding only": {"probe": "===="},
        "probe beyond ASCII": {"probe": "ä" * 100},
        "probe a data URL of nothing": {"probe": "data:"},
        "probe a data URL of text": {"probe": "data:text/plain,hello"},
        "probe a web address": {"probe": "http://127.0.0.1/x.jpg"},
        "probe a file address": {"probe": "file:///etc/passwd"},
        "references empty": {"reference": None, "references": []},
        "references a string": {"references": PICTURE},
        "references of null": {"references": [None]},
        "references nested": {"references": [[PICTURE]]},
        "1000 references": {"references": [PICTURE] * 1000},
        "a field unheard of": {"callback": "http://127.0.0.1/"},
        "a field of null bytes": {"\0": 1},
    }
    for name, changes in changed.items():
        yield Body(f"JSON: {name}", json.dumps(pair | changes).encode())
    for name, body in {
        "image missing": {},
        "image a number": {"image": 5},
        "image and more": {"image": PICTURE, "model": "sface"},
    }.items():
        yield Body(f"detect: {name}", json.dumps(body).encode(), path="/v1/detect")


def form_bodies() -> Iterator[Body]:
    for name, content in {
        "nothing": b"",
        "only an end": _END,
        "no boundary inside": b"hello",
        "another boundary": PARTS.replace(b"--edge", b"--ridge") + b"--ridge--\r\n",
        "cut within a picture": PARTS[: len(PARTS) // 3],
        "cut within a header": PARTS[:30],
        "no name": b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + _END,
        "no disposition": b"--edge\r\nX-Y: z\r\n\r\nx\r\n" + _END,
        "no headers": b"--edge\r\n\r\nx\r\n" + _END,
        "headers without end": b"--edge\r\n" + b"X: y\r\n" * 10_000,
        "a header without end": b"--edge\r\nContent-Disposition: " + b"x" * 1_000_000,
        "a header of null bytes": b"--edge\r\n\0\0: \0\r\n\r\nx\r\n" + _END,
        "a header of no ASCII": b"--edge\r\n\xff\xfe: y\r\n\r\nx\r\n" + _END,
        "line feeds alone": PARTS.replace(b"\r\n", b"\n"),
        "the picture as text": part("probe", b"x", "") + part("reference", GOOD) + _END,
        "the picture as long text": part("probe", b"x" * 100_000, "") + _END,
        "a text field as picture": PARTS + part("fmr", GOOD) + _END,
        "the probe twice": part("probe", GOOD) * 2 + part("reference", GOOD) + _END,
        "no probe": part("reference", GOOD) + _END,
        "no reference": part("probe", GOOD) + _END,
        "empty pictures": part("probe", b"") + part("reference", b"") + _END,
        "a field twice": PARTS + part("fmr", b"0.001", "") * 2 + _END,
        "a field unheard of": PARTS + part("hint", b"same", "") + _END,
        "a file unheard of": PARTS + part("portrait", GOOD) + _END,
        "a name of null bytes": PARTS + part("\0\0", b"x", "") + _END,
        "a name of no UTF-8": PARTS + part("\xff\xfe", b"x", "") + _END,
        "a name of 5000 letters": PARTS + part("n" * 5000, b"x", "") + _END,
        "an empty name": PARTS + part("", b"x", "") + _END,
        "a value of null bytes": PARTS + part("fmr", b"0.001\0", "") + _END,
        "a value of no UTF-8": PARTS + part("face", b"\xff\xfe", "") + _END,
        "fmr NaN": PARTS + part("fmr", b"nan", "") + _END,
        "fmr of 4000 digits": PARTS + part("fmr", b"9" * 4000, "") + _END,
        "threshold infinite": PARTS + part("threshold", b"-inf", "") + _END,
        "index of 4000 digits": PARTS + part("probe_index", b"-" + b"9" * 4000, "") + _END,
        "index as words": PARTS + part("probe_index", b"0x10", "") + _END,
        "100 text fields": PARTS + b"".join(part(f"f{n}", b"", "") for n in range(100)) + _END,
        "100 references": part("probe", GOOD) + part("reference", GOOD) * 100 + _END,
        "10000 parts": b"--edge\r\n" * 10_000 + _END,
    }.items():
        yield Body(f"form: {name}", content, dict(FORM))
    for charset in ("undefined", "nonsense", "utf-16", "idna", "punycode", "hex", "utf-8\\0"):
        yield Body(
            f"form: charset {charset}",
            PARTS + part("fmr", b"\xff\xfe\0", "") + _END,
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
        yield Body(f"content type: {name}", PARTS + _END, {"content-type": media_type})
    large = bytes(1_000_000) * 20
    yield Body("form: a picture of 20 MB", part("image", large) + _END, dict(FORM), "/v1/detect")


BODIES = [*json_bodies(), *form_bodies()]


def messages() -> Iterator[tuple[str, str, bytes]]:
    """gRPC requests that must be refused: name, method, bytes."""
    one = face_pb2.Image(content=GOOD)
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
    strange = face_pb2.Image(content=GOOD, selection=77)  # type: ignore[arg-type]
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
        "JSON": json.dumps({"probe": PICTURE}).encode(),
        "a picture": GOOD,
    }.items():
        yield name, "Verify", data
        yield name, "Detect", data + b"\xff"
    yield "a method unheard of", "Recognise", whole
