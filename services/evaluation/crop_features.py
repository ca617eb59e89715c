"""Vectors of the research data's aligned crops, as each model's own card says they are made.

Every face is seen as it is, as its mirror image, and in as many changed views as are asked for; and
faces of two people can be blended into one. All models see the same pictures. The vectors are kept
in a folder, because they take minutes to make, or hours; what is killed meanwhile goes on there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.training.augment import Augmentation, augment
from models.training.blend import blend
from models.training.faces import BORDER, CROP_SIDE, Faces
from models.zoo import CropInput, EmbedderCard
from services.embedding import Embedder
from services.gateway.alignment import CropGeometry, cut, similarity_transform

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Pictures = NDArray[np.uint8]

PLAIN_VIEWS = 2
"""The crop and its mirror image."""

CHANGED = Augmentation(
    flip=0.5, turn=0.15, jitter=0.8, light=0.4, low_resolution=0.15, blur=0.1, grey=0.05,
    near_infrared=0.0, occlusion=0.05, jpeg=0.15,
)  # fmt: skip
"""How a changed view is made: what cameras and detectors do, mildly."""

_TEMPLATE_SIDE = CROP_SIDE - 2 * BORDER
_BATCH = 64
_SAVE_SECONDS = 60.0
_MIN_NORM = 1e-12


def store_name(card: EmbedderCard, fingerprint: str, view: int, kind: str = "view") -> str:
    """File of one view's vectors: named after weights, preprocessing, data and view."""
    return (
        f"{kind}-{card.weights.sha256[:12]}-{card.preprocessing_sha256[:8]}-{fingerprint[:16]}"
        f"-{view:02d}.npy"
    )


def model_crops(pictures: Pictures, spec: CropInput) -> Pictures:
    """Crops of a model's own size and scale from (N,128,128,3) crops around the template.

    What a model sees beyond the 128 pixels is black, as it is at a picture's edge: the lowest 2 of
    the 150 rows of a chip of dlib's. Cut from these crops, 250 chips of LFW gave vectors with a
    mean cosine of 0.999 to those of chips cut from whole pictures (0.996 from 112 pixels).

    Returns:
        (N,height,width,3) uint8 RGB.
    """
    plain = CropGeometry()
    wanted = CropGeometry(spec.width, spec.height, spec.template, spec.template_scale)
    if wanted == plain:
        return np.ascontiguousarray(pictures[:, BORDER:-BORDER, BORDER:-BORDER])
    matrix = similarity_transform(plain.points() + BORDER, wanted.points())
    return np.stack([cut(picture, matrix, spec.width, spec.height) for picture in pictures])


def crop_vectors(
    embedder: Embedder,
    faces: Faces,
    cache: Path,
    views: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Vectors:
    """Vectors of all faces in all views.

    Args:
        embedder: the model.
        faces: the data.
        cache: folder that keeps the vectors; they are biometric data.
        views: changed views beside the crop and its mirror image.
        advance: told how many pictures more are done.

    Returns:
        (N,2+views,d) float32, each of unit length: crop, mirror image, changed views.
    """
    names = [store_name(embedder.card, faces.fingerprint, v) for v in range(PLAIN_VIEWS + views)]
    made = [
        _kept(cache / name, embedder, len(faces), partial(seen, faces, view=view), advance)
        for view, name in enumerate(names)
    ]
    return np.stack(made, axis=1)


def blend_vectors(
    embedder: Embedder,
    faces: Faces,
    rows: Rows,
    cache: Path,
    blends: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Vectors:
    """Vectors of faces that are blended from each of some faces and another of them.

    Args:
        embedder: the model.
        faces: the data.
        rows: (T,) which faces; nobody else is blended in.
        cache: folder that keeps the vectors.
        blends: how many of each face.
        advance: told how many pictures more are done.

    Returns:
        (T,blends,d) float32, each of unit length.
    """
    among = hashlib.sha256(f"{faces.fingerprint}{rows.tolist()}".encode()).hexdigest()
    names = [store_name(embedder.card, among, number, "blend") for number in range(blends)]
    made = [
        _kept(
            cache / name,
            embedder,
            len(rows),
            partial(blended, faces, rows, number=number),
            advance,
        )
        for number, name in enumerate(names)
    ]
    return np.stack(made, axis=1)


def _kept(
    store: Path,
    embedder: Embedder,
    count: int,
    picture: Callable[[int], Pictures],
    advance: Callable[[int], None],
) -> Vectors:
    """Vectors that are kept in a file, or made and kept now, from where it was left."""
    if store.is_file():
        advance(count)
        return np.asarray(np.load(store))
    store.parent.mkdir(parents=True, exist_ok=True)
    begun = store.with_suffix(".part")
    parts: list[Vectors] = [np.load(begun)] if begun.is_file() else []
    advance(done := sum(len(part) for part in parts))
    saved = time.monotonic()
    for crops in _prepared(range(done, count), picture, embedder.card.input):
        vectors = embedder.embed(crops)
        parts.append(
            vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM)
        )
        advance(len(crops))
        if time.monotonic() - saved > _SAVE_SECONDS:
            _save(np.concatenate(parts), begun)
            saved = time.monotonic()
    unit = np.concatenate(parts)
    _save(unit, store)
    begun.unlink(missing_ok=True)
    return unit


def _save(vectors: Vectors, path: Path) -> None:
    """Writes a file that is whole whenever it is there."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.save(file, vectors)
    draft.replace(path)


def _prepared(
    wanted: range, picture: Callable[[int], Pictures], spec: CropInput
) -> Iterator[Pictures]:
    """Batches of crops; the next one is made while the caller works on this one."""

    def made(rows: range) -> Pictures:
        return model_crops(np.stack([picture(row) for row in rows]), spec)

    with ThreadPoolExecutor(1) as ahead:
        coming: Future[Pictures] | None = None
        for start in range(0, len(wanted), _BATCH):
            ready, coming = coming, ahead.submit(made, wanted[start : start + _BATCH])
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def seen(faces: Faces, row: int, view: int) -> Pictures:
    """One face in one view, (128,128,3): the same picture for every model and at every call."""
    crop = np.asarray(faces.crops[row])
    if view == 0:
        return crop
    if view == 1:
        return crop[:, ::-1]
    rng = np.random.default_rng((row, view))
    changed = augment(crop, faces.points[row], faces.euler[row], CHANGED, rng)
    padding = ((BORDER, BORDER), (BORDER, BORDER), (0, 0))
    return np.pad(changed.picture, padding, mode="edge")


def blended(faces: Faces, rows: Rows, place: int, number: int) -> Pictures:
    """The face at a place of ``rows`` blended with one at another, (128,128,3): always the same."""
    rng = np.random.default_rng((place, number, len(rows)))
    other = int(rng.integers(len(rows)))
    mirrored = rng.integers(2, size=2)
    first, second = (
        seen(faces, int(rows[which]), int(view))
        for which, view in zip((place, other), mirrored, strict=True)
    )
    return blend(first, second, rng)
