"""How quick the page is beside an empty Streamlit page: `python scripts/measure_page.py [TURNS]`.

Serves a history of many turns with pictures (a scripted engine, so that only the page is measured) and an empty page in
the same run, and prints the time from a click to the finished page for both, with their ratio. Needs Chromium and
Playwright; opens connections to this machine alone.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from qwen_vl_app.chat import Question  # noqa: E402
from tests.ui.served_app import build  # noqa: E402

ROUNDS = 7
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


@contextmanager
def serving(command: list[str]) -> Iterator[str]:
    """Run a server on a free port, which is put in the place of `PORT`; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    server = subprocess.Popen(
        [part.replace("PORT", port) for part in command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                    break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(30)


def click_empty(page: Page, number: int) -> float:
    """Return the seconds from a click to the finished empty page."""
    page.bring_to_front()  # browsers draw a page in the background when they please
    started = time.monotonic()
    page.get_by_role("button", name="again").click()
    expect(page.get_by_text(f"run-{number + 1}", exact=True)).to_be_visible(timeout=60_000)
    return time.monotonic() - started


def click_full(page: Page, turns: int) -> float:
    """Return the seconds from a click on the conversation to its last turn on the page."""
    page.bring_to_front()
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("heading", name="Ask about your pictures")).to_be_visible(timeout=60_000)
    started = time.monotonic()
    page.get_by_test_id("conversation").first.click()
    expect(page.get_by_text(f"Question {turns - 1}", exact=True)).to_be_visible(timeout=60_000)
    return time.monotonic() - started


def main(turns: int) -> None:
    """Measure and print."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium on this machine")
    owner = "5" * 32
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder, empty = Path(scratch) / "full", Path(scratch) / "empty.py"
        empty.write_text(EMPTY, encoding="utf-8")
        fill(folder, turns, owner)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        served = ROOT / "tests" / "ui" / "served_app.py"
        streamlit = [sys.executable, "-m", "streamlit", "run", str(empty), "--server.port=PORT"]
        with serving(streamlit) as bare, serving([sys.executable, str(served), "PORT", str(folder)]) as full:
            context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 860})
            context.add_cookies([{"name": "qvl_profile", "value": owner, "url": full}])
            base, ours = context.new_page(), context.new_page()
            base.goto(bare)
            expect(base.get_by_text("run-0", exact=True)).to_be_visible(timeout=60_000)
            ours.goto(full)
            expect(ours.get_by_test_id("conversation").first).to_be_visible(timeout=60_000)
            times = [(click_empty(base, number), click_full(ours, turns)) for number in range(ROUNDS)][1:]
            middle_empty = statistics.median(each[0] for each in times)
            middle_full = statistics.median(each[1] for each in times)
            print(f"an empty page: {middle_empty * 1000:.0f} ms from click to page")
            print(
                f"{turns} turns with pictures: {middle_full * 1000:.0f} ms, {middle_full / middle_empty:.1f} times that"
            )
        browser.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
