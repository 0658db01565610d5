"""A newcomer's first look at everything, by keyboard and with a reader: in the pairs of language and theme that others leave."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from qwen_vl_app.texts import Language, t
from tests.ui.browsing import CHIP, Visitor
from tests.ui.fakes import png

pytestmark = pytest.mark.browser

LOCALES = {Language.ENGLISH: "en-US", Language.CHINESE: "zh-CN"}
FOCUSED = """() => {
    let at = document.activeElement;
    while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
    if (!at || at === document.body) return null;
    return [at.tagName, at.getAttribute("aria-label") || at.title || at.placeholder || at.innerText || at.alt || ""];
}"""


@pytest.mark.parametrize(("language", "scheme"), [(Language.CHINESE, "light"), (Language.ENGLISH, "dark")])
def test_first_ten_minutes(
    browser: Browser, address: str, tmp_path: Path, language: Language, scheme: Literal["light", "dark"]
) -> None:
    """Welcome, a picture, its answer, the picture large, the status and the settings: all without a barrier."""
    visitor = Visitor(browser, address, locale=LOCALES[language], scheme=scheme)
    page = visitor.page
    expect(page.get_by_role("heading", name=t("ui.welcome.title", language))).to_be_visible()
    visitor.look_for_barriers()
    names = _walk(page, 30)
    assert all(name.strip() for _, name in names), names
    assert {"TEXTAREA", "INPUT", "BUTTON", "SELECT"} <= {tag for tag, _ in names}, names

    (tmp_path / "panel.png").write_bytes(png(width=560, height=280))
    page.locator("input[type=file]").set_input_files(tmp_path / "panel.png")
    expect(page.get_by_test_id(CHIP)).to_contain_text("560 × 280")
    visitor.composer.press("Enter")  # without a word: there is a question for that
    expect(page.locator("button[data-act=copy]")).to_be_visible()
    large = page.get_by_role("button", name=t("ui.picture.enlarge", language, name="panel.png"))
    large.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    visitor.look_for_barriers()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(".st-key-status button").first.click()
    visitor.look_for_barriers()
    page.keyboard.press("Escape")
    page.get_by_role("button", name=t("ui.settings.title", language)).click()
    expect(page.get_by_role("heading", name=t("ui.settings.title", language))).to_be_visible()
    visitor.look_for_barriers()
    visitor.leave()


def _walk(page: Page, steps: int) -> list[tuple[str, str]]:
    """Press Tab from the start of the page; return what had the focus, by kind and name."""
    met = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        if (focused := page.evaluate(FOCUSED)) is not None:
            met.append((str(focused[0]), str(focused[1])))
    return met
