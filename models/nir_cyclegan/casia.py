"""CASIA NIR-VIS 2.0 as it lies on a disk, and its faces in the form that training takes.

The set is licensed person to person and does not come with the project. Its folders are
`s1` to `s4` (sessions), in each of them one of visible and one of near-infrared pictures, whose
names begin with VIS and NIR, and in those one folder per subject. `write_faces` makes a data folder
for `--nir-data` (or `--data`) of it; finding and cutting the faces is the caller's work, because
detection belongs to the services.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.training.errors import DataError
from models.training.faces import CROP_SIDE, EYES_COLUMN, POINT_COLUMNS

Bytes = npt.NDArray[np.uint8]

Light = Literal["VIS", "NIR"]

SOURCE = "casia"
SUFFIXES = {".bmp", ".jpg", ".jpeg", ".png"}
LEAST, MOST = 3, 8
"""Pictures of a subject that the paper uses, in each light."""


@dataclass(frozen=True, order=True)
class CasiaPicture:
    """One picture of the set.

    Attributes:
        session: "s1" to "s4".
        light: visible or near infrared.
        subject: number of the person, as its folder is called; the same in all sessions.
        path: the file.
    """

    session: str
    light: Light
    subject: str
    path: Path

    @property
    def person(self) -> str:
        """The subject's label in training data."""
        return f"{SOURCE}/{self.subject}"


class Cut(NamedTuple):
    """A face cut out of a picture.

    Attributes:
        crop: (128,128,3) uint8 RGB, the ArcFace template in its central 112x112.
        points: (5,2) px in the crop.
        score: the detector's, 0 to 1.
        eyes: distance between the eyes in the picture, px.
    """

    crop: Bytes
    points: npt.NDArray[np.float32]
    score: float
    eyes: float


def find_pictures(folder: Path) -> list[CasiaPicture]:
    """All pictures of the set, in order.

    Raises:
        DataError: nothing under the folder lies as the set does.
    """
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if len(parts) < 4 or path.suffix.lower() not in SUFFIXES:
            continue
        session, light, subject = parts[-4:-1]
        named = re.match(r"VIS|NIR", light.upper())
        if re.fullmatch(r"s[1-4]", session) and named:
            kind: Light = "VIS" if named[0] == "VIS" else "NIR"
            found.append(CasiaPicture(session, kind, subject, path))
    if not found:
        raise DataError(f"{folder} does not hold s1 to s4 with VIS and NIR folders of subjects")
    return sorted(found)


def chosen_pictures(
    pictures: Iterable[CasiaPicture], light: Light, least: int = LEAST, most: int = MOST
) -> list[CasiaPicture]:
    """The first pictures of each subject in one light; subjects with too few are left out."""
    by_subject: dict[str, list[CasiaPicture]] = {}
    for picture in sorted(pictures):
        if picture.light == light:
            by_subject.setdefault(picture.subject, []).append(picture)
    return [p for each in by_subject.values() if len(each) >= least for p in each[:most]]


def read_protocol(file: Path, pictures: Iterable[CasiaPicture]) -> list[CasiaPicture]:
    r"""The pictures that a protocol's file lists, in its order (`protocols/nir_train_1.txt`).

    A line ends in session, light, subject and picture, divided by "\" or "/"; what follows in
    another column, and the picture's suffix, do not count.

    Raises:
        DataError: a line names a picture that is not there.
    """
    known = {(p.session, p.light, p.subject, p.path.stem): p for p in pictures}
    listed = []
    for line in file.read_text().splitlines():
        if not line.strip():
            continue
        parts = line.split()[0].replace("\\", "/").split("/")
        session, light, subject, name = parts[-4:] if len(parts) > 3 else ("", "", "", "")
        found = known.get((session, "NIR" if light.startswith("NIR") else "VIS", subject,
                           Path(name).stem))  # fmt: skip
        if found is None:
            raise DataError(f"{file.name} names {line.split()[0]}, which is not there")
        listed.append(found)
    return listed


def write_faces(
    pictures: Iterable[CasiaPicture], cut: Callable[[Bytes], Cut | None], folder: Path
) -> int:
    """Writes faces as a data folder of training: `index.tsv` and one tar.

    Args:
        pictures: of the set.
        cut: (H,W,3) uint8 RGB -> the face, or None where there is none.
        folder: made if need be.

    Returns:
        How many faces were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = ["path", "person", "age", "gender", "ethnicity", "detector_score", EYES_COLUMN]
    rows = []
    with tarfile.open(folder / f"{SOURCE}.tar", "w") as tar:
        for picture, found in _cut_all(pictures, cut):
            name = f"{picture.person}/{picture.light}/{picture.session}-{picture.path.stem}.png"
            data = cv2.imencode(".png", found.crop[..., ::-1])[1].tobytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            points = [f"{value:.1f}" for value in found.points.ravel()]
            about = [f"{found.score:.3f}", f"{found.eyes:.1f}"]
            rows.append([name, picture.person, "", "", "", *about, *points])
    with (folder / "index.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([[*header, *POINT_COLUMNS], *rows])
    return len(rows)


def _cut_all(
    pictures: Iterable[CasiaPicture], cut: Callable[[Bytes], Cut | None]
) -> Iterator[tuple[CasiaPicture, Cut]]:
    for picture in pictures:
        pixels = cv2.imread(str(picture.path), cv2.IMREAD_COLOR)
        if pixels is None:
            raise DataError(f"{picture.path} is not a picture")
        found = cut(np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8))
        if found is None:
            continue
        if found.crop.shape != (CROP_SIDE, CROP_SIDE, 3):
            raise DataError(f"a cut face has the shape {found.crop.shape}")
        yield picture, found
