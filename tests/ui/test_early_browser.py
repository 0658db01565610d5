"""What a person does while the page is not ready for it: too early, twice in a breath, while the connection is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.chromium import WAIT_MS
from tests.ui.browsing import CHIP, TEXT_AREA, at_rest, drop, seen
from tests.ui.fakes import png
from tests.ui.line import Line

pytestmark = pytest.mark.browser

COMPOSERS_FILE = "**/app/parts/composer-*"
STAGED = "**/app/uploads?ids=*"
UPLOAD = "**/app/uploads?name=*"
DROP = "**/app/drops/*"
CELLS_PASTED = """() => {
    const carried = new DataTransfer();
    carried.setData("text/plain", "12 500 kg");
    carried.setData("text/html", "<td>12 500 kg</td>");
    carried.items.add(new File(["no words"], "image.png", {type: "image/png"}));
    return document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: carried, bubbles: true, cancelable: true}));
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, not opened yet."""
    with browser.new_context(viewport={"width": 1280, "height": 860}) as context:
        context.set_default_timeout(WAIT_MS)
        yield context.new_page()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture that a person has."""
    (tmp_path / "panel.png").write_bytes(png(width=560, height=280))
    return tmp_path / "panel.png"


def test_nothing_is_lost_while_the_connection_is_away_or_the_server_is_busy(
    page: Page, address: str, picture: Path
) -> None:
    """Enter with no connection waits and says so, as the page does; two questions that the server reads at once are both asked."""
    line = Line(page)
    page.goto(address)
    composer, bubbles = page.get_by_test_id(TEXT_AREA), page.locator(".qvl-bubble")
    expect(composer).to_be_enabled()
    page.locator("input[type=file]").set_input_files(picture)
    expect(page.get_by_test_id(CHIP)).to_contain_text("560 × 280")
    line.cut()
    composer.fill("Asked while it was away")
    composer.press("Enter")
    expect(page.get_by_role("status").filter(has_text="The app is not responding ·")).to_be_visible()
    expect(composer).to_have_value("Asked while it was away")
    away, page_rows = seen(page, "The app is not responding; it"), page.get_by_test_id("stSidebarUserContent")
    expect(away).to_be_visible()
    expect(page_rows).to_have_css("pointer-events", "none")
    line.mend()
    expect(bubbles).to_have_text(["Asked while it was away"])
    expect(page.get_by_role("button", name="Enlarge panel.png")).to_be_visible()
    expect(composer).to_have_value("")
    expect(away).to_have_count(0)
    expect(page_rows).not_to_have_css("pointer-events", "none")

    line.hold()
    for text in ("The first of two", "The second of two"):
        composer.fill(text)
        composer.press("Enter")
    line.let_go()
    expect(bubbles).to_have_text(["Asked while it was away", "The first of two", "The second of two"])
    expect(page.locator("[data-acts-of]")).to_have_count(3)


def test_what_goes_astray_on_a_standing_connection_is_told_once_more(page: Page, address: str) -> None:
    """The page counts on being heard: a question that Python has not said that it heard is told again, and asked once."""
    line = Line(page)
    page.goto(address)
    composer, bubbles = page.get_by_test_id(TEXT_AREA), page.locator(".qvl-bubble")
    expect(composer).to_be_enabled()
    for _ in range(2):  # also the second time it is told
        line.lose(b"Asked into the wind")
    composer.fill("Asked into the wind")
    composer.press("Enter")
    expect(bubbles).to_have_text(["Asked into the wind"])
    assert line.is_all_lost
    composer.fill("Asked after it")
    composer.press("Enter")
    expect(bubbles).to_have_text(["Asked into the wind", "Asked after it"])
    expect(page.locator("[data-acts-of]")).to_have_count(2)


def test_the_page_alone_says_that_the_app_is_away(page: Page, address: str) -> None:
    """Streamlit asks in a dialog whether one is connected to the internet, and takes the focus: it is closed."""
    line = Line(page)
    page.goto(address)
    expect(page.get_by_test_id(TEXT_AREA)).to_be_enabled()
    line.cut()
    page.evaluate(
        """() => {
            const asks = "<section><button></button>Are you connected to the internet?</section>";
            document.body.insertAdjacentHTML("beforeend", `<div data-testid="stDialog">${asks}</div>`);
            document.body.lastElementChild.querySelector("button").addEventListener("click", () => { window.isClosed = true; });
        }"""
    )
    page.wait_for_function("() => window.isClosed")
    expect(seen(page, "The app is not responding; it")).to_be_visible()


