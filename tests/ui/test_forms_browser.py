"""The page of forms in a browser, over the demo model: a template from nothing, a picture of its kind, the review by keyboard, the export."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from qwen_vl_app.config import ROOT
from qwen_vl_app.ui import forms_field
from tests.chromium import WAIT_MS
from tests.ui.browsing import Visitor, at_rest, seen

pytestmark = pytest.mark.browser

PUMP = ROOT / "models" / "demo" / "samples" / "pump-panel.png"
MODEL_MS = 240_000
"""The patience with what the model has a part in, on a machine that does other things as well."""
FILL, REVIEW, TEMPLATES, PROOF = range(4)
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Lets the page draw."""


@pytest.fixture
def visit(browser: Browser, demo_address: str) -> Iterator[Callable[..., Page]]:
    """Open the page of forms as one person; nothing may have gone outside."""
    visitors: list[Visitor] = []

    def come(**how: str) -> Page:
        visitor = Visitor(browser, demo_address, **how)  # type: ignore[arg-type]
        visitors.append(visitor)
        visitor.page.locator("[data-row=forms]").click()
        expect(visitor.page.locator(part("forms-section-"))).to_be_visible()
        visitor.page.barriers = visitor.look_for_barriers  # type: ignore[attr-defined]
        return visitor.page

    yield come
    for visitor in visitors:
        visitor.context.close()
        assert visitor.outside == []


def part(key: str) -> str:
    """The selector of an element whose key begins like that, and that is not about to go."""
    return f'{area(key)}[data-stale="false"]'


def area(key: str) -> str:
    """The selector of whatever has a key that begins like that."""
    return f'[class*="st-key-{key}"]'


def turn_to(page: Page, section: int) -> None:
    """Turn to a part of the page of forms, and wait until it is the chosen one."""
    page.locator(part("forms-section-")).get_by_role("radio").nth(section).click()
    chosen = page.locator(part("forms-section-")).get_by_role("radio").nth(section)
    expect(chosen).to_have_attribute("aria-checked", "true")
    at_rest(page)  # a button that is drawn anew between pressing and letting go hears no click


def choose(page: Page, box: Locator, option: str) -> None:
    """Choose from a list."""
    at_rest(page)
    box.get_by_role("combobox").click()
    page.get_by_role("option", name=option, exact=True).click()
    expect(page.get_by_role("option")).to_have_count(0)


def make_template(page: Page, name: str) -> None:
    """A template of two fields, one of them a number of at most 5."""
    turn_to(page, TEMPLATES)
    page.locator(part("forms-new-template")).get_by_role("button").click()
    expect(page.locator(area("ft-open-"))).to_have_count(0)  # typing begins once the fields of the one before are gone
    title = page.locator(part("ft-en-")).locator("input")
    expect(title).to_have_value("")
    title.fill(name)
    title.press("Enter")
    expect(seen(page, "Not saved yet.")).to_be_visible()
    names = page.locator(part("ft-add-names")).locator("input")
    names.fill("TAG, BAR")
    names.press("Enter")
    fields = page.locator(part("ft-open-")).get_by_role("radio")
    expect(fields).to_have_count(2)
    page.locator(part("ft-open-")).locator("label").filter(has_text="2. BAR").click()
    expect(page.locator(part("ft-name-en-")).locator("input")).to_have_value("BAR")
    choose(page, page.locator(part("ft-type-")), "number")
    largest = page.locator(part("ft-maximum-")).locator("input")
    largest.fill("5")
    largest.press("Enter")
    expect(page.locator(part("ft-open-"))).to_contain_text("≤ 5")
    page.get_by_test_id("drop-files").set_input_files(PUMP)
    expect(page.locator(area("forms-sample")).locator("img")).to_be_visible()


