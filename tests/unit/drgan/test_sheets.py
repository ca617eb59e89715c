from pathlib import Path

import cv2
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.drgan.network import Decoder, Encoder
from models.drgan.poses import YawBins
from models.drgan.sheets import SHEET_PEOPLE, invented_sheet, pose_codes, rotations

BINS = YawBins((-15.0, 0.0, 15.0))


def test_every_pose_has_a_code_of_its_own() -> None:
    decoder = Decoder(len(BINS), 4, 0.125)
    codes = pose_codes(torch.tensor([2, 0]), torch.tensor([15.0, -15.0]), decoder)
    assert codes.tolist() == [[0, 0, 1], [1, 0, 0]]
    later = Decoder(1, 4, 0.125, "tpami18")
    radians = pose_codes(torch.tensor([2]), torch.tensor([90.0]), later)
    torch.testing.assert_close(radians, torch.tensor([[torch.pi / 2]]))


def test_rotations_show_each_person_in_each_pose() -> None:
    torch.manual_seed(0)
    decoder = Decoder(len(BINS), 4, 0.125).eval()
    made = rotations(decoder, torch.randn(2, 320) * 50, BINS)
    assert made.shape == (2, 3, 3, 96, 96)
    assert not torch.equal(made[0, 0], made[0, 2])
    assert not torch.equal(made[0, 0], made[1, 0])


def test_invented_people_are_drawn_from_a_distribution_and_always_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(0.125).eval(), Decoder(len(BINS), 4, 0.125).eval()
    features = torch.randn(40, 320)
    for name in ("one.png", "again.png"):
        invented_sheet(encoder, decoder, features, BINS, tmp_path / name)
    one, again = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "again.png"))
    assert one is not None
    assert one.shape == (SHEET_PEOPLE * 100, (1 + len(BINS)) * 100, 3)
    assert again is not None
    assert (one == again).all()
