"""Simulated near-infrared faces: what an active lamp near 850 nm and its camera make of a face.

A simulation from colour pictures, not near infrared: reports that use it must say "simulated". A
picture is (S,S,3) uint8, RGB, 0-255, the ArcFace crop at any size; the result has three equal
channels. All chance comes from the numpy generator handed in.

Three domains are told apart by name. "simulated" is this module's `Simulation`, every part of it
drawn anew for each face, so that a network cannot learn one formula by heart. "formula" is the one
of the spec's section 10, kept out of training as the domain that nothing was fitted to. "grey" is
plain luminance: not near infrared, but what a gateway without a spectrum cannot tell from it.

Parts of `Simulation`, in the order in which light takes them, in linear light:

1. Spectrum: red-heavy mix of the channels. Beyond red, pigments of skin, lips and veins absorb less
   and less; blue says nothing, and a small negative weight is allowed.
2. Ambient light goes: the lamp takes its place, so part of the wide shading is divided out.
3. Skin: reflectance drawn towards one high value whatever the complexion, fine detail softened,
   because the light spreads below the surface.
4. Hair: dark what is not skin is lifted; melanin of hair absorbs less.
5. Eyes: irises grow lighter around a dark pupil; the lamp may be mirrored in both.
6. Lamp: near the camera, so that light falls off from a point in the face towards the borders.
7. Camera: automatic exposure, tone curve, slight blur, photon and dark noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from models.ddat.degradations import FULL_SIDE, gamma, gaussian_blur, sensor_noise

Bytes = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]
Span = tuple[float, float]
"""Smallest and largest value, uniform between."""

DomainName = Literal["simulated", "formula", "grey"]

EYES = ((38.2946, 51.6963), (73.5318, 51.5014))
"""Centres of the eyes in the ArcFace template at 112 px."""

SCREEN_GAMMA = 2.2
"""From a picture's levels to linear light, near enough to sRGB."""

SKIN_CHROMA = (150.0, 108.0)
SKIN_SPREAD = (16.0, 14.0)
"""Cr and Cb of skin of all complexions, and how far it spreads (Chai and Ngan 1999: Cr 133 to 173,
Cb 77 to 127)."""

IRIS, PUPIL, GLINT = 4.2, 1.4, 0.9
"""Radii at 112 px."""

MIRRORED = 3.0
"""Linear light of the lamp's mirror image: more than the camera can take."""

FACE = 0.36
"""Spread of the window over which the exposure is measured, in sides."""

FORMULA_MIX = (0.7, 0.2, 0.1)
FORMULA_GAMMA = 0.8
FORMULA_WIDTH = 0.18
FORMULA_LEVEL = 118.0
FORMULA_NOISE = 3.0
"""The spec's numbers; those that it leaves open (width of the heavy Gaussian in sides, level of
even light, spread of the noise in levels) are chosen here."""


