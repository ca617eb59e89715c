"""`mien mapping list` and `apply`: the maps that are known here, and a file of vectors mapped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.table import Table

from models.zoo import MapCard, Zoo
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.embedding.service import identity
from services.errors import Errors, MienError
from services.gateway.mapping_client import Mapped, MappingClient
from services.local import local_mapping
from services.rpc.mien.v1 import mapping_pb2, model_pb2

_ORIGINS: dict[str, model_pb2.VectorOrigin.ValueType] = {
    "native": model_pb2.VECTOR_ORIGIN_NATIVE,
    "mapped": model_pb2.VECTOR_ORIGIN_MAPPED,
}


class IdentityFile(BaseModel):
    """What lies beside a file of vectors: whose they are, as REST says it too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    origin: Literal["native", "mapped"]
    map: str | None = None

    @classmethod
    def of(cls, said: model_pb2.ModelIdentity) -> IdentityFile:
        """Of an identity whose origin is said."""
        origin: Literal["native", "mapped"] = "mapped" if said.map else "native"
        return cls(
            name=said.name,
            version=said.version,
            weights_sha256=said.weights_sha256,
            preprocessing_sha256=said.preprocessing_sha256,
            origin=origin,
            map=said.map or None,
        )

    def message(self) -> model_pb2.ModelIdentity:
        """As the services take it."""
        return model_pb2.ModelIdentity(
            name=self.name,
            version=self.version,
            weights_sha256=self.weights_sha256,
            preprocessing_sha256=self.preprocessing_sha256,
            origin=_ORIGINS[self.origin],
            map=self.map or "",
        )


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to `mien mapping`."""
    app.command("list")(list_maps)
    app.command()(apply)


def list_maps(as_json: JsonOption = False) -> None:
    """List the maps that are known here, and how far their confidence holds."""
    cards = [card for card in Zoo(command_settings().home).cards() if isinstance(card, MapCard)]
    if as_json:
        print_json({"maps": [_row(card) for card in cards]})
        return
    table = Table("map", "from", "to", "method", "confidence off by", "licence")
    for card in cards:
        off = "not measured" if card.confidence is None else f"{card.confidence.gap:.3f}"
        ends = (card.source.reference, card.target.reference)
        table.add_row(card.reference, *ends, card.method, off, card.licence)
    out.print(table)


def apply(
    map_name: Annotated[str, typer.Option("--map", help="Map as name or name@version.")],
    given: Annotated[
        Path,
        typer.Option("--in", exists=True, dir_okay=False, help="Vectors, N x dimension, .npy."),
    ],
    made: Annotated[Path, typer.Option("--out", dir_okay=False, help="Mapped vectors, .npy.")],
    source: Annotated[
        str, typer.Option(help="Embedder that made the vectors, if no JSON file beside says so.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Map a file of vectors, in batches, as the service does.

    Whose the vectors are stands in a JSON file of the same name beside them (name, version,
    weights_sha256, preprocessing_sha256, origin), or is said by --source. Writes the mapped
    vectors, their identity as JSON, and their confidences as NAME.confidence.npy beside them. A
    vector that the service would refuse ends it; nothing is written then.
    """
    settings = command_settings()
    zoo = Zoo(settings.home)
    card = zoo.map(map_name)
    if _beside(made) == _beside(given):
        raise MienError(
            Errors.INVALID_REQUEST,
            "The mapped vectors need a name of their own: the original ones are to be kept.",
            field="out",
        )
    whose = _identity_of(given, source, zoo)
    vectors = _opened(given)

    async def work() -> None:
        async with local_mapping(settings, (card.reference,)) as mapping:
            await _map_file(mapping, card, vectors, whose, made)

    run(work())
    answer = {"map": card.reference, "vectors": len(vectors), "identity": str(_beside(made))}
    if as_json:
        print_json(answer)
    else:
        out.print(f"{len(vectors)} vectors mapped by {card.reference} to {made}", markup=False)


