"""What one does with turns and conversations, in a real browser: copy, edit, go back, search, pin, rename, delete."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.chromium import WAIT_MS
from tests.ui.browsing import CHIP, Said, Visitor, at_rest, seen
from tests.ui.conftest import LONG_CONVERSATION, LONG_OWNER, LONG_TURNS
from tests.ui.fakes import png
from tests.ui.served_app import BOXES

pytestmark = pytest.mark.browser
TOP_AT_CLICK = """(text) => {
  window.topNow = () => [...document.querySelectorAll(".qvl-typed")].find((each) => each.textContent === text)
    .getBoundingClientRect().top;
  window.addEventListener("click", () => { window.topAtClick = topNow(); }, true);
}"""
"""Tells where a question stands on the screen: now, and at the last click."""


def test_an_answer_is_copied_its_question_edited_and_both_versions_stay(
    browser: Browser, address: str, server_log: Path, tmp_path: Path
) -> None:
    """Copy takes the raw answer; an edited question stands beside the first one with its picture; the log stays calm."""
    visitor = Visitor(browser, address)
    page = visitor.page
    (tmp_path / "panel.png").write_bytes(png(width=560, height=280))
    page.locator("input[type=file]").set_input_files(tmp_path / "panel.png")
    expect(page.get_by_test_id(CHIP)).to_contain_text("560 × 280")
    visitor.ask("Where is the lamp?")
    copy = page.get_by_role("button", name="Copy")
    expect(copy).to_be_visible()
    said = Said(page.locator(".bar > .hint"))
    copy.click()
    said.expect("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == BOXES

    page.get_by_role("button", name="Edit the question").click()
    editor = page.get_by_role("textbox", name="Edit the question")
    expect(editor).to_have_value("Where is the lamp?")
    expect(editor).to_be_focused()
    expect(page.get_by_role("button", name="Enlarge panel.png")).to_be_visible()
    editor.fill("Where is the other lamp?")
    editor.press("Control+Enter")
    versions = page.get_by_role("img", name="Answer 2 of 2")
    expect(versions).to_be_visible()
    bubble = page.locator(".qvl-bubble")
    expect(bubble).to_have_text("Where is the other lamp?")
    expect(page.get_by_role("button", name="Enlarge panel.png")).to_have_count(1)
    page.get_by_role("button", name="Earlier answer").click()
    expect(bubble).to_have_text("Where is the lamp?")

    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("heading", name="Ask about your pictures")).to_be_visible()
    visitor.ask("The same question")
    expect(copy).to_be_visible()
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("heading", name="Ask about your pictures")).to_be_visible()
    visitor.ask("The same question")
    expect(seen(page, "Stored answer, ")).to_be_visible()
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("img", name="Answer 2 of 2")).to_be_visible()
    expect(seen(page, "Stored answer, ")).to_have_count(0)
    visitor.leave()
    assert "fragment" not in server_log.read_text(encoding="utf-8").lower()


def test_conversations_are_found_pinned_renamed_and_deleted_by_keyboard(browser: Browser, address: str) -> None:
    """A search leads to the turn; the menu of a conversation that is not open pins, renames and deletes it."""
    visitor = Visitor(browser, address, locale="zh-CN", scheme="dark")
    page = visitor.page
    expect(page.locator("html")).to_have_attribute("lang", "zh")  # in which a reader speaks
    for text in ("第一台水泵在哪里？", "第二台阀门呢？"):
        visitor.ask(text)
        expect(page.get_by_role("button", name="复制")).to_be_visible()
        page.get_by_role("button", name="新对话").click()
        expect(page.get_by_role("heading", name="就图片提问")).to_be_visible()
    rows, hits, search = (page.get_by_test_id(name) for name in ("conversation", "search-hit", "list-search"))
    expect(rows).to_have_count(2)
    search.fill("水泵")
    expect(hits).to_have_count(1)
    expect(hits.locator("mark")).to_have_text("水泵")
    visitor.look_for_barriers()
    search.dispatch_event("keydown", {"key": "Escape", "isComposing": True})
    expect(search).to_have_value("水泵")
    search.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".qvl-bubble")).to_have_text("第一台水泵在哪里？")
    at_rest(page)
    search.press("Escape")
    expect(rows).to_have_count(2)

    expect(rows.nth(0)).to_have_text("第二台阀门呢？")
    at_rest(page)  # the keys that follow are meant for what has the focus now
    page.get_by_role("button", name="“第一台水泵在哪里？”").press("Enter")
    expect(page.get_by_role("menuitem", name="置顶")).to_be_focused()
    visitor.look_for_barriers()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="已置顶")).to_be_visible()
    expect(rows.nth(0)).to_have_text("第一台水泵在哪里？")

    at_rest(page)
    page.get_by_role("button", name="“第二台阀门呢？”").press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("textbox")).to_have_value("第二台阀门呢？")
    visitor.look_for_barriers()
    dialog.get_by_role("textbox").fill("阀门")
    page.keyboard.press("Enter")
    expect(rows.nth(1)).to_have_text("阀门")
    expect(page.get_by_role("button", name="“阀门”")).to_be_focused()

    at_rest(page)
    page.get_by_role("button", name="“第一台水泵在哪里？”").press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("无法恢复")
    visitor.look_for_barriers()
    dialog.get_by_role("button", name="彻底删除").click()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("heading", name="就图片提问")).to_be_visible()  # it was the open one
    visitor.leave()


def test_what_is_typed_into_a_dialog_outlasts_an_answer_that_ends(browser: Browser, address: str) -> None:
    """The page waits with the finished answer until the dialog is closed; closed, it does not come back."""
    visitor = Visitor(browser, address)
    page = visitor.page
    visitor.ask("LONG please")
    expect(seen(page, "word5 ")).to_be_visible()
    page.get_by_role("button", name="“LONG please”").click()
    page.get_by_role("menuitem", name="Rename").click()
    title = page.get_by_role("dialog").get_by_role("textbox")
    expect(title).to_have_value("LONG please")
    title.press("ControlOrMeta+a")
    title.press_sequentially("Valve")
    other = visitor.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Stop").click()
    expect(seen(other, "Stopped. What had been written is kept.")).to_be_visible()
    page.wait_for_timeout(1_000)  # what is to be seen is that nothing happens
    expect(title).to_have_value("Valve")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(seen(page, "Stopped. What had been written is kept.")).to_be_visible()
    expect(page.get_by_test_id("conversation")).to_have_text("Valve")
    expect(page.get_by_role("dialog")).to_have_count(0)

    page.get_by_role("button", name="“Valve”").click()
    page.get_by_role("menuitem", name="Rename").click()
    expect(title).to_have_value("Valve")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    visitor.ask("Where is the lamp?")
    expect(seen(page, "One lamp:")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    visitor.leave()


def test_a_long_conversation_keeps_its_place_and_opens_with_one_click(browser: Browser, address: str) -> None:
    """Earlier turns come above what one reads, which is not drawn anew; and one click opens a picture further up."""
    visitor = Visitor(browser, f"{address}?c={LONG_CONVERSATION}", profile=LONG_OWNER)
    page = visitor.page
    expect(seen(page, f"Question {LONG_TURNS - 1}", exact=True)).to_be_visible()
    places, stages = page.locator("[data-turn-place]"), page.get_by_test_id("picture-stage")
    expect(places).to_have_count(30)
    expect(stages).to_have_count(1)
    kept = page.locator(".qvl-turn").last.element_handle()
    page.evaluate(TOP_AT_CLICK, f"Question {LONG_TURNS - 30}")
    page.get_by_role("button", name="Show earlier").click()
    expect(places).to_have_count(LONG_TURNS)
    page.wait_for_function("() => Math.abs(topNow() - topAtClick) <= 4", timeout=WAIT_MS)

    assert kept.evaluate("(turn) => turn.isConnected")  # with all that was unfolded or selected in it
    turn = places.nth(3).get_attribute("data-turn-place")
    page.locator(f'.qvl-places[data-turn="{turn}"]').click()
    opened = page.locator(f'[class*="st-key-picture-{turn}-"]').get_by_test_id("picture-stage")
    expect(opened).to_be_in_viewport()
    expect(stages).to_have_count(1)

    page.get_by_test_id("stMain").evaluate("(main) => { main.scrollTop = main.scrollHeight; }")
    page.get_by_role("button", name="Status and settings").click()
    # Another page begins at its top.
    expect(page.get_by_role("heading", name="Status and settings")).to_be_in_viewport()
    visitor.leave()


def test_one_question_is_erased_by_keyboard(browser: Browser, address: str) -> None:
    """It asks first, tells what went with the receipt's number, and leaves the questions that were asked after it."""
    visitor = Visitor(browser, address)
    page = visitor.page
    for text in ("The first one", "The second one"):
        visitor.ask(text)
        expect(page.locator("[data-acts-of]")).to_have_count(1 if text == "The first one" else 2)
    at_rest(page)
    page.locator('[data-act="erase"]').first.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("“The first one” is erased for good")
    visitor.look_for_barriers()
    dialog.get_by_role("button", name="Erase for good").click()
    expect(page.get_by_test_id("stAlert")).to_contain_text("The question is erased for good")
    expect(page.locator(".qvl-bubble")).to_have_text(["The second one"])
    expect(dialog).to_have_count(0)
    visitor.leave()
