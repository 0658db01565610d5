"""A person's browser, as the browser tests drive it: the page, and everything that it should not have done."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, expect

from qwen_vl_app.offline import is_loopback
from qwen_vl_app.ui.chat_page import PROFILE_COOKIE
from tests.chromium import WAIT_MS

FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Chromium's own test picture for a camera, and leave to use it."""
TEXT_AREA = "composer-text"
CHIP = "composer-chip"
AXE = Path(str(importlib.util.find_spec("axe_core_python").origin)).with_name("axe.min.js")  # type: ignore[union-attr]
"""The script that the package carries; nothing of it is ours."""
RESTS = """(isStill) => {
    const app = document.querySelector('[data-testid="stApp"]')?.dataset ?? {};
    if (app.testScriptState !== "notRunning" || app.testConnectionState !== "CONNECTED") return false;
    if (window.qvlComposer?.unheard.length || document.querySelector('[data-stale="true"]')) return false;
    const ends = (each) => each.effect?.getComputedTiming().endTime !== Infinity;
    return !isStill || !document.getAnimations().some((each) => each.playState === "running" && ends(each));
}"""
SAYS = """(element) => {
    const said = [element.textContent];
    new MutationObserver(() => said.push(element.textContent)).observe(element, {childList: true, characterData: true, subtree: true});
    return said;
}"""


class Visitor:
    """One person's browser: its page, and everything that it should not have done."""

    def __init__(
        self,
        browser: Browser,
        address: str,
        *,
        locale: str = "en-US",
        scheme: Literal["light", "dark"] = "light",
        profile: str = "",
    ) -> None:
        self.context = browser.new_context(
            locale=locale,
            color_scheme=scheme,
            viewport={"width": 1280, "height": 860},
            permissions=["clipboard-read", "clipboard-write", "camera"],
        )
        self.context.set_default_timeout(WAIT_MS)
        if profile:
            self.context.add_cookies([{"name": PROFILE_COOKIE, "value": profile, "url": address}])
        self.page: Page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._look_at(request.url))
        self.page.on("websocket", lambda opened: self._look_at(opened.url))
        self.page.on(
            "console", lambda line: self.errors.append(f"{line.text} {line.location}") if line.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        expect(self.composer).to_be_enabled()

    @property
    def composer(self) -> Locator:
        """Where one types."""
        return self.page.get_by_test_id(TEXT_AREA)

    def ask(self, text: str) -> None:
        """Type a question and send it, as a person does who sees the whole page: a click before may still be drawn."""
        at_rest(self.page)
        self.composer.fill(text)
        self.composer.press("Enter")

    def look_for_barriers(self) -> None:
        """Let axe look over the page: nothing serious may stand between it and anybody.

        It measures colours, and what is about to go or to come is paler than it will be.
        """
        at_rest(self.page, is_still=True)
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        told = [(each["id"], [node["html"][:160] for node in each["nodes"][:3]]) for each in serious]
        assert told == [], told

    def leave(self) -> None:
        """Close the browser; nothing may have gone outside, and nothing may have complained."""
        self.context.close()
        assert self.outside == [], self.outside
        assert self.errors == [], self.errors

    def _look_at(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and not is_loopback(parts.hostname or ""):
            self.outside.append(url)


def seen(page: Page, text: str, *, exact: bool = False) -> Locator:
    """Return where a text is to be seen on the page.

    An answer's words stand in the page up to three times: as it is shown, as the model wrote it (folded away), and for
    who hears the page; which of them are there yet depends on the moment.
    """
    return (
        page.get_by_text(text, exact=exact)
        .filter(visible=True)
        .and_(page.locator(":not([data-testid=composer-heard])"))
    )


def at_rest(page: Page, *, is_still: bool = False) -> None:
    """Wait until Python has heard all that was done and everything stands that it drew; with `is_still`, nothing moves, either."""
    page.wait_for_function(RESTS, arg=is_still)


class Said:
    """All that an element says from now on, also where it says it for a moment only: a look at it may come too late."""

    def __init__(self, element: Locator) -> None:
        self._page = element.page
        self._said = element.evaluate_handle(SAYS)

    def expect(self, pattern: str) -> None:
        """Wait until it has said what matches."""
        found = "([said, pattern]) => said.some((each) => new RegExp(pattern).test(each))"
        self._page.wait_for_function(found, arg=[self._said, pattern])


def drop(page: Page, file: Path, *, at: tuple[float, float] = (640, 300)) -> None:
    """Drop a file, of itself in the middle of the page, far from the composer."""
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": at[0],
                "y": at[1],
                "data": {"items": [], "files": [str(file)], "dragOperationsMask": 1},
            },
        )
