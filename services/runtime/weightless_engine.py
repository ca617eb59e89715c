"""A deterministic engine without weights, for tests of everything around a network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.runtime.engine import Arrays, EngineInfo, TensorInfo


class WeightlessEngine:
    """Projects each input onto fixed random directions: alike inputs get alike vectors.

    Args:
        dimension: length of the output vectors.
        shape: height and width of the RGB crops that it takes.
    """

    def __init__(self, dimension: int = 64, shape: tuple[int, int] = (112, 112)) -> None:
        self._grid = 8
        directions = np.random.default_rng(7).standard_normal((self._grid**2 * 3, dimension))
        self._directions = directions.astype(np.float32)
        self.calls = 0
        self._info = EngineInfo(
            engine="weightless 1",
            device="CPU",
            precision="fp32",
            streams=1,
            threads=1,
            inputs=(TensorInfo("data", (-1, 3, *shape)),),
            outputs=(TensorInfo("embedding", (-1, dimension)),),
        )

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        return self._info

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network once; see `Engine.infer`."""
        self.calls += 1
        batch = inputs["data"]
        count, channels, height, width = batch.shape
        rows, columns = height // self._grid, width // self._grid
        cells = batch.reshape(count, channels, self._grid, rows, self._grid, columns)
        features = cells.mean(axis=(3, 5)).reshape(count, -1)
        features = features - features.mean(axis=1, keepdims=True)
        return {"embedding": features @ self._directions}

    def close(self) -> None:
        """Nothing to free."""
