"""Training faces: one memory-mapped file of decoded crops beside an index of labels and points.

A data folder holds `index.tsv` and tar files of 128x128 crops whose central 112x112 is the ArcFace
template. The tars are decoded once into the cache; decoding WebP costs 0.4 ms a face, reading the
cache next to nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models.training.errors import DataError
from models.training.pose import euler_angles

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CROP_SIDE = 128
BORDER = 8
"""Pixels around the 112x112 template in a 128x128 crop."""

NOBODY = -1
EYES_COLUMN = "inter_eye_px_in_source"
POINT_COLUMNS = [f"{axis}{k}" for k in range(5) for axis in "xy"]
COLUMNS = ["path", "person", EYES_COLUMN, *POINT_COLUMNS]
"""What every index has; the points are pixels of the crop, image-left eye first."""

INDEX = "index.tsv"
OTHERS = ""
"""In shares of people per source: all sources that are not named."""


@dataclass(frozen=True)
class Faces:
    """All faces of a data folder, in the order of its index.

    Attributes:
        crops: (N,128,128,3) uint8, RGB, memory-mapped.
        paths: N paths inside the tars; they begin with the source's name.
        people: N person labels, empty where nobody is named.
        points: (N,5,2) px in crop coordinates.
        euler: (N,3) pitch, yaw, roll, degrees; NaN where no pose fits.
        eyes: (N,) distance between the eyes in the picture that the crop was cut from, px.
        fingerprint: SHA-256 over index and tars.
    """

    crops: Bytes
    paths: list[str]
    people: list[str]
    points: Floats
    euler: Floats
    eyes: Floats
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def sources(self) -> npt.NDArray[np.str_]:
        """(N,) first part of each path."""
        return np.array([path.split("/", 1)[0] for path in self.paths])


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and bytes of the index and the tars."""
    digest = hashlib.sha256()
    for path in [folder / INDEX, *sorted(folder.glob("*.tar"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_faces(folder: Path, cache: Path) -> Faces:
    """Open a data folder, decoding it into `cache` at the first call.

    Raises:
        DataError: no index, one without rows or with a bad one, or a picture of it is missing or of
            another size.
    """
    rows, points, eyes = _read_index(folder)
    mark = fingerprint(folder)
    store = cache / f"faces-{mark[:16]}"
    if not (store / "done.json").is_file():
        _decode(folder, [row["path"] for row in rows], store)
    return Faces(
        crops=np.load(store / "crops.npy", mmap_mode="r"),
        paths=[row["path"] for row in rows],
        people=[row["person"] for row in rows],
        points=points,
        euler=_euler(points, store),
        eyes=eyes,
        fingerprint=mark,
    )


def _read_index(folder: Path) -> tuple[list[dict[str, str]], Floats, Floats]:
    """Its rows, their (N,5,2) points, and their (N,) distances between the eyes."""
    index = folder / INDEX
    if not index.is_file():
        raise DataError(f"no {INDEX} in {folder}")
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="")
            rows = list(reader)
            named = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index} is no text split by tabs: {error}") from error
    missing = [name for name in COLUMNS if name not in named]
    if missing:
        raise DataError(f"{index} has no column {missing[0]}")
    if not rows:
        raise DataError(f"{index} names no picture")
    if len({row["path"] for row in rows}) < len(rows):
        raise DataError(f"{index} names a picture twice")
    numbers = np.empty((len(rows), 1 + len(POINT_COLUMNS)), np.float32)
    for place, row in enumerate(rows):
        try:
            numbers[place] = [float(row[name]) for name in (EYES_COLUMN, *POINT_COLUMNS)]
        except ValueError as error:
            raise DataError(f"{index}, line {place + 2}: {error}") from error
    return rows, numbers[:, 1:].reshape(-1, 5, 2).copy(), numbers[:, 0].copy()


def _decode(folder: Path, paths: list[str], store: Path) -> None:
    store.mkdir(parents=True, exist_ok=True)
    position = {path: row for row, path in enumerate(paths)}
    shape = (len(paths), CROP_SIDE, CROP_SIDE, 3)
    crops = np.lib.format.open_memmap(store / "crops.npy", "w+", np.uint8, shape)
    for name, data in _members(folder):
        row = position.pop(name, None)
        if row is None:
            continue
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is None or picture.shape != shape[1:]:
            raise DataError(f"{name} is not a {CROP_SIDE}x{CROP_SIDE} picture")
        crops[row] = picture[..., ::-1]
    if position:
        raise DataError(
            f"{len(position)} pictures of the index are in no tar, one is {min(position)}"
        )
    crops.flush()
    (store / "done.json").write_text(json.dumps({"faces": len(paths)}))


def _members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for tar in sorted(folder.glob("*.tar")):
        with tarfile.open(tar) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name.removeprefix("./"), file.read()


def _euler(points: Floats, store: Path) -> Floats:
    path = store / "euler.npy"
    if path.is_file():
        euler: Floats = np.load(path)
        return euler
    euler = np.stack([euler_angles(face - BORDER) for face in points])
    np.save(path, euler)
    return euler


@dataclass(frozen=True)
class Split:
    """Who trains and who validates.

    Attributes:
        train: (T,) rows used for training, the unlabelled included.
        validation: (V,) rows of the held-out people, all labelled.
        labels: (N,) class of each row for the softmax, -1 outside it.
        classes: number of classes.
    """

    train: Ints
    validation: Ints
    labels: Ints
    classes: int


def split_people(
    faces: Faces,
    holdout: dict[str, float],
    min_images: int,
    excluded: npt.NDArray[np.bool_] | None = None,
) -> Split:
    """Hold out a fixed share of people per source; the rest with enough images become classes.

    Who is held out depends on the person's name alone, so every run and every subset agree.

    Args:
        faces: the data.
        holdout: share of people per source in [0,1], `OTHERS` for those not named; without it
            they lose nobody.
        min_images: people with fewer usable images stay out of the softmax.
        excluded: (N,) rows whose label is not trusted; they count as unlabelled.
    """
    others = holdout.get(OTHERS, 0.0)
    held = np.array(
        [bool(p) and _draw(p) < holdout.get(p.split("/", 1)[0], others) for p in faces.people]
    )
    usable = np.array([bool(p) for p in faces.people]) & ~held
    if excluded is not None:
        usable &= ~excluded
    names = np.array(faces.people)
    people, counts = np.unique(names[usable], return_counts=True)
    number = {str(p): k for k, p in enumerate(people[counts >= min_images])}
    labels = np.array(
        [number.get(p, NOBODY) if ok else NOBODY for p, ok in zip(names, usable, strict=True)],
        dtype=np.int64,
    )
    return Split(np.flatnonzero(~held), np.flatnonzero(held), labels, len(number))


def _draw(person: str) -> float:
    """A number in [0,1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(person.encode()).digest()[:6], "big") / 2**48
