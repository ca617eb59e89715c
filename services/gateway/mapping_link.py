"""The ways to the mapping service, one of them over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import grpc

from services.errors import Errors, MienError
from services.rpc.channel import call_metadata
from services.rpc.link import ServiceLink
from services.rpc.mien.v1 import mapping_pb2, mapping_pb2_grpc
from services.rpc.tls import ClientCredentials

Answered = Callable[[mapping_pb2.MapStreamResponse], Awaitable[None]]
_Call = grpc.aio.StreamStreamCall[mapping_pb2.MapStreamRequest, mapping_pb2.MapStreamResponse]

_SERVICE = mapping_pb2.DESCRIPTOR.services_by_name["MappingService"].full_name


class MappingLink(Protocol):
    """A way to the mapping service: the RPCs of its proto, errors already Mien's own."""

    async def list_maps(
        self, seconds: float, *, wait: bool = False
    ) -> mapping_pb2.ListMapsResponse:
        """Asks which maps are served; ``wait`` for a service that is not there yet."""
        ...

    async def map(self, request: mapping_pb2.MapRequest, seconds: float) -> mapping_pb2.MapResponse:
        """Maps a batch of vectors within so many ``seconds``."""
        ...

    async def map_stream(
        self,
        batches: AsyncIterator[mapping_pb2.MapStreamRequest],
        answered: Answered,
        seconds: float,
    ) -> None:
        """Maps batch after batch, each answer within so many ``seconds`` of the one before."""
        ...

    async def close(self) -> None:
        """Gives the way up."""
        ...


class RpcLink(ServiceLink["mapping_pb2_grpc.MappingServiceAsyncStub"]):
    """Over gRPC, to a service in another process.

    Args:
        address: "host:port" or "unix:PATH".
        credentials: as those of `connect`.
    """

    def __init__(self, address: str, credentials: ClientCredentials | None = None) -> None:
        super().__init__(
            address,
            _SERVICE,
            mapping_pb2_grpc.MappingServiceStub,
            "mapping",
            Errors.MAPPING_UNAVAILABLE,
            credentials,
        )

    async def list_maps(
        self, seconds: float, *, wait: bool = False
    ) -> mapping_pb2.ListMapsResponse:
        """Asks which maps are served.

        Raises:
            MienError: the service does not answer.
        """
        request = mapping_pb2.ListMapsRequest()
        return await self.ask(self.stub.ListMaps, request, seconds, wait=wait)

    async def map(self, request: mapping_pb2.MapRequest, seconds: float) -> mapping_pb2.MapResponse:
        """Maps a batch of vectors.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        return await self.ask(self.stub.Map, request, seconds)

    async def map_stream(
        self,
        batches: AsyncIterator[mapping_pb2.MapStreamRequest],
        answered: Answered,
        seconds: float,
    ) -> None:
        """Maps batch after batch.

        Args:
            batches: what is sent, no faster than the service reads it.
            answered: takes the answers, in order; while it is at work the service is held back.
            seconds: that one answer may take after the one before.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
            Exception: whatever ``batches`` or ``answered`` raised.
        """
        call = self.stub.MapStream(metadata=call_metadata())
        sending = asyncio.create_task(_send(call, batches))
        # When the batches end in an error, nobody needs the rest of the answers.
        sending.add_done_callback(lambda done: _failed(done) and call.cancel())
        try:
            while (answer := await _next(call, seconds)) is not None:
                await answered(answer)
        except grpc.aio.AioRpcError as error:
            raise self.failure(error) from error
        except TimeoutError as error:
            raise MienError(
                Errors.DEADLINE_EXCEEDED, "The mapping service took too long."
            ) from error
        except asyncio.CancelledError:
            failure = _failed(sending)
            if failure is not None:
                raise failure from None
            raise
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send(call: _Call, batches: AsyncIterator[mapping_pb2.MapStreamRequest]) -> None:
    # When the service has ended the stream, whoever reads the answers learns why.
    over = (grpc.aio.AioRpcError, asyncio.InvalidStateError)
    async for batch in batches:
        try:
            await call.write(batch)
        except over:
            return
    with contextlib.suppress(*over):
        await call.done_writing()


async def _next(call: _Call, seconds: float) -> mapping_pb2.MapStreamResponse | None:
    """The next answer, or None after the last.

    Raises:
        TimeoutError: it did not come in time.
        grpc.aio.AioRpcError: the service ended the stream.
    """
    async with asyncio.timeout(
        seconds
    ):  # `wait_for` loses a cancellation that comes with an answer
        answer = await call.read()
    return answer if isinstance(answer, mapping_pb2.MapStreamResponse) else None


def _failed(task: asyncio.Task[None]) -> BaseException | None:
    """What a task ended in, if in an error."""
    return task.exception() if task.done() and not task.cancelled() else None
