import csv
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.zoo import Zoo

PEOPLE, IMAGES = 6, 4
TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of coloured noise: six people with four pictures each, and two nameless."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    header = ["path", "person", "age", "gender", "ethnicity", "detector_score"]
    header += ["inter_eye_px_in_source", *(f"{axis}{k}" for k in range(5) for axis in "xy")]
    rows = []
    with tarfile.open(folder / "toy.tar", "w") as tar:
        for person in range(PEOPLE + 1):
            look = rng.integers(0, 255, (8, 8, 3))
            for image in range(IMAGES if person < PEOPLE else 2):
                noisy = np.clip(look + rng.normal(0, 20, look.shape), 0, 255).astype(np.uint8)
                picture = cv2.resize(noisy, (128, 128), interpolation=cv2.INTER_CUBIC)
                data = cv2.imencode(".png", picture)[1].tobytes()
                name = f"toy/p{person}/{image}.png"
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                points = TEMPLATE + 8 + rng.normal(0, 1, (5, 2))
                points[2, 0] += 5 * (image - 1)
                label = f"toy/p{person}" if person < PEOPLE else ""
                rows.append([name, label, "", "", "", "0.9", "60", *points.ravel().round(1)])
    with (folder / "index.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header, *rows])
    return folder


@pytest.fixture(scope="session")
def zoo_poseface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released PoseFace, which lies in the repository."""
    zoo = Zoo(tmp_path_factory.mktemp("home"))
    return zoo.weights(zoo.embedder("poseface@1"))
