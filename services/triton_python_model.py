"""A model of Triton's Python backend: runs the model.onnx beside it.

`mien export triton --backend python` copies this file into the repository as model.py. It is for
Triton servers that lack the ONNX Runtime backend; it needs numpy and onnxruntime (or openvino,
which it prefers) in the Python that Triton runs it with, and nothing of Mien.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found] # Triton's own


class TritonPythonModel:
    """Triton makes one of these for each instance, and calls it from one thread at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the network."""
        config = json.loads(args["model_config"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._network = _load(path)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the requests that Triton has gathered as one batch."""
        tensors = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self._inputs
        ]
        counts = [len(array) for array in tensors[0]]
        feed = {
            name: np.concatenate(parts) for name, parts in zip(self._inputs, tensors, strict=True)
        }
        results = self._network(feed, self._outputs)
        ends = np.cumsum(counts)[:-1]
        split = [np.split(result, ends) for result in results]
        return [
            triton.InferenceResponse(
                [
                    triton.Tensor(name, np.ascontiguousarray(parts[index]))
                    for name, parts in zip(self._outputs, split, strict=True)
                ]
            )
            for index in range(len(requests))
        ]


def _load(path: Path) -> Any:
    try:
        import openvino  # noqa: PLC0415 - whichever engine is there
    except ImportError:
        import onnxruntime  # noqa: PLC0415

        session = onnxruntime.InferenceSession(str(path))
        return lambda feed, outputs: session.run(outputs, feed)
    compiled = openvino.compile_model(str(path), "CPU")
    return lambda feed, outputs: [compiled(feed)[name] for name in outputs]
