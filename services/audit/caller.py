"""Who asks: set where a request is let in, read where the audit log is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ANONYMOUS = "anonymous"
"""The caller where access is not checked."""

MIEN = "mien"
"""Mien itself, where nobody asks."""

caller: ContextVar[str] = ContextVar("caller", default=ANONYMOUS)
"""Id of the API key or subject of the token of the request at work, never a secret."""


@contextmanager
def use_caller(who: str) -> Iterator[None]:
    """Makes somebody the caller for the duration of a block.

    Args:
        who: id of a key, subject of a token, or the part of Mien that acts by itself.
    """
    token = caller.set(who)
    try:
        yield
    finally:
        caller.reset(token)
