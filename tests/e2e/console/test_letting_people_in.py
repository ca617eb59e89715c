"""Who gets the console, with which key, and how its files are served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from services.access import Action
from services.gateway.console import is_on
from services.settings import GatewaySettings
from tests.integration.access.conftest import Guarded, guarded_mien
from tests.integration.harness import Mien
from tests.integration.rest import problem


@pytest.fixture(scope="module")
def guarded(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("console")
    with guarded_mien(mien_home, folder, {"console": "on"}) as made:
        yield made


def test_the_key_is_asked_for_and_kept_in_memory_alone(page: Page, guarded: Guarded) -> None:
    page.goto(f"{guarded.mien.rest_url}/console/#gallery")
    asked = page.get_by_role("dialog", name="API key")
    expect(asked).to_contain_text("This Mien must know its callers.")
    asked.get_by_label("Key or token").fill("mien_wrong")
    page.keyboard.press("Enter")
    expect(asked).to_contain_text("This key is not valid.")
    asked.get_by_label("Key or token").fill(guarded.key("console"))
    asked.get_by_role("button", name="Use").click()
    expect(page.locator("#gallery-subjects")).to_contain_text("There are none.")
    assert "mien_" not in page.url
    stored = "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"
    assert page.evaluate(stored) == '[{},{},""]'
    page.reload()
    expect(asked).to_be_visible()
    asked.get_by_label("Key or token").fill(guarded.key("console"))
    asked.get_by_label("Keep it until this tab is closed").check()
    page.keyboard.press("Enter")
    expect(page.locator("#gallery-subjects")).to_contain_text("There are none.")
    page.reload()
    expect(page.locator("#gallery-subjects")).to_contain_text("There are none.")
    page.get_by_role("button", name="API key").click()
    asked.get_by_role("button", name="Forget").click()
    assert page.evaluate(stored) == '[{},{},""]'


def test_what_a_key_does_not_allow_is_said(page: Page, guarded: Guarded) -> None:
    page.goto(f"{guarded.mien.rest_url}/console/#gallery")
    page.get_by_label("Key or token").fill(guarded.key("console", Action.VERIFY))
    page.keyboard.press("Enter")
    expect(page.locator("#gallery-status")).to_contain_text("not allowed to enrol")
    page.get_by_role("link", name="Migrations").click()
    expect(page.locator("#migrations-status")).to_contain_text("not allowed to migrate")


@pytest.mark.parametrize(
    ("console", "host", "grpc_host", "asks", "served"),
    [
        ("auto", "127.0.0.1", "localhost", False, True),
        ("auto", "127.0.0.1", "::1", True, False),
        ("auto", "192.0.2.1", "127.0.0.1", False, False),
        ("auto", "127.0.0.1", "192.0.2.1", False, False),
        ("on", "192.0.2.1", "192.0.2.1", True, True),
        ("off", "127.0.0.1", "127.0.0.1", False, False),
    ],
)
def test_without_a_word_the_page_is_for_this_machine_alone(
    console: str, host: str, grpc_host: str, asks: bool, served: bool
) -> None:
    given = {"console": console, "http_host": host, "grpc_host": grpc_host}
    assert is_on(GatewaySettings.model_validate(given), asks_for_keys=asks) is served


def test_where_callers_must_be_known_there_is_no_page_unless_it_is_switched_on(
    mien_home: Path, tmp_path: Path
) -> None:
    with guarded_mien(mien_home, tmp_path) as made, made.client() as client:
        for path in ("/console", "/console/", "/console/app.js"):
            problem(client.get(path), "not_found")


def test_the_files_come_with_a_strict_policy_and_are_asked_for_anew(mien: Mien) -> None:
    with mien.client() as client:
        moved = client.get("/console")
        assert (moved.status_code, moved.headers["location"]) == (307, "console/")
        page = client.get("/console/")
        policy = page.headers["content-security-policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-cache"
        assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]* src=)", page.text)
        tag = page.headers["etag"]
        again = client.get("/console/", headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        script = client.get("/console/app.js")
        assert script.headers["content-type"].startswith("text/javascript")
        for path in ("routes.py", "..%2froutes.py", "%2e%2e/routes.py", "static"):
            problem(client.get(f"/console/{path}"), "not_found")
