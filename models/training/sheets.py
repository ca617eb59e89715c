"""Faces in rows as one picture; needs numpy and OpenCV alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

GAP = 2


def write_sheet(path: Path, rows: list[list[Bytes]]) -> None:
    """Writes rows of (S,S,3) RGB pictures as one picture."""
    framed = [
        np.concatenate(
            [np.pad(x, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255) for x in r], 1
        )
        for r in rows
    ]
    cv2.imwrite(str(path), np.concatenate(framed, axis=0)[..., ::-1])
