"""Logs: enough to follow a request, and nothing of a face."""

import base64
import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.telemetry import (
    configure_logging,
    get_logger,
    new_request_id,
    use_request_id,
)

PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(32, 127)) * 40
VECTOR = np.linspace(-0.731, 0.913, 128, dtype=np.float32)
SECRETS = (
    "JKLMNOPQ",  # in the picture, and in any repr of it
    base64.b64encode(PICTURE).decode()[100:140],
    "-0.731",
    "0.913",
    str(VECTOR[64]),
)


@dataclass
class Prepared:
    """Like a stage's result: its repr shows what it holds."""

    data: bytes
    vector: NDArray[np.float32]


Start = Callable[..., io.StringIO]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Sets logging up and gives what is written; everything is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config() if structlog.is_configured() else None

    def begin(form: str = "json", level: str = "info") -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        configure_logging(level, form)
        return written

    yield begin
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    if before is not None:
        structlog.configure(**before)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    """Each line is one JSON object, or the test fails."""
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line_is_one_json_object(start: Start) -> None:
    written = start()
    get_logger("a.b").info("engine chosen", model="sface@1", streams=2, passed_over=["x"])
    (line,) = lines(written)
    assert line["event"] == "engine chosen"
    assert line["level"] == "info"
    assert line["logger"] == "a.b"
    assert line["model"] == "sface@1"
    assert line["streams"] == 2
    assert line["passed_over"] == ["x"]
    assert line["timestamp"].endswith("Z")


def test_the_request_id_is_in_each_line_of_a_request(start: Start) -> None:
    written = start()
    log = get_logger("a")
    log.info("before")
    with use_request_id("r-1"):
        log.info("first")
        with use_request_id("r-2"):
            log.info("inner")
        logging.getLogger("a.library").warning("of a %s", "library")
    log.info("after")
    found = [(line["event"], line.get("request_id")) for line in lines(written)]
    assert found == [
        ("before", None),
        ("first", "r-1"),
        ("inner", "r-2"),
        ("of a library", "r-1"),
        ("after", None),
    ]


@pytest.mark.parametrize("offered", ["abc-123", "A.b_c:9", "x" * 128])
def test_a_plain_request_id_is_taken_over(offered: str) -> None:
    assert new_request_id(offered) == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 129, "a b", 'x","admin":"1', "a\nb", "é"])
def test_any_other_request_id_is_replaced(offered: str | None) -> None:
    made = new_request_id(offered)
    assert made != offered
    assert made.isalnum()
    assert new_request_id(offered) != made


def test_the_level_is_kept(start: Start) -> None:
    written = start(level="warning")
    get_logger("a").info("quiet")
    get_logger("a").warning("heard")
    logging.getLogger("a.library").info("quiet too")
    assert [line["event"] for line in lines(written)] == ["heard"]


def test_libraries_that_tell_addresses_are_quiet(start: Start) -> None:
    written = start(level="debug")
    logging.getLogger("httpx").info("HTTP Request: GET https://example.org/somebody.jpg")
    logging.getLogger("uvicorn.access").info("GET /v1/verify?name=somebody")
    assert written.getvalue() == ""


LEAKS: dict[str, Callable[[Any], object]] = {
    "bytes": lambda log: log.info("x", data=PICTURE),
    "bytearray": lambda log: log.info("x", data=bytearray(PICTURE)),
    "memoryview": lambda log: log.info("x", data=memoryview(PICTURE)),
    "array": lambda log: log.info("x", data=VECTOR),
    "numbers": lambda log: log.info("x", data=VECTOR.tolist()),
    "array scalars": lambda log: log.info("x", data=list(VECTOR)),
    "nested": lambda log: log.info("x", data={"faces": [{"vector": VECTOR, "crop": PICTURE}]}),
    "object": lambda log: log.info("x", data=Prepared(PICTURE, VECTOR)),
    "text of bytes": lambda log: log.info("x", data=repr(PICTURE)),
    "text of an array": lambda log: log.info("x", data=repr(VECTOR)),
    "text of numbers": lambda log: log.info("x", data=str(VECTOR.tolist())),
    "base64": lambda log: log.info("x", data=base64.b64encode(PICTURE).decode()),
    "event": lambda log: log.info(" ".join([repr(PICTURE), repr(VECTOR)])),
    "library": lambda _: logging.getLogger("a.library").warning("got %r, %s", PICTURE, VECTOR),
}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")  # its fractions of a second are no secrets


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("leak", [*LEAKS])
def test_pictures_and_vectors_are_withheld(start: Start, leak: str, form: str) -> None:
    written = start(form)
    LEAKS[leak](get_logger("a"))
    text = _TIME.sub("", written.getvalue())
    assert "withheld" in text
    assert not [secret for secret in SECRETS if secret in text]


def _deep(data: bytes, vector: NDArray[np.float32], error: Exception) -> None:
    """A frame whose variables hold a face, as that of any stage does."""
    prepared = Prepared(data, vector)
    assert prepared
    raise error


def mien_error() -> Exception:
    return MienError(Errors.IMAGE_CORRUPT, "The JPEG file is damaged.", field="probe")


FAILURES: dict[str, Callable[[], Exception]] = {
    "Mien's own": mien_error,
    "plain": lambda: RuntimeError("the network could not be run"),
    "quotes bytes": lambda: KeyError(PICTURE),
    "quotes an array": lambda: ValueError(f"cannot reshape {VECTOR!r}", VECTOR),
    "quotes base64": lambda: ValueError(base64.b64encode(PICTURE).decode()),
    "cannot decode": lambda: UnicodeDecodeError("utf-8", PICTURE, 0, 1, "invalid start byte"),
}


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("failure", [*FAILURES])
def test_an_exception_is_told_without_what_it_handled(
    start: Start, failure: str, form: str
) -> None:
    written = start(form)
    error = FAILURES[failure]()
    try:
        _deep(PICTURE, VECTOR, error)
    except type(error) as caught:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            get_logger("a").exception("request failed", method="Verify")
            get_logger("a").error("request failed", exc_info=caught, cause=caught)
            logging.getLogger("a.library").exception("failed")
    text = written.getvalue()
    assert type(error).__name__ in text
    assert "_deep" in text, "where it happened must be in the log"
    assert "Logging error" not in text
    assert not [secret for secret in SECRETS if secret in _TIME.sub("", text)]


def test_what_is_harmless_is_told_in_full(start: Start) -> None:
    written = start()
    told = {
        "sha256": "5f" * 32,
        "path": Path("/var/lib/mien/models/legacy/1/model.onnx"),
        "box": (12.5, 8.0, 96.0, 120.0),
        "count": np.int64(3),
        "error": Errors.OVERLOADED.value.code,
        "address": "127.0.0.1:50051",
        "nothing": None,
        "flag": True,
    }
    get_logger("a").info("x", **told)
    (line,) = lines(written)
    assert {name: line[name] for name in told} == {
        **told,
        "path": str(told["path"]),
        "box": [12.5, 8.0, 96.0, 120.0],
        "count": 3,
    }


def test_the_text_form_is_for_people(start: Start) -> None:
    written = start("text")
    with use_request_id("r-1"):
        get_logger("a.b").warning("engine chosen", model="sface@1")
    (line,) = written.getvalue().splitlines()
    assert "engine chosen" in line
    assert "warning" in line
    assert "model=sface@1" in line
    assert "request_id=r-1" in line
    assert "\x1b" not in line, "no colours in a file or pipe"
