"""The request id: taken from the caller or made here, echoed, and written in each log line."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "x-request-id"
_ACCEPTED = re.compile(r"[0-9A-Za-z._:-]{1,128}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def new_request_id(offered: str | None) -> str:
    """The caller's id if it is short and plain, a fresh one otherwise."""
    if offered and _ACCEPTED.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


def current_request_id() -> str:
    """The id of the request at work, or an empty string."""
    return _current.get()


@contextmanager
def use_request_id(request_id: str) -> Iterator[None]:
    """Makes an id the current one for the duration of a block."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
