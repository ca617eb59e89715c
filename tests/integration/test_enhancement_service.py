import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from models.nir_cyclegan.pictures import equalised
from services.enhancement import Enhancer
from services.gain_gate import eyes_px
from services.rpc.mien.v1 import enhancement_pb2, enhancement_pb2_grpc
from services.runtime import EngineError
from services.runtime.engine import Arrays
from tests.integration.harness import START_SECONDS, rich_error
from tests.integration.tiny_enhancement import add_enhancer, gate, loaded, serving

AUTO = enhancement_pb2.CONDITION_AUTO
LOW = enhancement_pb2.CONDITION_LOW_RESOLUTION
NIR = enhancement_pb2.CONDITION_NEAR_INFRARED
VISIBLE = enhancement_pb2.CONDITION_VISIBLE
ODD: Any = 99
SHA = "a" * 64
Stub = enhancement_pb2_grpc.EnhancementServiceStub
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("enhancers")
    gates = [gate("face@1", SHA, 32), gate("other@1", SHA, 16)]
    add_enhancer(folder, gates=gates)
    add_enhancer(
        folder, "light", operation="nir_to_visible", input={"equalise": True},
        gates=[gate("face@1", SHA, 40, upwards=True)],
    )  # fmt: skip
    add_enhancer(folder, "cells", input={"up_sampling": "nearest"})
    return folder


@pytest.fixture(scope="module")
def stub(home: Path) -> Iterator[Stub]:
    with serving(loaded(home, "negative", "light"), max_batch=6) as (running, _):
        yield running


def picture(side: int = 112, seed: int = 0, *, grey: bool = False) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 1 if grey else 3), np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))
    return np.repeat(smooth[..., None], 3, axis=2) if grey else smooth


def crop(
    pixels: Pixels, condition: enhancement_pb2.Condition.ValueType = LOW, native_side: float = 0
) -> enhancement_pb2.FaceCrop:
    return enhancement_pb2.FaceCrop(
        pixels=pixels.tobytes(), side=len(pixels), condition=condition, native_side=native_side
    )


def pixels_of(made: enhancement_pb2.EnhancedCrop) -> Pixels:
    return np.frombuffer(made.pixels, np.uint8).reshape(made.side, made.side, 3)


def enhance(
    stub: Stub, *crops: enhancement_pb2.FaceCrop, embedder: str = "", enhancer: str = ""
) -> list[
    enhancement_pb2.EnhancedCrop
]:  # fmt: skip
    return list(
        stub.Enhance(
            enhancement_pb2.EnhanceRequest(crops=crops, embedder=embedder, enhancer=enhancer)
        ).crops
    )


def test_the_list_says_what_each_mends_and_where_it_was_shown_to_help(stub: Stub) -> None:
    light, negative = stub.ListEnhancers(enhancement_pb2.ListEnhancersRequest()).enhancers
    assert (light.name, light.condition) == ("light", NIR)
    assert (negative.name, negative.version, negative.condition) == ("negative", "1", LOW)
    assert len(negative.weights_sha256) == 64
    limits = {one.embedder: one.helps_below_eyes_px for one in negative.gates}
    assert limits == {"face@1": pytest.approx(eyes_px(32)), "other@1": pytest.approx(eyes_px(16))}
    assert [one.helps_from_eyes_px for one in light.gates] == [pytest.approx(eyes_px(40))]
    assert negative.engine.startswith("openvino")


def test_a_small_crop_is_enlarged_cubically_and_drawn(stub: Stub) -> None:
    small = picture(20)
    made = enhance(stub, crop(small))[0]
    large = cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(pixels_of(made), 255 - large)
    assert made.synthetic
    assert (made.enhancer, made.condition) == ("negative@1", LOW)
    assert len(made.enhancer_sha256) == 64
    assert made.native_side == 20
    assert made.eyes_px == pytest.approx(eyes_px(20))


