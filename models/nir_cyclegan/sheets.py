"""Sample sheets: what both generators make of a few faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.nir_cyclegan.report import Translators
from models.nir_cyclegan.simulated import DOMAINS
from models.training.held_out import CENTRAL

Bytes = npt.NDArray[np.uint8]


def sheet_faces(translators: Translators, crops: Bytes) -> list[list[Bytes]]:
    """Rows of a visible face, drawn near infrared, and back; then each domain and F of it.

    Args:
        translators: both generators.
        crops: (N,128,128,3) uint8, RGB.
    """
    good = np.ascontiguousarray(crops[:, CENTRAL, CENTRAL])
    drawn = translators.translate("vis2nir", good)
    columns = [good, drawn, translators.translate("nir2vis", drawn)]
    for turn in DOMAINS.values():
        turned = np.stack([turn(face, np.random.default_rng(k)) for k, face in enumerate(good)])
        columns += [turned, translators.translate("nir2vis", turned)]
    return [list(row) for row in zip(*columns, strict=True)]
