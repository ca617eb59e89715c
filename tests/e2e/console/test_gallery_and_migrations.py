"""The console's gallery and migrations in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from services.settings import Settings
from tests.e2e.console.driving import give, open_page
from tests.integration.harness import Mien, call, mien_in_thread, weightless_loader
from tests.integration.migration.migrating import migrating, settings_of
from tests.integration.rest import problem

_TEMPLATES = 300


def test_a_person_is_enrolled_known_and_deleted_with_the_proof_shown(
    page: Page, mien: Mien, obama: bytes, obama2: bytes
) -> None:
    open_page(page, mien, "gallery")
    give(page, "Picture to enrol", obama)
    page.get_by_label("Subject's id").fill("seen-in-console")
    page.get_by_role("button", name="Enrol", exact=True).click()
    expect(page.locator("#enrol-status")).to_contain_text("Enrolled: seen-in-console")

    give(page, "Picture to identify", obama2)
    identify = page.get_by_role("button", name="Identify", exact=True)
    identify.click()
    result = page.locator("#identify-result")
    expect(result).to_contain_text("✓ Known: seen-in-console")
    expect(result.get_by_role("row", name=re.compile("seen-in-console .* yes"))).to_be_visible()

    page.get_by_role("button", name="Show seen-in-console").click()
    expect(page.get_by_role("heading", name="Subject seen-in-console")).to_be_focused()
    expect(page.get_by_role("row", name="poseface@1")).to_be_visible()
    delete = page.get_by_role("button", name="Delete seen-in-console")
    delete.click()
    asked = page.get_by_role("dialog", name="Delete seen-in-console?")
    expect(asked.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(asked).to_be_hidden()
    with mien.client() as client:
        assert client.get("/v1/subjects/seen-in-console").status_code == httpx.codes.OK
    delete.first.click()
    asked.get_by_role("button", name="Delete seen-in-console").click()
    expect(page.get_by_role("heading", name="Proof of deletion")).to_be_visible()
    expect(page.get_by_role("row", name="Second look")).to_contain_text("found nothing")
    expect(page.get_by_role("button", name="Show seen-in-console")).to_have_count(0)
    with mien.client() as client:
        problem(client.get("/v1/subjects/seen-in-console"), "subject_unknown")
    identify.click()
    expect(result).to_contain_text("✗ Unknown")


def test_subjects_are_paged_and_a_name_is_shown_as_text(page: Page, mien: Mien) -> None:
    name = "<img src=x onerror=alert(1)>"
    ids = [f"console-{number:02}" for number in range(23)]
    with mien.client() as client:
        for one in ids:
            client.post("/v1/subjects", json={"id": one, "name": name})
        open_page(page, mien, "gallery")
        shown = page.get_by_role("row", name=re.compile("console-"))
        expect(shown.first).to_contain_text(name)
        first = page.locator("#gallery-subjects tbody tr")
        expect(first).to_have_count(20)
        page.get_by_role("button", name="Next page").click()
        expect(page.get_by_role("button", name="Show console-22")).to_be_visible()
        page.get_by_role("button", name="First page").click()
        expect(first).to_have_count(20)
        for one in ids:
            client.delete(f"/v1/subjects/{one}")


def test_a_second_subject_with_the_same_face_is_refused_by_name(
    page: Page, mien: Mien, biden: bytes
) -> None:
    open_page(page, mien, "gallery")
    give(page, "Picture to enrol", biden)
    for one, said in (("twin-a", "Enrolled: twin-a"), ("twin-b", "It is twin-a")):
        page.get_by_label("Subject's id").fill(one)
        page.get_by_role("button", name="Enrol", exact=True).click()
        expect(page.locator("#enrol-status")).to_contain_text(said)
    with mien.client() as client:
        client.delete("/v1/subjects/twin-a")


@pytest.fixture
def migrated(
    mien_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Mien, str]]:
    """Mien with a gallery that a tiny map leads on from, slowly enough to be seen."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "weights").symlink_to(mien_home / "weights")

    async def fill() -> str:
        async with migrating(home, _TEMPLATES) as (_, _, name):
            return name

    name = call(fill())
    settings: dict[str, Any] = settings_of(home, rate=120).model_dump()
    settings["gateway"] |= {"http_port": 0, "grpc_port": 0, "workers": 2, "enhance": False}
    settings["embedding"] |= {"models": ("sface",)}
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    with mien_in_thread(Settings.model_validate(settings)) as running:
        yield running, name


def test_a_migration_is_followed_from_plan_to_rollback(
    page: Page, migrated: tuple[Mien, str]
) -> None:
    mien, name = migrated
    open_page(page, mien, "migrations")

    def do(button: str) -> None:
        page.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()

    page.get_by_role("button", name=f"Show {name}").click()
    about = page.locator("#migration")
    expect(about).to_contain_text("From old@1 to new@1 by tiny-map@1: planned, not begun.")
    page.get_by_role("button", name="Verdict now").click()
    report = page.locator("#migration-report")
    expect(report).to_contain_text("Verdict: migrate")
    expect(report).to_contain_text(f"{_TEMPLATES} of {_TEMPLATES} templates were looked at")
    for drawn in ("Templates by confidence", "among source templates", "among mapped templates"):
        expect(report.get_by_role("img", name=drawn)).to_be_visible()
    do("Start")
    expect(about).to_contain_text(re.compile(r"running\..*[1-9]\d* of 300; still to go: \d+ s"))
    do("Pause")
    expect(about).to_contain_text("paused.")
    do("Resume")
    away = {"code": "gallery_unavailable", "detail": "The gallery is away."}
    page.route("**/v1/migrations/*", lambda route: route.fulfill(status=503, json=away), times=1)
    expect(page.locator("#migrations-status")).to_contain_text("The gallery is away.")
    expect(about).to_contain_text("caught up: ready to switch")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 1)
    do("Switch")
    expect(about).to_contain_text("switched: the new model is live")
    do("Roll back")
    expect(about).to_contain_text("rolled back: the old model is live")
    page.get_by_role("button", name="Shadow report").click()
    expect(page.locator("#migrations-status")).to_contain_text("No live query")
