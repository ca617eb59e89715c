"""What callers see while the gallery is shut, migrates, lives by another model, or is busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from models.zoo import Zoo
from services.gallery import Enrolment, NewTemplate, Template
from services.gallery.open import open_gallery
from services.gallery.spaces import space_of_card
from services.gateway.core import PictureInput
from services.gateway.enrol_command import EnrolCommand
from services.local import local_mien
from services.rpc.mien.v1 import gallery_pb2, model_pb2
from services.settings import Settings
from tests.integration.harness import (
    Mien,
    call,
    mien_in_thread,
    settings_on_free_ports,
    weightless_loader,
)
from tests.integration.rest import problem
from tests.integration.subjects.people import axis, enrolled, identified, pictures


@pytest.fixture
def settings(mien_home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a Mien without weights."""
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    return settings_on_free_ports(mien_home)


def serving(settings: Settings, *models: str) -> Settings:
    embedding = settings.embedding.model_copy(update={"models": models})
    return settings.model_copy(update={"embedding": embedding})


def test_during_a_migration_both_versions_get_a_native_template(
    settings: Settings, obama: bytes
) -> None:
    zoo = Zoo(settings.home)
    live, target = (space_of_card(zoo.embedder(name)) for name in ("poseface", "sface"))

    async def begin() -> None:
        gallery = await open_gallery(settings)
        try:
            for space in (live, target):
                await gallery.create_collection(space)
            enrolment = Enrolment("s", [NewTemplate(live, axis(1), "t-1")])
            await gallery.enrol("default", [enrolment])
            mapped = Template("default", "s", "t-1", target, axis(2), map="a-to-b@1")
            await gallery.write(target, [mapped])
        finally:
            await gallery.close()

    call(begin())
    with mien_in_thread(serving(settings, "sface", "poseface")) as mien, mien.client() as api:
        answer = api.post("/v1/subjects/s/templates", files=pictures(obama)).json()
        assert (answer["outcome"], answer["model"]["name"]) == ("enrolled", "poseface")
        assert len(answer["template_ids"]) == 2
        shown = api.get("/v1/subjects/s").json()["templates"]
        told = {(one["model"]["name"], one["model"]["origin"], one["live"]) for one in shown}
        assert told == {("poseface", "native", True), ("sface", "native", False)}
        assert [one["model"]["name"] for one in shown].count("sface") == 1  # the mapped one is gone
        found = api.post("/v1/identify", files=pictures(obama)).json()
        assert found["model"]["name"] == "poseface"


async def test_an_enrolment_survives_a_switch_and_a_dropped_collection(
    settings: Settings, obama: bytes
) -> None:
    zoo = Zoo(settings.home)
    before, after = (space_of_card(zoo.embedder(name)) for name in ("poseface", "sface"))
    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            "services.local.load_configured", weightless_loader()
        )
        mien = await stack.enter_async_context(local_mien(settings, ("poseface", "sface")))
        gallery = await mien.gallery.access.gallery()
        for space in (before, after):
            await gallery.create_collection(space)

        async def enrol(subject: str) -> model_pb2.ModelIdentity:
            command = EnrolCommand(subject, (PictureInput(obama),), allow_duplicate=True)
            return (await mien.gallery.enroller.enrol("default", command)).identity

        assert (await enrol("s-1")).name == "poseface"
        await gallery.switch(after)
        await gallery.drop_collection(before)
        assert (await enrol("s-2")).name == "sface"
        templates = await gallery.templates("default", "s-2")
        assert [one.space for one in templates] == [after]


def test_a_gallery_of_a_model_that_is_not_served_says_so(settings: Settings, obama: bytes) -> None:
    space = space_of_card(Zoo(settings.home).embedder("sface"))

    async def begin() -> None:
        gallery = await open_gallery(settings)
        await gallery.create_collection(space)
        await gallery.close()

    call(begin())
    with mien_in_thread(serving(settings, "poseface")) as mien, mien.client() as api:
        for path in ("/v1/subjects/s/templates", "/v1/identify"):
            told = problem(api.post(path, files=pictures(obama)), "gallery_model_unavailable")
            assert "sface@1" in told["detail"]
        assert api.get("/v1/subjects").status_code == 200


def test_verification_does_without_the_gallery(settings: Settings, obama: bytes) -> None:
    held = call(open_gallery(settings))
    try:
        with mien_in_thread(settings) as mien, mien.client() as api:
            given = {"probe": obama, "reference": obama}
            assert api.post("/v1/verify", files=given).json()["decision"] == "same"
            problem(api.get("/v1/subjects"), "gallery_unavailable")
            problem(api.post("/v1/identify", files=pictures(obama)), "gallery_unavailable")
            assert "mien_gallery_templates" in api.get("/metrics").text
            call(held.close())
            deadline = time.monotonic() + 20
            while (again := api.get("/v1/subjects")).status_code != 200:
                assert time.monotonic() < deadline, again.text
                time.sleep(0.2)
            assert api.post("/v1/subjects", json={"id": "s"}).status_code == 201
    finally:
        call(held.close())


def test_a_full_house_answers_at_once_and_takes_the_next_later(settings: Settings) -> None:
    narrow = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"max_in_flight": 1})}
    )
    with mien_in_thread(narrow) as mien, mien.client() as api, mien.gallery() as stub:
        identity = api.get("/v1/models").json()["models"][0]["identity"]
        enrolled(api, "s", axis(1), identity)
        released = threading.Event()
        answers = stub.BulkEnrol(_one_row_until(released), timeout=60)
        assert next(answers).error.code == "invalid_request"  # so the stream has the only place
        busy = api.post("/v1/identify", files=pictures(b"never read"))
        assert problem(busy, "overloaded")["retry_after"] == 1.0
        problem(api.post("/v1/subjects/s/verify", files=pictures(b"x")), "overloaded")
        problem(api.post("/v1/enrolments", content=b"{}"), "overloaded")
        assert api.get("/v1/subjects").status_code == 200
        released.set()
        assert list(answers) == []
        assert identified(api, axis(1), identity)["decision"] == "known"


def test_a_caller_who_leaves_a_stream_gives_its_place_back(settings: Settings) -> None:
    narrow = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"max_in_flight": 1})}
    )
    with mien_in_thread(narrow) as mien, mien.client() as api, mien.gallery() as stub:
        identity = api.get("/v1/models").json()["models"][0]["identity"]
        enrolled(api, "s", axis(1), identity)
        never = threading.Event()
        answers = stub.BulkEnrol(_one_row_until(never), timeout=60)
        next(answers)
        answers.cancel()
        _until_free(mien)
        never.set()
        assert identified(api, axis(1), identity)["decision"] == "known"


def _one_row_until(released: threading.Event) -> Iterator[gallery_pb2.BulkEnrolRequest]:
    row = gallery_pb2.EnrolRequest(subject_id="s")
    yield gallery_pb2.BulkEnrolRequest(enrolment=row)
    released.wait(60)


def _until_free(mien: Mien) -> None:
    deadline = time.monotonic() + 20
    with mien.client() as api:
        while api.post("/v1/identify", files=pictures(b"x")).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)
