"""The composer's script over the page's own Python, with the connection between them in the test's hand: cut, begun anew, held up.

What passes between the two is handed over here, as Streamlit would. There is no server, so that it can end at any moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from streamlit.testing.v1 import AppTest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.private import is_private
from qwen_vl_app.ui.browser_part import part_scripts
from qwen_vl_app.ui.holdings import Told
from tests.chromium import WAIT_MS
from tests.ui.browsing import CHIP, TEXT_AREA, seen
from tests.ui.conftest import MakeAssistant, address_of, composer_of, finish, page_of, send, tell, words_on
from tests.ui.fakes import png

pytestmark = pytest.mark.browser

SITE = "http://127.0.0.1:9/"
"""Nothing listens there: the test answers."""
STAGED = {"id": "a", "name": "panel.png"}
"""What the page is told of every picture."""
SCRIPT = next(text for name, text in part_scripts().items() if name.startswith("composer-"))
PAGE = """<!doctype html><title>Composer</title>
<div data-testid="stApp" data-test-connection-state="CONNECTED" data-test-script-state="notRunning"><div id="place"></div></div>
<script type="module">
    import composer from "/composer.js";
    const parentElement = document.getElementById("place");
    window.told = [];
    const setTriggerValue = (_, said) => { window.told = said; };
    window.draw = (data) => { window.leave = composer({ parentElement, data, setTriggerValue }); };
