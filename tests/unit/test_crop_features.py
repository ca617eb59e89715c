"""Vectors of aligned crops, as a model's card says, kept between runs."""

from pathlib import Path

import numpy as np
import pytest

from models.training.faces import Faces, load_faces
from models.zoo import CropInput, EmbedderCard
from models.zoo.card import EmbeddingOutput
from models.zoo.card_base import Weights
from services.embedding import Embedder
from services.evaluation import crop_features
from services.evaluation.crop_features import (
    Pictures,
    Vectors,
    blend_vectors,
    blended,
    crop_vectors,
    model_crops,
    seen,
    store_name,
)
from services.runtime import EngineOptions, load_engine
from tests.unit.tiny_onnx import DIMENSION, tiny_embedder


@pytest.fixture(scope="module")
def faces(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return load_faces(data_folder, tmp_path_factory.mktemp("faces"))


def embedder(path: Path, **changes: object) -> Embedder:
    card = EmbedderCard(
        name="tiny",
        version="1",
        weights=Weights(sha256="a" * 64, size_bytes=1),
        input=CropInput.model_validate({"width": 16, "height": 16, **changes}),
        output=EmbeddingOutput(dimension=DIMENSION),
    )
    network = tiny_embedder(path / "tiny.onnx")
    return Embedder(card, load_engine(network, "onnxruntime", EngineOptions(threads=1)))


def test_every_face_and_its_mirror_image_get_the_vector_that_the_service_would_give(
    faces: Faces, tmp_path: Path
) -> None:
    model = embedder(tmp_path)
    made = crop_vectors(model, faces, tmp_path / "kept")
    assert made.shape == (len(faces), 2, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(made, axis=2), 1, atol=1e-5)
    mirror = np.ascontiguousarray(faces.crops[3][None, :, ::-1])
    own = model.embed(model_crops(mirror, model.card.input))[0]
    np.testing.assert_allclose(made[3, 1], own, atol=1e-5)
    assert np.abs(made[:, 0] - made[:, 1]).max() > 1e-3
    model.close()


@pytest.mark.parametrize("batch", [1, 7, 13, 26, 27])
def test_faces_keep_their_order_whatever_a_batch_holds(
    faces: Faces, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = embedder(tmp_path)
    whole = crop_vectors(model, faces, tmp_path / "whole")
    monkeypatch.setattr(crop_features, "_BATCH", batch)
    done: list[int] = []
    parts = crop_vectors(model, faces, tmp_path / "parts", advance=done.append)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert sum(done) == 2 * len(faces)
    model.close()


@pytest.mark.parametrize("killed_at", [1, 5, 8, 14])
def test_a_run_that_is_killed_goes_on_where_it_last_saved(
    faces: Faces, tmp_path: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = embedder(tmp_path)
    whole = crop_vectors(model, faces, tmp_path / "whole")
    monkeypatch.setattr(crop_features, "_BATCH", 4)  # seven a view, of 26 faces
    monkeypatch.setattr(crop_features, "_SAVE_SECONDS", 0.0)
    embed, asked = model.embed, 0

    def dying(crops: Pictures) -> Vectors:
        nonlocal asked
        asked += 1
        if asked == killed_at:
            raise KeyboardInterrupt
        return embed(crops)

    monkeypatch.setattr(model, "embed", dying)
    with pytest.raises(KeyboardInterrupt):
        crop_vectors(model, faces, tmp_path / "cut")
    done: list[int] = []
    resumed = crop_vectors(model, faces, tmp_path / "cut", advance=done.append)
    np.testing.assert_allclose(resumed, whole, atol=1e-5)
    assert asked == 14 + 1
    assert sum(done) == 2 * len(faces)
    assert {path.suffix for path in (tmp_path / "cut").iterdir()} == {".npy"}
    model.close()


def test_vectors_of_a_model_that_does_not_normalise_have_length_1_all_the_same(
    faces: Faces, tmp_path: Path
) -> None:
    model = embedder(tmp_path)
    raw = EmbeddingOutput(dimension=DIMENSION, normalise=False, metric="euclidean")
    model.card = model.card.model_copy(update={"output": raw})
    made = crop_vectors(model, faces, tmp_path / "kept")
    np.testing.assert_allclose(np.linalg.norm(made, axis=2), 1, atol=1e-5)
    model.close()


def test_vectors_are_made_once_for_each_way_of_making_them(faces: Faces, tmp_path: Path) -> None:
    model = embedder(tmp_path)
    kept = tmp_path / "kept"
    first = crop_vectors(model, faces, kept)
    store = kept / store_name(model.card, faces.fingerprint, 1)
    np.save(store, np.zeros_like(first[:, 1]))
    again = crop_vectors(model, faces, kept)
    np.testing.assert_array_equal(again[:, 0], first[:, 0])
    assert not again[:, 1].any()  # it was read, not made again
    other = embedder(tmp_path, channel_order="BGR")
    assert crop_vectors(other, faces, kept)[:, 1].any()
    model.close()
    other.close()


def test_a_changed_view_is_the_same_for_every_model_and_at_every_call(faces: Faces) -> None:
    np.testing.assert_array_equal(seen(faces, 2, 3), seen(faces, 2, 3))
    assert seen(faces, 2, 3).shape == (128, 128, 3)
    assert (seen(faces, 2, 3) != seen(faces, 2, 2)).any()
    assert (seen(faces, 2, 2) != seen(faces, 3, 2)).any()


def test_a_blend_shows_two_of_the_faces_it_may_show_and_nobody_else(faces: Faces) -> None:
    rows = np.array([1, 4, 5])
    distinct = faces.crops[rows].astype(int)
    for number in range(8):
        made = blended(faces, rows, 0, number)
        np.testing.assert_array_equal(made, blended(faces, rows, 0, number))
        both = np.concatenate([distinct, distinct[:, :, ::-1]])
        assert (made >= both.min(axis=0) - 1).all()
        assert (made <= both.max(axis=0) + 1).all()
    first = blended(faces, rows, 0, 0)
    assert any((blended(faces, rows, 0, number) != first).any() for number in range(1, 8))


def test_blends_are_made_once_for_each_choice_of_faces(faces: Faces, tmp_path: Path) -> None:
    model = embedder(tmp_path)
    kept = tmp_path / "kept"
    rows = np.array([0, 2, 3])
    made = blend_vectors(model, faces, rows, kept, 2)
    assert made.shape == (3, 2, DIMENSION)
    own = model.embed(model_crops(blended(faces, rows, 1, 1)[None], model.card.input))[0]
    np.testing.assert_allclose(made[1, 1], own / np.linalg.norm(own), atol=1e-5)
    (store,) = kept.glob("blend-*-01.npy")
    np.save(store, np.zeros((3, DIMENSION), np.float32))
    assert not blend_vectors(model, faces, rows, kept, 2)[:, 1].any()
    assert blend_vectors(model, faces, np.array([0, 2]), kept, 2)[:, 1].any()
    model.close()


def test_crops_follow_the_cards_geometry() -> None:
    picture = np.zeros((1, 128, 128, 3), np.uint8)
    picture[0, 63:65, 63:65] = 255  # the template's centre
    plain = model_crops(picture, CropInput())
    np.testing.assert_array_equal(plain, picture[:, 8:120, 8:120])
    for side, scale in ((160, 1.1), (96, 1.0)):
        spec = CropInput(width=side, height=side, template_scale=scale)
        made = model_crops(picture, spec)[0, ..., 0].astype(float)
        assert made.shape == (side, side)
        rows, columns = np.indices(made.shape)
        middle = (made * rows).sum() / made.sum(), (made * columns).sum() / made.sum()
        assert middle == pytest.approx((side / 2, side / 2), abs=1.0)
        # The spot grows as the face does.
        area = (side / 112 * scale) ** 2
        assert made.sum() / 255 == pytest.approx(4 * area, rel=0.25)


def test_a_dlib_chip_of_an_aligned_crop_shows_the_face_where_dlib_has_it() -> None:
    picture = np.zeros((1, 128, 128, 3), np.uint8)
    eye, mouth = (46, 60), (64, 100)  # across and down: an eye, and between the mouth's corners
    for across, down in (eye, mouth):
        picture[0, down - 1 : down + 2, across - 1 : across + 2] = 255
    chip = model_crops(picture, CropInput(width=150, height=150, template="dlib"))[0, ..., 0]
    rows, columns = np.nonzero(chip > 128)
    upper = rows < 75
    assert (columns[upper].mean(), rows[upper].mean()) == pytest.approx((48, 45.5), abs=3)
    assert (columns[~upper].mean(), rows[~upper].mean()) == pytest.approx((75, 104.5), abs=3)
