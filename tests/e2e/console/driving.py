"""What tests do and look for in the console."""

from __future__ import annotations

from playwright.sync_api import FilePayload, Page, expect

from tests.integration.harness import Mien

_NAMED = {"button", "link", "textbox", "combobox", "checkbox", "spinbutton", "image", "region"}


def open_page(page: Page, mien: Mien, name: str = "verify") -> None:
    page.goto(f"{mien.rest_url}/console/#{name}")
    expect(page.get_by_role("heading", level=1, name=name.capitalize())).to_be_visible()


def file_of(data: bytes) -> FilePayload:
    return {"name": "picture.jpg", "mimeType": "image/jpeg", "buffer": data}


def give(page: Page, label: str, data: bytes) -> None:
    page.get_by_role("button", name=f"{label} Choose").set_input_files(file_of(data))


def compare(page: Page, first: bytes, second: bytes) -> None:
    for label, data in (("First picture", first), ("Second picture", second)):
        give(page, label, data)
    page.get_by_role("button", name="Compare").click()


def focused(page: Page) -> str:
    return str(
        page.evaluate(
            """() => { const one = document.activeElement;
            return (one.labels?.[0] ?? one).textContent.trim(); }"""
        )
    )


def tab_to(page: Page, name: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page).startswith(name):
            return
    raise AssertionError(f"{name} cannot be reached by the Tab key")


def nameless(page: Page) -> list[str]:
    """Roles without a name in the tree that assistive technology sees."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        one["role"]["value"]
        for one in nodes
        if not one.get("ignored")
        and one["role"]["value"] in _NAMED
        and not one.get("name", {}).get("value", "").strip()
    ]


def faint(page: Page) -> list[str]:
    """Texts with less contrast than WCAG's level AA asks of small ones."""
    found: list[str] = page.evaluate(
        """() => {
        const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const light = (colour) => numbers(colour).slice(0, 3)
            .map((one) => one / 255)
            .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
            .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
        const ground = (one) => {
            for (let at = one; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if ((numbers(colour)[3] ?? 1) > 0) return colour;
            }
            return "rgb(255, 255, 255)";
        };
        const faint = [];
        for (const one of document.querySelectorAll("main *, header *")) {
            const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            if (!own || !one.checkVisibility() || one.disabled || one.closest("svg")) continue;
            const two = [light(getComputedStyle(one).color), light(ground(one))];
            const ratio = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
            if (ratio < 4.5) faint.push(one.textContent);
        }
        return faint;
        }"""
    )
    return found
