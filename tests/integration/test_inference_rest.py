"""The Open Inference Protocol over REST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.integration.inference_server import (
    DIMENSION,
    MAX_BODY,
    MIRRORED,
    Server,
    random_batch,
    tiny_server,
)
from tests.tiny_networks import SIDE, expected

_ANYTHING = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None))
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)
_PLACES = (
    ("id",),
    ("parameters",),
    ("parameters", "binary_data_output"),
    ("inputs",),
    ("inputs", 0),
    ("inputs", 0, "name"),
    ("inputs", 0, "datatype"),
    ("inputs", 0, "shape"),
    ("inputs", 0, "shape", 0),
    ("inputs", 0, "data"),
    ("inputs", 0, "data", 0),
    ("inputs", 0, "parameters"),
    ("outputs",),
    ("outputs", 0),
    ("outputs", 0, "name"),
    ("outputs", 0, "parameters"),
    ("outputs", 0, "parameters", "binary_data"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tiny_server(tmp_path_factory.mktemp("tiny")) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http, trust_env=False) as client:
        yield client


def _json_request(batch: NDArray[np.float32]) -> dict[str, Any]:
    data = batch.ravel().tolist()
    return {"inputs": [{"name": "data", "datatype": "FP32", "shape": [*batch.shape], "data": data}]}


class TestRest:
    def test_health_and_metadata(self, http: httpx.Client) -> None:
        assert http.get("/v2/health/live").status_code == 200
        assert http.get("/v2/health/ready").status_code == 503  # one model is loading
        assert http.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        assert http.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
        assert http.get("/v2/models/loading/ready").status_code == 503
        metadata = http.get("/v2/models/tiny/versions/3").json()
        assert metadata["versions"] == ["3"]
        assert metadata["inputs"] == [
            {"name": "data", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}
        ]
        assert metadata["outputs"] == [
            {"name": "embedding", "datatype": "FP32", "shape": [-1, DIMENSION]}
        ]

    @pytest.mark.parametrize("path", ["/v2/models/tiny/infer", "/v2/models/tiny/versions/3/infer"])
    def test_json_in_json_out(self, http: httpx.Client, path: str) -> None:
        batch = random_batch(2)
        answer = http.post(path, json=_json_request(batch) | {"id": "mine"})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", "3", "mine")
        output = body["outputs"][0]
        assert (output["datatype"], output["shape"]) == ("FP32", [2, DIMENSION])
        got = np.array(output["data"]).reshape(2, DIMENSION)
        np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)

    def test_nested_lists_are_taken(self, http: httpx.Client) -> None:
        request = _json_request(random_batch(1))
        request["inputs"][0]["data"] = random_batch(1).tolist()
        assert http.post("/v2/models/tiny/infer", json=request).status_code == 200

    def test_bytes_behind_the_json(self, http: httpx.Client) -> None:
        batch = random_batch(3)
        answer = _post_binary(http, batch)
        assert answer.status_code == 200, answer.text
        length = int(answer.headers["inference-header-content-length"])
        output = json.loads(answer.content[:length])["outputs"][0]
        assert output["parameters"] == {"binary_data_size": 3 * DIMENSION * 4}
        got = np.frombuffer(answer.content[length:], "<f4").reshape(output["shape"])
        np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)

    def test_every_datatype_as_json(self, http: httpx.Client) -> None:
        inputs = [
            {"name": f"in_{name}", "datatype": name, "shape": [1, 3], "data": _listed(array)}
            for name, array in MIRRORED.items()
        ]
        answer = http.post("/v2/models/mirror/infer", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text
        for output, array in zip(answer.json()["outputs"], MIRRORED.values(), strict=True):
            assert output["data"] == _listed(array), output["name"]

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"name": "image"}, 400, "inputs[0].name"),
            ({"name": 7}, 400, "inputs[0].name"),
            ({"datatype": "FP64"}, 400, "inputs[0].datatype"),
            ({"shape": [1, 2]}, 400, "inputs[0].shape"),
            ({"shape": "big"}, 400, "inputs[0].shape"),
            ({"shape": [17, 3, SIDE, SIDE]}, 413, "at most 16 rows"),
            ({"data": [1, 2]}, 400, "2 were given"),
            ({"data": ["a"] * 768}, 400, "not of the datatype FP32"),
            ({"data": [[1, 2], [3]]}, 400, "inputs[0].data"),
            ({"data": None}, 400, "as a list"),
            ({"parameters": {"binary_data_size": 5}}, 400, "binary_data_size"),
            ({"parameters": {"shared_memory_region": "x"}}, 400, "does not have that extension"),
            ({"parameters": []}, 400, "inputs[0].parameters"),
        ],
    )
    def test_wrong_inputs_say_what_is_wrong(
        self, http: httpx.Client, change: dict[str, Any], status: int, words: str
    ) -> None:
        request = _json_request(random_batch(1))
        request["inputs"][0].update(change)
        answer = http.post("/v2/models/tiny/infer", json=request)
        assert answer.status_code == status
        assert words in answer.json()["error"]

    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            (b"{", {}, 400),
            (b"[]", {}, 400),
            (b"[" * 100_000, {}, 400),
            (b"{}", {}, 400),
            (b'{"inputs": [3]}', {}, 400),
            (b"{}", {"inference-header-content-length": "99"}, 400),
            (b"{}", {"inference-header-content-length": "-1"}, 400),
            (b"{}", {"content-encoding": "gzip"}, 415),
            (b" " * (MAX_BODY + 1), {}, 413),
        ],
        ids=["cut", "list", "deep", "empty", "number", "beyond", "negative", "gzip", "large"],
    )
    def test_wrong_bodies_are_refused(
        self, http: httpx.Client, body: bytes, headers: dict[str, str], status: int
    ) -> None:
        answer = http.post("/v2/models/tiny/infer", content=body, headers=headers)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}

    @pytest.mark.parametrize(
        ("value", "datatype"), [(300, "UINT8"), (-1, "UINT64"), (1.5, "INT32"), (1, "BOOL")]
    )
    def test_numbers_that_do_not_fit_are_not_bent(
        self, http: httpx.Client, value: float, datatype: str
    ) -> None:
        inputs = [
            {
                "name": f"in_{name}",
                "datatype": name,
                "shape": [1, 3],
                "data": [value] * 3 if name == datatype else _listed(array),
            }
            for name, array in MIRRORED.items()
        ]
        answer = http.post("/v2/models/mirror/infer", json={"inputs": inputs})
        assert answer.status_code == 400
        assert datatype in answer.json()["error"]

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_no_request_is_answered_with_500(self, server: Server, data: st.DataObject) -> None:
        request: dict[str, Any] = {
            "id": "7",
            "parameters": {"binary_data_output": False},
            "inputs": [
                {"name": "data", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE], "data": [0] * 768}
            ],
            "outputs": [{"name": "embedding", "parameters": {"binary_data": False}}],
        }
        place: Any = request
        path = data.draw(st.sampled_from(_PLACES))
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = data.draw(_ANYTHING)
        with httpx.Client(base_url=server.http, trust_env=False) as client:
            answer = client.post("/v2/models/tiny/infer", content=json.dumps(request))
        assert answer.status_code in {200, 400, 413}, answer.text
        assert answer.status_code == 200 or set(answer.json()) == {"error"}

    def test_bytes_that_belong_to_no_tensor_are_refused(self, http: httpx.Client) -> None:
        answer = _post_binary(http, random_batch(1), tail=b"more")
        assert answer.status_code == 400
        assert "4 bytes" in answer.json()["error"]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v2/models/nobody", 404),
            ("GET", "/v2/models/tiny/versions/9", 404),
            ("GET", "/v2/nothing", 404),
            ("GET", "/v2/models/tiny/infer", 405),
        ],
    )
    def test_wrong_addresses(self, http: httpx.Client, method: str, path: str, status: int) -> None:
        answer = http.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}

    def test_overload_is_told_with_a_delay(self, http: httpx.Client) -> None:
        inputs = [{"name": "data", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]
        answer = http.post("/v2/models/busy/infer", json={"inputs": inputs})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "2"

    def test_a_crash_keeps_its_text(self, http: httpx.Client) -> None:
        inputs = [{"name": "data", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]
        answer = http.post("/v2/models/broken/infer", json={"inputs": inputs})
        assert answer.status_code == 500
        assert "secret" not in answer.text


def _listed(array: NDArray[Any]) -> list[Any]:
    return [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]


def _post_binary(
    http: httpx.Client, batch: NDArray[np.float32], tail: bytes = b""
) -> httpx.Response:
    header = {
        "inputs": [
            {
                "name": "data",
                "datatype": "FP32",
                "shape": list(batch.shape),
                "parameters": {"binary_data_size": batch.nbytes},
            }
        ],
        "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
    }
    # The length of the JSON is made odd, so that the floats behind it are not aligned.
    text = json.dumps(header).encode()
    text += b" " * (1 - len(text) % 2)
    return http.post(
        "/v2/models/tiny/infer",
        content=text + batch.tobytes() + tail,
        headers={"inference-header-content-length": str(len(text))},
    )
