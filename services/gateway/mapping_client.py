"""The gateway's side of the mapping service."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.gateway.mapping_link import MappingLink
from services.rpc.mien.v1 import mapping_pb2, model_pb2

Vectors = NDArray[np.float32]

_ROW = re.compile(r"batches\[(\d+)\]\.vectors\[(\d+)\]")


@dataclass(frozen=True)
class Mapped:
    """Vectors in another model's space.

    Attributes:
        vectors: N x target dimension float32, of length 1.
        confidences: N, -1 to 1: predicted cosine to the target model's own vectors.
        identity: that they share: the target model's, of origin mapped.
        queue_seconds: time that the batch waited.
        inference_seconds: time that the network took.
    """

    vectors: Vectors
    confidences: NDArray[np.float32]
    identity: model_pb2.ModelIdentity
    queue_seconds: float
    inference_seconds: float


class MappingClient:
    """What the gateway and jobs know of the mapping service, and ask of it.

    Args:
        link: the way there.
        timeout: seconds that one call may take.
    """

    def __init__(self, link: MappingLink, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._maps: dict[str, mapping_pb2.MapInfo] = {}
        self.max_batch = 0

    async def refresh(self, *, wait: bool = False) -> list[mapping_pb2.MapInfo]:
        """Asks which maps are served, and remembers them, and how many vectors a batch may hold.

        Args:
            wait: for a service that is not there yet, as at the start of both.

        Raises:
            MienError: the service does not answer.
        """
        answer = await self._link.list_maps(self._timeout, wait=wait)
        self.max_batch = answer.max_batch
        self._maps = {reference(one): one for one in answer.maps}
        return list(answer.maps)

    async def map_info(self, name: str) -> mapping_pb2.MapInfo:
        """What is known of a map, by "name@version", or by "name" where one version is served.

        Raises:
            MienError: it is not served, or in several versions, or the service does not answer.
        """
        found = self._called(name)
        if len(found) != 1:
            await self.refresh()
            found = self._called(name)
        if len(found) != 1:
            served = ", ".join(sorted(self._maps)) or "none"
            why = "is not served" if not found else "is served in several versions"
            raise MienError(Errors.MODEL_UNKNOWN, f"That map {why}. Served: {served}.", field="map")
        return found[0]

    async def map(
        self,
        vectors: Vectors,
        source: model_pb2.ModelIdentity,
        info: mapping_pb2.MapInfo,
        *,
        bulk: bool = False,
    ) -> Mapped:
        """Maps vectors, at most as many as one batch may hold.

        Args:
            vectors: N x source dimension, of length 1.
            source: whose they are.
            info: from `map_info`.
            bulk: nobody waits for this answer in person.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        answer = await self._link.map(_request(vectors, source, info, bulk), self._timeout)
        return self._checked(answer, info)

    async def map_stream(
        self,
        batches: AsyncIterator[Vectors],
        source: model_pb2.ModelIdentity,
        info: mapping_pb2.MapInfo,
        answered: Callable[[Mapped], Awaitable[None]],
    ) -> None:
        """Maps batch after batch, as bulk work; while ``answered`` is at work, no more are read.

        Args:
            batches: as for `map`.
            source: whose the vectors are.
            info: from `map_info`.
            answered: takes the answers, in order.

        Raises:
            MienError: the service refused, failed, or did not answer in time. Where a vector is at
                fault, ``field`` counts it from the first of all batches: "vectors[3079]". What was
                answered before stands.
        """
        starts = [0]

        async def requests() -> AsyncIterator[mapping_pb2.MapStreamRequest]:
            async for vectors in batches:
                starts.append(starts[-1] + len(vectors))
                yield mapping_pb2.MapStreamRequest(batch=_request(vectors, source, info, bulk=True))

        async def take(answer: mapping_pb2.MapStreamResponse) -> None:
            await answered(self._checked(answer.batch, info))

        try:
            await self._link.map_stream(requests(), take, self._timeout)
        except MienError as error:
            found = _ROW.fullmatch(error.field or "")
            if found is None:
                raise
            row = starts[int(found[1])] + int(found[2])
            raise MienError(error.error, error.detail, field=f"vectors[{row}]") from error

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()

    def _called(self, name: str) -> list[mapping_pb2.MapInfo]:
        return [one for key, one in self._maps.items() if name in (key, one.name)]

    def _checked(self, answer: mapping_pb2.MapResponse, info: mapping_pb2.MapInfo) -> Mapped:
        if answer.identity != info.target or answer.map_sha256 != info.weights_sha256:
            # The service was restarted with another map: store nothing, learn the new one.
            self._maps = {}
            raise MienError(Errors.MAPPING_UNAVAILABLE, "The map has just been changed.")
        return Mapped(
            np.frombuffer(b"".join(answer.vectors), "<f4").reshape(len(answer.vectors), -1),
            np.array(answer.confidences, np.float32),
            answer.identity,
            answer.queue_ms / 1e3,
            answer.inference_ms / 1e3,
        )


def reference(info: mapping_pb2.MapInfo) -> str:
    """A map as "name@version"."""
    return f"{info.name}@{info.version}"


def _request(
    vectors: Vectors, source: model_pb2.ModelIdentity, info: mapping_pb2.MapInfo, bulk: bool
) -> mapping_pb2.MapRequest:
    return mapping_pb2.MapRequest(
        map=reference(info),
        source=source,
        vectors=[row.tobytes() for row in vectors.astype("<f4", copy=False)],
        priority=model_pb2.PRIORITY_BULK if bulk else model_pb2.PRIORITY_INTERACTIVE,
    )
