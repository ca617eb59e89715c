"""Finds faces with YuNet at several scales, so that small and large ones are found alike."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.zoo import DetectorCard
from services.runtime import Engine

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

# YuNet finds faces of about 10 to 300 pixels (its README); it is most exact in the middle of that
# range. A pass at 640 pixels on the longer side finds the usual ones, one at 256 those that fill
# the picture, and one at half size (at most 3 million pixels, so that time is bounded) those of 20
# pixels between the eyes in a picture of 12 million.
_USUAL_SIDE = 640
_COARSE_SIDE = 256
_FINE_SCALE = 0.5
_FINE_PIXELS = 3_000_000
_WORTH_A_FINE_PASS = 1.3  # the fine pass must see faces this many times as large as the usual one
_SMALLEST_SIDE = 16
_LONGEST_SIDE = 16_384  # bounds the time for pictures of few rows and very many columns

# What is tried when nothing was found: a small picture enlarged, because YuNet sees no face below
# 16 pixels or so; then a border for faces that are cut by the picture's edge, and a lower score.
_ENLARGED_SIDE = 512
_MOST_ENLARGED = 8.0
_WORTH_ENLARGING = 1.5
_BORDER = 0.3
_LENIENT_SCORE = 0.3

_SAME_FACE_OVERLAP = 0.3
_VOTING_OVERLAP = 0.6
# Pictures are padded to few distinct sizes, because the engine prepares itself for each new one.
_MULTIPLE = 64
_MULTIPLE_WHEN_LARGE = 128
USUAL_SIZES = (
    (256, 256), (640, 640), (640, 512), (512, 640), (640, 384), (384, 640), (256, 320), (192, 320),
)  # fmt: skip


@dataclass(frozen=True)
class Detection:
    """A face as the detector sees it, in pixels of the upright picture.

    Attributes:
        box: left, top, width, height.
        points: 5 x 2: image-left eye, image-right eye, nose tip, image-left and image-right corner
            of the mouth; x to the right, y down.
        score: 0 to 1.
    """

    box: tuple[float, float, float, float]
    points: Points
    score: float

    @property
    def area(self) -> float:
        """Area of the box, square pixels."""
        return self.box[2] * self.box[3]


class FaceDetector:
    """YuNet, run at several scales.

    Args:
        card: the detector's card.
        engine: its network, loaded with free height and width.
        min_score: least score of a face, 0 to 1.
        max_faces: most faces reported, largest first.

    Attributes:
        weights: their SHA-256, lower-case hex.
    """

    def __init__(
        self, card: DetectorCard, engine: Engine, min_score: float = 0.6, max_faces: int = 500
    ) -> None:
        self.weights = card.weights.sha256
        self._engine = engine
        self._input = engine.info.inputs[0].name
        self._swap = card.channel_order == "BGR"
        self._strides = card.strides
        self._min_score = min_score
        self._max_faces = max_faces
        self._grids: dict[tuple[int, int, int], NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Prepares the engine for the usual sizes, on all of its streams."""
        blanks = [np.zeros((1, 3, *size), np.float32) for size in USUAL_SIZES]
        streams = self._engine.info.streams
        with ThreadPoolExecutor(streams) as pool:
            for blank in blanks:
                list(pool.map(self._engine.infer, [{self._input: blank}] * streams))

    def detect(self, picture: Pixels) -> list[Detection]:
        """Finds every face, largest box first.

        When none is found, looks again: in a small picture enlarged, then with a border around the
        picture and a lower least score. A caller who sends a picture to be compared means that it
        shows a face.

        Args:
            picture: height x width x 3, RGB, 0-255.

        Returns:
            The faces; empty when there are none.
        """
        found = self._detect(picture, self._min_score)
        enlarged = enlargement(*picture.shape[:2])
        if not found and enlarged > 1:
            found = _merge(self._pass(picture, enlarged, self._min_score, 0))
        if not found:
            border = round(_BORDER * max(picture.shape[:2]))
            lenient = self._detect(picture, _LENIENT_SCORE, border)
            found = [face for face in lenient if _centre_inside(face, picture)]
        found.sort(key=lambda face: -face.area)
        return found[: self._max_faces]

    def detect_as_is(self, picture: Pixels) -> list[Detection]:
        """Finds faces in one pass at the picture's own size, with a lenient least score.

        Args:
            picture: height x width x 3, RGB, 0-255.
        """
        return _merge(self._pass(picture, 1.0, _LENIENT_SCORE, 0))

    def close(self) -> None:
        """Frees the network's memory and threads; it finds nothing any more."""
        self._engine.close()

    def detect_once(self, picture: Pixels, scale: float, min_score: float) -> list[Detection]:
        """Finds faces in one pass, largest box first: for films, where the next frame comes soon.

        Args:
            picture: height x width x 3, RGB, 0-255.
            scale: at which it is searched, up to 1.
            min_score: least score of a face, 0 to 1.
        """
        found = _merge(self._pass(picture, scale, min_score, 0))
        found.sort(key=lambda face: -face.area)
        return found[: self._max_faces]

    def _detect(self, picture: Pixels, min_score: float, border: int = 0) -> list[Detection]:
        height, width = picture.shape[:2]
        searched = scales(height + 2 * border, width + 2 * border)
        rows = [self._pass(picture, scale, min_score, border) for scale in searched]
        return _merge(np.concatenate(rows))

    def _pass(
        self, picture: Pixels, scale: float, min_score: float, border: int
    ) -> NDArray[np.float32]:
        """One pass over a scaled picture: N x 15 rows of box, score and points.

        The border is added after scaling: around a long picture it would not fit in memory.
        """
        if scale != 1.0:
            height, width = picture.shape[:2]
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            picture = cv2.resize(picture, size, interpolation=kernel)
        margin = round(border * scale)
        if margin:
            picture = cv2.copyMakeBorder(
                picture, margin, margin, margin, margin, cv2.BORDER_REPLICATE
            )
        height, width = picture.shape[:2]
        padded = np.zeros((_round_up(height), _round_up(width), 3), np.uint8)
        padded[:height, :width] = picture
        blob = cv2.dnn.blobFromImage(padded, swapRB=self._swap)
        outputs = self._engine.infer({self._input: blob})
        found = [
            self._decode(outputs, stride, padded.shape[0], padded.shape[1], min_score)
            for stride in self._strides
        ]
        rows = np.concatenate(found)
        rows[:, :2] -= margin
        rows[:, 5:] -= margin
        rows[:, :4] /= scale
        rows[:, 5:] /= scale
        # Scaling keeps the corners of pixels in place, not their centres.
        rows[:, :2] += 0.5 / scale - 0.5
        rows[:, 5:] += 0.5 / scale - 0.5
        return rows

    def _decode(
        self,
        outputs: dict[str, NDArray[np.float32]],
        stride: int,
        height: int,
        width: int,
        min_score: float,
    ) -> NDArray[np.float32]:
        """Turns one stride's tensors into rows: x, y, width, height, score, five points."""
        classes = outputs[f"cls_{stride}"].reshape(-1)
        objects = outputs[f"obj_{stride}"].reshape(-1)
        scores = np.sqrt(np.clip(classes, 0, 1) * np.clip(objects, 0, 1))
        keep = np.flatnonzero(scores >= min_score)
        cells = self._grid(height // stride, width // stride, stride)[keep]
        boxes = outputs[f"bbox_{stride}"].reshape(-1, 4)[keep]
        points = outputs[f"kps_{stride}"].reshape(-1, 5, 2)[keep]
        rows = np.empty((len(keep), 15), np.float32)
        centres = (boxes[:, :2] + cells) * stride
        sizes = np.exp(np.minimum(boxes[:, 2:], 10.0)) * stride
        rows[:, 0:2] = centres - sizes / 2
        rows[:, 2:4] = sizes
        rows[:, 4] = scores[keep]
        rows[:, 5:] = ((points + cells[:, None]) * stride).reshape(-1, 10)
        return rows

    def _grid(self, rows: int, columns: int, stride: int) -> NDArray[np.float32]:
        """Column and row of each cell, in the order of the network's outputs."""
        key = (rows, columns, stride)
        with self._lock:
            if key not in self._grids:
                if len(self._grids) > 256:
                    self._grids.clear()
                y, x = np.mgrid[:rows, :columns]
                self._grids[key] = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
            return self._grids[key]


def scales(height: int, width: int) -> list[float]:
    """The scales at which a picture is searched, each 1 at most.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
    """
    longer, shorter = max(height, width), min(height, width)
    usual = min(1.0, _USUAL_SIDE / longer)
    chosen = [usual]
    if longer > 1.5 * _COARSE_SIDE:
        chosen.append(_COARSE_SIDE / longer)
    fine = min(_FINE_SCALE, math.sqrt(_FINE_PIXELS / (height * width)))
    if fine > _WORTH_A_FINE_PASS * usual:
        chosen.append(fine)
    # A long and thin picture would shrink to nothing, and an absurdly long one must.
    least, most = min(1.0, _SMALLEST_SIDE / shorter), min(1.0, _LONGEST_SIDE / longer)
    return sorted({min(max(scale, least), most) for scale in chosen})


def enlargement(height: int, width: int) -> float:
    """How much a picture is enlarged that shows no face as it is; 1 for one that is no small one.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
    """
    factor = min(_MOST_ENLARGED, _ENLARGED_SIDE / max(height, width))
    return factor if factor >= _WORTH_ENLARGING else 1.0


def _merge(rows: NDArray[np.float32]) -> list[Detection]:
    """Joins rows that show the same face.

    The best-scored row of each face is found by non-maximum suppression; its box and points then
    become the mean, weighted by score, of all rows that overlap it well. Cells and scales err
    independently of each other, so the mean is steadier than the best of them (box voting).
    """
    if not len(rows):
        return []
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 4].tolist(), 0.0, _SAME_FACE_OVERLAP)
    overlaps = _overlaps(rows[np.asarray(kept).ravel()], rows)
    found = []
    for index, overlap in zip(np.asarray(kept).ravel(), overlaps, strict=True):
        votes = rows[overlap >= _VOTING_OVERLAP]
        mean = np.average(votes, axis=0, weights=votes[:, 4])
        mean[4] = rows[index, 4]
        found.append(_detection(mean))
    return found


def _overlaps(chosen: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of each chosen box with each row's box."""
    corners = chosen[:, None, :2] + chosen[:, None, 2:4]
    near = np.maximum(chosen[:, None, :2], rows[None, :, :2])
    far = np.minimum(corners, (rows[:, :2] + rows[:, 2:4])[None])
    common = np.clip(far - near, 0, None).prod(axis=2)
    areas = chosen[:, None, 2:4].prod(axis=2) + rows[None, :, 2:4].prod(axis=2)
    shares: NDArray[np.float32] = common / (areas - common)
    return shares


def _detection(row: NDArray[np.float32]) -> Detection:
    x, y, width, height = (float(value) for value in row[:4])
    return Detection((x, y, width, height), row[5:].reshape(5, 2).copy(), float(row[4]))


def _centre_inside(face: Detection, picture: Pixels) -> bool:
    x, y, width, height = face.box
    inside = 0 <= x + width / 2 < picture.shape[1] and 0 <= y + height / 2 < picture.shape[0]
    return bool(inside)


def _round_up(length: int) -> int:
    multiple = _MULTIPLE if length <= _USUAL_SIDE else _MULTIPLE_WHEN_LARGE
    return -(-length // multiple) * multiple
