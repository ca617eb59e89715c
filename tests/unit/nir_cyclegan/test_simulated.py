import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from models.nir_cyclegan.pictures import (
    as_infrared,
    as_visible,
    equalised,
    equalises_input,
    network_input,
)
from models.nir_cyclegan.simulated import DOMAINS, EYES, Simulation, formula, grey, skin_share

CHEEK, LIPS, WALL, HAIR = (75, 40), (92, 56), (20, 4), (14, 56)

STILL = Simulation(
    ambient=(0, 0), skin=(0, 0), scatter=(0, 0), hair=(0, 0), iris=(0, 0), glint=0,
    lamp=(1e6, 1e6), exposure=(0.5, 0.5), tone=(2.2, 2.2), blur=(0, 0), shot=(0, 0), read=(0, 0),
)  # fmt: skip
"""The spectrum and the exposure alone."""


def seen(simulation: Simulation, face: np.ndarray, seed: int = 0) -> np.ndarray:
    return simulation(face, np.random.default_rng(seed))[..., 0].astype(int)


@pytest.mark.parametrize("name", DOMAINS)
def test_every_domain_is_colourless_of_the_same_size_and_repeatable(
    name: str, drawn_face: np.ndarray
) -> None:
    before = drawn_face.copy()
    turn = DOMAINS[name]  # type: ignore[index]
    for side in (112, 128, 56):
        face = cv2.resize(drawn_face, (side, side))
        one, again, other = (turn(face, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one.shape == (side, side, 3)
        assert one.dtype == np.uint8
        assert (one == one[..., :1]).all()
        assert (one == again).all()
        assert (one == other).all() == (name == "grey")
    assert (before == drawn_face).all()


def test_the_simulation_follows_no_single_formula(drawn_face: np.ndarray) -> None:
    levels = [seen(Simulation(), drawn_face, k)[30:104, 22:90].mean() for k in range(40)]
    contrasts = []
    for seed in range(40):
        field = seen(Simulation(), drawn_face, seed)
        contrasts.append(field[CHEEK] / max(1, field[LIPS]))
    assert np.std(levels) > 15
    assert np.ptp(contrasts) > 0.2


def test_the_more_red_counts_the_brighter_is_skin_against_a_blue_wall(
    drawn_face: np.ndarray,
) -> None:
    red = seen(replace(STILL, green=(0, 0), blue=(0, 0)), drawn_face)
    even = seen(replace(STILL, green=(1, 1), blue=(1, 1)), drawn_face)
    assert red[CHEEK] / red[WALL] > 1.5 * even[CHEEK] / even[WALL]
    # Lips, which are red, lose their contrast to the skin around them.
    assert red[LIPS] / red[CHEEK] > 1.1 * even[LIPS] / even[CHEEK]


def test_skins_of_different_complexion_come_nearer_to_each_other(drawn_face: np.ndarray) -> None:
    light, dark = np.full((2, 112, 112, 3), 0, np.uint8)
    light[:], dark[:] = (220, 175, 150), (96, 62, 48)
    both = np.where(np.arange(112)[:, None, None] < 66, light, dark)
    as_it_is = seen(STILL, both)
    pulled = seen(replace(STILL, skin=(0.5, 0.5), skin_level=(0.5, 0.5)), both)
    assert pulled[100, 56] / pulled[30, 56] > 1.2 * as_it_is[100, 56] / as_it_is[30, 56]


def test_the_lamp_leaves_the_borders_dark(drawn_face: np.ndarray) -> None:
    flat = np.full_like(drawn_face, 160)
    lit = seen(replace(STILL, lamp=(0.6, 0.6), aim=0), flat)
    assert lit[61, 56] > 1.3 * lit[:4].mean()
    assert lit[61, 56] > 1.3 * lit[:, :4].mean()
    even = seen(STILL, flat)
    assert even.std() < 1


def test_irises_grow_lighter_and_hair_less_dark(drawn_face: np.ndarray) -> None:
    x, y = (round(value) for value in EYES[0])
    plain = seen(STILL, drawn_face)
    changed = seen(replace(STILL, iris=(0.3, 0.3), hair=(0.06, 0.06)), drawn_face)
    iris = (y, x + 3)
    assert changed[iris] > plain[iris] + 10
    assert changed[HAIR] > plain[HAIR] + 10
    assert abs(changed[CHEEK] - plain[CHEEK]) < 8
    mirrored = seen(replace(STILL, glint=1.0), drawn_face)
    eye = np.s_[y - 4 : y + 5, x - 4 : x + 5]
    assert mirrored[eye].max() > plain[eye].max() + 20


def test_skin_is_told_by_its_colour_and_not_by_its_brightness(drawn_face: np.ndarray) -> None:
    share = skin_share(drawn_face)
    assert share[CHEEK] > 0.7
    assert share[WALL] < 0.1
    dark = (drawn_face * 0.4).astype(np.uint8)
    assert skin_share(dark)[CHEEK] > 0.5
    assert skin_share(grey(drawn_face, np.random.default_rng(0)))[CHEEK] < 0.2


def test_the_formula_evens_out_wide_shading(drawn_face: np.ndarray) -> None:
    ramp = np.linspace(0.35, 1, 112)[None, :, None]
    shaded = (np.full_like(drawn_face, 200) * ramp).astype(np.uint8)
    even = formula(shaded, np.random.default_rng(0)).astype(float)
    assert shaded[:, 90:].mean() > 1.6 * shaded[:, :22].mean()
    assert even[:, 90:].mean() < 1.25 * even[:, :22].mean()


def test_equalisation_flattens_brightness_and_keeps_colour() -> None:
    rng = np.random.default_rng(0)
    dull = (90 + rng.normal(0, 6, (64, 64, 1)) + np.array([20, 0, -15])).clip(0, 255)
    made = equalised(dull.astype(np.uint8))
    luma = cv2.cvtColor(made, cv2.COLOR_RGB2GRAY)
    assert luma.min() < 12
    assert luma.max() > 243
    middle = made[(luma > 60) & (luma < 200)].astype(float).mean(axis=0)
    assert middle[0] - middle[1] == pytest.approx(20, abs=5)
    assert middle[1] - middle[2] == pytest.approx(15, abs=5)


def test_serving_equalises_where_training_did(drawn_face: np.ndarray) -> None:
    dull = (drawn_face // 3).astype(np.uint8)
    for kind, visible, infrared in (
        ("vis_domain", True, False), ("f_branch", False, True), ("off", False, False),
    ):  # fmt: skip
        assert (as_visible(dull, kind) != dull).any() == visible  # type: ignore[arg-type]
        assert (as_infrared(dull, kind) != dull).any() == infrared  # type: ignore[arg-type]
        assert equalises_input("vis2nir", kind) == visible  # type: ignore[arg-type]
        assert equalises_input("nir2vis", kind) == infrared  # type: ignore[arg-type]


def test_a_network_takes_any_crop_scaled_to_its_size(drawn_face: np.ndarray) -> None:
    image = network_input(drawn_face, 128)
    assert image.shape == (3, 128, 128)
    assert image.dtype == np.float32
    assert np.abs(image).max() <= 1
    exact = network_input(drawn_face, 112)
    np.testing.assert_allclose(exact[0, 5, 7], drawn_face[5, 7, 0] / 127.5 - 1, atol=1e-6)


def test_serving_simulates_and_prepares_without_torch() -> None:
    code = (
        "import sys, models.nir_cyclegan.simulated, models.nir_cyclegan.pictures, "
        "services.synthesis; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
