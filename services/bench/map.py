"""The mapping service over gRPC beside its bare engine; one vector mapped or extracted anew."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from models.zoo import EmbedderCard, MapCard, Zoo
from services.bench.load import Load, closed_loop
from services.bench.pictures import small_pairs
from services.bench.plain import PlainLoop
from services.bench.process import served
from services.bench.result import BenchResult
from services.mapping import Mapper, load_mapper
from services.mapping.info import source_identity
from services.rpc.mien.v1 import mapping_pb2, mapping_pb2_grpc
from services.settings import Settings, SettingsError

Vectors = NDArray[np.float32]

MOST_COST = 0.1
"""Of extracting a vector anew: mapping one may cost no more, or nobody needs a map."""

_TURN_SECONDS = 2.0
_SINGLE_SECONDS = 0.5
_BATCH = 64  # vectors in one call, and in one inference of the bare engine
_KINDS = 16  # different batches


class _Spent(NamedTuple):
    """Seconds of one call: on the clock, and of all CPUs, which others at work disturb less."""

    wall: float
    cpu: float


def bench_map(settings: Settings, name: str, seconds: float, concurrency: int) -> BenchResult:
    """Measures in turns, so that a noisy machine disturbs all alike.

    The service runs in a process of its own and gets batches of 64 vectors from so many callers in
    this process. The reference is the engine that it runs on, in this process, with as many threads
    as it has streams, on the same batches. Then one vector at a time is mapped in this process,
    mapped over gRPC, and extracted anew from a JPEG of 250 x 250 pixels by decoding, detection,
    alignment and the map's target model (the default embedder, where that is not here).

    Args:
        settings: of the engine.
        name: map as name or name@version; the first that is known if empty.
        seconds: for each of the two, throughput alone.
        concurrency: callers at once.

    Raises:
        SettingsError: there is no map.
        FetchError: the pictures cannot be downloaded.
        RuntimeError: the service does not start.
    """
    zoo = Zoo(settings.home)
    known = zoo.maps()
    if not name and not known:
        raise SettingsError("There is no map to measure; `mien models add` brings one.")
    card = zoo.map(name) if name else known[0]
    mapper = load_mapper(zoo, card.reference, settings.engine)
    loop = PlainLoop(settings, _extractor(zoo, card))
    pictures = [data for pair in small_pairs(settings.home) for data in pair]
    batches = _batches(card)
    turns = max(2, round(seconds / _TURN_SECONDS))
    reference: list[float] = []
    bulk, single = Load(), Load()
    mapped: list[_Spent] = []
    extracted: list[_Spent] = []
    chosen = {"MIEN_MAPPING__MODELS": card.reference}
    with served(settings, "mapping", chosen) as (_, port, _):
        many = _Callers(port, [_request(card, batch) for batch in batches])
        one = _Callers(port, [_request(card, batch[:1]) for batch in batches])
        many.turn(concurrency, 1.0)
        for _ in range(turns):
            reference.append(_raw(mapper, batches, _TURN_SECONDS))
            bulk.add(many.turn(concurrency, _TURN_SECONDS))
            mapped += _times(lambda n: mapper.map(batches[n % _KINDS][:1]))
            single.add(one.turn(1, _SINGLE_SECONDS))
            extracted += _times(lambda n: loop.extract(pictures[n % len(pictures)]))
        many.close()
        one.close()
    here, anew = _median(mapped), _median(extracted)
    over_grpc = single.percentile_ms(50) / 1e3
    return BenchResult(
        value=bulk.rate * _BATCH,
        reference=statistics.median(reference),
        unit="vectors/s",
        details={
            "map": card.reference,
            "vectors_in_a_call": _BATCH,
            "concurrency": concurrency,
            "turns": turns,
            **bulk.summary(),
            "reference_range": [round(min(reference), 1), round(max(reference), 1)],
            "map_one_ms": round(here.wall * 1e3, 4),
            "map_one_over_grpc_ms": round(over_grpc * 1e3, 4),
            "extract_one_ms": round(anew.wall * 1e3, 3),
            "cost_of_extracting": round(here.wall / anew.wall, 5),
            "cost_of_extracting_over_grpc": round(over_grpc / anew.wall, 5),
            "map_one_cpu_ms": round(here.cpu * 1e3, 4),
            "extract_one_cpu_ms": round(anew.cpu * 1e3, 3),
            "cpu_cost_of_extracting": round(here.cpu / anew.cpu, 5),
            "most_cost": MOST_COST,
            "extractor": loop.embedder.card.reference,
            "engine": f"{mapper.engine.info.engine} {mapper.engine.info.precision}",
            "cpus": len(os.sched_getaffinity(0)),
        },
    )


def _extractor(zoo: Zoo, card: MapCard) -> str:
    """The embedder that extracting anew would take; empty for the default."""
    known = {one.reference: one for one in zoo.cards()}
    target = known.get(card.target.reference)
    return target.reference if isinstance(target, EmbedderCard) else ""


def _batches(card: MapCard) -> list[Vectors]:
    """Random unit vectors: a map does the same work on any."""
    rows = np.random.default_rng(0).standard_normal((_KINDS, _BATCH, card.source.dimension))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return list(rows.astype(np.float32))


def _request(card: MapCard, vectors: Vectors) -> mapping_pb2.MapRequest:
    return mapping_pb2.MapRequest(
        map=card.reference,
        source=source_identity(card),
        vectors=[row.tobytes() for row in vectors],
    )


def _raw(mapper: Mapper, batches: list[Vectors], seconds: float) -> float:
    """Vectors per second through the bare engine, all its streams at work."""
    name = mapper.card.tensors.vector
    start = time.perf_counter()

    def work(_: int) -> int:
        count = 0
        while time.perf_counter() - start < seconds:
            mapper.engine.infer({name: batches[count % _KINDS]})
            count += 1
        return count

    streams = mapper.engine.info.streams
    with ThreadPoolExecutor(streams) as pool:
        count = sum(pool.map(work, range(streams)))
    return count * _BATCH / (time.perf_counter() - start)


def _times(work: Callable[[int], object]) -> list[_Spent]:
    """What each of some calls took, one after the other."""
    spent: list[_Spent] = []
    start = time.perf_counter()
    while time.perf_counter() - start < _SINGLE_SECONDS:
        began, used = time.perf_counter(), time.process_time()
        work(len(spent))
        spent.append(_Spent(time.perf_counter() - began, time.process_time() - used))
    return spent


def _median(spent: list[_Spent]) -> _Spent:
    return _Spent(*(statistics.median(values) for values in zip(*spent, strict=True)))


class _Callers:
    """Callers of the mapping service with requests that are made beforehand."""

    def __init__(self, port: int, requests: list[mapping_pb2.MapRequest]) -> None:
        self._loop = asyncio.new_event_loop()
        self._requests = requests
        self._channel = self._loop.run_until_complete(_connect(port))
        self._map = mapping_pb2_grpc.MappingServiceStub(self._channel).Map

    def turn(self, concurrency: int, seconds: float) -> Load:
        return self._loop.run_until_complete(closed_loop(self._call, concurrency, seconds))

    def close(self) -> None:
        self._loop.run_until_complete(self._channel.close())
        self._loop.close()

    async def _call(self, number: int) -> int:
        await self._map(self._requests[number % len(self._requests)])
        return 0


async def _connect(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
