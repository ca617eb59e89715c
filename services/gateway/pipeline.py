"""Bytes to upright picture to faces to the one aligned crop: the gateway's work on one picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.gateway.alignment import CropGeometry, align, native_side
from services.gateway.detection import Detection, FaceDetector
from services.gateway.faces import MEASURING_CROP, Face, FaceChoice, Selection, choose, measure_face
from services.gateway.imaging import ImageError, ImageLimits, ImageProblem, decode, png_of
from services.gateway.pose import estimate_pose
from services.gateway.second_look import look_again
from services.settings import DetectionSettings
from services.telemetry import Stopwatch

Pixels = NDArray[np.uint8]

_PROBLEMS = {
    ImageProblem.EMPTY: Errors.IMAGE_EMPTY,
    ImageProblem.TOO_MANY_BYTES: Errors.IMAGE_TOO_MANY_BYTES,
    ImageProblem.TOO_MANY_PIXELS: Errors.IMAGE_TOO_MANY_PIXELS,
    ImageProblem.TOO_SMALL: Errors.IMAGE_TOO_SMALL,
    ImageProblem.UNSUPPORTED_FORMAT: Errors.IMAGE_UNSUPPORTED_FORMAT,
    ImageProblem.ANIMATED: Errors.IMAGE_ANIMATED,
    ImageProblem.TRUNCATED: Errors.IMAGE_TRUNCATED,
    ImageProblem.CORRUPT: Errors.IMAGE_CORRUPT,
}


@dataclass(frozen=True)
class PictureFaces:
    """Every face of a picture.

    Attributes:
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        faces: largest box first.
        stopwatch: time by stage.
    """

    width: int
    height: int
    faces: list[Face]
    stopwatch: Stopwatch


@dataclass(frozen=True)
class PreparedFace:
    """The face that the caller means, ready to be embedded.

    Attributes:
        choice: the caller's rule.
        face_count: how many faces the picture shows.
        face_index: which one was taken; None when there is none, or several are refused.
        face: it, measured.
        crop: height x width x 3, RGB, 0-255, aligned; what is embedded.
        beside: more crops of the same face, whose vectors count as much as that of ``crop``.
        measured: 112 x 112 x 3, RGB, 0-255, aligned; what quality was measured on.
        stopwatch: time by stage.
    """

    choice: FaceChoice
    face_count: int
    face_index: int | None
    face: Face | None
    crop: Pixels | None
    measured: Pixels | None
    stopwatch: Stopwatch
    beside: tuple[Pixels, ...] = ()

    @property
    def crops(self) -> tuple[Pixels, ...]:
        """All that is embedded; none where there is no face."""
        return () if self.crop is None else (self.crop, *self.beside)

    def png(self) -> bytes | None:
        """The aligned face as a file, 112 x 112; None where there is none to show."""
        return None if self.measured is None else png_of(self.measured)

    @classmethod
    def missing(cls, choice: FaceChoice) -> PreparedFace:
        """What stands for a picture that could not be used at all."""
        return cls(choice, 0, None, None, None, None, Stopwatch())


@dataclass(frozen=True)
class PreparedPicture:
    """Every face of a picture, ready to be embedded.

    Attributes:
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        face_count: how many faces the picture shows.
        faces: largest box first, as many as were wanted.
        stopwatch: time by stage.
    """

    width: int
    height: int
    face_count: int
    faces: list[PreparedFace]
    stopwatch: Stopwatch


class PicturePipeline:
    """Works on one picture at a time; safe to use from several threads.

    Args:
        detector: finds faces.
        limits: what a picture may be.
        detection: when a face that is to be embedded is looked at again.

    Attributes:
        ground: all that the results depend on besides the picture, as a text.
    """

    def __init__(
        self, detector: FaceDetector, limits: ImageLimits, detection: DetectionSettings
    ) -> None:
        self._detector = detector
        self._limits = limits
        self._settings = detection
        self.ground = f"{detector.weights} {limits} {detection}"

    def close(self) -> None:
        """Frees the detector."""
        self._detector.close()

    def find_all(self, data: bytes, field: str) -> PictureFaces:
        """Finds and measures every face.

        Args:
            data: a picture file.
            field: the request's field that it came in, for errors.

        Raises:
            MienError: the picture cannot be used.
        """
        watch = Stopwatch()
        pixels, detections = self._detect(data, field, watch)
        with watch.stage("measure"):
            faces = [measure_face(pixels, detection)[0] for detection in detections]
        return PictureFaces(pixels.shape[1], pixels.shape[0], faces, watch)

    def prepare(
        self, data: bytes, choice: FaceChoice, geometry: CropGeometry, field: str
    ) -> PreparedFace:
        """Finds the face that the caller means, measures and aligns it.

        Args:
            data: a picture file.
            choice: which face.
            geometry: the crop that the embedding model takes.
            field: the request's field that it came in, for errors.

        Raises:
            MienError: the picture cannot be used, or has no face of the index that was named.
        """
        watch = Stopwatch()
        pixels, detections = self._detect(data, field, watch)
        index = choose(detections, choice, pixels.shape[0], pixels.shape[1], field)
        if index is None:
            return PreparedFace(choice, len(detections), None, None, None, None, watch)
        face = self.prepared(pixels, detections, index, geometry, watch)
        return replace(face, choice=choice)

    def prepare_all(
        self, data: bytes, geometry: CropGeometry, field: str, most: int
    ) -> PreparedPicture:
        """Finds, measures and aligns every face.

        Args:
            data: a picture file.
            geometry: the crop that the embedding model takes.
            field: the request's field that it came in, for errors.
            most: faces that are prepared, the largest first.

        Raises:
            MienError: the picture cannot be used.
        """
        watch = Stopwatch()
        pixels, detections = self._detect(data, field, watch)
        faces = [
            self.prepared(pixels, detections, index, geometry, watch)
            for index in range(min(most, len(detections)))
        ]
        return PreparedPicture(pixels.shape[1], pixels.shape[0], len(detections), faces, watch)

    def decode(self, data: bytes, field: str, limits: ImageLimits | None = None) -> Pixels:
        """A picture file as height x width x 3, RGB, 0-255, upright.

        Args:
            data: the file.
            field: the request's field that it came in, for errors.
            limits: what it may be, where that is not the same for all.

        Raises:
            MienError: the picture cannot be used.
        """
        try:
            return decode(data, limits or self._limits).pixels
        except ImageError as error:
            raise MienError(_PROBLEMS[error.kind], error.detail, field=field) from error

    def detect_once(self, pixels: Pixels, scale: float, min_score: float) -> list[Detection]:
        """Every face that one pass of the detector finds; see `FaceDetector.detect_once`."""
        return self._detector.detect_once(pixels, scale, min_score)

    def detect_as_is(self, pixels: Pixels) -> list[Detection]:
        """Every face of a view; see `FaceDetector.detect_as_is`."""
        return self._detector.detect_as_is(pixels)

    def prepared(
        self,
        pixels: Pixels,
        detections: list[Detection],
        index: int,
        geometry: CropGeometry,
        watch: Stopwatch,
    ) -> PreparedFace:
        """Measures and aligns one of a picture's faces, as ``choice`` says which.

        Args:
            pixels: height x width x 3, RGB, 0-255, upright.
            detections: of the picture.
            index: which of them.
            geometry: the crop that the embedding model takes.
            watch: is told the time of each stage.
        """
        seen = detections[index]
        few_pixels = native_side(seen.points) <= self._settings.second_look_side
        if few_pixels or abs(estimate_pose(seen.points).yaw) > self._settings.second_look_yaw:
            with watch.stage("second_look"):
                find = self._detector.detect_as_is
                seen = look_again(pixels, seen, find, few_pixels=few_pixels)
        with watch.stage("measure"):
            face, measured = measure_face(pixels, seen)
        crop = measured
        if geometry != MEASURING_CROP:
            with watch.stage("align"):
                crop = align(pixels, seen.points, geometry)
        choice = FaceChoice(Selection.INDEX, index)
        return PreparedFace(choice, len(detections), index, face, crop, measured, watch)

    def _detect(self, data: bytes, field: str, watch: Stopwatch) -> tuple[Pixels, list[Detection]]:
        with watch.stage("decode"):
            pixels = self.decode(data, field)
        with watch.stage("detect"):
            return pixels, self._detector.detect(pixels)
