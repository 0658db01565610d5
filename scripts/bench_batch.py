"""Measures a run over drawn pictures with the demo model: python scripts/bench_batch.py [N]; with --widths, how much several
answers at a time gain.

Prints the memory of this process from the fiftieth picture on, and the run's throughput beside the engine's own: pictures
of the same kind and the same question, asked of the engine alone, in a loop, already decoded. `--widths` runs N pictures each
with 1, 2, 4 and 8 answers at a time, in turns, several times, and prints the ratios to one at a time. Numbers are for this
machine.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from PIL import Image, ImageDraw

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns
from qwen_vl_app.bootstrap import build_assistant
from qwen_vl_app.chat import Message, SamplingParams
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest
from qwen_vl_app.imaging import to_image_input
from qwen_vl_app.imaging.fonts import font_for

QUESTION = "Read all the text in the image."
LEVEL_FROM = 50
WIDTHS = (1, 2, 4, 8)
ENGINE_SHARE = 50
"""Pictures that the engine is measured alone with."""


def draw(folder: Path, count: int, *, seed: int = 0) -> list[Path]:
    """Draw that many different panels and return their files."""
    chance = random.Random(seed)
    files = []
    for number in range(count):
        image = Image.new("RGB", (448, 336), tuple(chance.randint(200, 250) for _ in range(3)))
        pen = ImageDraw.Draw(image)
        for line in range(3):
            words = f"{chance.choice(('TANK', 'PUMP', 'MAIN', 'FLOW'))} {chance.randint(0, 99999):05d}"
            pen.text((30, 30 + 90 * line), words, font=font_for(words, 42), fill=(20, 20, 20))
        files.append(folder / f"panel {number:05d}.jpg")
        image.save(files[-1], quality=90)
    return files


def engine_alone(assistant: Assistant, files: list[Path], *, limit: int) -> float:
    """Return seconds a picture that the engine takes by itself."""
    staged = [assistant.stage(file.read_bytes(), file.name) for file in files]
    engine = assistant._engine  # the peer that is measured, on this thread: nothing else asks it meanwhile
    began = time.monotonic()
    for picture in staged:
        messages = (Message("user", QUESTION, (to_image_input(picture.seen_png),)),)
        request = GenerationRequest(messages=messages, sampling=SamplingParams(max_new_tokens=limit))
        for step in engine.generate(request, should_stop=lambda: False):
            if isinstance(step, FinishedStep):
                break
    return (time.monotonic() - began) / len(staged)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--widths", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()
    if given.widths:
        return compare_widths(given)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        draw(photos, given.count)
        (Path(scratch) / "others").mkdir()
        # Pictures of their own: what the engine has seen before, it need not encode again.
        others = draw(Path(scratch) / "others", 2 * ENGINE_SHARE, seed=1)
        settings = settings_of(given, Path(scratch))
        with build_assistant(settings) as assistant:
            status = assistant.wait_until_loaded(300)
            # Before and after, so that a machine that is busy in between is noticed.
            alone_before_s = engine_alone(assistant, others[:ENGINE_SHARE], limit=given.max_new_tokens)
            runs = BatchRuns(assistant)
            levels: list[tuple[int, int]] = []
            began = time.monotonic()
            run_id = runs.start(BatchPlan(photos, (QUESTION,), max_new_tokens=given.max_new_tokens))
            look = threading.Event()
            while not runs.wait(run_id, 0.0):
                levels.append((runs.progress(run_id).done, process.memory_info().rss))
                look.wait(0.2)
            took_s = time.monotonic() - began
            progress = runs.progress(run_id)
            levels.append((progress.done, process.memory_info().rss))
            rows = runs.current_rows(run_id)
            alone_after_s = engine_alone(assistant, others[ENGINE_SHARE:], limit=given.max_new_tokens)
            runs.close()
    tell(status.device, progress.answered, took_s=took_s, levels=levels, alone_s=(alone_before_s, alone_after_s))
    model_s = sum(row.answer.timing.total_s for row in rows if row.answer) / max(1, len(rows))
    print(f"of that, the model worked        {model_s * 1000:8.1f} ms a picture")
    return 0 if progress.answered == given.count else 1


def settings_of(given: argparse.Namespace, scratch: Path) -> Settings:
    """Return the settings of what is measured."""
    return Settings(model=given.model, precision=given.precision, data_dir=scratch / "data", models_dir=ROOT / "models")


def compare_widths(given: argparse.Namespace) -> int:
    """Run pictures with each width in turns, and print what each gains over one at a time."""
    taken: dict[int, list[float]] = {width: [] for width in WIDTHS}
    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_of(given, Path(scratch))
        with build_assistant(settings) as assistant:
            status = assistant.wait_until_loaded(600)
            own = assistant.run_width
            runs = BatchRuns(assistant)
            for number in range(given.rounds):
                for width in WIDTHS:
                    folder = Path(scratch) / f"{number}-{width}"
                    folder.mkdir()
                    draw(folder, given.count, seed=100 * number + width)
                    assistant.settings = settings.model_copy(update={"run_batch": width})
                    began = time.monotonic()
                    run_id = runs.start(BatchPlan(folder, (QUESTION,), max_new_tokens=given.max_new_tokens))
                    runs.wait(run_id)
                    taken[width].append((time.monotonic() - began) / given.count)
                    if runs.progress(run_id).answered != given.count:
                        return 1
            runs.close()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {status.device}, {status.dtype}, {given.count} pictures, {given.rounds} rounds"
    )
    print("measured at load: " + ", ".join(f"{rows}: {gain:.2f}" for rows, gain in status.gains.items()))
    print(f"the app would take {own.count} at a time")
    for width, seconds in taken.items():
        ratios = sorted(alone / one for alone, one in zip(taken[1], seconds, strict=True))
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{width} at a time: {min(seconds) * 1000:7.1f} ms a picture at best, {told} times one at a time")
    return 0


def tell(
    device: str, count: int, *, took_s: float, levels: list[tuple[int, int]], alone_s: tuple[float, float]
) -> None:
    """Print what was measured."""
    per_picture_s, mean_alone_s = took_s / max(1, count), sum(alone_s) / 2
    level = [rss for done, rss in levels if done >= LEVEL_FROM] or [levels[-1][1]]
    level = level if len(level) > 1 else level * 2
    half = len(level) // 2
    print(f"{datetime.now(UTC):%Y-%m-%d}, {device}, {count} pictures")
    print(
        f"the run                          {per_picture_s * 1000:8.1f} ms a picture, {60 / per_picture_s:.1f} a minute"
    )
    print(f"the engine alone, before, after  {alone_s[0] * 1000:8.1f} and {alone_s[1] * 1000:.1f} ms a picture")
    print(f"throughput of the run            {100 * mean_alone_s / per_picture_s:8.1f} % of the engine's own")
    print(f"memory at the {LEVEL_FROM}th picture       {level[0] / 2**20:8.1f} MB")
    print(f"memory at the end                {level[-1] / 2**20:8.1f} MB, at most {max(level) / 2**20:.1f} MB")
    print(
        f"second half beside the first     {sum(level[half:]) / max(1, len(level) - half) / (sum(level[:half]) / half):8.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
