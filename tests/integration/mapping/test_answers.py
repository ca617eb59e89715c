"""Batches of vectors: what comes back, and what is refused."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.rpc.mien.v1 import mapping_pb2
from tests.integration.harness import rich_error
from tests.integration.mapping.asking import MAPPED, MAX_BATCH, WRONG, Stub, bad, set_to
from tests.integration.mapping.tiny_mapping import (
    SOURCE,
    TARGET,
    add_map,
    loaded,
    request,
    serving,
    source,
    stub_of,
    units,
    vectors_of,
)
from tests.tiny_networks import expected_mapped


def test_vectors_come_back_in_the_other_models_space_with_their_identity(stub: Stub) -> None:
    given = units(5)
    answer = stub.Map(request(given))
    made, trust = expected_mapped(given, TARGET)
    np.testing.assert_allclose(vectors_of(answer), made, atol=1e-5)
    np.testing.assert_allclose(answer.confidences, trust, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors_of(answer), axis=1), 1, atol=1e-5)
    told = answer.identity
    assert (told.name, told.version, told.weights_sha256) == ("new", "1", "b" * 64)
    assert told.preprocessing_sha256 == "b" * 64
    assert (told.origin, told.map) == (MAPPED, "tiny-map@1")
    assert len(answer.map_sha256) == 64
    assert answer.inference_ms > 0


def test_the_list_says_from_where_to_where_and_when_two_vectors_match(stub: Stub) -> None:
    answer = stub.ListMaps(mapping_pb2.ListMapsRequest())
    assert [one.name for one in answer.maps] == ["far-map", "other-map", "tiny-map"]
    assert answer.max_batch == MAX_BATCH
    tiny = answer.maps[2]
    assert tiny.source == source()
    assert (tiny.target.name, tiny.target.origin, tiny.target.map) == ("new", MAPPED, "tiny-map@1")
    assert (tiny.source_dimension, tiny.target_dimension) == (SOURCE, TARGET)
    found = [
        (one.comparison, one.threshold.fmr, one.threshold.similarity) for one in tiny.thresholds
    ]
    assert found == [
        (mapping_pb2.COMPARISON_MAPPED_TO_NATIVE, 1e-2, 0.3),
        (mapping_pb2.COMPARISON_MAPPED_TO_NATIVE, 1e-3, 0.5),
        (mapping_pb2.COMPARISON_NATIVE_TO_MAPPED, 1e-3, 0.4),
    ]
    assert tiny.confidence_gap == pytest.approx(0.02)
    assert not answer.maps[0].HasField("confidence_gap")
    assert (tiny.precision, tiny.licence) == ("fp32", "CC0-1.0")


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        ({"map": "tiny-map@1"}, "tiny-map@1"),
        ({"map": "", "target": "newest"}, "far-map@1"),
        ({"map": "", "target": "newest@1"}, "far-map@1"),
        ({"map": "", "target": "new"}, "tiny-map@1"),
        ({"map": "tiny-map", "target": "new"}, "tiny-map@1"),
    ],
)
def test_a_map_is_found_by_its_name_or_by_where_it_leads(
    stub: Stub, asked: dict[str, Any], used: str
) -> None:
    assert stub.Map(request(units(1), **asked)).identity.map == used


def test_of_several_versions_the_newest_is_meant_and_others_are_named(tmp_path: Path) -> None:
    for version in ("9", "10"):
        add_map(tmp_path, version=version)
    with serving(loaded(tmp_path, "tiny-map@9", "tiny-map@10")) as server, stub_of(server) as stub:
        assert stub.Map(request(units(1))).identity.map == "tiny-map@10"
        assert stub.Map(request(units(1), map="tiny-map@9")).identity.map == "tiny-map@9"
        with pytest.raises(grpc.RpcError) as failed:
            stub.Map(request(units(1), map="", target="new"))
        told = rich_error(failed.value)
        assert (told.reason, told.fields) == ("INVALID_REQUEST", ["map"])


STATUSES = {
    WRONG: grpc.StatusCode.FAILED_PRECONDITION,
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another model": ({"source": source(name="older")}, WRONG, "source.name"),
    "another version": ({"source": source(version="2")}, WRONG, "source.version"),
    "other weights": ({"source": source(weights_sha256="c" * 64)}, WRONG, "source.weights_sha256"),
    "other preprocessing": (
        {"source": source(preprocessing_sha256="c" * 64)}, WRONG, "source.preprocessing_sha256"
    ),
    "mapped already": ({"source": source(origin=MAPPED, map="x@1")}, WRONG, "source.origin"),
    "mapped, it says not how": ({"source": source(origin=MAPPED)}, WRONG, "source.origin"),
    "mapped, though called native": ({"source": source(map="x@1")}, WRONG, "source.origin"),
    "origin not said": ({"source": source(origin=0)}, WRONG, "source.origin"),
    "no identity": ({"source": None}, WRONG, "source.origin"),
    "the target's own vectors": (
        {"source": source(name="new", weights_sha256="b" * 64)}, WRONG, "source.name"
    ),
    "a byte short": ({"vectors": [units(1)[0].tobytes()[:-1]]}, "INVALID_REQUEST", "vectors[0]"),
    "another dimension": (
        {"vectors": [units(1)[0].tobytes(), units(1, 9)[0].tobytes()]},
        "INVALID_REQUEST",
        "vectors[1]",
    ),
    "too long": ({"vectors": bad(1, lambda row: row * 1.002)}, "INVALID_REQUEST", "vectors[1]"),
    "too short": ({"vectors": bad(2, lambda row: row * 0.998)}, "INVALID_REQUEST", "vectors[2]"),
    "nothing": ({"vectors": bad(0, lambda row: row * 0)}, "INVALID_REQUEST", "vectors[0]"),
    "no number": ({"vectors": bad(1, set_to(float("nan")))}, "INVALID_REQUEST", "vectors[1]"),
    "infinite": ({"vectors": bad(2, set_to(float("-inf")))}, "INVALID_REQUEST", "vectors[2]"),
    "huge": ({"vectors": bad(0, set_to(3e38))}, "INVALID_REQUEST", "vectors[0]"),
    "no vector": ({"vectors": []}, "INVALID_REQUEST", "vectors"),
    "too many": ({"vectors": units(MAX_BATCH + 1)}, "REQUEST_TOO_LARGE", "vectors"),
    "no such map": ({"map": "unheard"}, "MODEL_UNKNOWN", "map"),
    "no such version": ({"map": "tiny-map@9"}, "MODEL_UNKNOWN", "map"),
    "nothing leads there": ({"map": "", "target": "unheard"}, "MODEL_UNKNOWN", "target"),
    "it leads elsewhere": ({"target": "newest"}, "MODEL_UNKNOWN", "target"),
    "neither map nor target": ({"map": ""}, "INVALID_REQUEST", "map"),
    "none there takes these": (
        {"map": "", "target": "new", "source": source(name="oldest")}, WRONG, "source.name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_the_field_at_fault(stub: Stub, case: str) -> None:
    changes, reason, field = REFUSED[case]
    with pytest.raises(grpc.RpcError) as failed:
        stub.Map(request(**({"vectors": units(2)} | changes)))
    told = rich_error(failed.value)
    assert (told.reason, told.fields) == (reason, [field])
    if reason in STATUSES:
        assert told.code is STATUSES[reason]


def test_vectors_that_were_kept_in_half_precision_are_taken(stub: Stub) -> None:
    given = units(MAX_BATCH).astype(np.float16).astype(np.float32)
    assert np.abs(np.linalg.norm(given, axis=1) - 1).max() > 1e-5
    made, _ = expected_mapped(given, TARGET)
    np.testing.assert_allclose(vectors_of(stub.Map(request(given))), made, atol=1e-5)
