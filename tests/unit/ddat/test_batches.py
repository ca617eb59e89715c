from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.ddat.batches import Batch, Batches
from models.ddat.domains import Domains, split_domains
from models.ddat.options import TrainOptions, profile_options
from models.training.augment import NONE
from models.training.faces import Faces, Split, load_faces, split_people


@pytest.fixture(scope="module")
def faces(data_folder: Path, cache: Path) -> Faces:
    return load_faces(data_folder, cache)


@pytest.fixture(scope="module")
def split(faces: Faces) -> Split:
    return split_people(faces, {"toy": 0.2}, 3)


@pytest.fixture(scope="module")
def domains(faces: Faces, split: Split) -> Domains:
    return split_domains(faces, split, 0.5, 30.0)


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {"batch": 4, "workers": 1, **changes})


def test_no_person_is_in_two_of_source_target_and_held_out(
    faces: Faces, split: Split, domains: Domains
) -> None:
    names = np.array(faces.people)
    groups = [set(names[rows]) for rows in (domains.source, domains.target, split.validation)]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not groups[2] & (groups[0] | groups[1])
    assert "" not in groups[0] | groups[1]
    assert domains.classes == len(groups[0])
    known = domains.labels[domains.source]
    assert set(known.tolist()) == set(range(domains.classes))
    assert (domains.labels[domains.target] == -1).all()


def test_faces_from_pictures_of_few_pixels_are_no_good_source_faces(
    faces: Faces, split: Split, domains: Domains
) -> None:
    assert (faces.eyes == 60).all()  # as the toy index says
    with pytest.raises(ValueError, match="0 source"):
        split_domains(faces, split, 0.5, 61.0)
    eyes = faces.eyes.copy()
    blurred = domains.source[0]
    eyes[[blurred, domains.target[0]]] = 20
    other = split_domains(Faces(**{**vars(faces), "eyes": eyes}), split, 0.5, 30.0)
    assert set(domains.source) - set(other.source) == {blurred}
    assert set(domains.target) == set(other.target)


def test_a_step_holds_triples_of_its_two_domains(faces: Faces, domains: Domains) -> None:
    batch = Batches(faces, domains, options()).make(0)
    for pictures in (batch.source, batch.good, batch.target, batch.weak):
        assert pictures.shape == (4, 3, 112, 112)
        assert -1 <= pictures.min() < pictures.max() <= 1
    assert set(batch.rows[:, 0].tolist()) <= set(domains.source.tolist())
    assert set(batch.rows[:, 1].tolist()) <= set(domains.target.tolist())
    assert len(set(batch.rows[:, 0].tolist())) == 4
    assert batch.labels.tolist() == domains.labels[batch.rows[:, 0].numpy()].tolist()
    assert ((batch.sides >= 12) & (batch.sides <= 64)).all()


def test_a_step_is_the_same_at_every_call_and_differs_from_the_next(
    faces: Faces, domains: Domains
) -> None:
    batches = Batches(faces, domains, options())
    one, again, other = batches.make(5), batches.make(5), batches.make(6)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.source, other.source)
    ahead = list(batches.iterate(4, 7))
    assert torch.equal(ahead[1].target, one.target)


def test_every_target_face_is_seen_before_one_comes_again(faces: Faces, domains: Domains) -> None:
    batches = Batches(faces, domains, options(batch=2))
    steps = len(domains.target) // 2
    seen = [row for step in range(steps) for row in batches.make(step).rows[:, 1].tolist()]
    assert sorted(seen) == sorted(domains.target.tolist())


def test_the_source_face_is_its_good_one_with_fewer_pixels(faces: Faces, domains: Domains) -> None:
    clear = options(size_from=64, size_to=64, augmentation=NONE.model_dump())
    coarse = options(size_from=12, size_to=12, augmentation=NONE.model_dump())
    near, far = (Batches(faces, domains, o).make(0) for o in (clear, coarse))
    assert torch.equal(near.good, far.good)
    row = int(near.rows[0, 0])
    crop = torch.from_numpy(np.array(faces.crops[row, 8:120, 8:120])).permute(2, 0, 1)
    torch.testing.assert_close((near.good[0] + 1) * 127.5, crop.float(), atol=0.01, rtol=0)
    errors = [(batch.source - batch.good).abs().mean().item() for batch in (near, far)]
    assert errors[0] < errors[1] / 2


def test_the_source_face_may_lie_elsewhere_than_its_good_one(
    faces: Faces, domains: Domains
) -> None:
    def batch(cells: float, side: int = 56) -> Batch:
        o = options(
            size_from=side, size_to=side, misplaced=cells, source_stored=0.0, blur_from=0.0,
            blur_to=0.0, augmentation=NONE.model_dump(),
        )  # fmt: skip
        return Batches(faces, domains, o).make(0)

    def apart(made: Batch) -> float:
        return (made.source - made.good).abs().mean().item()

    still, moved = batch(0.0), batch(1.0)
    assert torch.equal(still.good, moved.good)
    assert torch.equal(moved.source, batch(1.0).source)
    assert apart(moved) > 1.3 * apart(still)
    assert apart(batch(0.25)) < apart(moved)
    # A cell is 2 pixels of the crop here and 8 there.
    assert apart(batch(1.0, side=14)) - apart(batch(0.0, side=14)) > apart(moved) - apart(still)


def test_the_weak_target_is_the_target_or_its_mirror(faces: Faces, domains: Domains) -> None:
    batch = Batches(faces, domains, options()).make(0)
    plain = (batch.weak - batch.target).abs().mean(dim=(1, 2, 3))
    mirrored = (batch.weak - batch.target.flip(3)).abs().mean(dim=(1, 2, 3))
    nearest = torch.minimum(plain, mirrored)
    assert (nearest < 0.03).all()
    assert (nearest > 0.001).all()
    assert (plain < mirrored).any()
    assert (plain > mirrored).any()


def test_nearest_up_sampling_shows_cells_and_cubic_does_not(faces: Faces, domains: Domains) -> None:
    for kernel, flat in (("nearest", True), ("bicubic", False)):
        o = options(upsampling=kernel, size_from=28, size_to=28)
        source = Batches(faces, domains, o).make(0).source
        cells = source.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
        assert bool((cells == cells[..., :1]).all()) == flat
