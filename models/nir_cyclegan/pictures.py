"""What a picture goes through before a network and after it, the same in training and serving.

Needs numpy and OpenCV alone.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from models.ddat.degradations import scaled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

Equalisation = Literal["vis_domain", "f_branch", "off"]
"""The two readings of where histograms are equalised (spec, section 3.2), or nowhere.

"vis_domain": visible faces are equalised ones, wherever they stand: G takes them and F learns to
draw them. "f_branch": what F takes is equalised, so that G learns to draw near infrared of that
kind; visible faces stay as they are.
"""

Operation = Literal["nir2vis", "vis2nir"]


def equalised(picture: Bytes) -> Bytes:
    """(H,W,3) RGB -> the same with the histogram of its brightness flattened, colour kept."""
    parts = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)
    parts[..., 0] = cv2.equalizeHist(parts[..., 0])
    return np.asarray(cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB), dtype=np.uint8)


def equalises_input(operation: Operation, kind: Equalisation) -> bool:
    """Whether a network's input must be equalised, as it was in its training."""
    return kind == ("f_branch" if operation == "nir2vis" else "vis_domain")


def as_visible(picture: Bytes, kind: Equalisation) -> Bytes:
    """A visible face as its domain has it."""
    return equalised(picture) if kind == "vis_domain" else picture


def as_infrared(picture: Bytes, kind: Equalisation) -> Bytes:
    """A near-infrared face as its domain has it."""
    return equalised(picture) if kind == "f_branch" else picture


def network_input(picture: Bytes, side: int) -> Floats:
    """(S,S,3) uint8 -> (3,side,side) float32, -1 to 1."""
    if len(picture) != side:
        picture = np.asarray(
            cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
        )
    return scaled(picture)
