from pathlib import Path

import pytest

from models.zoo import Zoo


@pytest.fixture(scope="session")
def zoo_poseface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released PoseFace, which lies in the repository."""
    zoo = Zoo(tmp_path_factory.mktemp("home"))
    return zoo.weights(zoo.embedder("poseface@1"))
