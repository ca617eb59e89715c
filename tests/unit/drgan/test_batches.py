from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.drgan.batches import Batches
from models.drgan.objective import NOBODY, paired_error, wanted_faces
from models.drgan.options import profile_options
from models.drgan.poses import YawBins
from models.training.augment import NONE
from models.training.faces import Faces, load_faces, split_people

BINS = YawBins((-15.0, 0.0, 15.0))
OPTIONS = profile_options("cpu", {"people": 3, "images": 4})


@pytest.fixture(scope="module")
def faces(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return load_faces(data_folder, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def batches(faces: Faces) -> Batches:
    return Batches(faces, split_people(faces, {}, 3).labels, BINS, OPTIONS)


def test_a_step_shows_several_people_with_their_images_side_by_side(batches: Batches) -> None:
    batch = batches.make(0)
    assert batch.seen.shape == batch.real.shape == (12, 3, 96, 96)
    assert batch.real.min() >= -1
    assert batch.real.max() <= 1
    people = batch.labels.reshape(3, 4)
    assert (people == people[:, :1]).all()
    assert len(set(people[:, 0].tolist())) == 3
    assert all(len(set(rows.tolist())) == 4 for rows in batch.rows.reshape(3, 4))
    assert (batch.bins == torch.from_numpy(BINS.of(batch.yaw.numpy()))).all()


def test_a_step_is_the_same_at_every_call_and_differs_from_the_next(batches: Batches) -> None:
    one, again, other = batches.make(5), batches.make(5), batches.make(6)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.seen, other.seen)


def test_the_encoder_sees_worse_faces_than_the_discriminator(faces: Faces) -> None:
    look = NONE.model_copy(update={"blur": 1.0})
    options = OPTIONS.model_copy(update={"augmentation": look})
    labels = split_people(faces, {}, 3).labels
    batch = Batches(faces, labels, BINS, options).make(0)
    sharpness = [x.diff(dim=2).square().mean() for x in (batch.seen, batch.real)]
    assert sharpness[0] < sharpness[1]
    clean = Batches(faces, labels, BINS, OPTIONS.model_copy(update={"augmentation": NONE})).make(0)
    assert torch.equal(clean.seen, clean.real)


def test_a_mirrored_face_has_the_other_yaw(faces: Faces) -> None:
    labels = split_people(faces, {}, 3).labels
    flip = NONE.model_copy(update={"flip": 1.0})
    one, other = (
        Batches(faces, labels, BINS, OPTIONS.model_copy(update={"augmentation": look})).make(2)
        for look in (NONE, flip)
    )
    assert torch.equal(one.rows, other.rows)
    torch.testing.assert_close(one.yaw, -other.yaw, atol=0.5, rtol=0)
    torch.testing.assert_close(one.real.flip(3), other.real, atol=0.02, rtol=0)


def test_people_with_few_images_fill_their_places_with_repeats(faces: Faces) -> None:
    options = profile_options("cpu", {"people": 2, "images": 6})
    batch = Batches(faces, split_people(faces, {}, 3).labels, BINS, options).make(0)
    assert all(len(set(rows.tolist())) <= 4 for rows in batch.rows.reshape(2, 6))


def test_wanted_poses_are_those_of_another_image_or_drawn_from_all_bins(batches: Batches) -> None:
    torch.manual_seed(0)
    batch = batches.make(0)
    paired = wanted_faces(batch, 4, BINS, paired=1.0)
    assert len(paired.labels) == 12 + 3  # one more for each person's fused feature
    assert torch.equal(batch.labels[paired.partner], paired.labels)
    assert torch.equal(batch.bins[paired.partner], paired.bins)
    assert (paired.partner[:12] != torch.arange(12)).all()

    drawn = torch.stack([wanted_faces(batch, 4, BINS, paired=0.0).bins for _ in range(50)])
    assert (wanted_faces(batch, 4, BINS, paired=0.0).partner == NOBODY).all()
    assert np.allclose(np.bincount(drawn.ravel()) / drawn.numel(), 1 / 3, atol=0.06)


def test_a_single_image_model_makes_no_fused_faces(batches: Batches) -> None:
    wanted = wanted_faces(batches.make(0), 1, BINS, paired=1.0)
    assert len(wanted.labels) == 12
    assert torch.equal(wanted.partner, torch.arange(12))


def test_the_paired_error_asks_only_faces_that_have_a_partner() -> None:
    real = torch.zeros(2, 3, 4, 4)
    made = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 9.0)])
    assert paired_error(made, real, torch.tensor([1, NOBODY])).item() == pytest.approx(0.25)
    assert paired_error(made, real, torch.tensor([NOBODY, NOBODY])).item() == 0
