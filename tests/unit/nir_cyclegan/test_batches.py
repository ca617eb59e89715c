from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.ddat.domains import Domains, split_domains
from models.nir_cyclegan.batches import Batch, Batches
from models.nir_cyclegan.options import TrainOptions, profile_options
from models.nir_cyclegan.pictures import equalised, network_input
from models.training.faces import Faces, load_faces, split_people

STILL = {
    "flip": 0.0, "turn": 0.0, "jitter": 0.0, "light": 0.0, "low_resolution": 0.0, "blur": 0.0,
    "grey": 0.0, "near_infrared": 0.0, "occlusion": 0.0, "jpeg": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def faces(data_folder: Path, cache: Path) -> Faces:
    return load_faces(data_folder, cache)


@pytest.fixture(scope="module")
def domains(faces: Faces) -> Domains:
    return split_domains(faces, split_people(faces, {}, 1), 0.6, 0.0)


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {"batch": 2, "pairs": 3, "workers": 1, **changes})


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_nobody_is_both_visible_and_near_infrared(faces: Faces, domains: Domains) -> None:
    batches = Batches(faces, domains, options())
    visible, infrared = set(), set()
    for step in range(12):
        rows = batches.make(step).rows.tolist()
        visible |= {faces.people[row] for row in [*rows[:2], *rows[4:]]}
        infrared |= {faces.people[row] for row in rows[2:4]}
    assert visible == {faces.people[row] for row in domains.source}
    assert infrared == {faces.people[row] for row in domains.target}
    assert not visible & infrared


def test_a_step_is_the_same_at_every_call_and_in_any_order(faces: Faces, domains: Domains) -> None:
    batches = Batches(faces, domains, options())
    ahead = list(batches.iterate(2, 5))
    assert same(ahead[1], batches.make(3))
    assert not same(ahead[0], ahead[1])
    other = Batches(faces, domains, options(seed=2))
    assert not same(other.make(3), ahead[1])


def test_every_face_is_seen_once_before_any_is_seen_again(faces: Faces, domains: Domains) -> None:
    batches = Batches(faces, domains, options(pairs=0))
    count = len(domains.target)
    rows = [r for step in range(count // 2) for r in batches.make(step).rows[2:4].tolist()]
    assert len(set(rows)) == len(rows)
    assert batches.make(0).given.shape == (0, 3, 112, 112)


def test_pictures_have_the_colours_of_their_domain(faces: Faces, domains: Domains) -> None:
    batch = Batches(faces, domains, options(side=64)).make(0)
    assert batch.vis.shape == batch.nir.shape == (2, 3, 64, 64)
    assert batch.given.shape == batch.good.shape == (3, 3, 64, 64)
    for colourless in (batch.nir, batch.given):
        assert torch.equal(colourless[:, 0], colourless[:, 2])
    assert (batch.vis[:, 0] - batch.vis[:, 2]).abs().mean() > 0.02
    assert (batch.good[:, 0] - batch.good[:, 2]).abs().mean() > 0.02


def test_pairs_show_one_face_and_some_of_them_are_plain_grey(
    faces: Faces, domains: Domains
) -> None:
    only_grey = options(grey_share=1.0, mild_share=0.0, augmentation=STILL)
    batch = Batches(faces, domains, only_grey).make(0)
    luma = (batch.good * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)
    torch.testing.assert_close(batch.given[:, 0], luma, atol=0.01, rtol=0)
    row = int(batch.rows[4])
    wanted = network_input(np.asarray(faces.crops[row][8:120, 8:120]), 112)
    np.testing.assert_allclose(batch.good[0].numpy(), wanted, atol=1e-6)
    mild = options(grey_share=0.0, mild_share=1.0, augmentation=STILL)
    full = options(grey_share=0.0, mild_share=0.0, augmentation=STILL)
    far = [
        float(np.mean([
            (Batches(faces, domains, o).make(s).given - batch.given).abs().mean() for s in [0]
        ]))
        for o in (mild, full)
    ]  # fmt: skip
    assert 0 < far[0] < far[1]


@pytest.mark.parametrize("kind", ["vis_domain", "f_branch"])
def test_histograms_are_equalised_where_the_options_say(
    kind: str, faces: Faces, domains: Domains
) -> None:
    plain = Batches(faces, domains, options(augmentation=STILL)).make(0)
    made = Batches(faces, domains, options(augmentation=STILL, he=kind)).make(0)
    touched = [not torch.equal(getattr(plain, n), getattr(made, n)) for n in plain._fields[:4]]
    assert touched == [kind == "vis_domain", kind == "f_branch", kind == "f_branch",
                       kind == "vis_domain"]  # fmt: skip
    if kind == "vis_domain":
        crop = np.asarray(faces.crops[int(made.rows[0])][8:120, 8:120])
        wanted = network_input(equalised(np.ascontiguousarray(crop)), 112)
        np.testing.assert_allclose(made.vis[0].numpy(), wanted, atol=1e-6)


def test_faces_that_are_not_aligned_lie_elsewhere(faces: Faces, domains: Domains) -> None:
    still = {**STILL, "jitter": 0.8}
    row = int(domains.source[0])
    crop = np.asarray(faces.crops[row][8:120, 8:120]).astype(float)

    def moved(*, aligned: bool) -> float:
        batches = Batches(faces, domains, options(augmentation=still, aligned=aligned))
        off = [
            np.abs(batches._visible(row, np.random.default_rng(k)) - crop).mean() for k in range(8)
        ]
        return float(np.mean(off))

    assert moved(aligned=False) > 2 * moved(aligned=True)


def test_real_near_infrared_takes_the_place_of_the_simulation(
    faces: Faces, domains: Domains
) -> None:
    chosen = options(augmentation=STILL)
    rows = np.arange(8, dtype=np.int64)
    batch = Batches(faces, domains, chosen, (faces, rows)).make(0)
    row = int(batch.rows[2])
    assert row in rows
    crop = np.ascontiguousarray(faces.crops[row][8:120, 8:120])
    wanted = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) / 127.5 - 1
    np.testing.assert_allclose(batch.nir[0, 0].numpy(), wanted, atol=0.01)


def test_too_few_faces_are_refused(faces: Faces, domains: Domains) -> None:
    with pytest.raises(ValueError, match="do not fill a batch"):
        Batches(faces, domains, options(batch=100))
