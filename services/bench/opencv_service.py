"""What a newcomer would write in an afternoon: OpenCV's face pipeline behind one FastAPI handler.

It is the reference that `mien bench serve` compares with, and is no part of Mien's own service. Run
it with ``python -m services.bench.opencv_service PORT DETECTOR.onnx EMBEDDER.onnx``.
"""

import sys
import threading
from typing import Annotated

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, File, UploadFile
from numpy.typing import NDArray

_SCORE = 0.6
_SAME = 0.363  # OpenCV's own example threshold for SFace's cosine


def create_app(detector_path: str, embedder_path: str) -> FastAPI:
    """Makes the service.

    A plain (not async) handler runs on FastAPI's thread pool; OpenCV's networks are not safe to
    share between threads, so each thread has its own.
    """
    app = FastAPI()
    local = threading.local()
    cv2.setNumThreads(1)  # requests run side by side instead

    def vector(data: bytes) -> NDArray[np.float32]:
        if not hasattr(local, "detector"):
            local.detector = cv2.FaceDetectorYN.create(detector_path, "", (0, 0), _SCORE)
            local.embedder = cv2.FaceRecognizerSF.create(embedder_path, "")
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError("not a picture")
        local.detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, faces = local.detector.detect(picture)
        crop = local.embedder.alignCrop(picture, faces[0])
        found: NDArray[np.float32] = local.embedder.feature(crop).copy()
        return found

    @app.post("/v1/verify")
    def verify(
        probe: Annotated[UploadFile, File()], reference: Annotated[UploadFile, File()]
    ) -> dict[str, float]:
        first, second = vector(probe.file.read()), vector(reference.file.read())
        score = local.embedder.match(first, second, cv2.FaceRecognizerSF_FR_COSINE)
        return {"similarity": float(score), "same": float(score >= _SAME)}

    @app.get("/healthz/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


if __name__ == "__main__":
    port, detector, embedder = sys.argv[1:]
    uvicorn.run(
        create_app(detector, embedder), host="127.0.0.1", port=int(port), log_level="warning"
    )
