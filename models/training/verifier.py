"""The frozen verifier that measurements ask, by the fastest way on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import torch
from torch import Tensor, nn

from models.backbones.sface import load_trunk
from models.backbones.trunk import INPUT_SIDE


class FileVerifier(nn.Module):
    """An embedder's ONNX file in fp32 on the CPU, several times as fast as torch there.

    Args:
        path: file of one input (B,3,112,112), RGB, 0-255, and one output (B,d).
    """

    def __init__(self, path: Path):
        super().__init__()
        core = openvino.Core()
        model = core.read_model(path)
        model.reshape([-1, 3, INPUT_SIDE, INPUT_SIDE])
        self.compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        )
        self.queue = openvino.AsyncInferQueue(self.compiled)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,112,112) -> (B,d)."""
        found: list[np.ndarray | None] = [None] * len(images)

        def keep(request: openvino.InferRequest, place: int) -> None:
            found[place] = np.array(request.get_output_tensor(0).data)

        self.queue.set_callback(keep)
        for place, image in enumerate(images.numpy()):
            self.queue.start_async({0: image[None]}, place)
        self.queue.wait_all()
        return torch.from_numpy(np.concatenate([one for one in found if one is not None]))


def load_frozen(path: Path, device: torch.device) -> nn.Module:
    """(B,3,112,112), RGB, 0-255 -> (B,d), frozen, of SFace's or PoseFace's file."""
    return FileVerifier(path) if device.type == "cpu" else load_trunk(path).to(device)
