"""The map over a gallery on a Ray cluster: Ray Data maps Parquet shards, the run stores them.

Only the map's work leaves this process. Reading, storing, the record, the lease and the switch are
those of every run, so that a migration may change its engine half-way, and what comes after the
shards were written goes through the mapping service as usual.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo import Zoo
from services.errors import Errors, MienError
from services.gallery import Gallery
from services.mapping.checks import source_vectors
from services.mapping.mapper import load_mapper
from services.migration.record import Record
from services.migration.shards import Shards, mapped_file, read_source, write_mapped
from services.migration.steps import stacked
from services.runtime import EngineError
from services.settings import EngineSettings, Settings, SettingsError
from services.telemetry import get_logger

LOCAL = "local"
"""In place of a cluster's address: one is started on this machine, for this run alone."""

_PATH, _FAILURE = "path", "failure"
_MOST_TOLD = 200  # characters of what Ray says

_log = get_logger(__name__)


@dataclass(frozen=True)
class RayOptions:
    """Where the cluster is, and what it shares with this process.

    Attributes:
        address: of an existing cluster; "auto" finds the one that this machine belongs to.
        folder: that all its nodes see under this path; shards are kept there while the run lasts.
        shard: templates in one.
    """

    address: str
    folder: Path
    shard: int = 10_000


class RayAhead:
    """Maps what a run is about to read, before it reads it.

    Args:
        settings: of the maps and of the engine; the nodes find the map in the same home.
        options: of the cluster.

    Raises:
        SettingsError: Ray is not installed.
    """

    def __init__(self, settings: Settings, options: RayOptions) -> None:
        _ray()
        self._settings, self._options = settings, options

    async def prepare(self, gallery: Gallery, record: Record) -> Shards:
        """Writes the shards that are missing and lets the cluster map those that are not mapped.

        Raises:
            MienError: MAPPING_UNAVAILABLE; the cluster is not there, or a shard failed.
        """
        shards = Shards(self._options.folder / record.id / record.map_sha256)
        await self._export(gallery, record, shards)
        if waiting := shards.unmapped():
            await asyncio.to_thread(self._map, record, waiting)
        return shards

    async def _export(self, gallery: Gallery, record: Record, shards: Shards) -> None:
        source = record.source.space()
        after = max(record.cursor, shards.end)
        while page := await gallery.scan(source, after, self._options.shard):
            native = [one for one in page if not one.map]
            if native:
                numbers = [one.sequence for one in native]
                vectors = stacked(native, source)
                last = page[-1].sequence
                await asyncio.to_thread(shards.put, after, last, numbers, vectors)
            after = page[-1].sequence

    def _map(self, record: Record, waiting: list[Path]) -> None:
        address = self._options.address
        try:
            failures = self._failures(record, waiting)
        except ConnectionError as error:
            raise _failed(f"No Ray cluster is at {address!r}.") from error
        except Exception as error:  # Ray raises what it likes, and pages of it
            _log.error("the cluster failed", error=type(error).__name__)
            why = (str(error).strip().splitlines() or [""])[0][:_MOST_TOLD]
            raise _failed(f"The Ray cluster failed ({type(error).__name__}): {why}") from error
        if failures:
            raise _failed(f"{len(failures)} of {len(waiting)} shards failed: {failures[0]}")

    def _failures(self, record: Record, waiting: list[Path]) -> list[str]:
        """Maps shards; says why some could not be mapped."""
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            ray.init(
                address=self._options.address, log_to_driver=False, logging_level=logging.ERROR
            )
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            workers = max(1, math.floor(ray.cluster_resources().get("CPU", 1)))
            facts = {
                "map_name": record.map,
                "map_sha256": record.map_sha256,
                "home": str(self._settings.home),
                "engine": self._settings.engine.model_dump(),
                "rows": self._settings.mapping.batch_rows,
            }
            shards = ray.data.from_items(
                [{_PATH: str(path)} for path in waiting], override_num_blocks=len(waiting)
            )
            done = shards.map(
                ShardMapper,
                fn_constructor_kwargs=facts,
                concurrency=(1, min(workers, len(waiting))),
                num_cpus=1,
            )
            return [row[_FAILURE] for row in done.iter_rows() if row[_FAILURE]]
        finally:
            if own:
                ray.shutdown()


class ShardMapper:
    """Maps shards on a node of the cluster, on one of its CPUs.

    The same network in the same engine and precision as in the mapping service, and as many rows in
    an inference.

    Args:
        map_name: name@version.
        map_sha256: of its weights.
        home: where the map is, if it did not come with Mien.
        engine: settings of the engine.
        rows: in one inference.
    """

    def __init__(
        self, map_name: str, map_sha256: str, home: str, engine: dict[str, Any], rows: int
    ) -> None:
        # Each worker has one CPU of its own.
        settings = EngineSettings.model_validate({**engine, "threads": 1})
        self._mapper = load_mapper(Zoo(Path(home)), map_name, settings)
        self._rows = rows
        self._map_sha256 = map_sha256

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Maps one shard; its answers are in their file, or the row says what is wrong."""
        try:
            self._map(Path(row[_PATH]))
        except (EngineError, MienError, OSError) as error:
            return {**row, _FAILURE: str(error)}
        return {**row, _FAILURE: ""}

    def _map(self, path: Path) -> None:
        card = self._mapper.card
        if card.weights.sha256 != self._map_sha256:
            raise _failed(f"{card.reference} is another map on a node.")
        numbers, given = read_source(path)
        vectors = source_vectors(given, card, "vectors[{}]")
        made = [
            one
            for start in range(0, len(vectors), self._rows)
            for one in self._mapper.map(vectors[start : start + self._rows])
        ]
        write_mapped(
            mapped_file(path),
            numbers,
            np.stack([one.vector for one in made]),
            np.array([one.confidence for one in made], np.float32),
        )


def _failed(why: str) -> MienError:
    return MienError(Errors.MAPPING_UNAVAILABLE, why)


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("--engine ray needs: pip install 'mien[ray]'") from error
    return ray
