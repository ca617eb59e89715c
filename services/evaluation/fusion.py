"""Templates of several pictures: what a model's weights bring, and what they follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.fusion import SIZES, FusionPoint, fusion_curve, rank_correlation
from services.errors import MienError
from services.evaluation.calibration import PictureSet
from services.evaluation.pairs import PairsError, person_of
from services.gateway.core import crop_geometry
from services.gateway.faces import Face, FaceChoice
from services.gateway.pipeline import PreparedFace
from services.local import LocalMien
from services.runtime import EngineOptions
from services.templates import quality_weights

_BATCH = 32


@dataclass(frozen=True)
class WeighedPictures:
    """Pictures with a face, embedded and weighed.

    Attributes:
        features: N x dimension float32, as they are averaged in a template.
        weights: N, above 0: learned by the model, or from the quality of each face.
        learned: which of the two.
        people: N names.
        faces: N, measured.
        failures: pictures without a face that could be used.
    """

    features: NDArray[np.float32]
    weights: NDArray[np.float32]
    learned: bool
    people: list[str]
    faces: list[Face]
    failures: int


async def weigh(
    mien: LocalMien,
    model: str,
    pictures: PictureSet,
    choice: FaceChoice,
    advance: Callable[[int], None],
) -> WeighedPictures:
    """Embeds pictures and takes the weight of each.

    Args:
        mien: loaded pipeline and embedding service.
        model: embedder, as name or name@version.
        pictures: a folder for each person.
        choice: which face of a picture.
        advance: told how many pictures more are done.

    Raises:
        PairsError: a file cannot be read, or no picture shows a face.
        MienError: the model is not served.
    """
    info = await mien.embedding.model(model)
    geometry = crop_geometry(info)
    loop = asyncio.get_running_loop()
    features, weights, people, faces = [], [], [], []

    def prepare(path: str) -> PreparedFace:
        try:
            data = (pictures.root / path).read_bytes()
        except OSError as error:
            raise PairsError(f"{pictures.root / path} cannot be read.") from error
        try:
            return mien.pipeline.prepare(data, choice, geometry, "picture")
        except MienError:
            return PreparedFace.missing(choice)

    with ThreadPoolExecutor(EngineOptions().resolved_threads()) as pool:
        for start in range(0, len(pictures.paths), _BATCH):
            paths = pictures.paths[start : start + _BATCH]
            prepared = await asyncio.gather(
                *(loop.run_in_executor(pool, prepare, path) for path in paths)
            )
            found = [
                (path, one.face, one.crop)
                for path, one in zip(paths, prepared, strict=True)
                if one.face is not None and one.crop is not None
            ]
            advance(len(paths))
            if not found:
                continue
            made = await mien.embedding.embed([crop for *_, crop in found], info, bulk=True)
            people += [person_of(path) for path, *_ in found]
            faces += [face for _, face, _ in found]
            if made.weights is not None and made.lengths is not None:
                features.append(made.vectors * made.lengths[:, None])
                weights += made.weights.tolist()
            else:
                features.append(made.vectors)
                weights += quality_weights([face.quality.unified for _, face, _ in found])
    if not features:
        raise PairsError(f"No picture below {pictures.root} shows a face that can be used.")
    return WeighedPictures(
        np.concatenate(features),
        np.asarray(weights, np.float32),
        info.learned_weights,
        people,
        faces,
        len(pictures.paths) - len(people),
    )


def fusion_report(pictures: WeighedPictures, fmr: float, trials: int) -> dict[str, Any]:
    """Figures of templates of 1 to 6 probe pictures, and what the weights go with, as JSON.

    Raises:
        PairsError: too few people have seven pictures.
    """
    try:
        points: list[FusionPoint] = fusion_curve(
            pictures.features, pictures.weights, pictures.people, trials=trials, fmr=fmr
        )
    except ValueError as error:
        raise PairsError(f"{error}: one more than the {SIZES[-1]} of the largest probe") from error
    yaw = np.array([abs(face.pose.yaw) for face in pictures.faces])
    sharpness = np.array([face.quality.components["sharpness"] for face in pictures.faces])
    return {
        "weights": "learned" if pictures.learned else "quality",
        "fmr": fmr,
        "pictures": len(pictures.people),
        "failures": pictures.failures,
        "people": points[0].people,
        "genuine": points[0].genuine,
        "impostor": points[0].impostor,
        "weight_with_yaw": rank_correlation(pictures.weights, yaw),
        "weight_with_sharpness": rank_correlation(pictures.weights, sharpness),
        "points": [
            {"fusion": p.fusion, "images": p.images, "tar": asdict(p.tar), "eer": p.eer}
            for p in points
        ],
    }