</script>"""


class Tab:
    """A tab whose server is the page's Python, run at every `pass_on`."""

    def __init__(self, page: Page, assistant: Assistant, address: str = "") -> None:
        self.page, self.assistant = page, assistant
        self._opened_at = dict(part.split("=", 1) for part in address.split("&") if part)
        self.app: AppTest = page_of(assistant, address=self._opened_at)
        page.route(f"{SITE}**", self._answer)
        page.goto(f"{SITE}?{address}" if address else SITE)
        page.wait_for_function("() => window.draw")
        self._draw()

    @property
    def composer(self) -> Locator:
        """Where one types."""
        return self.page.get_by_test_id(TEXT_AREA)

    @property
    def private(self) -> Locator:
        """The switch."""
        return self.page.get_by_role("button", name="Private: the conversation you start now")

    def ask(self, text: str) -> None:
        """Type a question and send it."""
        self.composer.fill(text)
        self.composer.press("Enter")

    def cut(self) -> None:
        """Let the connection go."""
        self._connect("DISCONNECTED_FOREVER")

    def begin_anew(self) -> None:
        """Put another server there, which draws the page at the address at which the tab was once opened."""
        self.app = page_of(self.assistant, address=self._opened_at)
        self._connect("CONNECTED")
        self._draw()

    def mend(self) -> None:
        """Bring the same server back."""
        self._connect("CONNECTED")

    def pass_on(self) -> None:
        """Let Python hear what was told, and the page be drawn from it."""
        said = self.page.evaluate("() => window.told.splice(0)")
        if said:
            self.app = tell(self.app, *(Told(each["number"], each["kind"], each["value"]) for each in said))
            self._draw()

    def until(self, is_so: Callable[[], object]) -> None:
        """Pass everything on until something is so."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not is_so():
            assert time.monotonic() < deadline, self.store()
            self.page.wait_for_timeout(50)
            self.pass_on()

    def store(self) -> dict[str, Any]:
        """Return what the composer holds."""
        held: dict[str, Any] = json.loads(self.page.evaluate("() => JSON.stringify(window.qvlComposer)"))
        return held

    def kept(self) -> str:
        """Return what lies in the browser's store."""
        found: str = self.page.evaluate("() => JSON.stringify(sessionStorage)")
        return found

    def is_asked_privately(self, text: str) -> bool:
        """Return whether a question stands in the open conversation, and that is a private one."""
        number = int(address_of(self.app).get("c", 0))
        asked = [turn.question for turn in self.assistant.turns("local", number)] if is_private(number) else []
        return asked == [text]

    def _connect(self, state: str) -> None:
        self.page.evaluate(
            "state => { document.querySelector('[data-testid=\"stApp\"]').dataset.testConnectionState = state; }", state
        )

    def _draw(self) -> None:
        self.page.evaluate("data => window.draw(data)", composer_of(self.app))

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(SITE)
        if path == "composer.js":
            route.fulfill(body=SCRIPT, content_type="text/javascript")
        elif path.startswith("app/uploads"):
            said = STAGED if route.request.method == "POST" else [STAGED] if "ids=a" in path else []
            route.fulfill(body=json.dumps(said), content_type="application/json")
        else:
            route.fulfill(body=PAGE, content_type="text/html")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, not opened yet."""
    with browser.new_context() as context:
        context.set_default_timeout(WAIT_MS)
        yield context.new_page()


@pytest.fixture
def assistant(make_assistant: MakeAssistant) -> Assistant:
    """One with a conversation that everybody may see."""
    made = make_assistant(*["Yes."] * 5)
    finish(made, send(page_of(made), "The old one"))
    return made


def is_nothing_told_of_it(tab: Tab) -> bool:
    """Return whether the ordinary conversations are those that they were."""
    shown = tab.assistant.conversations("local")
    return [each.title for each in shown] == ["The old one"] and len(tab.assistant.turns("local", 1)) == 1


@pytest.mark.parametrize("asked", ["while away", "told and not heard", "afterwards"])
@pytest.mark.parametrize("address", ["", "c=1"])
def test_the_mark_outlasts_the_server(page: Page, assistant: Assistant, address: str, asked: str) -> None:
    """One that begins anew has forgotten the switch, and may begin at another address than that at which one is."""
    tab = Tab(page, assistant, address)
    if address:
        tab.app = tab.app.button(key="new").click().run()
        tab._draw()
        expect(page).to_have_url(SITE)
    if asked != "told and not heard":
        tab.cut()
    tab.private.click()
    expect(tab.private).to_have_attribute("aria-pressed", "true")
    expect(seen(page, "Private: kept in memory only")).to_be_visible()
    if asked == "afterwards":
        tab.composer.fill("Between us")
    else:
        tab.ask("Between us")
    assert "Between us" not in tab.kept()
    tab.cut()
    tab.page.evaluate("() => window.told.splice(0)")
    tab.begin_anew()
    if asked == "while away":
        tab.until(lambda: tab.is_asked_privately("Between us"))
    else:  # what was told and not heard is back where it was typed
        expect(tab.composer).to_have_value("Between us")
        tab.until(lambda: composer_of(tab.app)["private"] == "on" and not tab.store()["unheard"])
        expect(tab.private).to_have_attribute("aria-pressed", "true")
        assert "Between us" not in tab.kept()
        tab.composer.press("Enter")
        tab.until(lambda: tab.is_asked_privately("Between us"))
    expect(tab.private).to_be_hidden()
    assert is_nothing_told_of_it(tab)
    assert "Between us" not in tab.kept()


def test_nothing_that_is_done_meanwhile_takes_the_mark_away(page: Page, assistant: Assistant) -> None:
    """Another click, Escape, the second click of two; the switch itself does, and is seen to."""
    tab = Tab(page, assistant)
    tab.cut()
    tab.private.dblclick()
    tab.ask("Between us")
    page.get_by_role("button", name="Ready-made tasks").click()
    tab.composer.press("Escape")
    expect(tab.composer).to_have_value("Between us")
    expect(tab.private).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Ready-made tasks").click()
    tab.private.click()
    expect(tab.private).to_have_attribute("aria-pressed", "false")
    tab.private.click()
    tab.composer.press("Enter")
    tab.mend()
    tab.until(lambda: tab.is_asked_privately("Between us"))
    assert is_nothing_told_of_it(tab)


def test_what_was_marked_and_not_asked_says_so_elsewhere(page: Page, assistant: Assistant) -> None:
    """An ordinary conversation was opened meanwhile: the question stays where it was typed, and a second Enter does not ask it there."""
    tab = Tab(page, assistant)
    tab.private.click()
    tab.until(lambda: composer_of(tab.app)["private"] == "on")
    tab.cut()
    tab.ask("Between us")
    tab.app.session_state["page_state"].open(1)
    tab.app = tab.app.run()
    tab._draw()
    tab.mend()
    tab.until(lambda: not tab.store()["isWaiting"])
    expect(tab.composer).to_have_value("Between us")
    tab.composer.press("Enter")
    tab.until(lambda: "marked private" in words_on(tab.app))
    expect(tab.composer).to_have_value("Between us")
    assert is_nothing_told_of_it(tab)
    assert "Between us" not in tab.kept()
    tab.composer.press("Enter")  # it was said why; now it is the person's own wish
    tab.until(lambda: not is_nothing_told_of_it(tab))


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_site_that_has_begun_to_keep_records_gets_no_marked_question(
    page: Page, assistant: Assistant, is_heard: bool
) -> None:
    """It was set up so while the page stood open, before or after Python has heard the click."""
    tab = Tab(page, assistant)
    if is_heard:
        tab.private.click()
        tab.until(lambda: composer_of(tab.app)["private"] == "on")
        tab.cut()
    else:
        tab.cut()
        tab.private.click()
    tab.composer.fill("Between us")
    assistant.private.may_begin = False
    tab.begin_anew()
    tab.composer.press("Enter")
    tab.until(lambda: "keeps every question as a record" in words_on(tab.app))
    expect(tab.composer).to_have_value("Between us")
    assert is_nothing_told_of_it(tab)
    assert "Between us" not in tab.kept()


def test_the_mark_outlasts_a_reload_with_the_pictures(page: Page, assistant: Assistant) -> None:
    """They come back where the words do not, though Python never heard the click, and the address says nothing of it."""
    tab = Tab(page, assistant)
    page.locator("input[type=file]").set_input_files({"name": "panel.png", "mimeType": "image/png", "buffer": png()})
    tab.cut()
    tab.private.click()
    tab.composer.fill("Between us")
    expect(page.get_by_test_id(CHIP)).to_contain_text("panel.png")
    tab.until(lambda: '\\"a\\"' in tab.kept())
    tab = Tab(page, assistant)
    expect(page.get_by_test_id(CHIP)).to_contain_text("panel.png")
    expect(tab.composer).to_have_value("")
    expect(tab.private).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Remove panel.png").click()
    expect(tab.private).to_have_attribute("aria-pressed", "false")


def test_a_draft_from_before_the_switch_is_kept_after_it(page: Page, assistant: Assistant) -> None:
    """Switched on by mistake and off again; what was typed in between stays out of the browser's store."""
    tab = Tab(page, assistant)
    tab.composer.fill("Typed before")
    for stands, is_kept in (("on", False), ("choice", True)):
        tab.private.click()
        tab.until(lambda: not tab.store()["unheard"])
        assert composer_of(tab.app)["private"] == stands
        assert ("Typed before" in tab.kept()) is is_kept
    tab.composer.press_sequentially(", and after")
    assert "Typed before, and after" in tab.kept()
    tab.private.click()
    tab.composer.press_sequentially(", whispered")
    tab.private.click()
    assert "Typed before" not in tab.kept()
    tab.composer.press_sequentially("!")
    assert "Typed before" not in tab.kept()


