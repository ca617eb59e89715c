"""A folder of pictures in which two people walk about; one of them could be enrolled."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.zoo import Zoo
from services.bench.camera_clips import divided, make_clips
from services.bench.scene import SceneOptions, demo_people
from services.gateway.server import load_detector
from services.settings import Settings

# Large and slow enough that the tests of the client do not depend on the art of the service.
_SCENE = SceneOptions(seconds=8, head=(80, 120), pillars=0, passers=0)


@pytest.fixture(scope="session")
def clip(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """JPEG files."""
    detector = load_detector(Zoo(mien_home), Settings(home=mien_home))
    enrolled, _ = divided(demo_people(mien_home))
    (made,) = make_clips(enrolled, [], 1, detector, _SCENE, seed=3)
    return [frame.jpeg for frame in made.frames]


@pytest.fixture(scope="session")
def clip_folder(clip: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, with one between them that is no picture."""
    folder = tmp_path_factory.mktemp("front-door")
    for number, data in enumerate(clip):
        (folder / f"{number:04}.jpg").write_bytes(data)
    (folder / "0010-broken.jpg").write_bytes(b"garbage")
    return folder
