"""A Milvus that is gone, or hangs: callers are told soon, and it is used again when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.bench.chaos.house import has_milvus, milvus_lite
from services.bench.chaos.program import Program
from services.errors import Errors, MienError
from services.gallery import Enrolment, Gallery, NewTemplate, Space
from services.gallery.open import open_gallery
from services.settings import Settings
from tests.integration.harness import START_SECONDS, free_port

_SPACE = Space("m", "1", "a" * 64, "b" * 64, 8)
_TENANT = "t"
_SECONDS = 2.0


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[tuple[Program, str]]:
    if not has_milvus():
        pytest.skip("milvus-lite and pymilvus are not installed")
    port = free_port()
    server = milvus_lite(port, tmp_path / "data", tmp_path)
    server.start()
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.thaw()
        server.kill()


async def _refused_within(gallery: Gallery) -> float:
    began = time.monotonic()
    with pytest.raises(MienError) as caught:
        await gallery.subject(_TENANT, "s")
    assert caught.value.error is Errors.GALLERY_UNAVAILABLE
    assert caught.value.retry_after is not None
    return time.monotonic() - began


async def _is_found_again(gallery: Gallery) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            (found,) = await gallery.search(_TENANT, _SPACE, np.eye(1, 8, dtype=np.float32))
        except MienError:
            continue
        return [one.subject_id for one in found] == ["s"]
    return False


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_callers_are_told_soon_and_what_was_enrolled_is_there_afterwards(
    milvus: tuple[Program, str], tmp_path: Path, fault: str
) -> None:
    server, uri = milvus
    settings = Settings.model_validate(
        {"home": tmp_path, "gallery": {"uri": uri, "timeout_seconds": _SECONDS}}
    )
    gallery = await open_gallery(settings)
    try:
        await gallery.create_collection(_SPACE)
        vector = np.eye(1, 8, dtype=np.float32)[0]
        await gallery.enrol(_TENANT, [Enrolment("s", [NewTemplate(_SPACE, vector)])])
        getattr(server, fault)()
        assert await _refused_within(gallery) < 3 * _SECONDS
        assert await _refused_within(gallery) < 0.5, "it was only just away"
        if fault == "kill":
            server.start()
        else:
            server.thaw()
        assert await _is_found_again(gallery)
    finally:
        await gallery.close()
