"""Toy models: two random views of one latent face, so that what can be mapped is known."""

import csv
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")
pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")

from models.r3an.arrays import unit
from models.r3an.vectors import NOBODY, Pairs
from models.training.faces import Faces, load_faces
from models.zoo import Zoo
from services.embedding import probe_embedder
from tests.unit.tiny_onnx import DIMENSION, tiny_embedder

PEOPLE, IMAGES, NAMELESS, LATENT = 60, 4, 40, 6
SIDES = {"old": 16, "new": 32}
TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])


def toy_pairs(d_s: int = 10, d_t: int = 8, noise: float = 0.05, bend: float = 0.0) -> Pairs:
    """240 faces of 60 people and 40 nameless ones; 20 people each calibrate and test."""
    rng = np.random.default_rng(1)
    person = np.concatenate([np.repeat(np.arange(PEOPLE), IMAGES), np.full(NAMELESS, NOBODY)])
    centres = rng.normal(size=(PEOPLE, LATENT))
    own = np.concatenate([centres[person[person >= 0]], rng.normal(size=(NAMELESS, LATENT))])
    face = unit(own[:, None] + rng.normal(0, 0.25, (len(own), 2, LATENT)))
    to_source, to_target = rng.normal(size=(LATENT, d_s)), rng.normal(size=(LATENT, d_t))
    source = face @ to_source
    target = face @ to_target + bend * np.tanh(3 * face @ rng.normal(size=(LATENT, d_t)))
    source = source + rng.normal(0, noise, source.shape)
    train = np.flatnonzero((person < 20) | (person == NOBODY))
    yaw = np.linspace(-60, 60, len(person)).astype(np.float32)
    return Pairs(
        unit(source),
        unit(target),
        person,
        yaw,
        train[train < PEOPLE * IMAGES + NAMELESS // 2],
        np.flatnonzero((person >= 20) & (person < 40)),
        np.flatnonzero(person >= 40),
        np.arange(PEOPLE * IMAGES + NAMELESS // 2, len(person)),
    )


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    return toy_pairs()


@pytest.fixture(scope="session")
def crops_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise crops of 40 people, of whom the split rule holds some out, and 20 nameless ones."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(4)
    header = ["path", "person", "age", "gender", "ethnicity", "detector_score"]
    header += ["inter_eye_px_in_source", *(f"{axis}{k}" for k in range(5) for axis in "xy")]
    rows = []
    with tarfile.open(folder / "cfp.tar", "w") as tar:
        for person in range(60):
            look = rng.integers(0, 255, (8, 8, 3))
            for image in range(3 if person < 40 else 1):
                noisy = np.clip(look + rng.normal(0, 20, look.shape), 0, 255).astype(np.uint8)
                picture = cv2.resize(noisy, (128, 128), interpolation=cv2.INTER_CUBIC)
                data = cv2.imencode(".png", picture)[1].tobytes()
                name = f"cfp/p{person:02d}/frontal/{image}.png"
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                points = TEMPLATE + 8 + rng.normal(0, 1, (5, 2))
                label = f"cfp/p{person:02d}" if person < 40 else ""
                rows.append([name, label, "", "", "", "0.9", "60", *points.ravel().round(1)])
    with (folder / "index.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header, *rows])
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r3an-cache")


@pytest.fixture(scope="session")
def faces(crops_folder: Path, cache: Path) -> Faces:
    return load_faces(crops_folder, cache)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with two embedders of the operator's own, which see faces at different sizes."""
    folder = tmp_path_factory.mktemp("home")
    for name, side in SIDES.items():
        card = folder / f"{name}.json"
        fields = {
            "name": name,
            "input": {"width": side, "height": side},
            "output": {"dimension": DIMENSION},
        }
        card.write_text(json.dumps(fields))
        network = tiny_embedder(folder / f"{name}.onnx", side=side)
        Zoo(folder).add(network, card, probe_embedder)
    return folder