def decide(page: Page, typed: dict[str, str], *, is_held: bool) -> str:
    """Decide the field under review with the keyboard alone, and wait for the next; return its name.

    Enter stays down; with `is_held` it is down from before, and a second click on what has gone meanwhile comes as well.
    """
    heading = page.locator(area("forms-current")).get_by_role("heading")
    value = page.locator(part("forms-input-")).locator("input")
    expect(heading).to_have_text(re.compile("^(TAG|BAR)$"))
    expect(value).to_be_focused()
    name = heading.inner_text()
    if is_held:
        page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        page.locator(part("forms-accept-")).get_by_role("button").hover()
        page.mouse.down(click_count=2)
        page.mouse.up(click_count=2)
        value.focus()
    if name in typed:
        page.keyboard.press("Control+A")
        page.keyboard.type(typed[name])
        expect(value).to_have_value(typed[name])
    page.keyboard.down("Enter")
    expect(heading.filter(has_text=re.compile(f"^{name}$"))).to_have_count(0)
    return name


def test_from_nothing_to_the_export(visit: Callable[..., Page]) -> None:
    """What is typed outlasts a look elsewhere; what was read is corrected and accepted without a mouse, and taken away."""
    page = visit()
    title = f"Pump {uuid.uuid4().hex[:8]}"  # templates are the site's, and another test's stay
    make_template(page, title)
    turn_to(page, PROOF)
    expect(seen(page, "The truth set is the site's own proof")).to_be_visible()
    turn_to(page, TEMPLATES)
    expect(page.locator(part("ft-open-"))).to_contain_text("≤ 5")
    page.barriers()  # type: ignore[attr-defined]
    page.locator(part("ft-save-")).get_by_role("button").click()
    expect(page.locator(part("forms-edit-")).get_by_role("combobox")).to_have_value(f"{title} (version 1)")

    turn_to(page, FILL)
    expect(page.locator(part("forms-fill-template")).get_by_role("combobox")).to_have_value(f"{title} (version 1)")
    broken = FilePayload(name="broken.png", mimeType="image/png", buffer=PUMP.read_bytes()[:700])
    whole = FilePayload(name="pump-panel.png", mimeType="image/png", buffer=PUMP.read_bytes())
    page.get_by_test_id("drop-files").set_input_files([whole, broken])
    expect(page.get_by_test_id("drop-told")).to_contain_text("2 files")
    page.get_by_role("button", name="Fill the forms").click()
    expect(page.locator(part("forms-more"))).to_be_visible(timeout=MODEL_MS)
    expect(page.locator(area("forms-run"))).to_contain_text("broken.png:")
    page.locator(part("forms-to-review")).get_by_role("button").click()

    expect(page.locator(part("forms-input-")).locator("input")).to_be_focused()
    page.keyboard.press("Enter")  # nobody has said who decides
    expect(seen(page, "Say who you are first")).to_be_visible()
    who = page.locator(part("forms-who")).locator("input")
    expect(who).to_be_focused()
    who.evaluate("(input) => { input.isTheSame = true; }")
    page.keyboard.type("Ann")
    page.keyboard.press("Enter")
    expect(seen(page, "Say who you are first")).to_have_count(0)
    at_rest(page)
    assert who.evaluate("(input) => input.isTheSame"), (
        "a sentence that goes has all below it drawn anew, the focus with it"
    )
    page.barriers()  # type: ignore[attr-defined]
    assert sorted(decide(page, {"BAR": "4.5"}, is_held=at > 0) for at in range(2)) == ["BAR", "TAG"]
    expect(seen(page, "Every field of this form has been decided.")).to_be_visible()

    taken = take_away(page)
    (form,) = json.loads(taken["json"])["forms"]
    decided = form["fields"]
    assert (decided["bar"]["value"], decided["bar"]["decision"]["kind"]) == (4.5, "corrected")
    assert decided["tag"]["decision"]["kind"] == "accepted"
    assert {each["decision"]["who"] for each in decided.values()} == {"Ann"}
    (line,) = csv.DictReader(io.StringIO(taken["csv"].decode("utf-8-sig")))
    assert (line["Picture"], line["BAR"], line["Reviewed by"]) == ("pump-panel.png", "4.5", "Ann")
    assert taken["xlsx"].startswith(b"PK") and taken["pdf"].startswith(b"%PDF")


