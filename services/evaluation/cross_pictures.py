"""The pictures of the cross-model protocol through the real pipeline, once for each model."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.r3an.arrays import Bools, unit
from services.errors import MienError
from services.evaluation.cross_model import Labelled, Seen
from services.evaluation.extract import Advance, Extraction, ExtractionPlan, extract
from services.evaluation.pairs import PairsError
from services.gateway.alignment import CropGeometry
from services.gateway.faces import FaceChoice, Selection
from services.local import LocalMien
from services.picture_files import pictures_below
from services.runtime import EngineOptions
from services.settings import Settings

_NAN = float("nan")


@dataclass(frozen=True)
class Looked:
    """What was seen.

    Attributes:
        labelled: the pictures of people; yaw measured where the index did not say.
        faces: vectors of those with a face.
        usable: (n,) which these are.
        distractors: vectors of the others' faces.
        failures: pictures without a face, of both kinds.
    """

    labelled: Labelled
    faces: Seen
    usable: Bools
    distractors: Seen
    failures: int


def names_below(root: Path) -> list[str]:
    """All pictures below a folder, relative to it.

    Raises:
        PairsError: there are none.
    """
    paths = [str(path.relative_to(root)) for path in pictures_below(root)]
    if not paths:
        raise PairsError(f"{root} holds no pictures.")
    return paths


async def look(
    mien: LocalMien,
    settings: Settings,
    models: tuple[str, str],
    images: Path,
    labelled: Labelled,
    distractors: Path,
    cache: Path | None,
    advance: Advance,
) -> Looked:
    """Embeds everything with both models; a picture counts if both could use it.

    Args:
        mien: loaded with both models.
        settings: of the run.
        models: source and target.
        images: folder of the labelled pictures.
        labelled: them.
        distractors: folder of faces of other people.
        cache: folder that keeps embeddings.
        advance: told how many pictures more are done; each counts once for each model.

    Raises:
        PairsError: a picture file is missing, or there are no distractors.
    """
    far = names_below(distractors)
    choice = FaceChoice(Selection.CENTRAL)

    async def both(root: Path, paths: list[str]) -> tuple[Seen, Bools]:
        made = [
            await extract(
                mien, settings, ExtractionPlan(root, paths, model, choice, cache), advance
            )
            for model in models
        ]
        return _united(paths, *made)

    faces, usable = await both(images, labelled.paths)
    others, kept = await both(distractors, far)
    if all(np.isnan(labelled.yaw)):
        labelled = replace(labelled, yaw=await _yaws(mien, images, labelled.paths, choice))
    failures = int((~usable).sum() + (~kept).sum())
    return Looked(labelled, faces, usable, others, failures)


def _united(paths: list[str], first: Extraction, second: Extraction) -> tuple[Seen, Bools]:
    usable = np.array(
        [first.vectors[path] is not None and second.vectors[path] is not None for path in paths]
    )
    kept = [path for path, good in zip(paths, usable, strict=True) if good]
    if not kept:
        raise PairsError("No picture shows a face that both models could use.")
    sides = [
        unit(np.stack([extraction.vectors[path] for path in kept]))  # type: ignore[misc]
        for extraction in (first, second)
    ]
    return Seen(*sides), usable


async def _yaws(mien: LocalMien, root: Path, paths: list[str], choice: FaceChoice) -> list[float]:
    """Measured yaw of each picture's face, degrees; NaN without one."""
    loop = asyncio.get_running_loop()

    def measure(path: str) -> float:
        try:
            found = mien.pipeline.prepare((root / path).read_bytes(), choice, CropGeometry(), path)
        except MienError:
            return _NAN
        return _NAN if found.face is None else float(found.face.pose.yaw)

    with ThreadPoolExecutor(EngineOptions().resolved_threads()) as pool:
        return list(await asyncio.gather(*(loop.run_in_executor(pool, measure, p) for p in paths)))