def test_a_question_waits_for_its_pictures_and_comes_back_whole(page: Page, address: str, picture: Path) -> None:
    """After a reload Enter may be faster than the chips; and what cannot be asked joins what is being typed by then."""
    line = Line(page)
    page.goto(address)
    composer, chip = page.get_by_test_id(TEXT_AREA), page.get_by_test_id(CHIP)
    expect(composer).to_be_enabled()
    page.locator("input[type=file]").set_input_files(picture)
    expect(chip).to_contain_text("560 × 280")
    composer.fill("Where is the lamp?")
    held: list[Route] = []
    page.route(STAGED, lambda route: held.append(route), times=1)  # noqa: PLW0108 - playwright marks what it calls
    with page.expect_request(STAGED):
        page.reload()
    expect(composer).to_have_value("Where is the lamp?")
    composer.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Will be sent as soon as the pictures are here")).to_be_visible()
    held.pop().continue_()
    expect(page.get_by_role("button", name="Enlarge panel.png")).to_be_visible()
    expect(page.locator(".qvl-bubble")).to_have_text(["Where is the lamp?"])
    expect(chip).to_have_count(0)

    page.locator("input[type=file]").set_input_files(picture)
    expect(chip).to_contain_text("560 × 280")
    page.evaluate("() => fetch(`/app/uploads/${qvlComposer.chips[0].id}`, {method: 'DELETE'})")
    line.hold()
    composer.fill("About a picture that is gone")
    composer.press("Enter")
    composer.press_sequentially("The next")
    line.let_go()
    expect(page.get_by_test_id("stAlert")).to_contain_text("add it again")
    expect(composer).to_have_value("About a picture that is gone\nThe next")
    page.reload()
    expect(composer).to_have_value("About a picture that is gone\nThe next")


def test_what_waits_for_an_upload_is_asked_nowhere_else(page: Page, address: str, picture: Path) -> None:
    """Another conversation is opened meanwhile: the question stays in the composer. A reload says which file is lost."""
    page.goto(address)
    composer, chip = page.get_by_test_id(TEXT_AREA), page.get_by_test_id(CHIP)
    expect(composer).to_be_enabled()
    composer.fill("An old question")
    composer.press("Enter")
    expect(page.get_by_role("button", name="Copy")).to_be_visible()
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".qvl-card").first).to_be_visible()
    held: list[Route] = []
    page.route(UPLOAD, lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it calls
    with page.expect_request(UPLOAD):
        page.locator("input[type=file]").set_input_files(picture)
    page.get_by_role("combobox", name="Picture detail for this question").select_option("low_memory")
    composer.fill("About the new picture")
    composer.press("Enter")
    page.get_by_test_id("conversation").click()
    expect(page.locator(".qvl-bubble")).to_have_text(["An old question"])
    with page.expect_request(lambda request: '"low_memory"' in (request.post_data or "")):
        held.pop().continue_()
    expect(chip).to_contain_text("560 × 280")
    expect(composer).to_have_value("About the new picture")
    expect(seen(page, "Will be sent as soon as")).to_have_count(0)

    with page.expect_request(UPLOAD):
        page.locator("input[type=file]").set_input_files(picture)
    page.reload()
    lost = page.get_by_role("alert").filter(has_text="reloaded while this file was on its way")
    expect(lost).to_be_visible()
    expect(chip.filter(has_text="560 × 280")).to_have_count(1)
    expect(page.locator(".qvl-bubble")).to_have_text(["An old question"])


def test_a_file_that_is_dropped_before_the_composer_is_there_is_taken(page: Page, address: str, picture: Path) -> None:
    """The browser does not open it in the page's place; and the composer comes though its file could not be had at first."""
    held: list[Route] = []
    page.route(COMPOSERS_FILE, lambda route: held.append(route), times=1)  # noqa: PLW0108
    with page.expect_request(COMPOSERS_FILE):
        page.goto(address)
        page.locator(".qvl-card").first.wait_for()
    drop(page, picture)
    assert page.evaluate(CELLS_PASTED)  # words with a picture of them beside: left to where one writes
    held.pop().abort()
    expect(page.get_by_test_id(CHIP)).to_contain_text("560 × 280")
    expect(page.get_by_test_id(CHIP)).to_have_count(1)
    assert len(page.context.pages) == 1
    drop(page, picture.parent)
    expect(page.get_by_test_id(CHIP).nth(1)).to_contain_text("it is a folder")


def test_a_run_waits_for_all_that_is_dropped(page: Page, address: str, picture: Path) -> None:
    """Started while a file is on its way, it would leave that out without a word: a sentence says so, and nothing begins."""
    page.goto(f"{address}?view=batch")
    files, told = page.get_by_test_id("drop-files"), page.get_by_test_id("drop-told")
    files.set_input_files(picture)
    expect(told).to_contain_text("1 file")
    held: list[Route] = []
    page.route(DROP, lambda route: held.append(route), times=1)  # noqa: PLW0108
    second = picture.with_name("second.png")
    second.write_bytes(png(width=300, height=200))
    with page.expect_request(DROP):
        files.set_input_files(second)
    start = page.get_by_role("button", name="Start")
    start.click()
    expect(seen(page, "Some of the pictures are still on their way")).to_be_visible()
    held.pop().continue_()
    expect(told).to_contain_text("2 files")
    start.click()
    expect(page).to_have_url(re.compile("run="))
    expect(seen(page, "2 of 2")).to_be_visible()
    at_rest(page)  # else the table may be moved away from under the pointer
    page.get_by_test_id("stDataFrame").hover()
    tools = page.get_by_test_id("stElementToolbarButton")
    expect(tools.filter(has=page.locator('[aria-label^="Search"]'))).to_be_visible()
    expect(tools.filter(has=page.locator('[aria-label^="Download"]'))).to_be_hidden()  # cells would run as formulas
