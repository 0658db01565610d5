"""Take the README's pictures: the real app with the demo model in Chromium, every page that a newcomer sees.

`python scripts/screenshots.py [NAME ...]` writes `docs/images/NAME.png`, all of them without a name. Needs Chromium and
Playwright; opens connections to this machine alone.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageFilter
from playwright.sync_api import FilePayload, Page, expect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.looking import PORT, ROOT, chromium, serving

IMAGES = ROOT / "docs" / "images"
ANSWER_TIMEOUT_MS = 180_000


@dataclass(frozen=True)
class Shot:
    """One picture: its name, the browser that it is taken in, and what is done before."""

    name: str
    locale: str
    scheme: Literal["light", "dark"]
    prepare: Callable[[Page], None]
    height: int = 860


def show_welcome(page: Page) -> None:
    """The empty conversation with the model's samples."""
    expect(page.locator(".qvl-sample").first).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    expect(page.locator(".qvl-sample img").last).to_be_visible()


def ask_where(page: Page) -> None:
    """A question about two lamps, with boxes on the picture."""
    show_welcome(page)
    page.locator(".qvl-sample").nth(_sample("two-lamps.png")).click()
    _await_answer(page)


def show_chips(page: Page) -> None:
    """Pictures that wait for their question: good ones, a page of a PDF, and one that is blamed."""
    show_welcome(page)
    samples = ROOT / "models" / "demo" / "samples"
    blurred = io.BytesIO()
    with Image.open(samples / "motor-plate.png") as sharp:
        sharp.convert("RGB").filter(ImageFilter.GaussianBlur(12)).save(blurred, "JPEG", quality=92)
    page.locator("input[type=file]").set_input_files(
        [
            FilePayload(name="pump-panel.png", mimeType="image/png", buffer=(samples / "pump-panel.png").read_bytes()),
            FilePayload(name="photo.jpg", mimeType="image/jpeg", buffer=blurred.getvalue()),
            FilePayload(name="notes.docx", mimeType="application/octet-stream", buffer=b"PK not a picture"),
        ]
    )
    chips = page.get_by_test_id("composer-chip")
    expect(chips).to_have_count(3)
    expect(chips.nth(0).locator("img")).to_be_visible()
    expect(chips.nth(1).locator("img")).to_be_visible()
    page.get_by_test_id("composer-text").fill("Read all the text in the image.")


def show_settings(page: Page) -> None:
    """Status and settings."""
    show_welcome(page)
    page.locator("[data-row=settings]").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()


def ask_fields(page: Page) -> None:
    """A question for fields, with a table."""
    show_welcome(page)
    page.locator(".qvl-sample").nth(_sample("pump-panel.png")).click()
    _await_answer(page)


SHOTS = (
    Shot("answer-en", "en-US", "light", ask_where, 1180),
    Shot("answer-zh", "zh-CN", "dark", ask_where, 1180),
    Shot("welcome-en", "en-US", "light", show_welcome),
    Shot("welcome-zh", "zh-CN", "dark", show_welcome),
    Shot("composer-en", "en-US", "light", show_chips),
    Shot("status-en", "en-US", "light", show_settings, 1000),
    Shot("fields-en", "en-US", "dark", ask_fields, 1040),
)


def _sample(file: str) -> int:
    names = (ROOT / "models" / "demo" / "samples" / "samples.json").read_text(encoding="utf-8").split('"file": "')[1:]
    return [name.partition('"')[0] for name in names].index(file)


def _await_answer(page: Page) -> None:
    expect(page.locator("[data-acts-of]").last).to_be_visible(timeout=ANSWER_TIMEOUT_MS)


def take(page: Page, shot: Shot) -> None:
    """Prepare, wait until nothing moves, and write the picture."""
    shot.prepare(page)
    page.wait_for_load_state("networkidle")
    for grid in page.get_by_test_id("stDataFrame").all():
        expect(grid.locator("canvas").first).to_be_visible()  # tables are drawn by a part that is loaded later
    page.evaluate("() => document.fonts.ready.then(() => true)")
    page.mouse.move(0, 0)
    page.screenshot(path=IMAGES / f"{shot.name}.png", animations="disabled")


def main(arguments: list[str] | None = None) -> None:
    """Take the pictures of the names on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [shot.name for shot in SHOTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    wanted = parser.parse_args(arguments).names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"there is no picture called {unknown[0]}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    streamlit = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={PORT}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(streamlit, QWEN_VL_DATA_DIR=folder, QWEN_VL_MODEL="demo", QWEN_VL_PORT=PORT) as address,
        chromium() as browser,
    ):
        for shot in SHOTS:
            if wanted and shot.name not in wanted:
                continue
            context = browser.new_context(
                locale=shot.locale,
                color_scheme=shot.scheme,
                viewport={"width": 1280, "height": shot.height},
                device_scale_factor=1.5,
            )
            page = context.new_page()
            page.goto(address)
            take(page, shot)
            context.close()
            print(f"docs/images/{shot.name}.png")


if __name__ == "__main__":
    main()
