"""Keras networks in HDF5 files: the same vectors as ONNX; what is not known is named."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from models.conversion import ConversionError, convert

SIDE = 8
Array = NDArray[np.float64]
Entry = dict[str, Any]


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def layer(kind: str, name: str, inputs: list[str], **config: Any) -> Entry:
    nodes = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": nodes}


def convolution(name: str, source: str, **changes: Any) -> Entry:
    config: dict[str, Any] = {
        "strides": [1, 1],
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "groups": 1,
        "activation": "linear",
    }
    return layer("Conv2D", name, [source], **{**config, **changes})


def normalisation(name: str, source: str, axis: int = 3) -> Entry:
    return layer("BatchNormalization", name, [source], axis=[axis], epsilon=0.001)


class Tiny:
    """A strided stem, two branches that are joined, a scaled residual, a vector of 4."""

    def __init__(self) -> None:
        scaling = base64.b64encode(b"compiled scaling").decode()
        self.layers = [
            layer("InputLayer", "in", [], batch_input_shape=[None, SIDE, SIDE, 3]),
            convolution("stem", "in", strides=[2, 2], padding="valid"),
            normalisation("stem_bn", "stem"),
            layer("Activation", "stem_relu", ["stem_bn"], activation="relu"),
            convolution("wide", "stem_relu", activation="relu"),
            convolution("narrow", "stem_relu"),
            layer("Concatenate", "both", ["wide", "narrow"], axis=3),
            normalisation("both_bn", "both"),
            convolution("up", "both_bn"),
            layer(
                "Lambda", "scaled", ["up"], function=[scaling, None, None],
                arguments={"scale": 0.17},
            ),
            layer("Add", "sum", ["stem_relu", "scaled"]),
            layer(
                "MaxPooling2D", "pool", ["sum"], pool_size=[2, 2], strides=[1, 1],
                padding="valid", data_format="channels_last",
            ),
            layer("GlobalAveragePooling2D", "mean", ["pool"], data_format="channels_last"),
            layer("Dropout", "drop", ["mean"], rate=0.2),
            layer("Dense", "vector", ["drop"], activation="linear"),
            normalisation("vector_bn", "vector", axis=1),
        ]  # fmt: skip
        self.weights: dict[str, dict[str, Array]] = {
            "stem": {"kernel": drawn(3, 3, 3, 2, seed=1)},
            "stem_bn": self.normal(2, 2),
            "wide": {"kernel": drawn(1, 3, 2, 3, seed=3), "bias": drawn(3, seed=4)},
            "narrow": {"kernel": drawn(2, 1, 2, 1, seed=5)},
            "both_bn": {**self.normal(4, 6), "gamma": drawn(4, seed=7)},
            "up": {"kernel": drawn(1, 1, 4, 2, seed=8), "bias": drawn(2, seed=9)},
            "vector": {"kernel": drawn(2, 4, seed=10)},
            "vector_bn": self.normal(4, 11),
        }
        self.output = "vector_bn"

    @staticmethod
    def normal(channels: int, seed: int) -> dict[str, Array]:
        return {
            "beta": drawn(channels, seed=seed),
            "moving_mean": drawn(channels, seed=seed + 50),
            "moving_variance": np.abs(drawn(channels, seed=seed + 90)) + 0.5,
        }

    def save(self, path: Path) -> Path:
        model = {
            "class_name": "Functional",
            "config": {"layers": self.layers, "output_layers": [[self.output, 0, 0]]},
        }
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(model)
            root = file.create_group("model_weights")
            for entry in self.layers:
                group = root.create_group(entry["name"])
                stored = self.weights.get(entry["name"], {})
                names = [f"{entry['name']}/{kind}:0" for kind in stored]
                group.attrs["weight_names"] = names
                for name, values in zip(names, stored.values(), strict=True):
                    group.create_dataset(name, data=values.astype(np.float32))
        return path

    def vector(self, picture: Array) -> Array:
        """What Keras gives for one picture (rows,columns,3), layer by layer."""
        w = self.weights
        stem = np.maximum(
            self.normalised("stem_bn", correlated(picture, w["stem"]["kernel"], 2)), 0
        )
        wide = np.maximum(correlated(stem, w["wide"]["kernel"], same=True) + w["wide"]["bias"], 0)
        narrow = correlated(stem, w["narrow"]["kernel"], same=True)
        both = self.normalised("both_bn", np.concatenate([wide, narrow], axis=2))
        total = stem + 0.17 * (correlated(both, w["up"]["kernel"]) + w["up"]["bias"])
        pooled = np.max([total[:-1, :-1], total[1:, :-1], total[:-1, 1:], total[1:, 1:]], axis=0)
        vector = pooled.mean(axis=(0, 1)) @ w["vector"]["kernel"]
        return self.normalised("vector_bn", vector)

    def normalised(self, name: str, values: Array) -> Array:
        stored = self.weights[name]
        scale = stored.get("gamma", 1.0) / np.sqrt(stored["moving_variance"] + 0.001)
        return (values - stored["moving_mean"]) * scale + stored["beta"]


def correlated(picture: Array, kernel: Array, stride: int = 1, same: bool = False) -> Array:
    rows, columns = kernel.shape[:2]
    if same:
        border = [((size - 1) // 2, size // 2) for size in (rows, columns)]
        picture = np.pad(picture, (*border, (0, 0)))
    reach = [range(0, picture.shape[i] - kernel.shape[i] + 1, stride) for i in (0, 1)]
    return np.array(
        [
            [np.tensordot(picture[y : y + rows, x : x + columns], kernel, 3) for x in reach[1]]
            for y in reach[0]
        ]
    )


def refusal(tiny: Tiny, folder: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        convert("keras-h5", tiny.save(folder / "tiny.h5"))
    return str(caught.value)


def test_a_converted_network_gives_the_vectors_of_keras(tmp_path: Path) -> None:
    tiny = Tiny()
    pictures = drawn(3, SIDE, SIDE, 3, seed=20)
    made = convert("keras-h5", tiny.save(tmp_path / "tiny.h5"))
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    batch = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
    expected = np.stack([tiny.vector(picture) for picture in pictures])
    np.testing.assert_allclose(session.run(None, {"image": batch})[0], expected, atol=1e-4)


def test_the_same_file_always_becomes_the_same_bytes(tmp_path: Path) -> None:
    made = convert("keras-h5", Tiny().save(tmp_path / "one.h5"))
    assert convert("keras-h5", Tiny().save(tmp_path / "two.h5")) == made
    # Cards name such hashes: another one here means that no installation could pull facenet@1.
    assert hashlib.sha256(made).hexdigest() == (
        "6b60579077db40cf703bfd22f445a7cac5347d336deb1b63f4ee6630d8d23839"
    )


def test_a_layer_that_is_not_known_is_named(tmp_path: Path) -> None:
    tiny = Tiny()
    tiny.layers[3] = layer("PReLU", "stem_relu", ["stem_bn"])
    assert "PReLU (stem_relu)" in refusal(tiny, tmp_path)


@pytest.mark.parametrize(
    ("place", "change", "told"),
    [
        (1, {"padding": "same"}, "stem has strides"),
        (4, {"dilation_rate": [2, 2]}, "wide has dilation_rate"),
        (4, {"activation": "tanh"}, "activation tanh"),
        (6, {"axis": 1}, "both joins"),
        (7, {"axis": [1]}, "both_bn normalises"),
        (9, {"arguments": {"power": 2}}, "scaled is a function"),
        (9, {"function": [base64.b64encode(b"other").decode()]}, "scaled is a function"),
        (11, {"padding": "same"}, "pool has padding"),
    ],
)
def test_a_setting_that_is_not_known_is_named(
    tmp_path: Path, place: int, change: dict[str, Any], told: str
) -> None:
    tiny = Tiny()
    tiny.layers[place]["config"].update(change)
    assert told in refusal(tiny, tmp_path)


def test_a_network_that_gives_no_vector_is_refused(tmp_path: Path) -> None:
    tiny = Tiny()
    tiny.layers = tiny.layers[:12]
    tiny.output = "pool"
    assert "vector" in refusal(tiny, tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tiny = Tiny()
    tiny.weights["vector"]["kernel"] = drawn(5, 4)
    assert "do not fit" in refusal(tiny, tmp_path)


def test_weights_that_are_missing_or_not_finite_are_refused(tmp_path: Path) -> None:
    tiny = Tiny()
    tiny.weights["up"]["kernel"][0, 0, 0, 0] = np.inf
    assert "up has weights that are not finite" in refusal(tiny, tmp_path)
    del tiny.weights["up"]["kernel"]
    assert "tiny.h5 is damaged" in refusal(tiny, tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = Tiny().save(tmp_path / "tiny.h5")
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ConversionError, match=r"tiny\.h5 is no HDF5 file, or is damaged"):
        convert("keras-h5", path)


def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "models.conversion.keras_h5", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConversionError, match=r"package h5py.*mien\[convert\]"):
        convert("keras-h5", tmp_path / "any.h5")