@dataclass(frozen=True)
class Simulation:
    """Ranges of all parts; the numbers of one face are drawn from them.

    Attributes:
        green: weight of green to red's 1.
        blue: weight of blue to red's 1.
        ambient: share of the wide shading that the lamp removes, as an exponent.
        shading: width of what counts as wide, in sides.
        skin: share of the way from a skin's own reflectance to `skin_level`, in logarithms.
        skin_level: reflectance that all skin is drawn to.
        scatter: spread of the softening of skin, px at 112.
        hair: how much dark hair is lifted, in linear light.
        iris: linear light that the iris is drawn to.
        glint: probability that the lamp shows in the eyes.
        lamp: distance of the lamp, in sides; the nearer, the darker the borders.
        aim: spread of the lamp's centre about the face's, in sides.
        exposure: mean level of the face after exposure, 0 to 1.
        tone: the camera's gamma.
        blur: spread, px at 112.
        shot: photon noise, variance per level.
        read: spread of the dark noise, levels.
    """

    green: Span = (0.0, 0.55)
    blue: Span = (-0.12, 0.2)
    ambient: Span = (0.0, 0.75)
    shading: Span = (0.1, 0.3)
    skin: Span = (0.1, 0.55)
    skin_level: Span = (0.4, 0.65)
    scatter: Span = (0.3, 1.8)
    hair: Span = (0.0, 0.06)
    iris: Span = (0.08, 0.3)
    glint: float = 0.6
    lamp: Span = (0.55, 2.0)
    aim: float = 0.08
    exposure: Span = (0.3, 0.62)
    tone: Span = (1.6, 2.6)
    blur: Span = (0.0, 1.1)
    shot: Span = (0.0, 0.35)
    read: Span = (0.0, 4.5)

    def __call__(self, picture: Bytes, rng: np.random.Generator) -> Bytes:
        """(S,S,3) visible face -> (S,S,3) simulated near infrared."""
        unit = len(picture) / FULL_SIDE
        skin = skin_share(picture)
        light = self._spectrum(picture, rng)
        light = self._even(light, rng)
        light = self._reflect(light, skin, unit, rng)
        light = self._eyes(light, unit, rng)
        light *= self._lamp(len(picture), rng)
        return self._camera(light, unit, rng)

    def _spectrum(self, picture: Bytes, rng: np.random.Generator) -> Field:
        weights = np.array([1.0, rng.uniform(*self.green), rng.uniform(*self.blue)])
        return mixed(picture, weights / weights.sum())

    def _even(self, light: Field, rng: np.random.Generator) -> Field:
        wide = _blur(light, rng.uniform(*self.shading) * len(light)) + 1e-3
        return np.asarray(light * (wide.mean() / wide) ** rng.uniform(*self.ambient))

    def _reflect(self, light: Field, skin: Field, unit: float, rng: np.random.Generator) -> Field:
        """Parts 3 and 4."""
        pull, level = rng.uniform(*self.skin), rng.uniform(*self.skin_level)
        soft = _blur(light, rng.uniform(*self.scatter) * unit)
        light = light + skin * (soft - light)
        share = skin * pull
        light = np.maximum(light, 1e-4) ** (1 - share) * level**share
        lift = rng.uniform(*self.hair) * (1 - skin) * np.exp(-light / 0.05)
        return np.asarray(light + lift)

    def _eyes(self, light: Field, unit: float, rng: np.random.Generator) -> Field:
        wanted = rng.uniform(*self.iris)
        mirrored = rng.random() < self.glint
        offset = rng.uniform(-2, 2, 2) * unit
        for x, y in EYES:
            centre = np.array([x, y]) * unit
            inside = _disc(len(light), centre, IRIS * unit)
            # Only the dark of an open eye; lids, brows and white stay.
            dark = inside * np.exp(-light / 0.15)
            light = light + dark * np.maximum(wanted - light, 0)
            light = light * (1 - 0.7 * dark * _disc(len(light), centre, PUPIL * unit))
            if mirrored:
                light = light + MIRRORED * dark * _disc(len(light), centre + offset, GLINT * unit)
        return light

    def _lamp(self, side: int, rng: np.random.Generator) -> Field:
        distance = rng.uniform(*self.lamp)
        at_x, at_y = 0.5 + rng.normal(0, self.aim), 0.55 + rng.normal(0, self.aim)
        axis = (np.arange(side) + 0.5) / side
        apart = (axis[None] - at_x) ** 2 + (axis[:, None] - at_y) ** 2
        # Inverse square of the distance, and the cosine at which light meets what faces the camera.
        return np.asarray((1 + apart / distance**2) ** -1.5)

    def _camera(self, light: Field, unit: float, rng: np.random.Generator) -> Bytes:
        level, tone = rng.uniform(*self.exposure), rng.uniform(*self.tone)
        weights = _disc(len(light), np.array([0.5, 0.58]) * len(light), FACE * len(light))
        measured = float((light * weights).sum() / weights.sum())
        exposed = np.clip(light * (level**tone / max(measured, 1e-6)), 0, 1)
        shown = (exposed ** (1 / tone) * 255).round().astype(np.uint8)
        blurred = gaussian_blur(shown, rng.uniform(*self.blur) * unit)
        return _grey(sensor_noise(blurred, rng.uniform(*self.shot), rng.uniform(*self.read), rng))


