"""A newcomer in a real browser: pick, paste and drop pictures, ask, look, reload, stop, in both languages."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import urlopen

import pypdfium2
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from qwen_vl_app.config import ROOT
from qwen_vl_app.offline import is_loopback
from tests.ui.fakes import png

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
TEXT_AREA = "composer-text"
CHIP = "composer-chip"
AXE = Path(str(importlib.util.find_spec("axe_core_python").origin)).with_name("axe.min.js")  # type: ignore[union-attr]
"""The script that the package carries; nothing of it is ours."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the app over a scripted engine; yield its address."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("served_app.py")), str(port), str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(url, server, folder / "log")
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the machine's own Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield running
        running.close()


class Visitor:
    """One person's browser: its page, and everything that it should not have done."""

    def __init__(
        self, browser: Browser, address: str, *, locale: str = "en-US", scheme: Literal["light", "dark"] = "light"
    ) -> None:
        self.context = browser.new_context(
            locale=locale,
            color_scheme=scheme,
            viewport={"width": 1280, "height": 860},
        )
        self.page: Page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._look_at(request.url))
        self.page.on("websocket", lambda opened: self._look_at(opened.url))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        expect(self.composer).to_be_enabled(timeout=30_000)

    @property
    def composer(self) -> Locator:
        """Where one types."""
        return self.page.get_by_test_id(TEXT_AREA)

    def ask(self, text: str) -> None:
        """Type a question and send it."""
        self.composer.fill(text)
        self.composer.press("Enter")

    def look_for_barriers(self) -> None:
        """Let axe look over the page: nothing serious may stand between it and anybody."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        told = [(each["id"], [node["html"][:160] for node in each["nodes"][:3]]) for each in serious]
        assert told == [], told

    def leave(self) -> None:
        """Close the browser; nothing may have gone outside, and nothing may have complained."""
        self.context.close()
        assert self.outside == []
        assert self.errors == []

    def _look_at(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and not is_loopback(parts.hostname or ""):
            self.outside.append(url)


def test_first_minutes_in_english(browser: Browser, address: str, tmp_path: Path) -> None:
    """Pick a picture, ask, see the box in pixels, look at it large, ask on, reload while it answers, stop."""
    visitor = Visitor(browser, address)
    page = visitor.page
    expect(page.get_by_role("heading", name="Ask about your pictures")).to_be_visible()
    (tmp_path / "panel.png").write_bytes(png(width=560, height=280))
    (tmp_path / "notes.png").write_bytes(b"no picture at all")
    page.locator("input[type=file]").set_input_files([tmp_path / "panel.png", tmp_path / "notes.png"])
    good, bad = page.get_by_test_id(CHIP).nth(0), page.get_by_test_id(CHIP).nth(1)
    expect(good).to_contain_text("PNG · 560 × 280")
    expect(good).to_contain_text("tokens")
    visitor.look_for_barriers()
    expect(bad.get_by_role("alert")).to_contain_text("not a picture")  # it says why; the other stays
    visitor.ask("Where is the lamp?")
    expect(page.get_by_alt_text("panel.png with 1 marked places")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("In pixels of the original, 560 × 280.")).to_be_visible()
    expect(page.get_by_test_id(CHIP)).to_have_count(0)
    visitor.look_for_barriers()

    page.get_by_role("button", name="Show panel.png large").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_alt_text("Picture panel.png")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()

    visitor.ask("LONG please")
    expect(page.get_by_text("word5 ")).to_be_visible(timeout=20_000)
    page.reload()
    expect(page.get_by_text("word9 ")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped. What was there is kept.")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("button", name="Ask again").last).to_be_visible()
    visitor.leave()


def test_paste_and_drop_in_chinese(browser: Browser, address: str, tmp_path: Path) -> None:
    """A pasted picture and a dropped one go with one question; the dark Chinese page says nothing in English of ours."""
    visitor = Visitor(browser, address, locale="zh-CN", scheme="dark")
    page = visitor.page
    expect(page.get_by_role("heading", name="就图片提问")).to_be_visible()
    _paste(page, png(width=300, height=200))
    expect(page.get_by_test_id(CHIP).nth(0)).to_contain_text("PNG · 300 × 200")
    (tmp_path / "dropped.png").write_bytes(png(width=400, height=200))
    _drop(page, tmp_path / "dropped.png")
    expect(page.get_by_test_id(CHIP).nth(1)).to_contain_text("PNG · 400 × 200")
    visitor.ask("灯在哪里？")
    expect(page.get_by_alt_text("pasted.png，标出 1 处")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("原图 400 × 200 像素")).to_be_visible()
    visitor.look_for_barriers()
    page.get_by_role("radio", name="English").or_(page.get_by_role("button", name="English")).first.click()
    expect(page.get_by_role("button", name="New conversation")).to_be_visible()
    visitor.leave()


def test_a_picture_is_made_right_before_it_is_asked_about(browser: Browser, address: str, tmp_path: Path) -> None:
    """Turn, crop by keyboard, page through a PDF, take one more page, reload, remove; the keys do what they should."""
    visitor = Visitor(browser, address)
    page = visitor.page
    (tmp_path / "wide.png").write_bytes(png(width=500, height=250))
    (tmp_path / "plan.pdf").write_bytes(_pdf(pages=3))
    page.locator("input[type=file]").set_input_files([tmp_path / "wide.png", tmp_path / "plan.pdf"])
    wide, plan = page.get_by_test_id(CHIP).nth(0), page.get_by_test_id(CHIP).nth(1)
    expect(wide).to_contain_text("500 × 250")
    page.get_by_role("button", name="Turn wide.png to the right").click()
    expect(wide).to_contain_text("250 × 500")
    page.get_by_role("button", name="Crop wide.png").click()
    page.keyboard.press("Shift+ArrowLeft")
    page.get_by_role("button", name="Take this part").click()
    expect(wide).to_contain_text("195 × 400")
    expect(plan).to_contain_text("page 1 of 3")
    page.get_by_role("button", name="Next page of plan.pdf", exact=True).click()
    expect(plan).to_contain_text("page 2 of 3")
    page.get_by_role("button", name="Add the next page of plan.pdf, too").click()
    expect(page.get_by_test_id(CHIP).nth(2)).to_contain_text("page 3 of 3")
    visitor.composer.fill("A first line")
    visitor.composer.press("Shift+Enter")
    page.keyboard.type("and a second")
    page.reload()
    expect(page.get_by_test_id(CHIP)).to_have_count(3)
    expect(visitor.composer).to_have_value("A first line\nand a second")
    page.get_by_role("button", name="Remove wide.png").click()
    expect(page.get_by_test_id(CHIP)).to_have_count(2)
    expect(visitor.composer).to_be_enabled()
    visitor.composer.press("Enter")
    expect(page.get_by_text("One lamp:")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("page 3 of 3")).to_be_visible()
    visitor.composer.press("ArrowUp")
    expect(visitor.composer).to_have_value("A first line\nand a second")
    visitor.composer.press("Escape")
    expect(visitor.composer).to_have_value("")
    visitor.leave()


def test_another_browser_sees_none_of_it(browser: Browser, address: str) -> None:
    """Each browser has a list of its own; another's address shows a sentence and no picture."""
    first = Visitor(browser, address)
    first.ask("Whose is this?")
    expect(first.page.get_by_role("paragraph").filter(has_text="One lamp:")).to_be_visible(timeout=20_000)
    second = Visitor(browser, first.page.url)
    expect(second.page.get_by_text("Your conversations will stand here.")).to_be_visible()
    expect(second.page.get_by_text("Whose is this?")).to_have_count(0)
    second.leave()
    first.page.get_by_role("button", name="Status and settings").click()
    expect(first.page.get_by_role("heading", name="Status and settings")).to_be_visible()
    first.look_for_barriers()
    first.page.go_back()
    # The browser's own button leads back.
    expect(first.page.get_by_role("paragraph").filter(has_text="One lamp:")).to_be_visible()
    first.leave()


def _paste(page: Page, data: bytes) -> None:
    page.get_by_test_id(TEXT_AREA).evaluate(
        """(area, encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
            area.dispatchEvent(new ClipboardEvent("paste", {clipboardData: carried, bubbles: true, composed: true, cancelable: true}));
        }""",
        base64.b64encode(data).decode(),
    )


def _pdf(*, pages: int) -> bytes:
    document = pypdfium2.PdfDocument.new()
    for _ in range(pages):
        document.new_page(200, 300)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _drop(page: Page, file: Path) -> None:
    """Drop a file in the middle of the page, far from the composer."""
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": 640,
                "y": 300,
                "data": {"items": [], "files": [str(file)], "dragOperationsMask": 1},
            },
        )
