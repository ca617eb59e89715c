import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.sface import load_trunk
from models.ddat import measure
from models.ddat.degradations import up_sample
from models.ddat.export import curve_facts
from models.ddat.figures import FIGURES, METHODS, Measured, measured_table
from models.ddat.network import Generator
from models.ddat.options import profile_options
from models.ddat.report import Examination
from models.ddat.sheets import draw_curve
from models.training.faces import load_faces
from models.training.gains import verification_gains
from models.training.held_out import embed
from models.training.validation import Validation
from models.zoo.enhancer_card import GainPoint

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def pictures(count: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, 112, 112, 3)).astype(np.uint8)


def test_signal_to_noise_is_that_of_the_error() -> None:
    good = np.full((2, 8, 8, 3), 100, np.uint8)
    assert measure.psnr(good + 5, good) == pytest.approx(20 * np.log10(255 / 5))
    assert measure.psnr(good, good) == np.inf


def test_structural_similarity_prefers_a_brighter_face_to_a_noisy_one() -> None:
    good = np.stack([up_sample(small, "bicubic") for small in pictures()[:, :9, :9]])
    noise = RNG.normal(0, 20, good.shape)
    noisy = np.clip(good + noise, 0, 255).astype(np.uint8)
    brighter = np.clip(good.astype(int) + 20, 0, 255).astype(np.uint8)
    assert measure.ssim(good, good) == pytest.approx(1)
    assert measure.ssim(noisy, good) < measure.ssim(brighter, good) < 1


def test_the_frechet_distance_is_that_of_normal_clouds() -> None:
    a = RNG.normal(0, 1, (20000, 3))
    b = RNG.normal(0, 1, (20000, 3)) * 2 + np.array([3.0, 0, 0])
    assert measure.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    # |mean apart|^2 + sum (sigma - sigma')^2 = 9 + 3
    assert measure.frechet_distance(a, b) == pytest.approx(12, rel=0.05)
    assert measure.frechet_distance(b, a) == pytest.approx(measure.frechet_distance(a, b))


def test_a_probe_finds_a_domain_that_shows_and_none_that_does_not() -> None:
    same = RNG.normal(0, 1, (400, 6))
    shown = same + np.array([0, 4.0, 0, 0, 0, 0])
    assert measure.probe_accuracy(same, shown) > 0.95
    assert measure.probe_accuracy(same, RNG.normal(0, 1, (400, 6))) == pytest.approx(0.5, abs=0.08)


def test_the_gain_is_between_the_same_people() -> None:
    same = np.repeat([True, False], [60, 600])
    first = np.concatenate([np.arange(60) % 12, RNG.integers(0, 12, 600)])
    second = np.concatenate([np.arange(60) % 12, (first[60:] + RNG.integers(1, 12, 600)) % 12])
    base = np.where(same, 0.4, 0.0) + RNG.normal(0, 0.2, 660)
    better = np.where(same, 0.9, 0.0) + RNG.normal(0, 0.2, 660)
    found = verification_gains(base, better, same, first, second, resamples=50)
    assert [gain.fmr for gain in found] == [1e-2, 1e-3]
    for gain in found:
        assert gain.gain.estimate == pytest.approx(gain.made.estimate - gain.base.estimate)
        assert gain.gain.low > 0
    nothing = verification_gains(base, base, same, first, second, resamples=50)
    assert all(g.gain.low == g.gain.high == 0 for g in nothing)


class Oracle(nn.Module):
    """Draws the good faces, in the order in which it is asked."""

    def __init__(self, crops: np.ndarray):
        super().__init__()
        self.good = torch.from_numpy(crops).permute(0, 3, 1, 2) / 127.5 - 1
        self.inner = Generator(8).eval()

    def forward(self, images: Tensor) -> object:
        return self.inner(images)._replace(image=self.good[: len(images)])


@pytest.fixture(scope="module")
def examination(data_folder: Path, cache: Path, zoo_poseface: Path) -> Examination:
    faces = load_faces(data_folder, cache)
    rows = np.flatnonzero([person in ("toy/p0", "toy/p1", "toy/p2") for person in faces.people])
    teacher = load_trunk(zoo_poseface)
    crops = np.ascontiguousarray(faces.crops[rows][:, 8:120, 8:120])
    return Examination(faces, Validation(faces, rows, embed(teacher, crops, CPU)), teacher)


@pytest.fixture(scope="module")
def measured(examination: Examination) -> Measured:
    oracle = Oracle(examination.crops)
    return examination.of(oracle, CPU, "bicubic", ["source", "target"], [12, 28], resamples=5)


