"""One camera's stream to the service: few frames under way, and it goes on after a break."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Self, cast

import grpc
import stamina

from services.errors import Errors
from services.rpc.channel import MAX_MESSAGE, told
from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc
from services.rpc.tls import ClientCredentials, secured_channel

Told = Callable[[camera_pb2.RecognizeResponse], None]
"""Is given every message of the service, on the event loop."""

_Call = grpc.aio.StreamStreamCall[camera_pb2.RecognizeRequest, camera_pb2.RecognizeResponse]
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between attempts to connect again
_STALLED_SECONDS = 15.0  # without an answer to a frame: whatever is between is gone
_END_SECONDS = 10.0  # for the last answers
_FOR_GOOD = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    }
)


@dataclass
class Counts:
    """What became of a camera's frames.

    Attributes:
        sent: to the service.
        answered: worked on.
        refused: could not be used; the service said why.
        dropped: by the service, because it was behind.
        not_sent: because the service was not there, or too many were under way.
        lost: sent, and never answered because the connection broke.
        events: told.
        reconnections: after a break.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    dropped: int = 0
    not_sent: int = 0
    lost: int = 0
    events: int = 0
    reconnections: int = 0

    def shown(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def open_channel(address: str, credentials: ClientCredentials | None = None) -> grpc.aio.Channel:
    """A channel to the gateway; nothing is sent yet.

    Args:
        address: "host:port".
        credentials: None for no TLS.
    """
    return secured_channel(
        address,
        credentials,
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            # Without these, a service that was gone for long is missed for two minutes more.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_http_proxy", 0),
        ],
    )


class CameraStream:
    """Sends a camera's frames and gives the answers; use it as an asynchronous context.

    A connection that breaks, or that answers no more, is made again with growing pauses. Frames
    that were under way are lost and counted.

    Args:
        channel: to the gateway.
        metadata: of the call, for example the tenant.
        in_flight: most frames that are sent and not answered.
        told: is given every message.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: Sequence[tuple[str, str]],
        in_flight: int,
        told: Told,
    ) -> None:
        self.counts = Counts()
        self._stub = camera_pb2_grpc.CameraServiceStub(channel)
        self._metadata = tuple(metadata)
        self._most = in_flight
        self._told = told
        self._under_way: dict[str, float] = {}
        self._call: _Call | None = None
        self._changed = asyncio.Event()
        self._finishing = False
        self._connected_before = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """True while the service can be sent to."""
        return self._call is not None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await self._keeper

    async def send(self, frame: camera_pb2.Frame, *, wait: bool) -> bool:
        """Sends one frame.

        Args:
            frame: with an id that no other frame under way has.
            wait: for the service, and for room, in place of leaving it out.

        Returns:
            False where it was not sent.

        Raises:
            MienError: the service refuses the stream for good.
        """
        while True:
            self._check()
            call = self._call
            if call is not None and len(self._under_way) < self._most:
                self._under_way[frame.frame_id] = time.monotonic()
                if await self._written(call, frame):
                    self.counts.sent += 1
                    return True
                if self._under_way.pop(frame.frame_id, None) is None:
                    self.counts.lost -= 1  # with the connection, though it was never sent
                self._call = None if self._call is call else self._call
            if not wait:
                self.counts.not_sent += 1
                return False
            self._changed.clear()
            await self._changed.wait()

    async def finish(self) -> None:
        """Waits for the last answers, ends the stream, and takes what the service still tells.

        Raises:
            MienError: the service refused the stream for good.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                while self._under_way and self._call is not None:
                    self._changed.clear()
                    await self._changed.wait()
        self._finishing = True
        call, keeper = self._call, self._keeper
        if call is not None and keeper is not None:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.done_writing()
            await asyncio.wait([keeper], timeout=_END_SECONDS)
        self._check()

    def _check(self) -> None:
        if self._keeper is None or not self._keeper.done() or self._keeper.cancelled():
            return
        error = self._keeper.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            raise told(error, "camera", Errors.NOT_READY) from error
        if error is not None:
            raise error

    async def _written(self, call: _Call, frame: camera_pb2.Frame) -> bool:
        try:
            await call.write(camera_pb2.RecognizeRequest(frame=frame))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        except asyncio.CancelledError:
            if _is_cancelled_itself():
                raise
            return False  # the call was, because it had stalled
        return True

    async def _keep(self) -> None:
        """Connects, and connects again, until the stream is finished or refused for good."""
        try:
            while not self._finishing:
                async for attempt in stamina.retry_context(
                    on=_may_pass,
                    attempts=None,
                    timeout=None,
                    wait_initial=_FIRST_WAIT,
                    wait_max=_LONGEST_WAIT,
                    wait_jitter=_FIRST_WAIT,
                ):
                    with attempt:
                        await self._one_connection()
        finally:
            self._changed.set()

    async def _one_connection(self) -> None:
        """Serves one connection; ends without an error where it got something and then broke."""
        call = self._stub.Recognize(metadata=self._metadata)
        watchdog = asyncio.create_task(self._watch(call))
        heard = False
        try:
            await call.wait_for_connection()
            self.counts.reconnections += self._connected_before
            self._connected_before = True
            self._call = call
            self._changed.set()
            while (message := await call.read()) is not grpc.aio.EOF:
                heard = True
                self._take(cast("camera_pb2.RecognizeResponse", message))
            if not self._finishing and not heard:
                raise _EndedError("the service ended the stream")
        except grpc.aio.AioRpcError as error:
            if not (heard and _may_pass(error)):
                raise
        except asyncio.CancelledError:
            if _is_cancelled_itself():
                raise
        finally:
            watchdog.cancel()
            call.cancel()
            self._call = None
            self.counts.lost += len(self._under_way)
            self._under_way.clear()
            self._changed.set()

    async def _watch(self, call: _Call) -> None:
        """Ends a call that has not answered for long."""
        while True:
            await asyncio.sleep(1.0)
            oldest = min(self._under_way.values(), default=None)
            if oldest is not None and time.monotonic() - oldest > _STALLED_SECONDS:
                call.cancel()
                return

    def _take(self, message: camera_pb2.RecognizeResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "report":
            self.counts.answered += 1
            self._settle(message.report.frame_id, message.report.dropped)
        elif kind == "error":
            self.counts.refused += 1
            self._under_way.pop(message.error.frame_id, None)
        elif kind == "event":
            self.counts.events += 1
        self._told(message)
        self._changed.set()

    def _settle(self, frame_id: str, dropped: int) -> None:
        """Takes off a frame that was worked on, and those that were dropped: always the oldest."""
        self.counts.dropped += dropped
        if self._under_way.pop(frame_id, None) is not None:
            for _ in range(min(dropped, len(self._under_way))):
                del self._under_way[next(iter(self._under_way))]


class _EndedError(Exception):
    """The service took a connection and ended it without a word."""


def _may_pass(error: Exception) -> bool:
    if isinstance(error, _EndedError):
        return True
    return isinstance(error, grpc.aio.AioRpcError) and error.code() not in _FOR_GOOD


def _is_cancelled_itself() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
