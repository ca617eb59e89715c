"""The gateway's side of the embedding service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.rpc.link import ServiceLink
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc, model_pb2
from services.rpc.tls import ClientCredentials
from services.telemetry.tracing import spanned
from services.templates import quality_weights

_CALL = 33  # crops in one call: a usual verification; a service may be set to take few
_SERVICE = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name


@dataclass(frozen=True)
class Embeddings:
    """Vectors with the identity that they share.

    Attributes:
        vectors: N x dimension float32.
        identity: model, version and hashes.
        queue_seconds: time that the batch waited.
        inference_seconds: time that the network took.
        weights: N, above 0 and up to 1: what each crop counts for in a template; None for a model
            that has not learned it.
        lengths: N; a vector times this is what such a model's templates are made of; None likewise.
    """

    vectors: NDArray[np.float32]
    identity: model_pb2.ModelIdentity
    queue_seconds: float
    inference_seconds: float
    weights: NDArray[np.float32] | None = None
    lengths: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Templates:
    """One vector for each set of crops of one person.

    Attributes:
        vectors: sets x dimension float32, of the identity of `crops`.
        crops: the single crops, set after set.
    """

    vectors: NDArray[np.float32]
    crops: Embeddings


class EmbeddingLink(Protocol):
    """A way to the embedding service: the RPCs of its proto, errors already Mien's own."""

    async def list_models(
        self, seconds: float, *, wait: bool = False
    ) -> embedding_pb2.ListModelsResponse:
        """Asks which models are served; ``wait`` for a service that is not there yet."""
        ...

    async def embed(
        self, request: embedding_pb2.EmbedRequest, seconds: float
    ) -> embedding_pb2.EmbedResponse:
        """Embeds a batch of crops within so many ``seconds``."""
        ...

    async def frontalize(
        self, request: embedding_pb2.FrontalizeRequest, seconds: float
    ) -> embedding_pb2.FrontalizeResponse:
        """Draws synthetic faces, for human review only, within so many ``seconds``."""
        ...

    async def close(self) -> None:
        """Gives the way up."""
        ...


class RpcLink(ServiceLink["embedding_pb2_grpc.EmbeddingServiceAsyncStub"]):
    """Over gRPC, to a service in another process.

    Args:
        address: "host:port" or "unix:PATH".
        credentials: as those of `connect`.
    """

    def __init__(self, address: str, credentials: ClientCredentials | None = None) -> None:
        super().__init__(
            address,
            _SERVICE,
            embedding_pb2_grpc.EmbeddingServiceStub,
            "embedding",
            Errors.EMBEDDING_UNAVAILABLE,
            credentials,
        )

    async def list_models(
        self, seconds: float, *, wait: bool = False
    ) -> embedding_pb2.ListModelsResponse:
        """Asks which models are served.

        Raises:
            MienError: the service does not answer.
        """
        request = embedding_pb2.ListModelsRequest()
        return await self.ask(self.stub.ListModels, request, seconds, wait=wait)

    async def embed(
        self, request: embedding_pb2.EmbedRequest, seconds: float
    ) -> embedding_pb2.EmbedResponse:
        """Embeds a batch of crops.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        return await self.ask(self.stub.Embed, request, seconds)

    async def frontalize(
        self, request: embedding_pb2.FrontalizeRequest, seconds: float
    ) -> embedding_pb2.FrontalizeResponse:
        """Draws synthetic faces, for human review only.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        return await self.ask(self.stub.Frontalize, request, seconds)