def test_a_generator_that_draws_the_good_face_is_as_good_as_the_good_face(
    measured: Measured,
) -> None:
    assert [(p.domain, p.side) for p in measured.points] == [
        ("source", 12), ("source", 28), ("target", 12), ("target", 28),
    ]  # fmt: skip
    for point in measured.points:
        drawn, cubic = point.methods["enhanced"], point.methods["bicubic"]
        assert drawn.identity == pytest.approx(1, abs=1e-4)
        assert drawn.teacher_frechet == pytest.approx(0, abs=1e-4)
        assert cubic.identity < 0.99
        assert cubic.teacher_frechet > 10 * drawn.teacher_frechet
        assert drawn.verification.tar_1e2 == pytest.approx(measured.clean.tar_1e2)
        assert drawn.verification.pairs == (2 * 3 * 6, 2 * 3 * 16)
    twelve, larger = measured.at("source", 12), measured.at("source", 28)
    assert twelve is not None
    assert larger is not None
    for name in ("nearest", "bicubic"):
        assert twelve.methods[name].psnr < larger.methods[name].psnr
        assert twelve.methods[name].ssim < larger.methods[name].ssim
        assert twelve.methods[name].identity < larger.methods[name].identity
    assert np.isnan(measured.points[2].methods["bicubic"].psnr)
    assert 0 <= measured.probe_accuracy <= 1
    assert (measured.faces, measured.people) == (12, 3)


def test_one_face_of_a_pair_is_good_and_the_other_is_not(examination: Examination) -> None:
    teacher = examination.validation.teacher
    spoilt = F.normalize(torch.randn_like(teacher))
    scores = examination.scores(spoilt)
    first, second = examination.first[0], examination.second[0]
    assert scores[0] == pytest.approx(float(teacher[first] @ spoilt[second]), abs=1e-6)
    assert (examination.people[examination.first] == examination.people[examination.second])[
        examination.same
    ].all()
    half = len(scores) // 2
    assert (examination.first[:half] == examination.second[half:]).all()


def test_degraded_faces_are_the_same_at_every_look(examination: Examination) -> None:
    one, again = (examination.degraded("target", 16) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))


def test_a_limit_keeps_whole_people(
    data_folder: Path, cache: Path, zoo_poseface: Path, examination: Examination
) -> None:
    faces = load_faces(data_folder, cache)
    few = Examination(faces, examination.validation, examination.verifier, limit=5)
    assert sorted(set(few.people)) == ["toy/p0", "toy/p1"]
    assert len(few.people) == 8
    torch.testing.assert_close(few.validation.teacher, examination.validation.teacher[:8])


def test_figures_have_the_names_of_their_columns(
    examination: Examination, measured: Measured, tmp_path: Path
) -> None:
    quick = examination.of(
        Oracle(examination.crops), CPU, "bicubic", ["area", "source", "target"], [16, 28]
    )
    assert set(FIGURES) <= set(quick.figures())
    assert all(np.isfinite(quick.figures()[name]) for name in FIGURES if name != "psnr_enhanced")
    assert measured_table(measured, "x").row_count == 4
    draw_curve(measured, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_the_curve_of_a_card_is_plain_json_with_what_was_measured(
    measured: Measured, zoo_poseface: Path
) -> None:
    facts = json.loads(
        json.dumps(curve_facts(measured, profile_options("cpu"), zoo_poseface), allow_nan=False)
    )
    assert facts["upsampling"] == "bicubic"
    assert [point["side"] for point in facts["points"]] == [12, 28, 12, 28]
    assert set(facts["points"][0]["methods"]) == set(METHODS)
    assert facts["points"][0]["eyes"] == pytest.approx(3.776, abs=1e-3)
    assert facts["points"][2]["methods"]["bicubic"]["psnr"] is None


def test_gains_go_into_a_card_as_they_were_measured(measured: Measured, zoo_poseface: Path) -> None:
    facts = curve_facts(measured, profile_options("cpu"), zoo_poseface)
    found = [GainPoint.model_validate(one) for one in facts["gains"]]
    assert len(found) == sum(len(point.gains) for point in measured.points) > 0
    first, gain = found[0], measured.points[0].gains[0]
    assert (first.domain, first.side) == (measured.points[0].domain, measured.points[0].side)
    assert first.gain.value == pytest.approx(gain.gain.estimate, abs=1e-4)
    assert first.enhanced.value - first.plain.value == pytest.approx(first.gain.value, abs=1e-3)
