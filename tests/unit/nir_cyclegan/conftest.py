from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded toy faces and what the teacher says of them, shared by all tests."""
    return tmp_path_factory.mktemp("nir-cache")


@pytest.fixture(scope="session")
def drawn_face() -> np.ndarray:
    """A face drawn by hand in the template's place: skin, hair, lips, eyes, blue wall."""
    face = np.full((112, 112, 3), (70, 90, 150), np.uint8)
    cv2.ellipse(face, (56, 66), (36, 48), 0, 0, 360, (205, 150, 120), -1)
    cv2.ellipse(face, (56, 22), (38, 20), 0, 0, 360, (35, 25, 22), -1)
    cv2.ellipse(face, (56, 92), (15, 4), 0, 0, 360, (170, 70, 75), -1)
    for x, y in ((38, 52), (74, 52)):
        cv2.circle(face, (x, y), 4, (60, 38, 28), -1)
        cv2.circle(face, (x, y), 1, (5, 5, 5), -1)
    return face