class EmbeddingClient:
    """What the gateway knows of the embedding service, and asks of it.

    Args:
        link: the way there.
        timeout: seconds that one call may take.
    """

    def __init__(self, link: EmbeddingLink, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._models: dict[str, model_pb2.ModelInfo] = {}
        self._default: model_pb2.ModelInfo | None = None

    async def refresh(self, *, wait: bool = False) -> list[model_pb2.ModelInfo]:
        """Asks which models are served, and remembers them.

        Args:
            wait: for a service that is not there yet, as at the start of both.

        Raises:
            MienError: the service does not answer.
        """
        models = list((await self._link.list_models(self._timeout, wait=wait)).models)
        found: dict[str, model_pb2.ModelInfo] = {}
        for model in sorted(models, key=lambda m: m.is_default):
            found[model.identity.name] = model
            if model.is_default:
                self._default = model
        for model in models:
            found[f"{model.identity.name}@{model.identity.version}"] = model
        self._models = found
        return models

    async def model(self, reference: str) -> model_pb2.ModelInfo:
        """What is known of a model, by "name" or "name@version"; empty for the default.

        Raises:
            MienError: it is not served, or the service does not answer.
        """
        if self._default is None or (reference and reference not in self._models):
            await self.refresh()
        model = self._models.get(reference) if reference else self._default
        if model is None:
            served = ", ".join(sorted(name for name in self._models if "@" in name))
            raise MienError(
                Errors.MODEL_UNKNOWN, f"That model is not served. Served: {served}.", field="model"
            )
        return model

    async def embed(
        self,
        crops: list[NDArray[np.uint8]],
        model: model_pb2.ModelInfo,
        *,
        bulk: bool = False,
    ) -> Embeddings:
        """Embeds aligned crops.

        Args:
            crops: each height x width x 3, RGB, 0-255, of the model's size.
            model: from `model`.
            bulk: nobody waits for this answer in person.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        request = _embed_request(crops, model, bulk)
        return _embeddings(await self._ask(request, model.identity))

    async def embed_faces(
        self,
        faces: Sequence[Sequence[NDArray[np.uint8]]],
        model: model_pb2.ModelInfo,
        *,
        bulk: bool = False,
    ) -> Embeddings:
        """Embeds faces, each seen in one crop or in several that count alike.

        Args:
            faces: each at least one crop, as for `embed`.
            model: from `model`.
            bulk: nobody waits for this answer in person.

        Returns:
            One row for each face; weights and lengths are those of its first crop.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        parts = [await self._several(part, model, bulk) for part in _calls(faces)]
        if not parts:
            return Embeddings(np.empty((0, 0), np.float32), model.identity, 0.0, 0.0)
        return Embeddings(
            np.concatenate([one.vectors for one in parts]),
            model.identity,
            sum(one.queue_seconds for one in parts),
            sum(one.inference_seconds for one in parts),
            _joined([one.weights for one in parts]),
            _joined([one.lengths for one in parts]),
        )

    async def _several(
        self, faces: Sequence[Sequence[NDArray[np.uint8]]], model: model_pb2.ModelInfo, bulk: bool
    ) -> Embeddings:
        """The faces of one call."""
        if all(len(crops) == 1 for crops in faces):
            return await self.embed([crop for crops in faces for crop in crops], model, bulk=bulk)
        made = await self.templates(faces, model, bulk=bulk)
        counts = np.array([len(crops) for crops in faces])
        firsts = np.cumsum(counts) - counts
        single = (counts == 1)[:, None]
        one = made.crops
        return replace(
            one,
            vectors=np.where(single, one.vectors[firsts], made.vectors),
            weights=None if one.weights is None else one.weights[firsts],
            lengths=None if one.lengths is None else one.lengths[firsts],
        )

    async def templates(
        self,
        sets: Sequence[Sequence[NDArray[np.uint8]]],
        model: model_pb2.ModelInfo,
        *,
        qualities: Sequence[Sequence[float]] | None = None,
        bulk: bool = False,
    ) -> Templates:
        """Embeds sets of aligned crops, each of one person, and makes one vector of each set.

        Args:
            sets: each at least one crop, as for `embed`.
            model: from `model`.
            qualities: unified quality of each crop, 0 to 100, by which a model that has not learned
                to weigh crops weighs them; None for equal shares. Other models weigh by themselves.
            bulk: nobody waits for this answer in person.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
            ValueError: there are not as many qualities as crops, or one is not between 0 and 100.
        """
        request = _embed_request([crop for one in sets for crop in one], model, bulk)
        shares: Sequence[Sequence[float]] = [()] * len(sets)
        if qualities is not None and not model.learned_weights:
            if [len(one) for one in qualities] != [len(one) for one in sets]:
                raise ValueError("There must be one quality for each crop.")
            shares = [quality_weights(one) for one in qualities]
        start = 0
        for crops, weights in zip(sets, shares, strict=True):
            request.templates.add(crops=range(start, start + len(crops)), weights=weights)
            start += len(crops)
        answer = await self._ask(request, model.identity)
        return Templates(_rows(answer.templates), _embeddings(answer))

    async def _ask(
        self, request: embedding_pb2.EmbedRequest, identity: model_pb2.ModelIdentity
    ) -> embedding_pb2.EmbedResponse:
        with spanned("embed"):
            answer = await self._link.embed(request, self._timeout)
        if answer.identity != identity:
            # The service was restarted with other weights: compare nothing, learn the new ones.
            self._default = None
            raise MienError(
                Errors.EMBEDDING_UNAVAILABLE, "The embedding model has just been changed."
            )
        return answer

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()


def _calls(
    faces: Sequence[Sequence[NDArray[np.uint8]]],
) -> Iterator[Sequence[Sequence[NDArray[np.uint8]]]]:
    """The faces, in their order, in parts of no more crops than one call is to have."""
    start = crops = 0
    for place, face in enumerate(faces):
        if place > start and crops + len(face) > _CALL:
            yield faces[start:place]
            start, crops = place, 0
        crops += len(face)
    if start < len(faces):
        yield faces[start:]


def _joined(parts: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    known = [one for one in parts if one is not None]
    return np.concatenate(known) if known else None


def _embed_request(
    crops: Sequence[NDArray[np.uint8]], model: model_pb2.ModelInfo, bulk: bool
) -> embedding_pb2.EmbedRequest:
    return embedding_pb2.EmbedRequest(
        model=f"{model.identity.name}@{model.identity.version}",
        crops=[crop.tobytes() for crop in crops],
        priority=model_pb2.PRIORITY_BULK if bulk else model_pb2.PRIORITY_INTERACTIVE,
    )


def _embeddings(answer: embedding_pb2.EmbedResponse) -> Embeddings:
    return Embeddings(
        _rows(answer.vectors),
        answer.identity,
        answer.queue_ms / 1e3,
        answer.inference_ms / 1e3,
        np.array(answer.weights, np.float32) if answer.weights else None,
        np.array(answer.lengths, np.float32) if answer.lengths else None,
    )


def _rows(packed: Sequence[bytes]) -> NDArray[np.float32]:
    """Vectors of a message as one array."""
    return np.frombuffer(b"".join(packed), "<f4").reshape(len(packed), -1)