def test_the_focus_comes_to_a_value_that_is_drawn_late_and_drawn_anew(browser: Browser) -> None:
    """It is not given to the one that is about to go, and is given once more where the page took it; but nobody who went on is called back."""
    with browser.new_context() as context:
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        value = '<div class="st-key-forms-input-{0}" data-stale="{1}"><input id="{0}"></div>'
        page.set_content(
            '<div data-testid="stApp" data-test-script-state="running"><main></main><input id="other"></div>'
            f'<script type="module">{forms_field._FOCUS.replace("export default", "window.give =")}</script>'
        )
        page.wait_for_function("() => window.give")
        focus = page.locator("input:focus")

        def draw(*values: str) -> None:
            page.locator("main").evaluate("(main, drawn) => { main.innerHTML = drawn; }", "".join(values))

        def rest() -> None:
            page.get_by_test_id("stApp").evaluate("(app) => { app.dataset.testScriptState = 'notRunning'; }")
            page.evaluate(FRAMES)

        draw(value.format("before", "true"))
        page.evaluate("() => give({ data: { token: '1', place: 'forms-input-' } })")
        page.evaluate(FRAMES)
        draw(value.format("before", "true"), value.format("late", "false"))
        expect(focus).to_have_id("late")
        draw(value.format("anew", "false"))
        expect(focus).to_have_id("anew")
        page.locator("#other").focus()
        draw(value.format("again", "false"))
        rest()
        expect(focus).to_have_id("other")


def take_away(page: Page) -> dict[str, bytes]:
    """Take the forms away in every way."""
    page.get_by_role("button", name="Export").click()
    taken = {}
    for kind in ("json", "csv", "xlsx", "pdf"):
        with page.expect_download() as download:
            page.locator(area(f"forms-take-{kind}")).get_by_role("link").click()
        taken[kind] = Path(download.value.path()).read_bytes()
    return taken


def test_a_shared_template_comes_back(visit: Callable[..., Page]) -> None:
    """A document that is none is refused where it was pasted, and stays there to be mended."""
    page = visit(locale="zh-CN", scheme="dark")
    turn_to(page, TEMPLATES)
    page.locator(part("forms-ask-take-in")).get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    text = dialog.locator("textarea")
    text.fill('{"properties": {"位号": {"$ref": "#/$defs/gone"}}}')
    dialog.locator(part("forms-take-in")).get_by_role("button").last.click()
    expect(dialog).to_contain_text("#/$defs/gone")
    expect(text).to_have_value('{"properties": {"位号": {"$ref": "#/$defs/gone"}}}')
    title = f"泵房 {uuid.uuid4().hex[:8]}"
    text.fill(json.dumps({"title": title, "properties": {"位号": {"type": "string"}}}))
    dialog.locator(part("forms-take-in")).get_by_role("button").last.click()
    expect(dialog).to_have_count(0)
    expect(page.locator(part("ft-name-zh-")).locator("input")).to_have_value("位号")
    with page.expect_download() as download:
        page.locator(part("forms-share")).get_by_role("button").click()
    shared = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert shared["title"] == {"zh": title} and shared["fields"][0]["names"] == {"zh": "位号"}
    page.locator(area("forms-ask-remove")).get_by_role("button").first.click()
    page.locator(part("forms-remove-template")).get_by_role("button").click()
    expect(page.locator(part("ft-name-zh-")).locator("input")).not_to_have_value("位号")
    page.locator(part("forms-ask-take-in")).get_by_role("button").click()
    dialog.locator("input[type=file]").set_input_files(
        [FilePayload(name="shared.json", mimeType="application/json", buffer=json.dumps(shared).encode())]
    )
    expect(dialog).to_contain_text("shared.json")
    dialog.locator(part("forms-take-in")).get_by_role("button").last.click()
    expect(dialog).to_have_count(0)
    expect(page.locator(part("ft-name-zh-")).locator("input")).to_have_value("位号")
