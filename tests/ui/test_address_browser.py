"""The address of the page: it says what is open, leads back and forward, and outlasts the server it came from."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.serving import answers, free_port, serving
from tests.ui.browsing import CHIP, Visitor, seen
from tests.ui.fakes import png
from tests.ui.served_app import fill

OWNER = "3" * 32
RECONNECT_MS = 120_000
"""Streamlit tries again after ever longer pauses."""


def served(folder: Path, port: int, *, script: str = "served_app.py") -> AbstractContextManager[str]:
    """Serve the conversations of a folder at a port until the block ends."""
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, str(Path(__file__).with_name(script)), str(port), str(folder)]

    @contextmanager
    def run() -> Iterator[str]:
        with serving(command, log=folder / "log", is_ready=lambda: answers(url)):
            yield url

    return run()


def is_open(page: Page, conversation: int, turns: int, *, within_ms: int = RECONNECT_MS) -> None:
    """Wait until the conversation of so many turns is on the page and in the address."""
    newest = page.locator(".qvl-typed").last
    expect(newest).to_have_text(f"Question {turns - 1}", timeout=within_ms)
    expect(page).to_have_url(re.compile(rf"\?c={conversation}$"))
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()


def test_the_address_follows_and_leads(browser: Browser, tmp_path: Path) -> None:
    """Back and forward go through what was open; a server that begins anew, brought up to date, gives the tab what it had open last."""
    one, two = (fill(tmp_path, OWNER, turns=turns, data=png()) for turns in (1, 2))
    port = free_port()
    with served(tmp_path, port) as url:
        visitor = Visitor(browser, f"{url}?c={one}", profile=OWNER)
        page = visitor.page
        is_open(page, one, 1)
        page.get_by_test_id("conversation").first.click()
        is_open(page, two, 2)
        page.go_back()
        is_open(page, one, 1)
        page.go_forward()
        is_open(page, two, 2)
        page.reload()
        is_open(page, two, 2)
        page.go_back()
        is_open(page, one, 1)
        page.get_by_test_id("conversation").first.click()
        is_open(page, two, 2)
        (tmp_path / "panel.png").write_bytes(png(width=560, height=280))
        page.locator("input[type=file]").set_input_files(tmp_path / "panel.png")
        chip = page.get_by_test_id(CHIP)
        expect(chip).to_contain_text("560 × 280")
        visitor.composer.fill("Typed before")
        assert visitor.errors == []
    # The tab was loaded at the second conversation's address, left for the first's, and is at the second's now.
    page.get_by_test_id("conversation").last.wait_for()
    with served(tmp_path, port, script="served_newer.py"):
        expect(page.locator('[data-testid="stApp"][data-test-connection-state="CONNECTED"]')).to_be_visible(
            timeout=RECONNECT_MS
        )
        is_open(page, two, 2)
        # An update under the open page: one composer still, with all that was in it, also what only the former server had.
        expect(page.get_by_test_id("list-search")).to_have_count(1)
        expect(visitor.composer).to_have_value("Typed before")
        visitor.composer.press("Enter")
        expect(page.locator(".qvl-typed").last).to_have_text("Typed before")
        expect(page.get_by_role("button", name="Enlarge panel.png").last).to_be_visible()
        expect(chip).to_have_count(0)
        page.get_by_role("button", name="New conversation").click()
        expect(page.get_by_role("heading", name="Ask about your pictures")).to_be_visible()
        expect(page).to_have_url(url)
        assert visitor.outside == []
    visitor.context.close()


def test_back_leads_out_of_everything(browser: Browser, tmp_path: Path) -> None:
    """Back over a language, a conversation that was deleted meanwhile and the first page: never to the same place again."""
    one = fill(tmp_path, OWNER, turns=1, data=png())
    with served(tmp_path, free_port()) as url:
        visitor = Visitor(browser, url, profile=OWNER)
        page = visitor.page
        welcome = page.get_by_role("heading", name="Ask about your pictures")
        expect(welcome).to_be_visible()
        page.get_by_test_id("conversation").first.click()
        is_open(page, one, 1)
        seen(page, "中文", exact=True).click()
        expect(page).to_have_url(re.compile(r"lang=zh"))
        page.go_back()
        is_open(page, one, 1)
        expect(page.get_by_role("button", name="New conversation")).to_be_visible()
        page.go_back()
        expect(welcome).to_be_visible()
        expect(page).to_have_url(url)
        page.get_by_role("button", name="Folders", exact=True).first.click()
        expect(page).to_have_url(re.compile(r"view=batch"))
        page.evaluate("history.replaceState({}, '', '?c=987654')")  # as if it had been deleted in another tab
        page.get_by_role("button", name="Forms", exact=True).first.click()
        expect(page).to_have_url(re.compile(r"view=forms"))
        page.go_back()
        expect(welcome).to_be_visible()
        expect(page).to_have_url(url)
        page.go_back()
        expect(welcome).to_be_visible()
        expect(page).to_have_url(url)
        visitor.leave()
