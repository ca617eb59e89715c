"""Gives work up when the caller has hung up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

_Result = TypeVar("_Result")


class CallerGoneError(Exception):
    """Nobody is there to take the answer."""


async def while_connected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Awaits work on a request whose body has been read; cancels it when the caller hangs up.

    Raises:
        CallerGoneError: the caller hung up first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallerGoneError
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
