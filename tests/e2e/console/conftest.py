"""A real Chromium, and the photographs that its user has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.integration.pictures import jpeg, portrait

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_WAIT = 15_000  # milliseconds that an answer may take on a busy machine


# For each module: while one runs, no event loop of another test can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(_PROGRAMS)}")
    expect.set_options(timeout=_WAIT)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own; a fault of a script or of the content policy fails the test."""
    context = browser.new_context()
    context.set_default_timeout(_WAIT)
    made, faults = context.new_page(), []
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on(
        "console",
        # Chromium tells of each answer that is a refusal; those are looked at on the page.
        lambda said: (
            faults.append(said.text)
            if said.type in {"error", "warning"} and "responded with a status" not in said.text
            else None
        ),
    )
    yield made
    context.close()
    assert faults == []


@pytest.fixture(scope="module")
def obama(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama.jpg"))


@pytest.fixture(scope="module")
def obama2(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama2.jpg"))


@pytest.fixture(scope="module")
def biden(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "biden.jpg"))
