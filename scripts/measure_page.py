"""How quick the page is beside an empty Streamlit page: `python scripts/measure_page.py [TURNS]`.

Serves a history of many turns with pictures (a scripted engine, so that only the page is measured) and an empty page in
the same run, and clicks on them in turn. Two times are taken inside the browser, to the millisecond: until Streamlit
says that the script is over, and until the finished page was painted. What is printed are the middle times, and the
middle of the ratios of neighbouring clicks, so that a machine that is busy now and then is busy for both. The processor
time that the browser's page took for it is printed as well: that tells something on a busy machine, too. Needs Chromium
and Playwright; opens connections to this machine alone.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Locator, Page, expect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.chat import Question
from scripts.looking import PORT, ROOT, chromium, serving
from tests.ui.served_app import build

ROUNDS = 16
WARM_UPS = 3
TIMEOUT_MS = 120_000
EMPTY = """
import streamlit as st
at = st.session_state.get("at", 0)
def count() -> None:
    st.session_state["at"] = at + 1
st.button("again", on_click=count)
st.markdown(f"run-{at}")
"""


def fill(folder: Path, turns: int, owner: str) -> None:
    """Ask and answer `turns` questions with a picture each, in one conversation."""
    with build(folder) as assistant:
        assistant.wait_until_loaded(60)
        conversation: int | None = None
        photos = [assistant.stage(_photo(number), f"photo-{number}.jpg") for number in range(4)]
        for number in range(turns):
            staged = replace(photos[number % len(photos)], staged_id=str(number))
            job = assistant.ask(Question(f"Question {number}", (staged,), conversation), owner=owner)
            job.wait(60)
            conversation = job.conversation_id


def _photo(number: int) -> bytes:
    image = Image.effect_noise((320, 240), 40).convert("RGB")
    ImageDraw.Draw(image).rectangle((40 + number, 40, 140 + number, 100), fill=(200, 40, 40))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


CLICK = """
(button, [selector, text]) => new Promise((done) => {
  const app = document.querySelector('[data-testid="stApp"]');
  const started = performance.now();
  let hasBegun = false, script = 0;
  const look = () => {
    const isRunning = app.dataset.testScriptState === "running";
    const isThere = [...document.querySelectorAll(selector)].some((each) => each.textContent === text);
    hasBegun ||= isRunning || isThere; // a short run can be over before the page has shown that it began
    if (!hasBegun || isRunning) return;
    script ||= performance.now() - started;
    if (!isThere) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done([script, performance.now() - started])));
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  button.click();
})
"""
"""Clicks, and tells the milliseconds until the script is over, and until the text is on a page that was painted."""


@dataclass(frozen=True, slots=True)
class Times:
    """What one click took, in milliseconds."""

    script_ms: float
    page_ms: float
    work_ms: float
    """The processor time of the page's own thread in the browser."""


class Tab:
    """One page, and what it has worked so far."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(TIMEOUT_MS)
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked_ms(self) -> float:
        """Return the processor time of the page's thread."""
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")

    def click(self, button: Locator, selector: str, text: str) -> Times:
        """Click and wait for the text in an element of that selector."""
        self.page.bring_to_front()  # browsers draw a page in the background when they please
        button.wait_for()
        before = self.worked_ms()
        script_ms, page_ms = button.evaluate(CLICK, [selector, text])
        return Times(script_ms, page_ms, self.worked_ms() - before)


def click_empty(tab: Tab, number: int) -> Times:
    """Click on the empty page."""
    button = tab.page.get_by_role("button", name="again")
    return tab.click(button, '[data-testid="stMarkdownContainer"] p', f"run-{number + 1}")


def click_full(tab: Tab, turns: int) -> Times:
    """Click on the conversation, from the page that begins a new one."""
    page = tab.page
    page.bring_to_front()
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("heading", name="Ask about your pictures")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible(timeout=TIMEOUT_MS)
    return tab.click(page.get_by_test_id("conversation").first, ".qvl-typed", f"Question {turns - 1}")


def tell(what: str, pairs: list[tuple[float, float]]) -> None:
    """Print both middle times and the middle ratio. A pair is the empty page's milliseconds, and ours."""
    empty, full = (statistics.median(each[at] for each in pairs) for at in (0, 1))
    ratios = sorted(ours / base for base, ours in pairs)
    print(
        f"{what}: {empty:.0f} ms for an empty page, {full:.0f} ms here: {statistics.median(ratios):.2f} times "
        f"(pairs from {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("turns", nargs="?", type=int, default=100, help="questions with a picture each in the history")
    turns = parser.parse_args(arguments).turns
    owner = "5" * 32
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        folder, empty = Path(scratch) / "full", Path(scratch) / "empty.py"
        empty.write_text(EMPTY, encoding="utf-8")
        fill(folder, turns, owner)
        served = ROOT / "tests" / "ui" / "served_app.py"
        streamlit = [sys.executable, "-m", "streamlit", "run", str(empty), f"--server.port={PORT}"]
        with serving(streamlit) as bare, serving([sys.executable, str(served), PORT, str(folder)]) as full:
            context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 860})
            context.add_cookies([{"name": "qvl_profile", "value": owner, "url": full}])
            base, ours = Tab(context.new_page()), Tab(context.new_page())
            base.page.goto(bare)
            expect(base.page.get_by_text("run-0", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
            ours.page.goto(full)
            expect(ours.page.get_by_test_id("conversation").first).to_be_visible(timeout=TIMEOUT_MS)
            times = [(click_empty(base, number), click_full(ours, turns)) for number in range(ROUNDS)][WARM_UPS:]
            print(f"{turns} turns with pictures, {len(times)} pairs of clicks")
            tell("script", [(each.script_ms, other.script_ms) for each, other in times])
            tell("click to page", [(each.page_ms, other.page_ms) for each, other in times])
            tell("work in the browser", [(each.work_ms, other.work_ms) for each, other in times])


if __name__ == "__main__":
    main()
