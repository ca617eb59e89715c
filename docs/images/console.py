"""Takes the pictures of docs/console.md: a running Mien, a real Chromium, and invented people.

`python docs/images/console.py [FOLDER]`. The faces are those that DR-GAN's decoder drew of invented
vectors for its card; the gallery that migrates holds random vectors. Needs `mien[dev]`, Chromium,
and weights that `mien models pull` has fetched.
"""  # noqa: INP001 - a script beside what it makes

from __future__ import annotations

import asyncio
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.async_api import Browser, FilePayload, Page, async_playwright

from models.zoo import Zoo
from services import serve
from services.gallery import Enrolment, NewTemplate, Space
from services.gallery.open import open_gallery, throwaway
from services.settings import Settings, load_settings

_REPO = Path(__file__).parents[2]
_INVENTED = _REPO / "models" / "zoo" / "drgan" / "1" / "invented.jpg"
_TILE, _GAP = 100, 2  # pixels of a face of that sheet with its frame, and of the frame
_SIDE = 320  # pixels of a face as a picture
_MAP = "dlib-to-poseface"
_PEOPLE, _VIEWS, _SPREAD, _LENGTH = 1200, 2, 0.6, 0.6  # as `mien demo` makes people up
_COLOURS = 64
_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def invented(row: int, column: int) -> FilePayload:
    """A face of the sheet as a picture file: on grey, as if there were a wall behind it."""
    left, top = column * _TILE + _GAP, row * _TILE + _GAP
    side = _TILE - 2 * _GAP
    with Image.open(_INVENTED) as sheet:
        face = sheet.crop((left, top, left + side, top + side))
    picture = Image.new("RGB", (_SIDE * 3 // 2, _SIDE * 3 // 2), (150, 152, 156))
    picture.paste(face.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (_SIDE // 4, _SIDE // 4))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return {"name": "invented.png", "mimeType": "image/png", "buffer": out.getvalue()}


async def main(folder: Path) -> None:
    """Takes all pictures.

    Args:
        folder: that they are written to.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        with tempfile.TemporaryDirectory() as scratch:
            settings = _settings(Path(scratch))
            async with serve.running(settings, "all") as mien:
                await _faces(browser, f"{mien.rest_url}/console/", folder)
        with tempfile.TemporaryDirectory() as scratch:
            settings = _settings(Path(scratch), rate=250)
            await _fill(settings)
            async with serve.running(settings, "all") as mien:
                await _migration(browser, f"{mien.rest_url}/console/", folder)
        await browser.close()


def _settings(folder: Path, **migration: Any) -> Settings:
    plain = throwaway(load_settings(), folder).model_dump()
    plain["gateway"] |= {"http_port": 0, "grpc_port": 0}
    plain["migration"] |= {"batch": 100, **migration}
    return Settings.model_validate(plain)


async def _fill(settings: Settings) -> None:
    zoo = Zoo(settings.home)
    end = zoo.map(_MAP).source
    space = Space(
        end.name,
        end.version,
        end.weights_sha256,
        end.preprocessing_sha256,
        end.dimension,
        zoo.embedder(end.reference).output.metric,
    )
    rng = np.random.default_rng(0)
    views = rng.standard_normal((_PEOPLE, 1, end.dimension))
    views = views + _SPREAD * rng.standard_normal((_PEOPLE, _VIEWS, end.dimension))
    views *= _LENGTH / np.linalg.norm(views, axis=2, keepdims=True)
    gallery = await open_gallery(settings)
    try:
        await gallery.create_collection(space)
        people = [
            Enrolment(f"person-{number}", [NewTemplate(space, one) for one in own])
            for number, own in enumerate(views.astype(np.float32))
        ]
        await gallery.enrol("default", people)
    finally:
        await gallery.close()


async def _faces(browser: Browser, url: str, folder: Path) -> None:
    page = await browser.new_page(viewport={"width": 1160, "height": 800})
    await page.goto(url)
    await _compare(page, invented(7, 5), invented(7, 6))
    await page.set_viewport_size({"width": 1160, "height": 1180})
    await _take(page, folder / "console-verify.png", whole=False)
    await page.goto(f"{url}#gallery")
    await _give(page, "Picture to enrol", invented(7, 5))
    await page.get_by_label("Subject's id").fill("invented-1")
    await page.get_by_role("button", name="Enrol", exact=True).click()
    await page.get_by_role("button", name="Show invented-1").click()
    await page.get_by_role("button", name="Delete invented-1").wait_for()
    await _give(page, "Picture to identify", invented(7, 6))
    await page.get_by_role("button", name="Identify", exact=True).click()
    await page.locator("#identify-result code").wait_for()
    await _take(page, folder / "console-gallery.png")
    await page.close()
    page = await browser.new_page(viewport={"width": 360, "height": 760}, color_scheme="dark")
    await page.goto(url)
    await _compare(page, invented(7, 5), invented(4, 5))
    await page.locator("#verify-status").scroll_into_view_if_needed()
    await page.evaluate("document.getElementById('verify-status').scrollIntoView()")
    await _take(page, folder / "console-narrow.png", whole=False)
    await page.close()


async def _migration(browser: Browser, url: str, folder: Path) -> None:
    page = await browser.new_page(viewport={"width": 1000, "height": 800})
    await page.goto(f"{url}#migrations")
    await page.get_by_role("button", name="Plan", exact=True).click()
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Start", exact=True).click()
    await page.get_by_text(re.compile("still to go: [3-6] s")).wait_for()
    await _take(page, folder / "console-migrations.png")
    await page.close()


async def _compare(page: Page, first: FilePayload, second: FilePayload) -> None:
    for label, file in (("First picture", first), ("Second picture", second)):
        await _give(page, label, file)
    await page.locator(".facts", has_text="One face was found.").nth(1).wait_for()
    await page.get_by_role("button", name="Compare").click()
    await page.locator("#verify-result code").wait_for()


async def _give(page: Page, label: str, file: FilePayload) -> None:
    await page.get_by_role("button", name=f"{label} Choose").set_input_files(file)


async def _take(page: Page, file: Path, *, whole: bool = True) -> None:
    taken = await page.screenshot(full_page=whole)
    with Image.open(io.BytesIO(taken)) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