def test_a_card_may_ask_for_the_cells_themselves(home: Path) -> None:
    cells = picture(16, 1)
    large = np.asarray(cv2.resize(cells, (112, 112), interpolation=cv2.INTER_CUBIC))
    with serving(loaded(home, "cells")) as (stub, _):
        as_cells = enhance(stub, crop(cells))[0]
        again = enhance(stub, crop(large, native_side=16))[0]
    assert np.array_equal(pixels_of(as_cells), 255 - np.repeat(np.repeat(cells, 7, 0), 7, 1))
    blocks = pixels_of(again).reshape(16, 7, 16, 7, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()


def test_near_infrared_is_equalised_first_where_the_card_says_so(stub: Stub) -> None:
    dark = (picture(112, 2, grey=True) // 4).astype(np.uint8)
    made = enhance(stub, crop(dark, NIR))[0]
    assert np.array_equal(pixels_of(made), 255 - equalised(dark))
    assert equalised(dark).max() > 200 > dark.max()
    assert made.enhancer == "light@1"


def test_auto_leaves_every_byte_of_a_face_that_would_not_gain(stub: Stub) -> None:
    good = picture(112, 3)
    made = enhance(stub, crop(good, AUTO, 33), crop(good, AUTO, 112), embedder="face@1")
    for one in made:
        assert one.pixels == good.tobytes()
        assert not one.synthetic
        assert (one.enhancer, one.enhancer_sha256) == ("", "")
        assert one.condition == enhancement_pb2.CONDITION_UNSPECIFIED


def test_auto_draws_where_the_named_model_gains(stub: Stub) -> None:
    face = picture(112, 4)
    sides = (14.0, 20.0, 40.0)

    def drawn(embedder: str) -> list[bool]:
        crops = [crop(face, AUTO, side) for side in sides]
        return [one.synthetic for one in enhance(stub, *crops, embedder=embedder)]

    assert drawn("face@1") == [True, True, False]
    assert drawn("other@1") == [True, False, False]
    assert drawn("") == [True, False, False]
    assert drawn("third@1") == [False, False, False]


def test_auto_tells_grey_from_colour(stub: Stub) -> None:
    grey, colour = picture(112, 5, grey=True), picture(112, 5)
    made = enhance(
        stub, crop(grey, AUTO, 80), crop(colour, AUTO, 80), crop(grey, AUTO, 20), embedder="face@1"
    )
    assert [one.enhancer for one in made] == ["light@1", "", "negative@1"]


def test_each_crop_of_a_batch_gets_its_own_answer_in_its_place(stub: Stub) -> None:
    faces = [picture(112, seed, grey=seed % 2 == 1) for seed in range(6)]
    conditions = [LOW, NIR, AUTO, NIR, LOW, AUTO]
    made = enhance(
        stub, *(crop(f, c, 112) for f, c in zip(faces, conditions, strict=True)), embedder="face@1"
    )
    wanted = [
        255 - faces[0], 255 - equalised(faces[1]), faces[2],
        255 - equalised(faces[3]), 255 - faces[4], 255 - equalised(faces[5]),
    ]  # fmt: skip
    for one, right in zip(made, wanted, strict=True):
        assert np.array_equal(pixels_of(one), right)


def test_a_named_enhancer_is_the_only_one(stub: Stub) -> None:
    face = picture()
    made = enhance(stub, crop(face, LOW), enhancer="negative")
    assert made[0].enhancer == "negative@1"
    with pytest.raises(grpc.RpcError) as failed:
        enhance(stub, crop(face, LOW), enhancer="light@1")
    assert rich_error(failed.value).fields == ["crops[0].condition"]


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no crop": ({"crops": []}, "INVALID_REQUEST", "crops"),
    "too many": ({"crops": [crop(picture(8))] * 7}, "REQUEST_TOO_LARGE", "crops"),
    "too few bytes": (
        {"crops": [crop(picture(8)), enhancement_pb2.FaceCrop(pixels=b"x", side=8, condition=LOW)]},
        "INVALID_REQUEST",
        "crops[1].pixels",
    ),
    "too small": ({"crops": [crop(picture(5))]}, "INVALID_REQUEST", "crops[0].side"),
    "too large": ({"crops": [crop(picture(113))]}, "INVALID_REQUEST", "crops[0].side"),
    "more than it has": (
        {"crops": [crop(picture(20), LOW, 21)]}, "INVALID_REQUEST", "crops[0].native_side"
    ),
    "no number": (
        {"crops": [crop(picture(20), LOW, float("nan"))]},
        "INVALID_REQUEST",
        "crops[0].native_side",
    ),
    "odd condition": (
        {"crops": [enhancement_pb2.FaceCrop(pixels=picture(8).tobytes(), side=8, condition=ODD)]},
        "INVALID_REQUEST",
        "crops[0].condition",
    ),
    "nobody mends it": (
        {"crops": [crop(picture(8), VISIBLE)]}, "ENHANCER_UNKNOWN", "crops[0].condition"
    ),
    "no such enhancer": (
        {"crops": [crop(picture(8))], "enhancer": "nobody"}, "ENHANCER_UNKNOWN", "enhancer"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_name_the_field_at_fault(stub: Stub, case: str) -> None:
    request, reason, field = BAD[case]
    with pytest.raises(grpc.RpcError) as failed:
        stub.Enhance(enhancement_pb2.EnhanceRequest(**request))
    told = rich_error(failed.value)
    assert (told.reason, told.fields) == (reason, [field])


class _Stuck:
    """An engine that answers when it is told to."""

    def __init__(self, inner: Enhancer) -> None:
        self._engine = inner.engine
        self.info = inner.engine.info
        self.entered, self.released = threading.Event(), threading.Event()
        self.released.set()

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        self.entered.set()
        if not self.released.wait(START_SECONDS):
            raise EngineError("it was never released")
        return self._engine.infer(inputs)

    def close(self) -> None:
        self._engine.close()


def test_a_full_queue_is_answered_at_once(home: Path) -> None:
    inner = loaded(home, "negative")[0]
    engine = _Stuck(inner)
    stuck = Enhancer(inner.card, engine)
    engine.entered.clear()
    engine.released.clear()
    try:
        with serving([stuck], max_batch=2, batch_rows=1, queue_rows=2) as (stub, _):
            request = enhancement_pb2.EnhanceRequest(crops=[crop(picture(20))])
            waiting = [stub.Enhance.future(request) for _ in range(inner.engine.info.streams + 1)]
            engine.entered.wait(START_SECONDS)
            waiting += [stub.Enhance.future(request) for _ in range(3)]
            with pytest.raises(grpc.RpcError) as failed:
                stub.Enhance(request, timeout=5)
            told = rich_error(failed.value)
            assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert told.retry_seconds is not None
            engine.released.set()
            assert waiting[0].result().crops[0].synthetic
    finally:
        engine.released.set()