MILD = Simulation(
    green=(0.3, 1.2), blue=(0.0, 0.4), ambient=(0.0, 0.2), skin=(0.0, 0.2), scatter=(0.0, 0.6),
    hair=(0.0, 0.02), iris=(0.02, 0.1), glint=0.2, lamp=(1.5, 4.0), exposure=(0.35, 0.6),
    tone=(2.0, 2.4), blur=(0.0, 0.5), shot=(0.0, 0.1), read=(0.0, 2.0),
)  # fmt: skip
"""Between grey and near infrared: what a network must not make worse."""


def formula(
    picture: Bytes,
    rng: np.random.Generator,
    side: float | None = None,
    width: float = FORMULA_WIDTH,
) -> Bytes:
    """Near infrared by the formula of the spec's section 10: simulated, and never trained on.

    Red-weighted grey, gamma 0.8, even light by division by a heavy Gaussian of it, blur of one
    pixel of an aligned crop, noise.

    Args:
        picture: (H,W,3) visible.
        rng: of the noise.
        side: pixels across the face's aligned crop; by default the picture is one.
        width: of the heavy Gaussian, in crops: the narrower, the less of the face's own shading is
            left, and the harder it is to recognise.
    """
    side = side or len(picture)
    red_heavy = (picture @ np.array(FORMULA_MIX)).round().astype(np.uint8)
    bent = gamma(red_heavy, FORMULA_GAMMA).astype(np.float64)
    even = bent / (_blur(bent, width * side) + 1) * FORMULA_LEVEL
    flat = np.clip(even, 0, 255).round().astype(np.uint8)
    soft = gaussian_blur(flat, side / FULL_SIDE)
    return _grey(sensor_noise(soft, 0.0, FORMULA_NOISE, rng))


def grey(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Luminance in all three channels; no chance in it."""
    del rng
    return _grey(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8))


DOMAINS: dict[DomainName, Callable[[Bytes, np.random.Generator], Bytes]] = {
    "simulated": Simulation(),
    "formula": formula,
    "grey": grey,
}


def mixed(picture: Bytes, weights: npt.NDArray[np.floating]) -> Field:
    """(S,S,3) -> (S,S) linear light from 0 on, channels weighed by (3,)."""
    linear = (picture / 255.0) ** SCREEN_GAMMA
    return np.asarray(np.maximum(linear @ weights, 0.0))


def skin_share(picture: Bytes) -> Field:
    """(S,S,3) -> (S,S), 0 to 1: how much a pixel's colour is skin's; its brightness says nothing.

    A picture without colour has no skin.
    """
    chroma = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float64)
    off = (chroma - SKIN_CHROMA) / SKIN_SPREAD
    return _blur(np.exp(-0.5 * np.square(off).sum(axis=2)), 1.0)


def _grey(field: Bytes) -> Bytes:
    return np.repeat(field[..., None], 3, axis=2)


def _blur(field: Field, sigma: float) -> Field:
    if sigma < 0.05:
        return field
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), dtype=np.float64)


def _disc(side: int, centre: npt.NDArray[np.floating], radius: float) -> Field:
    """(side,side) soft disc: 1 at the centre (x,y), about a half at the radius."""
    axis = np.arange(side)
    apart = (axis[None] - centre[0]) ** 2 + (axis[:, None] - centre[1]) ** 2
    return np.asarray(np.exp(-apart / (1.44 * radius**2)))
