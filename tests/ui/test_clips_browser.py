"""Clips in a real browser: dropped, asked about, played, and gone to the times that the answer names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.clips import make_clip
from tests.ui.browsing import CHIP, Visitor, at_rest, seen

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Visitor]]:
    """Open the page as one person; nothing may have gone outside."""
    visitors: list[Visitor] = []

    def come(**how: str) -> Visitor:
        visitors.append(Visitor(browser, address, **how))  # type: ignore[arg-type]
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.context.close()
        assert visitor.outside == []


def ask_about(visitor: Visitor, name: str, mime: str, data: bytes) -> None:
    """Add a clip, ask about it, and wait for the clip under the answer."""
    page = visitor.page
    page.locator("input[type=file]").first.set_input_files([FilePayload(name=name, mimeType=mime, buffer=data)])
    expect(page.get_by_test_id(CHIP)).to_contain_text("8 frames")
    expect(page.get_by_test_id(CHIP).locator("button.crop")).to_have_count(0)
    visitor.ask("When does the corner turn red?")
    expect(page.get_by_test_id("clip-view")).to_be_visible()


def test_a_click_on_a_time_goes_there(visit: Callable[..., Visitor]) -> None:
    """The clip was cut out of a longer one: the browser's own clock begins at 5 s."""
    visitor = visit()
    page = visitor.page
    times = [5 + number / 10 for number in range(40)]
    ask_about(visitor, "s.webm", "video/webm", make_clip("webm", frames=40, size=(320, 240), times=times))
    player = page.get_by_test_id("clip-player")
    expect(player).to_have_js_property("videoWidth", 320)
    expect(player).to_have_js_property("currentTime", 5)  # the browser has read the clip
    page.get_by_role("button", name="Go to 0:03.0: It is grey again").click()
    expect(player).to_have_js_property("currentTime", 8)
    page.get_by_role("button", name="Go to 0:01.0 – 0:02.0: The corner is red").click()
    expect(player).to_have_js_property("currentTime", 6)
    expect(page).to_have_url(re.compile(r"\?c=\d+$"))
    at_rest(page)
    address = page.url
    page.get_by_role("link", name="00:03", exact=True).click()  # in the words of the answer
    expect(player).to_have_js_property("currentTime", 8)
    page.get_by_role("link", name="00:01 - 00:02", exact=True).press("Enter")
    expect(player).to_have_js_property("currentTime", 6)
    assert page.url == address
    frames = page.get_by_role("button", name="Frame at", exact=False)
    expect(frames).to_have_count(8)
    frames.last.click()
    expect(frames.last).to_have_attribute("aria-current", "true")
    expect(player).to_have_js_property("seeking", False)


def test_what_the_browser_cannot_play_is_shown_as_the_frames_that_the_model_saw(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    ask_about(visitor, "s.avi", "video/x-msvideo", make_clip("avi", frames=40))
    page = visitor.page
    expect(seen(page, "This browser cannot play the clip")).to_be_visible()
    expect(page.get_by_test_id("clip-player")).to_have_count(0)
    frames = page.get_by_role("button", name="Frame at", exact=False)
    page.get_by_role("button", name="Go to 0:03.0: It is grey again").click()
    expect(frames.nth(5)).to_have_attribute("aria-current", "true")


def test_a_broken_clip_is_refused_in_its_chip(visit: Callable[..., Visitor]) -> None:
    page = visit(locale="zh-CN").page
    broken = FilePayload(name="s.mp4", mimeType="video/mp4", buffer=make_clip()[:900])
    page.locator("input[type=file]").first.set_input_files([broken])
    expect(page.get_by_test_id(CHIP)).to_contain_text("已损坏")