def test_what_was_said_of_a_click_outlasts_the_next_drawing(page: Page, assistant: Assistant) -> None:
    """An answer that ends while one copies draws the page anew: whether it was copied stays to be read."""
    tab = Tab(page, assistant)
    before, after = page.evaluate(
        """async (data) => {
            const hint = document.querySelector(".bar > .hint");
            const said = new Promise((done) => new MutationObserver(() => done(hint.textContent)).observe(hint, {childList: true}));
            document.body.insertAdjacentHTML("beforeend", "<button data-act=copy data-turn=1>Copy</button>");
            document.querySelector("[data-act=copy]").click();
            const before = await said;
            window.draw(data);
            return [before, hint.textContent];
        }""",
        composer_of(tab.app),
    )
    assert before and after == before


def test_the_side_bar_is_alive_when_the_app_is_back(page: Page, assistant: Assistant) -> None:
    """Also where the composer that said it was away has left the page since, and another stands there."""
    tab = Tab(page, assistant)
    tab.cut()
    away = seen(page, "The app is not responding; it may")
    expect(away).to_be_visible()
    expect(page.locator("html[data-qvl-away]")).to_have_count(1)
    page.evaluate("() => document.getElementById('place').remove()")
    tab._connect("CONNECTED")
    page.evaluate("() => window.leave()")
    expect(page.locator("html[data-qvl-away], html[data-qvl-cut]")).to_have_count(0)
