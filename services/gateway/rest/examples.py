"""Example answers for the OpenAPI description; the numbers are made up, the shape is tested."""

from __future__ import annotations

from typing import Any

_FACE: dict[str, Any] = {
    "box": {"x": 83.2, "y": 71.0, "width": 88.4, "height": 112.6},
    "score": 0.9312,
    "points": [
        {"x": 105.1, "y": 113.4},
        {"x": 147.0, "y": 112.8},
        {"x": 126.9, "y": 138.2},
        {"x": 109.3, "y": 158.7},
        {"x": 144.6, "y": 158.1},
    ],
    "pose": {"yaw": 2.4, "pitch": 6.1, "roll": 0.8},
    "quality": {"unified": 90.3, "components": {"sharpness": 88.1, "inter_eye_distance": 93.0}},
    "modality": "visible",
    "inter_eye_distance": 41.9,
}
_CHOSEN = {
    "face": _FACE,
    "face_count": 1,
    "face_index": 0,
    "selection": "largest",
    "enhancement": {
        "status": "applied",
        "eyes_px": 5.9,
        "enhancer": "ddat@1",
        "enhancer_sha256": "2" * 64,
        "condition": "low_resolution",
        "image": "iVBORw0KGgo=",
    },
    "aligned": "iVBORw0KGgo=",
}
_RESULT = {
    "decision": "same",
    "reasons": [],
    "similarity": 0.712345,
    "threshold": 0.3,
    "reference": _CHOSEN,
}

VERIFY_EXAMPLE: dict[str, Any] = {
    **_RESULT,
    "fmr": 0.001,
    "model": {
        "name": "poseface",
        "version": "1",
        "weights_sha256": "0" * 64,
        "preprocessing_sha256": "1" * 64,
        "origin": "native",
    },
    "probe": _CHOSEN,
    "results": [_RESULT],
    "timing_ms": {"decode": 0.6, "detect": 3.1, "inference": 8.9, "total": 13.4},
    "request_id": "5f0c9d1e8b6a4c7d9e2f1a3b5c7d9e0f",
}

DETECT_EXAMPLE: dict[str, Any] = {
    "faces": [_FACE],
    "face_count": 1,
    "width": 250,
    "height": 250,
    "timing_ms": {"decode": 0.3, "detect": 1.6, "measure": 0.5, "total": 2.6},
    "request_id": "5f0c9d1e8b6a4c7d9e2f1a3b5c7d9e0f",
}
