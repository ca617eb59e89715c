"""The console's verification in a real Chromium: what a person sees and can do there."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, Page, expect

from tests.e2e.console.driving import (
    compare,
    faint,
    file_of,
    focused,
    give,
    nameless,
    open_page,
    tab_to,
)
from tests.integration.harness import Mien
from tests.integration.pictures import faceless, jpeg, portrait, side_by_side


def test_two_pictures_of_one_person_are_said_to_be_the_same_and_why(
    page: Page, mien: Mien, obama: bytes, obama2: bytes
) -> None:
    open_page(page, mien)
    give(page, "First picture", obama)
    expect(page.get_by_role("img", name="First picture: one face is marked")).to_be_visible()
    give(page, "Second picture", obama2)
    page.get_by_label("False-match rate").select_option("1 in 10,000")
    with page.expect_response("**/v1/verify") as answered:
        page.get_by_role("button", name="Compare").click()
    answer = answered.value.json()
    said = page.locator("#verify-status")
    expect(said).to_contain_text("✓ Same person")
    expect(said).to_contain_text(f"{answer['similarity']:.3f}")
    expect(said).to_contain_text("1 in 10,000")
    drawn = page.get_by_role("img", name=re.compile("False-match rate by similarity"))
    expect(drawn).to_contain_text(f"threshold {answer['threshold']:.3f}")
    expect(drawn).to_contain_text(f"score {answer['similarity']:.3f}")
    for title in ("First", "Second"):
        crop = page.get_by_role("img", name=f"{title} picture: the face cut out")
        assert crop.evaluate("one => one.naturalWidth") == 112
    quality = f"{answer['probe']['face']['quality']['unified']:.1f}"
    expect(page.get_by_role("row", name="unified quality")).to_contain_text(quality)
    expect(page.get_by_role("row", name=re.compile("^inference "))).to_be_visible()
    expect(page.get_by_text(answer["request_id"])).to_be_visible()


def test_two_people_are_said_to_be_different(
    page: Page, mien: Mien, obama: bytes, biden: bytes
) -> None:
    open_page(page, mien)
    compare(page, obama, biden)
    expect(page.locator("#verify-status")).to_contain_text("✗ Different people")


def test_the_face_that_is_compared_can_be_chosen(
    page: Page, mien: Mien, portraits: Path, obama: bytes
) -> None:
    small, large = portrait(portraits, "biden.jpg", 300), portrait(portraits, "obama2.jpg", 480)
    both = side_by_side(small, large)
    open_page(page, mien)
    compare(page, obama, jpeg(both))
    expect(page.get_by_text("2 faces were found, numbered by size.")).to_be_visible()
    expect(page.locator("#verify-status")).to_contain_text("Same person")
    choice = page.get_by_label("Face that is compared").locator("visible=true")
    choice.select_option("number 2")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#verify-status")).to_contain_text("Different people")


def test_a_small_face_is_shown_as_it_was_redrawn_and_called_synthetic(
    page: Page, mien: Mien, portraits: Path, obama2: bytes
) -> None:
    open_page(page, mien)
    compare(page, jpeg(portrait(portraits, "obama.jpg", 48)), obama2)
    expect(page.get_by_role("img", name="First picture: the face redrawn")).to_be_visible()
    expect(page.get_by_text(re.compile("ddat@1.*Synthetic"))).to_be_visible()


def test_a_picture_without_a_face_and_a_broken_one_are_told_in_words(
    page: Page, mien: Mien, obama: bytes
) -> None:
    open_page(page, mien)
    compare(page, obama, faceless())
    said = page.locator("#verify-status")
    expect(said).to_contain_text("No decision: no face was found in the second picture.")
    expect(page.locator("#verify-pictures .facts").last).to_have_text("No face was found.")
    give(page, "Second picture", b"no picture at all")
    expect(page.get_by_text("This browser cannot show this file.")).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    expect(said).to_contain_text("image_unsupported_format")
    expect(page.locator("#verify-result")).to_be_empty()


def test_a_picture_that_was_taken_sideways_is_shown_upright(
    page: Page, mien: Mien, portraits: Path
) -> None:
    upright, out = portrait(portraits, "obama.jpg").crop((0, 0, 400, 480)), io.BytesIO()
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6  # turn it clockwise
    sideways.save(out, "JPEG", exif=tags)
    open_page(page, mien)
    with page.expect_response("**/v1/detect") as answered:
        give(page, "First picture", out.getvalue())
    shown = page.get_by_role("img", name="First picture: one face is marked")
    size = shown.evaluate("one => [one.width, one.height]")
    seen = answered.value.json()
    assert size == [seen["width"], seen["height"]] == [400, 480]


def test_a_picture_can_be_dropped(page: Page, mien: Mien, obama: bytes) -> None:
    open_page(page, mien)
    given = page.evaluate_handle(
        """bytes => {
            const given = new DataTransfer();
            given.items.add(new File([new Uint8Array(bytes)], "picture.jpg", {type: "image/jpeg"}));
            return given;
        }""",
        list(obama),
    )
    for event in ("dragenter", "dragover", "drop"):
        page.locator(".drop").first.dispatch_event(event, {"dataTransfer": given})
    expect(page.get_by_role("img", name="First picture: one face is marked")).to_be_visible()


def test_all_of_a_verification_can_be_done_by_keyboard(
    page: Page, mien: Mien, obama: bytes, biden: bytes
) -> None:
    page.on("filechooser", lambda _: None)  # from now on, choosers are caught before they open
    open_page(page, mien)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    chosen = (("First picture", "Enter", obama), ("Second picture", "Space", biden))
    for name, key, data in chosen:
        tab_to(page, name)
        with page.expect_file_chooser() as chooser:
            page.keyboard.press(key)
        chooser.value.set_files(file_of(data))
    tab_to(page, "Compare")
    page.keyboard.press("Enter")
    expect(page.locator("#verify-status")).to_contain_text("Different people")
    assert focused(page) == "Compare"
    for _ in range(30):
        if focused(page) == "Gallery":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Gallery")).to_be_focused()
    assert page.title() == "Gallery - Mien console"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_nothing_is_cut_off_on_a_narrow_screen(
    browser: Browser, mien: Mien, obama: bytes, obama2: bytes, scheme: Any
) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": 320, "height": 640}, reduced_motion="reduce"
    )
    page = context.new_page()
    open_page(page, mien)
    compare(page, obama, obama2)
    expect(page.locator("#verify-status")).to_contain_text("Same person")
    for name in ("verify", "gallery", "migrations"):
        page.get_by_role("link", name=name.capitalize()).click()
        expect(page.get_by_role("heading", level=1, name=name.capitalize())).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 320, f"{name} is {wide} pixels wide"
        assert nameless(page) == []
        assert faint(page) == []
    context.close()
