"""Pictures that were seen before: answered alike, without the work, and deletion reaches them."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.zoo import Zoo
from services.evaluation.alteration import shrink
from services.settings import Settings
from tests.integration.harness import mien_in_thread, settings_on_free_ports
from tests.integration.pictures import faceless
from tests.integration.redis_server import RedisServer, skip_without_redis
from tests.integration.rest import files, problem
from tests.integration.subjects.people import pictures
from tests.integration.tiny_enhancement import add_enhancer, gate

_WORK = {"decode", "detect", "measure", "inference"}
_FRESH = ("timing_ms", "request_id")


@dataclass(frozen=True)
class Keeping:
    """A Mien that keeps what it sees for a minute, and the Redis where it lies."""

    redis: RedisServer
    api: httpx.Client

    def entries(self) -> int:
        with self.redis.client() as client:
            return len(client.keys("mien:face:*"))


@pytest.fixture(scope="module")
def mien_that_keeps(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    skip_without_redis()
    home = tmp_path_factory.mktemp("keeping")
    for part in ("weights", "engines"):
        if (mien_home / part).exists():
            (home / part).symlink_to(mien_home / part)
    card = Zoo(mien_home).embedder("poseface")
    add_enhancer(home, gates=[gate(card.reference, card.weights.sha256, 40, at_0_001=0.777)])
    with RedisServer() as server:
        plain = dict(settings_on_free_ports(home))
        key = base64.b64encode(bytes(range(32))).decode()
        settings = Settings.model_validate(
            {
                **plain,
                "enhancement": {"models": ("negative",)},
                "gallery": {"uri": plain["gallery"].uri, "master_key": key},
                "redis": {"url": server.url, "retry_seconds": 0.2},
                "cache": {"seconds": 60},
            }
        )
        with mien_in_thread(settings) as mien, mien.client() as api:
            yield Keeping(server, api)


@pytest.fixture
def keeping(mien_that_keeps: Keeping) -> Keeping:
    """The same for a tenant that nobody else uses."""
    mien_that_keeps.api.headers["x-mien-tenant"] = f"tenant-{uuid.uuid4().hex[:12]}"
    return mien_that_keeps


def answered(response: httpx.Response) -> tuple[dict[str, Any], set[str]]:
    """The answer without what is new in each, and the stages that took time."""
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    stages = set(told["timing_ms"])
    return {name: value for name, value in told.items() if name not in _FRESH}, stages


def test_a_verification_is_answered_alike_from_the_cache(
    keeping: Keeping, obama: bytes, obama2: bytes, biden: bytes, both: bytes
) -> None:
    small = shrink(obama2, 56)
    sent = files(probe=small) + [
        ("reference", (f"{n}.jpg", one)) for n, one in enumerate((obama, biden, both, faceless()))
    ]
    first, worked = answered(keeping.api.post("/v1/verify", files=sent))
    again, looked_up = answered(keeping.api.post("/v1/verify", files=sent))
    assert again == first
    assert first["probe"]["enhancement"]["status"] == "applied"
    assert first["results"][0]["threshold"] == 0.777
    assert first["results"][3]["reasons"] == ["no_face_in_reference"]
    assert worked >= {*_WORK, "cache"}
    assert not looked_up & _WORK
    assert "cache" in looked_up


def test_only_what_is_new_is_worked_on(
    keeping: Keeping, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    alone, _ = answered(keeping.api.post("/v1/verify", files=files(probe=obama, reference=biden)))
    mixed, stages = answered(
        keeping.api.post("/v1/verify", files=files(probe=obama, reference=obama2))
    )
    assert mixed["probe"] == alone["probe"]
    assert mixed["results"][0]["decision"] == "same"
    assert stages >= _WORK


def test_another_choice_model_or_option_is_another_question(
    keeping: Keeping, obama: bytes, both: bytes
) -> None:
    sent = files(probe=both, reference=obama)
    indexes = []
    for fields in ({}, {"face": "index", "probe_index": "1"}, {"enhance": "false"}):
        told, stages = answered(keeping.api.post("/v1/verify", files=sent, data=fields))
        indexes.append(told["probe"]["face_index"])
        assert stages >= _WORK, fields
    assert indexes == [0, 1, 0]


def test_the_enhanced_face_is_shown_all_the_same(keeping: Keeping, obama2: bytes) -> None:
    sent = files(probe=shrink(obama2, 56), reference=obama2)
    keeping.api.post("/v1/verify", files=sent)
    told, _ = answered(keeping.api.post("/v1/verify", files=sent, data={"include": "enhanced"}))
    assert told["probe"]["enhancement"]["image"]


def test_no_tenant_gains_by_what_another_has_sent(keeping: Keeping, obama: bytes) -> None:
    sent = files(probe=obama, reference=obama)
    answered(keeping.api.post("/v1/verify", files=sent))
    keeping.api.headers["x-mien-tenant"] += "-2"
    assert answered(keeping.api.post("/v1/verify", files=sent))[1] >= _WORK


def test_identification_and_verification_of_a_subject_are_answered_alike(
    keeping: Keeping, obama: bytes, obama2: bytes, both: bytes
) -> None:
    api, before = keeping.api, keeping.entries()
    enrolled = api.post("/v1/subjects/s/templates", files=pictures(obama))
    assert enrolled.status_code == 201, enrolled.text
    assert keeping.entries() == before  # what is enrolled is not kept
    for path, sent in (
        ("/v1/identify", pictures(both, obama2, faceless())),
        ("/v1/subjects/s/verify", pictures(obama2)),
    ):
        first, worked = answered(api.post(path, files=sent))
        again, looked_up = answered(api.post(path, files=sent))
        assert again == first, path
        assert worked >= _WORK, path
        assert not looked_up & _WORK, path


def test_a_deletion_takes_what_was_seen_with_it_and_proves_it(
    keeping: Keeping, obama: bytes, obama2: bytes
) -> None:
    api = keeping.api
    api.post("/v1/subjects/s/templates", files=pictures(obama))
    before = keeping.entries()
    answered(api.post("/v1/identify", files=pictures(obama2)))
    assert keeping.entries() == before + 1
    report = api.delete("/v1/subjects/s").json()
    assert report["verified"]
    assert report["remaining"]["cache"] == 0
    assert keeping.entries() == before
    assert answered(api.post("/v1/verify", files=files(probe=obama2, reference=obama)))[1] >= _WORK


def test_a_deletion_without_redis_says_that_it_could_not_look(
    keeping: Keeping, obama: bytes
) -> None:
    api = keeping.api
    api.post("/v1/subjects/s/templates", files=pictures(obama))
    sent = files(probe=obama, reference=obama)
    answered(api.post("/v1/verify", files=sent))
    keeping.redis.freeze()
    try:
        report = api.delete("/v1/subjects/s").json()
        assert not report["verified"]
        assert report["remaining"]["cache"] == 1
        assert sum(report["remaining"].values()) == 1
        problem(api.get("/v1/subjects/s"), "subject_unknown")
        assert api.get("/healthz/ready").status_code == 200
        assert answered(api.post("/v1/verify", files=sent))[1] >= _WORK
    finally:
        keeping.redis.thaw()
