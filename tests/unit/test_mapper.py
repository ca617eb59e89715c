"""What is run as a map, what is not, and in which precision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.zoo import MapCard, UnknownModelError, Zoo, ZooError
from services.mapping import Mapper, load_mapper, probe_map
from services.runtime import EngineError, EngineOptions, Gate, load_engine
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.parity import LIMITS, STORED
from services.settings import EngineSettings
from tests.integration.mapping.tiny_mapping import SOURCE, TARGET, add_map, card_fields, end, units
from tests.tiny_networks import expected_mapped, write_map, write_network

ENGINES = ["openvino", "onnxruntime"]


def card_of(network: Path, **fields: Any) -> MapCard:
    return MapCard.model_validate(card_fields(network, **fields))


def mapper(network: Path, engine: str = "onnxruntime", **fields: Any) -> Mapper:
    return Mapper(
        card_of(network, **fields), load_engine(network, engine, EngineOptions(threads=1))
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_unit_vectors_and_confidences(tmp_path: Path, engine: str) -> None:
    given = units(9)
    rows = mapper(write_map(tmp_path / "map.onnx", SOURCE, TARGET), engine).map(given)
    made, trust = expected_mapped(given, TARGET)
    np.testing.assert_allclose([row.vector for row in rows], made, atol=1e-5)
    np.testing.assert_allclose([row.confidence for row in rows], trust, atol=1e-5)


def test_a_vector_is_mapped_the_same_alone_and_among_others(tmp_path: Path) -> None:
    one = mapper(write_map(tmp_path / "map.onnx", SOURCE, TARGET), "openvino")
    given = units(33)
    together = one.map(given)
    for index in (0, 17, 32):
        alone = one.map(given[index : index + 1])[0]
        np.testing.assert_allclose(alone.vector, together[index].vector, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_graph_that_gives_a_face_too_is_not_run(tmp_path: Path, engine: str) -> None:
    network = write_map(tmp_path / "map.onnx", SOURCE, TARGET, face=True)
    with pytest.raises(EngineError, match=r"nothing else; it gives .*image"):
        mapper(network, engine)


@pytest.mark.parametrize(
    ("graph", "fields", "told"),
    [
        ({"long": True}, {}, "length is not 1"),
        ({"dead": True}, {}, "length is not 1"),
        ({"sure": 9.0}, {}, "not from -1 to 1"),
        ({}, {"target": end("new", TARGET + 1, "b")}, r"target.dimension: .*says 11, .*gives 10"),
        ({}, {"source": end("old", SOURCE + 1, "a")}, r"source.dimension: .*says 9, .*takes 8"),
        ({}, {"tensors": {"mapped": "vectors"}}, "must give 'vectors'"),
        ({}, {"tensors": {"vector": "x"}}, "must take 'x'"),
    ],
)
def test_a_network_that_is_not_what_its_card_says(
    tmp_path: Path, graph: dict[str, Any], fields: dict[str, Any], told: str
) -> None:
    network = write_map(tmp_path / "map.onnx", SOURCE, TARGET, **graph)
    with pytest.raises(EngineError, match=told):
        mapper(network, **fields)


@pytest.mark.parametrize("wanted", ["auto", "bf16", "int8", "fp16"])
def test_maps_run_in_fp32_whatever_other_networks_run_in(tmp_path: Path, wanted: Any) -> None:
    add_map(tmp_path)
    settings = EngineSettings(preference="openvino", precision=wanted, threads=1)
    one = load_mapper(Zoo(tmp_path), "tiny-map", settings)
    assert one.engine.info.precision == "fp32"


def test_the_gate_of_stored_vectors_is_stricter_than_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STORED.cosine > max(limits.cosine for limits in LIMITS.values())
    assert STORED.number < min(limits.number for limits in LIMITS.values())
    network = write_map(tmp_path / "map.onnx", SOURCE, TARGET)
    right = OnnxRuntimeEngine.infer

    def astray(self: Any, inputs: Any) -> Any:
        """Off by 0.4 degrees: fp32's own limit is twice as wide."""
        made = right(self, inputs)
        if getattr(self, "_astray", False):
            turned = made["mapped"] + np.float32(0.007) * np.roll(made["mapped"], 1, axis=1)
            made["mapped"] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
        return made

    class Astray(OnnxRuntimeEngine):
        _astray = True

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", astray)
    monkeypatch.setattr("services.runtime.onnxruntime_engine.OnnxRuntimeEngine", Astray)
    options = EngineOptions(threads=1)
    load_engine(network, "onnxruntime", options, gate=Gate((0, 255), tmp_path / "a"))
    with pytest.raises(EngineError, match=r"cosine 0\.9999.* is below 0\.999999"):
        load_engine(network, "onnxruntime", options, gate=Gate((0, 255), tmp_path / "a", STORED))


