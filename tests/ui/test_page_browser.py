"""A newcomer in a real browser: pick, paste and drop pictures, ask, look, reload, stop, in both languages."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path

import pypdfium2
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.chromium import WAIT_MS
from tests.hub_parts import wait_until
from tests.ui.browsing import CHIP, TEXT_AREA, Said, Visitor, at_rest, drop, seen
from tests.ui.conftest import LONG_OWNER, LONG_TURNS
from tests.ui.fakes import png

pytestmark = pytest.mark.browser

COMPOSERS_FILE = "**/app/parts/composer-*"


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
    bad.evaluate("(chip) => { chip.isTheSame = true; }")
    visitor.composer.press_sequentially("Where")
    assert bad.evaluate("(chip) => chip.isTheSame"), "a reader hears of the problem again with every letter"
    heard = page.get_by_test_id("composer-heard")
    said = Said(heard)
    visitor.ask("Where is the lamp?")
    expect(page.get_by_role("application", name="Picture panel.png.")).to_be_visible()
    expect(seen(page, "In pixels of the original, 560 × 280.")).to_be_visible()
    expect(page.get_by_test_id(CHIP)).to_have_count(0)
    said.expect("^The answer is there\\.$")
    visitor.look_for_barriers()

    page.get_by_role("button", name="Enlarge panel.png").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("application", name="Picture panel.png.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()

    visitor.ask("LONG please")
    expect(seen(page, "word5 ")).to_be_visible()
    said.expect("^Your question is being answered\\.$")
    page.reload()
    expect(seen(page, "word9 ")).to_be_visible()
    said = Said(heard)
    page.get_by_role("button", name="Stop").click()
    expect(seen(page, "Stopped. What had been written is kept.")).to_be_visible()
    said.expect("^Answer: word0 word1 ")
    expect(page.get_by_role("button", name="Ask again").last).to_be_visible()
    visitor.leave()


def test_a_click_that_comes_before_the_page_can_hear_is_not_lost(browser: Browser, address: str) -> None:
    """The cards stand before the composer's file is there: an early click does what it says, once, and no later one is made up."""
    with browser.new_context() as context:
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        held: list[Route] = []
        page.route(COMPOSERS_FILE, lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it calls
        with page.expect_request(COMPOSERS_FILE):
            page.goto(address)
            page.locator("button[data-act=task]").first.click()
        expect(page.get_by_test_id(TEXT_AREA)).to_have_count(0)
        for each in held:
            each.continue_()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_test_id(TEXT_AREA)).to_be_enabled()
        page.get_by_role("button", name="Status and settings").click()
        expect(page.get_by_role("heading", name="Status and settings")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_paste_and_drop_in_chinese(browser: Browser, address: str, tmp_path: Path) -> None:
    """A pasted picture and a dropped one go with one question; the dark Chinese page says nothing in English of ours."""
    visitor = Visitor(browser, address, locale="zh-CN", scheme="dark")
    page = visitor.page
    expect(page.get_by_role("heading", name="就图片提问")).to_be_visible()
    _paste(page, png(width=300, height=200))
    expect(page.get_by_test_id(CHIP).nth(0)).to_contain_text("PNG · 300 × 200")
    (tmp_path / "dropped.png").write_bytes(png(width=400, height=200))
    drop(page, tmp_path / "dropped.png")
    expect(page.get_by_test_id(CHIP).nth(1)).to_contain_text("PNG · 400 × 200")
    visitor.ask("灯在哪里？")
    expect(page.get_by_role("application", name="图片 pasted.png")).to_be_visible()
    expect(seen(page, "原图 400 × 200 像素")).to_be_visible()
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
    page.get_by_role("button", name="Use this part").click()
    expect(wide).to_contain_text("195 × 400")
    page.get_by_role("button", name="Crop wide.png").click()
    cropped = page.get_by_role("dialog").locator(".stage img")
    cropped.evaluate("(image) => image.decode()")  # before, the dialog is as small as if there were none
    bounds = page.get_by_role("dialog").locator(".stage").bounding_box()
    assert bounds is not None
    page.mouse.move(bounds["x"] + bounds["width"] * 0.01, bounds["y"] + bounds["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(bounds["x"] + bounds["width"] * 0.9, bounds["y"] + bounds["height"] * 0.6, steps=4)
    page.mouse.move(bounds["x"] + bounds["width"] * 1.2, bounds["y"] + bounds["height"] * 0.75)  # past the edge
    page.mouse.up()
    page.get_by_role("button", name="Use this part").click()
    expect(wide).to_contain_text(re.compile(r"19[345] × (199|200|201)"))
    page.get_by_role("spinbutton", name="Page of plan.pdf").fill("3")
    page.keyboard.press("Enter")
    expect(plan).to_contain_text("page 3 of 3")
    page.get_by_role("button", name="Previous page of plan.pdf").click()
    expect(plan).to_contain_text("page 2 of 3")
    page.get_by_role("button", name="Previous page of plan.pdf").click()
    expect(plan).to_contain_text("page 1 of 3")
    page.get_by_role("button", name="Next page of plan.pdf", exact=True).click()
    expect(plan).to_contain_text("page 2 of 3")
    page.get_by_role("button", name="Also add the next page of plan.pdf").click()
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
    expect(seen(page, "One lamp:").first).to_be_visible()
    expect(seen(page, "page 3 of 3")).to_be_visible()
    at_rest(page)  # the composer is told last what was asked
    visitor.composer.press("ArrowUp")
    expect(visitor.composer).to_have_value("A first line\nand a second")
    visitor.composer.press("Escape")
    expect(visitor.composer).to_have_value("")
    visitor.leave()


def test_a_photo_is_taken_at_the_detail_that_was_chosen(browser: Browser, address: str) -> None:
    """The camera's picture becomes a chip; another detail changes what the model will see of it; both go with the question."""
    visitor = Visitor(browser, address, scheme="dark")
    page = visitor.page
    page.get_by_role("button", name="Take a photo").click()
    take = page.get_by_role("dialog").get_by_role("button", name="Take photo")
    expect(take).to_be_enabled()
    visitor.look_for_barriers()
    take.dblclick()
    chip = page.get_by_test_id(CHIP)
    expect(chip).to_contain_text("JPEG")
    expect(chip).to_have_count(1)
    detail = page.get_by_role("combobox", name="Picture detail for this question")
    before = chip.inner_text()
    detail.select_option("low_memory")
    expect(chip).not_to_have_text(before)
    expect(chip).to_contain_text("tokens")
    visitor.ask("What is it?")
    expect(page.get_by_role("button", name="Enlarge photo.jpg")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_be_visible()
    visitor.leave()


def test_files_go_where_they_are_meant_and_words_stay_words(browser: Browser, address: str, tmp_path: Path) -> None:
    """Office programs copy a picture beside the words, and a dialog takes files of its own: the composer takes what is for it."""
    visitor = Visitor(browser, address)
    page, chips = visitor.page, visitor.page.get_by_test_id(CHIP)
    search = page.get_by_role("searchbox")
    cells = {"text/plain": "Pump\t12 500 kg", "text/html": "<table><tr><td>Pump</td><td>12 500 kg</td></tr></table>"}
    screenshot = {"image/png": base64.b64encode(png(width=300, height=200)).decode()}
    _copy(page, cells | screenshot)
    visitor.composer.press("ControlOrMeta+v")
    expect(visitor.composer).to_have_value("Pump\t12 500 kg")
    _copy(page, {"text/plain": "P-101"} | screenshot)
    search.press("ControlOrMeta+v")
    expect(search).to_have_value("P-101")
    expect(chips).to_have_count(0)
    _copy(page, {"text/plain": " ", "text/html": "<img alt=''>"} | screenshot)
    visitor.composer.press("ControlOrMeta+v")
    expect(chips).to_have_count(1)
    _copy(page, screenshot)
    search.press("ControlOrMeta+v")
    expect(chips).to_have_count(2)
    expect(search).to_have_value("P-101")
    for _ in range(2):
        page.get_by_role("button", name=re.compile("^Remove ")).first.click()

    large = tmp_path / "large.png"
    large.write_bytes(png(width=4000, height=2000))
    page.get_by_role("combobox", name="Picture detail for this question").select_option("parts")
    page.locator("input[type=file]").set_input_files(large)
    expect(chips).to_contain_text(re.compile("looked at in .* parts"))
    page.locator("input[type=file]").set_input_files(large)
    expect(chips.filter(has_text="seen whole beside others")).to_have_count(2)
    page.get_by_role("button", name="Remove large.png").first.click()
    expect(chips).to_contain_text(re.compile("looked at in .* parts"))

    page.get_by_role("button", name="Ready-made tasks").click()
    page.get_by_role("button", name="Add tasks from a file").click()
    page.get_by_test_id("stFileUploaderDropzone").hover()  # waits until it stands still
    place = page.get_by_test_id("stFileUploaderDropzone").bounding_box()
    assert place is not None
    (tmp_path / "tasks.json").write_text("[]", encoding="utf-8")
    drop(page, tmp_path / "tasks.json", at=(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2))
    expect(page.get_by_role("button", name="Remove tasks.json")).to_be_visible()
    expect(chips).to_have_count(1)
    visitor.leave()


def test_what_is_private_is_not_left_with_the_browser(browser: Browser, address: str, tmp_path: Path) -> None:
    """Browsers write a tab's store to their disk: it holds an ordinary draft, and no word or name of a private one."""
    visitor = Visitor(browser, address)
    page, composer = visitor.page, visitor.composer
    private = page.get_by_role("button", name="Private: the conversation you start now")
    composer.fill("Typed before")
    assert "Typed before" in _kept(page)
    private.click()
    assert "Typed before" not in _kept(page)  # at once, and not only when Python has heard it
    expect(private).to_have_attribute("aria-pressed", "true")
    composer.fill("Whispered")
    (tmp_path / "panel.png").write_bytes(png(width=560, height=280))
    page.locator("input[type=file]").set_input_files(tmp_path / "panel.png")
    assert "Whispered" not in _kept(page) and "panel.png" not in _kept(page)
    expect(page.get_by_test_id(CHIP)).to_contain_text("560 × 280")
    page.reload()
    expect(page.get_by_test_id(CHIP)).to_contain_text("560 × 280")
    expect(composer).to_have_value("")
    composer.fill("Whispered again")
    composer.press("Enter")
    assert "Whispered" not in _kept(page)
    expect(page.get_by_role("button", name="Copy")).to_be_visible()
    composer.fill("Not sent")
    page.get_by_role("button", name="New conversation").click()
    expect(private).to_have_attribute("aria-pressed", "false")
    composer.press_sequentially(" yet")
    assert "Not sent" not in _kept(page)
    composer.fill("")
    composer.fill("An ordinary one")
    assert "An ordinary one" in _kept(page)
    visitor.leave()


def test_another_browser_sees_none_of_it(browser: Browser, address: str) -> None:
    """Each browser has a list of its own; another's address shows a sentence and no picture."""
    first = Visitor(browser, address)
    first.ask("Whose is this?")
    expect(first.page.get_by_role("paragraph").filter(has_text="One lamp:")).to_be_visible()
    expect(first.page).to_have_url(re.compile(r"\?c=\d+$"))  # written as soon as the browser has nothing better to do
    second = Visitor(browser, first.page.url)
    expect(seen(second.page, "Your conversations will appear here.")).to_be_visible()
    expect(seen(second.page, "Whose is this?")).to_have_count(0)
    second.leave()
    first.page.get_by_role("button", name="Status and settings").click()
    expect(first.page.get_by_role("heading", name="Status and settings")).to_be_visible()
    first.look_for_barriers()
    expect(first.page).to_have_url(re.compile("view="))
    first.page.go_back()
    # The browser's own button leads back.
    expect(first.page.get_by_role("paragraph").filter(has_text="One lamp:")).to_be_visible()
    first.leave()


def test_escape_stops_an_answer_and_enter_does_what_the_keyboard_can(browser: Browser, address: str) -> None:
    """From wherever nothing else takes the key, as after a look elsewhere; on glass Enter begins a line, and the button sends."""
    visitor = Visitor(browser, address)
    page = visitor.page
    touch = page.context.new_cdp_session(page)
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    visitor.ask("LONG please")
    page.keyboard.type("and so on")
    expect(visitor.composer).to_have_value("LONG please\nand so on")
    page.get_by_role("button", name="Send").click()
    expect(visitor.composer).to_have_value("")
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    page.locator('[data-act="take-away"]').first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(stop).to_be_enabled()
    visitor.composer.fill("Next")
    page.get_by_test_id("conversation").first.focus()
    page.keyboard.press("Escape")
    expect(seen(page, "Stopped. What had been written is kept.")).to_be_visible()
    expect(visitor.composer).to_have_value("Next")
    visitor.leave()


def test_a_very_large_screen_cuts_no_words(browser: Browser, address: str) -> None:
    """At 4K letters grow, and the side bar with them."""
    visitor = Visitor(browser, address)
    visitor.page.set_viewport_size({"width": 3840, "height": 2160})
    button = visitor.page.get_by_role("button", name="New conversation").locator("p")
    _comes_to(
        button,
        """(p) => {
            const letter = parseFloat(getComputedStyle(p).fontSize);
            return letter > 18 && p.clientHeight < 2 * letter; // one line
        }""",
    )
    # Other pages grow as well, and stand in the middle of what is left.
    visitor.page.get_by_role("button", name="Folders", exact=True).first.click()
    column = visitor.page.locator(".st-key-narrow-batch")
    expect(column).to_be_visible()
    whole = visitor.page.locator('[data-testid="stMainBlockContainer"]:has(.st-key-wide-page)')
    _comes_to(
        whole,
        """(block) => {
            const [inner, outer] = [block, block.parentElement].map((each) => each.getBoundingClientRect());
            const [left, right] = [inner.left - outer.left, outer.right - inner.right];
            return left > 400 && Math.abs(left - right) < 20;
        }""",
    )
    _comes_to(column, "(column) => column.getBoundingClientRect().width > 900")
    visitor.leave()


def test_a_small_screen_paper_and_the_machines_own_colours_show_what_one_reads(browser: Browser, address: str) -> None:
    """Neither the side bar nor the composer stands before the page, and no icon is lost."""
    visitor = Visitor(browser, address, scheme="dark", profile=LONG_OWNER)
    page, side = visitor.page, visitor.page.get_by_test_id("stSidebar")
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_test_id("conversation").click()
    expect(side).to_have_attribute("data-collapsed", "true")
    expect(page.locator(".qvl-bubble").last).to_have_text(f"Question {LONG_TURNS - 1}")

    foot = page.get_by_test_id("stBottom")
    expect(foot).to_have_css("position", "sticky")
    page.set_viewport_size({"width": 320, "height": 256})  # 1280 x 1024, magnified to 400 %
    expect(foot).to_have_css("position", "static")

    page.set_viewport_size({"width": 1280, "height": 860})
    page.get_by_test_id("stExpandSidebarButton").click()
    expect(side).to_have_attribute("data-collapsed", "false")
    page.emulate_media(media="print")
    expect(side).to_be_hidden()
    expect(foot).to_be_hidden()
    expect(page.locator("button[data-act=copy]").last).to_be_hidden()
    expect(page.locator(".qvl-typed").last).to_have_css("color", "rgb(11, 16, 22)")
    expect(page.get_by_test_id("stApp")).to_have_css("background-color", "rgb(255, 255, 255)")

    page.emulate_media(media="screen", forced_colors="active")
    icon = page.locator("button[data-act=copy] .qvl-icon").last
    _comes_to(
        icon, "(icon) => getComputedStyle(icon).backgroundColor !== getComputedStyle(document.body).backgroundColor"
    )
    visitor.leave()


def _comes_to(element: Locator, state: str) -> None:
    """Wait until something is so of an element: a page that has changed is laid out and coloured in several steps."""
    wait_until(lambda: element.evaluate(state))


def _kept(page: Page) -> str:
    return str(page.evaluate("() => JSON.stringify(sessionStorage)"))


def _copy(page: Page, kinds: Mapping[str, str]) -> None:
    """Put on the clipboard what another program would; pictures are encoded in base64."""
    page.evaluate(
        """async (kinds) => {
            const bytes = (encoded) => Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const made = Object.entries(kinds).map(([kind, said]) =>
                [kind, new Blob([kind.startsWith("image/") ? bytes(said) : said], {type: kind})]);
            await navigator.clipboard.write([new ClipboardItem(Object.fromEntries(made))]);
        }""",
        dict(kinds),
    )


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
