"""Photographs as what trainings and fits of maps read: aligned crops in a tar, beside an index."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.errors import DataError
from models.training.faces import BORDER, CROP_SIDE, EYES_COLUMN, INDEX, POINT_COLUMNS
from services.errors import MienError
from services.gateway.alignment import CropGeometry, similarity_transform
from services.gateway.faces import FaceChoice
from services.gateway.pipeline import PicturePipeline
from services.picture_files import pictures_below

CROPS = CropGeometry(CROP_SIDE, CROP_SIDE, template_scale=1 - 2 * BORDER / CROP_SIDE)
"""The template of 112 x 112 pixels, and a border around it to turn and shift the face in."""

LABELS = ("age", "gender", "ethnicity")
COLUMNS = ["path", "person", *LABELS, "detector_score", EYES_COLUMN, *POINT_COLUMNS]
QUALITY = 95
AT_ONCE = 64
"""Pictures that are prepared before their crops are written."""

Row = dict[str, str]


@dataclass(frozen=True)
class Photograph:
    """A picture, and what is known of the person in it.

    Attributes:
        path: from the folder of the photographs.
        person: a name, empty where it is not known.
        labels: of `LABELS`, as they were written.
    """

    path: str
    person: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Written:
    """What became of the photographs.

    Attributes:
        pictures: all of them.
        faces: crops that were written.
        people: on these.
        faceless: pictures in which no face was found.
        unusable: files that could not be read as pictures.
    """

    pictures: int
    faces: int
    people: int
    faceless: int
    unusable: int


def photographs_below(images: Path) -> list[Photograph]:
    """All pictures of a folder; each of its sub-folders is a person.

    Raises:
        DataError: there are none.
    """
    paths = [path.relative_to(images) for path in pictures_below(images)]
    if not paths:
        raise DataError(f"{images} holds no pictures")
    return [Photograph(str(p), p.parts[0] if len(p.parts) > 1 else "", {}) for p in paths]


def photographs_of(index: Path) -> list[Photograph]:
    """The pictures of a TSV file with the columns path and person; `LABELS` are taken over.

    Raises:
        DataError: it cannot be read, lacks a column, or names none.
    """
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="", quoting=csv.QUOTE_NONE)
            rows = [row for row in reader if row.get("path")]
            named = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index} cannot be read") from error
    if not {"path", "person"} <= set(named):
        raise DataError(f"{index}: the header must name path and person, split by tabs")
    if not rows:
        raise DataError(f"{index} names no picture")
    if len({row["path"] for row in rows}) < len(rows):
        raise DataError(f"{index} names a picture twice")
    for row in rows:
        path = Path(row["path"])
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{index}: every path begins in the folder of the photographs")
    return [
        Photograph(row["path"], row["person"], {name: row.get(name, "") for name in LABELS})
        for row in rows
    ]


def write_crops(
    pipeline: PicturePipeline,
    images: Path,
    photographs: Sequence[Photograph],
    out: Path,
    source: str,
    choice: FaceChoice,
    threads: int,
    advance: Callable[[int], None],
) -> Written:
    """Writes `SOURCE.tar` and the index; what the index says of other sources stays.

    Args:
        pipeline: that finds and aligns faces.
        images: folder of the photographs.
        photographs: them.
        out: folder; made if need be.
        source: name of this set; paths and people in the index begin with it.
        choice: which face of a picture.
        threads: that prepare pictures.
        advance: told how many pictures more are done.

    Raises:
        DataError: no picture shows a face, or the index that is there is of another kind.
    """
    out.mkdir(parents=True, exist_ok=True)
    others = [row for row in _rows_of(out / INDEX) if not row["path"].startswith(f"{source}/")]
    draft = out / f"{source}.tar.part"
    rows: list[Row] = []
    faceless = unusable = 0
    try:
        with tarfile.open(draft, "w") as tar, ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(photographs), AT_ONCE):
                part = photographs[start : start + AT_ONCE]
                made = pool.map(lambda one: _crop(pipeline, images, one, source, choice), part)
                for found in made:
                    if isinstance(found, _Crop):
                        _add(tar, found)
                        rows.append(found.row)
                    elif found is _FACELESS:
                        faceless += 1
                    else:
                        unusable += 1
                advance(len(part))
        if not rows:
            raise DataError(f"no picture of {images} shows a face")
        draft.replace(out / f"{source}.tar")
    finally:
        draft.unlink(missing_ok=True)
    _write_index(out / INDEX, [*others, *rows])
    people = len({row["person"] for row in rows if row["person"]})
    return Written(len(photographs), len(rows), people, faceless, unusable)


@dataclass(frozen=True)
class _Crop:
    """A face: its row, and the JPEG file of it."""

    row: Row
    jpeg: bytes


_FACELESS = "faceless"
_UNUSABLE = "unusable"


def _crop(
    pipeline: PicturePipeline, images: Path, one: Photograph, source: str, choice: FaceChoice
) -> _Crop | str:
    try:
        prepared = pipeline.prepare((images / one.path).read_bytes(), choice, CROPS, "picture")
    except (OSError, MienError):
        return _UNUSABLE
    face, crop = prepared.face, prepared.crop
    if face is None or crop is None:
        return _FACELESS
    points = _moved(face.detection.points)
    row = {
        "path": f"{source}/{Path(one.path).as_posix()}.jpg",
        "person": f"{source}/{one.person}" if one.person else "",
        **one.labels,
        "detector_score": f"{face.detection.score:.4f}",
        EYES_COLUMN: f"{face.inter_eye_distance:.1f}",
        **{name: f"{x:.2f}" for name, x in zip(POINT_COLUMNS, points.ravel(), strict=True)},
    }
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(crop[..., ::-1]), options)[1]
    return _Crop(row, encoded.tobytes())


def _moved(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points of the picture where they lie in the crop, 5 x 2 pixels."""
    matrix = similarity_transform(points, CROPS.points())
    moved: NDArray[np.float64] = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved


def _add(tar: tarfile.TarFile, crop: _Crop) -> None:
    member = tarfile.TarInfo(crop.row["path"])
    member.size = len(crop.jpeg)
    tar.addfile(member, io.BytesIO(crop.jpeg))


def _rows_of(index: Path) -> Iterator[Row]:
    if not index.is_file():
        return
    with index.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if reader.fieldnames != COLUMNS:
            raise DataError(f"{index} is no index of crops; name another folder")
        yield from reader


def _write_index(path: Path, rows: Sequence[Row]) -> None:
    draft = path.with_suffix(".part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)
