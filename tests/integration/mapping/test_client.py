"""What the gateway and jobs notice of the mapping service: over gRPC, and in one process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.zoo import Zoo
from services.errors import Errors, MienError
from services.gateway.mapping_client import Mapped, MappingClient
from services.gateway.mapping_link import RpcLink
from services.local import local_mapping, local_mien
from services.mapping import Mapper
from services.rpc.mien.v1 import mapping_pb2, model_pb2
from services.serve import running
from services.settings import EngineSettings, Settings
from tests.integration.harness import call, free_port
from tests.integration.mapping.tiny_mapping import TARGET, add_map, loaded, serving, source, units
from tests.tiny_networks import expected_mapped

Vectors = NDArray[np.float32]
SECONDS = 20.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapping-client")
    add_map(folder)
    return folder


def settings(home: Path, **mapping: object) -> Settings:
    return Settings.model_validate(
        {"home": home, "mapping": mapping, "engine": EngineSettings(preference="openvino")}
    )


async def client(address: str, seconds: float = SECONDS) -> MappingClient:
    return MappingClient(RpcLink(address), seconds)


async def cut(vectors: Vectors, size: int) -> AsyncIterator[Vectors]:
    for start in range(0, len(vectors), size):
        yield vectors[start : start + size]


class Taken:
    """Answers of a stream."""

    def __init__(self) -> None:
        self.answers: list[Mapped] = []
        self.first = asyncio.Event()

    async def __call__(self, answer: Mapped) -> None:
        self.answers.append(answer)
        self.first.set()

    def vectors(self) -> Vectors:
        return np.concatenate([one.vectors for one in self.answers])


async def streamed(mapping: MappingClient, batches: AsyncIterator[Vectors], taken: Taken) -> None:
    info = await mapping.map_info("tiny-map")
    try:
        await mapping.map_stream(batches, source(), info, taken)
    finally:
        await mapping.close()


def test_vectors_are_mapped_over_grpc_one_by_one_and_in_a_stream(home: Path) -> None:
    given = units(50)
    made, trust = expected_mapped(given, TARGET)
    taken = Taken()

    async def work(address: str) -> Mapped:
        mapping = await client(address)
        info = await mapping.map_info("tiny-map@1")
        answer = await mapping.map(given[:4], source(), info)
        await streamed(mapping, cut(given, mapping.max_batch), taken)
        return answer

    with serving(loaded(home, "tiny-map"), max_batch=8) as server:
        answer = call(work(server.address))
    np.testing.assert_allclose(answer.vectors, made[:4], atol=1e-5)
    np.testing.assert_allclose(answer.confidences, trust[:4], atol=1e-5)
    assert answer.identity.origin == model_pb2.VECTOR_ORIGIN_MAPPED
    np.testing.assert_allclose(taken.vectors(), made, atol=1e-5)
    assert len(taken.answers) == 7


@pytest.mark.parametrize("over", ["grpc", "one process"])
def test_a_vector_at_fault_is_counted_from_the_first_of_the_stream(home: Path, over: str) -> None:
    given = units(30)
    given[21] *= 3
    taken = Taken()

    async def here() -> None:
        async with local_mapping(settings(home, max_batch=8), ("tiny-map",)) as mapping:
            await streamed(mapping, cut(given, 8), taken)

    async def there(address: str) -> None:
        await streamed(await client(address), cut(given, 8), taken)

    with (
        serving(loaded(home, "tiny-map"), max_batch=8) as server,
        pytest.raises(MienError) as refused,
    ):
        call(there(server.address) if over == "grpc" else here())
    assert refused.value.error is Errors.INVALID_REQUEST
    assert refused.value.field == "vectors[21]"
    if over == "one process":
        assert len(taken.answers) == 2, "what was answered before stands"


@pytest.mark.parametrize("at", ["reading", "writing"])
def test_an_error_of_the_callers_own_ends_the_stream_and_is_not_lost(home: Path, at: str) -> None:
    class OwnError(Exception):
        pass

    async def batches() -> AsyncIterator[Vectors]:
        yield units(2)
        if at == "reading":
            raise OwnError
        yield units(2)

    async def take(_: Mapped) -> None:
        if at == "writing":
            raise OwnError

    async def work(address: str) -> Mapped:
        mapping = await client(address)
        info = await mapping.map_info("tiny-map")
        with pytest.raises(OwnError):
            await mapping.map_stream(batches(), source(), info, take)
        answer = await mapping.map(units(1), source(), info)
        await mapping.close()
        return answer

    with serving(loaded(home, "tiny-map")) as server:
        assert len(call(work(server.address)).vectors) == 1


def test_a_stream_that_is_given_up_leaves_the_service_free(home: Path) -> None:
    async def endless() -> AsyncIterator[Vectors]:
        while True:
            yield units(8)

    async def work(address: str) -> Mapped:
        mapping = await client(address)
        info = await mapping.map_info("tiny-map")
        for _ in range(12):  # more than the streams' places
            taken = Taken()
            task = asyncio.create_task(mapping.map_stream(endless(), source(), info, taken))
            await taken.first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        taken = Taken()
        await mapping.map_stream(cut(units(8), 8), source(), info, taken)
        await mapping.close()
        return taken.answers[0]

    with serving(loaded(home, "tiny-map"), max_batch=8, queue_rows=16) as server:
        assert len(call(work(server.address)).vectors) == 8


def test_a_map_that_is_not_served_is_told(home: Path) -> None:
    async def work(address: str) -> None:
        mapping = await client(address)
        try:
            await mapping.map_info("unheard")
        finally:
            await mapping.close()

    with (
        serving(loaded(home, "tiny-map")) as server,
        pytest.raises(MienError, match="Served: tiny-map@1") as refused,
    ):
        call(work(server.address))
    assert (refused.value.error, refused.value.field) == (Errors.MODEL_UNKNOWN, "map")


def test_a_service_that_is_away_is_said_to_be_and_found_again(home: Path) -> None:
    port = free_port()

    async def ask(mapping: MappingClient) -> int:
        info = await mapping.map_info("tiny-map")
        return len((await mapping.map(units(3), source(), info)).vectors)

    mapping = call(client(f"127.0.0.1:{port}", 5.0))
    with serving(loaded(home, "tiny-map"), port):
        assert call(ask(mapping)) == 3
    with pytest.raises(MienError) as gone:
        call(ask(mapping))
    assert gone.value.error in (Errors.MAPPING_UNAVAILABLE, Errors.DEADLINE_EXCEEDED)
    with serving(loaded(home, "tiny-map"), port):
        call(mapping.refresh(wait=True))
        assert call(ask(mapping)) == 3
    call(mapping.close())


def test_a_restart_with_another_map_is_noticed_before_anything_is_stored(home: Path) -> None:
    first = loaded(home, "tiny-map")
    other = loaded(home, "tiny-map")[0]
    weights = other.card.weights.model_copy(update={"sha256": "e" * 64})
    second = Mapper(other.card.model_copy(update={"weights": weights}), other.engine)
    port = free_port()
    mapping = call(client(f"127.0.0.1:{port}", 5.0))

    async def learn() -> mapping_pb2.MapInfo:
        return await mapping.map_info("tiny-map")

    async def ask(info: mapping_pb2.MapInfo) -> Mapped:
        await mapping._link.list_maps(SECONDS, wait=True)  # reconnects, and remembers nothing
        return await mapping.map(units(3), source(), info)

    with serving(first, port):
        info = call(learn())
    with serving([second], port):
        with pytest.raises(MienError, match="just been changed") as refused:
            call(ask(info))
        assert refused.value.error is Errors.MAPPING_UNAVAILABLE
        assert len(call(ask(call(learn()))).vectors) == 3
    call(mapping.close())


def test_mapping_runs_by_itself_and_with_the_others_where_there_are_maps(
    home: Path, tmp_path: Path
) -> None:
    async def names(home: Path, **mapping: object) -> list[str]:
        own = settings(home, port=0, http_port=0, **mapping)
        async with running(own, "mapping") as here:
            assert here.mapping_address is not None
            assert here.rest_url is not None
            link = RpcLink(here.mapping_address)
            found = [one.name for one in (await link.list_maps(SECONDS)).maps]
            await link.close()
            return found

    released = call(names(tmp_path))
    assert released == [card.name for card in Zoo(tmp_path).maps()]
    assert call(names(home)) == sorted([*released, "tiny-map"])
    assert call(names(home, models=("tiny-map", "tiny-map@1"))) == ["tiny-map"]
    assert call(names(home, models=())) == [], "it waits for the operator to name one"


@pytest.fixture(scope="module")
def whole_home(mien_home: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pulled weights, and the map."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "weights").symlink_to(mien_home / "weights")
    (folder / "models").symlink_to(home / "models")
    return folder


def test_everything_in_one_process_has_mapping_where_there_is_a_map(
    whole_home: Path, mien_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights").symlink_to(mien_home / "weights")

    async def names(home: Path, **mapping: object) -> list[str]:
        own = settings(home, **mapping).model_dump()
        own["gateway"] |= {"http_port": 0, "grpc_port": 0, "workers": 1, "enhance": False}
        async with running(Settings.model_validate(own)) as here:
            if here.mapping_address is None:
                return []
            link = RpcLink(here.mapping_address)
            found = [one.name for one in (await link.list_maps(SECONDS)).maps]
            await link.close()
            return found

    assert "tiny-map" in call(names(whole_home))
    assert call(names(whole_home, models=("tiny-map",))) == ["tiny-map"]
    assert call(names(tmp_path, models=())) == []


def test_commands_on_files_have_mapping_too(whole_home: Path) -> None:
    async def work() -> Mapped:
        async with local_mien(settings(whole_home), ("sface",), ("tiny-map",)) as mien:
            info = await mien.mapping.map_info("tiny-map")
            return await mien.mapping.map(units(3), source(), info)

    made, _ = expected_mapped(units(3), TARGET)
    np.testing.assert_allclose(call(work()).vectors, made, atol=1e-5)