async def _map_file(
    mapping: MappingClient,
    card: MapCard,
    vectors: NDArray[np.floating],
    whose: model_pb2.ModelIdentity,
    made: Path,
) -> None:
    """Maps a file and writes what comes of it; the files appear when all is done."""
    info = await mapping.map_info(card.reference)
    draft = made.with_name(made.name + ".part")
    rows = np.lib.format.open_memmap(
        draft, mode="w+", dtype=np.float32, shape=(len(vectors), card.target.dimension)
    )
    trust = np.zeros(len(vectors), np.float32)
    done = 0
    try:
        with counting(f"mapping with {card.reference}", len(vectors)) as advance:

            async def batches() -> AsyncIterator[NDArray[np.float32]]:
                for start in range(0, len(vectors), mapping.max_batch):
                    block = vectors[start : start + mapping.max_batch]
                    yield await asyncio.to_thread(np.asarray, block, np.float32)

            async def take(answer: Mapped) -> None:
                nonlocal done
                end = done + len(answer.vectors)
                rows[done:end], trust[done:end] = answer.vectors, answer.confidences
                advance(end - done)
                done = end

            await mapping.map_stream(batches(), whose, info, take)
        rows.flush()
        np.save(made.with_suffix(".confidence.npy"), trust)
        _beside(made).write_text(_told(info, trust), encoding="utf-8")
        draft.replace(made)
    finally:
        draft.unlink(missing_ok=True)


def _told(info: mapping_pb2.MapInfo, trust: NDArray[np.float32]) -> str:
    """The identity of mapped vectors, and what a reader of them wants to know first."""
    whose = IdentityFile.of(info.target).model_dump()
    facts = {
        **whose,
        "map_sha256": info.weights_sha256,
        "dimension": info.target_dimension,
        "vectors": len(trust),
        "mean_confidence": round(float(trust.mean()), 4),
    }
    return json.dumps(facts, indent=2) + "\n"


def _identity_of(file: Path, source: str, zoo: Zoo) -> model_pb2.ModelIdentity:
    """Whose the vectors of a file are.

    Raises:
        MienError: nobody says so, the JSON file is no identity, or it says otherwise than
            ``source``.
        ZooError: ``source`` is no embedder that is known here.
    """
    beside = _beside(file)
    named = identity(zoo.embedder(source)) if source else None
    if not beside.exists():
        if named is None:
            raise MienError(
                Errors.INVALID_REQUEST,
                f"Say whose these vectors are, by --source or in {beside.name} beside them.",
                field="source",
            )
        return named
    try:
        said = IdentityFile.model_validate_json(beside.read_bytes()).message()
    except ValidationError as error:
        places = ", ".join(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
        raise MienError(
            Errors.INVALID_REQUEST, f"{beside.name} is no identity: {places}.", field="source"
        ) from error
    if named is not None and named != said:
        raise MienError(
            Errors.IDENTITY_MISMATCH, f"{beside.name} says that they are not.", field="source"
        )
    return said


def _opened(file: Path) -> NDArray[np.floating]:
    """A file of vectors, not yet in memory.

    Raises:
        MienError: it is no table of floating-point numbers, or an empty one.
    """
    try:
        vectors: NDArray[np.floating] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MienError(Errors.INVALID_REQUEST, f"{file.name} is no .npy file.") from error
    table = isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.dtype.kind == "f"
    if not table or len(vectors) == 0:
        raise MienError(
            Errors.INVALID_REQUEST, f"{file.name} must hold vectors: N x dimension of floats."
        )
    return vectors


def _beside(file: Path) -> Path:
    return file.with_suffix(".json")


def _row(card: MapCard) -> dict[str, Any]:
    return {
        "map": card.reference,
        "source": card.source.reference,
        "target": card.target.reference,
        "method": card.method,
        "licence": card.licence,
        "confidence_gap": None if card.confidence is None else card.confidence.gap,
        "thresholds": [
            {"comparison": one.comparison, "fmr": one.fmr, "similarity": one.similarity}
            for one in card.thresholds
        ],
    }
