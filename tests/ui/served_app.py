"""The real app on a port of its own, with a scripted engine: `python served_app.py PORT FOLDER`, for browser tests.

Everything but the engine is what people run: front door, guard, page, decoder, queue, history.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from app import app
from qwen_vl_app import bootstrap
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Question
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import GenerationRequest, Step
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import ClipDecoder, PictureDecoder

LONG = "LONG"
LONG_WORDS = 20_000
"""Six minutes and more: nobody who waits for the end of it would pass."""
TIMES = "00:01 - 00:02 The corner is red.\n\n00:03 It is grey again."
BOXES = 'One lamp:\n\n```json\n[{"bbox_2d": [56, 28, 168, 84], "label": "lamp"}]\n```'


class PacedEngine(FakeEngine):
    """Answers LONG with many slow words, what is asked about a clip with times, and everything else with one box."""

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Play the reply that the question asks for."""
        is_long = LONG in request.messages[-1].text
        has_clip = any(image.clip is not None for image in request.messages[-1].images)
        short = TIMES if has_clip else BOXES
        self.replies.append([f"word{number} " for number in range(LONG_WORDS)] if is_long else short)
        pace = threading.Event()
        for step in super().generate(request, should_stop=should_stop):
            if is_long:
                pace.wait(0.02)
            yield step


def build(folder: Path) -> Assistant:
    """Return the assistant whose engine alone is scripted."""
    settings = Settings(data_dir=folder / "data", models_dir=folder / "models")
    return Assistant(
        engine=PacedEngine(),
        decoder=PictureDecoder(
            max_bytes=settings.max_upload_mb * 2**20,
            max_pixels=settings.max_picture_megapixels * 1_000_000,
            timeout_s=settings.decode_timeout_s,
        ),
        clip_decoder=ClipDecoder(
            max_bytes=settings.max_clip_mb * 2**20,
            max_pixels=settings.max_picture_megapixels * 1_000_000,
            max_seconds=settings.max_clip_minutes * 60,
            timeout_s=settings.decode_timeout_s,
        ),
        history=HistoryStore(settings.data_dir),
        settings=settings,
    )


def fill(folder: Path, owner: str, *, turns: int, data: bytes) -> int:
    """Ask so many questions about one picture in a conversation of that owner; return its id."""
    with build(folder) as assistant:
        assistant.wait_until_loaded(60)
        pictures = (assistant.stage(data, "panel.png"),)
        conversation: int | None = None
        for number in range(turns):
            job = assistant.ask(Question(f"Question {number}", () if number else pictures, conversation), owner=owner)
            job.wait(60)
            conversation = job.conversation_id
    assert conversation is not None
    return conversation


def main(port: int, folder: Path) -> None:
    """Serve until told to end."""

    def build_assistant(settings: Settings, *, checks_models: bool = False) -> Assistant:
        del settings, checks_models  # this machine's own play no part
        return build(folder)

    bootstrap.build_assistant = build_assistant
    app.run(config={"server.port": port})


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