# --- adding one -----------------------------------------------------------------------------------


class Offer:
    """A map and its card, to be added to an empty zoo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zoo = Zoo(folder / "home")
        self.released = self.zoo.maps()
        self.network = write_map(folder / "map.onnx", SOURCE, TARGET)

    def add(self, network: Path | None = None, **fields: Any) -> MapCard:
        card = self.folder / "card.json"
        card.write_text(json.dumps(card_fields(self.network, **fields)))
        return self.zoo.add_map(network or self.network, card, probe_map)

    def added(self) -> list[str]:
        """The newest of each map that is not released with Mien."""
        return [one.reference for one in self.zoo.maps() if one not in self.released]


@pytest.fixture
def offer(tmp_path: Path) -> Offer:
    return Offer(tmp_path)


def test_an_added_map_is_found_by_its_name_from_then_on(offer: Offer) -> None:
    added = offer.add()
    offer.network.unlink()
    card = Zoo(offer.folder / "home").map("tiny-map")
    assert card == added
    assert offer.zoo.weights(card).name == "model.onnx"
    assert offer.added() == ["tiny-map@1"]
    probe_map(card, offer.zoo.weights(card))


def test_a_map_is_no_embedder_and_an_embedder_no_map(offer: Offer) -> None:
    offer.add()
    with pytest.raises(UnknownModelError, match="tiny-map@1 is a map, not an embedder"):
        offer.zoo.embedder("tiny-map")
    with pytest.raises(UnknownModelError, match="sface@1 is an embedder, not a map"):
        offer.zoo.map("sface")


def test_the_card_of_another_map_is_refused(offer: Offer) -> None:
    other = write_map(offer.folder / "other.onnx", SOURCE, TARGET, sure=0.5)
    with pytest.raises(ZooError, match=r"weights.sha256: card.json is not the card of other.onnx"):
        offer.add(other)
    assert offer.added() == []


@pytest.mark.parametrize("place", ["source", "target"])
@pytest.mark.parametrize("field", ["weights_sha256", "preprocessing_sha256", "dimension"])
def test_an_end_that_is_another_model_here_is_refused(offer: Offer, place: str, field: str) -> None:
    sface = offer.zoo.embedder("sface")
    true = {
        "name": "sface", "version": "1", "weights_sha256": sface.weights.sha256,
        "preprocessing_sha256": sface.preprocessing_sha256, "dimension": sface.output.dimension,
    }  # fmt: skip
    false: Any = {**true, field: 9 if field == "dimension" else "e" * 64}
    with pytest.raises(ZooError, match=rf"{place}.{field}: sface@1 is another model here"):
        offer.add(None, **{place: false})


def test_an_end_that_is_no_embedder_is_refused(offer: Offer) -> None:
    with pytest.raises(ZooError, match="source: yunet@2023mar is a detector"):
        offer.add(source={**end("yunet", SOURCE, "a"), "version": "2023mar"})


def test_a_map_that_does_not_do_what_its_card_says_is_not_kept(offer: Offer) -> None:
    with pytest.raises(ZooError, match=r"target\.dimension"):
        offer.add(target=end("new", TARGET + 1, "b"))
    face = write_map(offer.folder / "map.onnx", SOURCE, TARGET, face=True)
    with pytest.raises(ZooError, match="nothing else"):
        offer.add(face)
    assert offer.added() == []


def test_an_embedders_network_is_no_map(offer: Offer) -> None:
    write_network(offer.network)
    with pytest.raises(ZooError, match="must give 'mapped' and 'confidence'"):
        offer.add()


def test_the_newest_version_of_each_map_is_what_is_served(offer: Offer) -> None:
    for version in ("2", "10", "9"):
        offer.add(version=version)
    offer.add(name="another-map")
    found = offer.added()
    assert found == ["another-map@1", "tiny-map@10"]


def test_a_name_and_version_are_not_given_to_another_map(offer: Offer) -> None:
    first = offer.add()
    write_map(offer.network, SOURCE, TARGET, sure=0.5)
    with pytest.raises(ZooError, match="tiny-map@1 is taken by other weights"):
        offer.add()
    assert offer.zoo.map("tiny-map") == first
    with pytest.raises(ZooError, match="sface is the name of an embedder"):
        offer.add(name="sface", version="7")


def test_weights_of_a_map_that_were_swapped_are_not_served(offer: Offer) -> None:
    card = offer.add()
    write_map(offer.zoo.weights(card), SOURCE, TARGET, sure=0.5)
    with pytest.raises(ZooError, match="SHA-256 differs"):
        load_mapper(offer.zoo, "tiny-map", EngineSettings(preference="openvino"))
