"""Parts for tests of the hub and of the doors in front of it: an assistant of fakes around a real history."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import EngineStatus, Size
from qwen_vl_app.config import Settings
from qwen_vl_app.doctor import Accelerator, Fit, RunningApp
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.engine.folders import ModelFolder, list_models
from qwen_vl_app.errors import Reason, UnreadableImageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder

WAIT_S = 60.0
"""The patience of a test; nothing takes this long unless it is broken."""


def wait_until(is_so: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Wait for a state that another thread or process brings about. Fails when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def wait_until_let_go(assistant: Assistant, job: AnswerJob) -> None:
    """Wait until the assistant has done all that belongs to an answer: what may be given again is kept after it is told."""
    wait_until(lambda: job not in assistant._jobs.all())


def a_file(width: int = 560, height: int = 280, *, pages: int = 1, bad: int = 0) -> bytes:
    """Bytes that `FakeDecoder` takes for a picture of that size, of whose pages the first `bad` cannot be read."""
    return f"picture {width}x{height} pages {pages} bad {bad}".encode()


@dataclass(frozen=True)
class _Facts:
    format: str
    size: Size
    page_count: int
    notes: tuple[Reason, ...]


@dataclass(frozen=True)
class _Rendered:
    picture_id: str
    format: str
    size: Size
    view: bytes
    view_mime: str
    thumbnail: bytes
    seen_png: bytes
    page: int
    page_count: int
    notes: tuple[Reason, ...]


_FILE = re.compile(rb"picture (\d+)x(\d+) pages (\d+) bad (\d+)")


class FakeDecoder:
    """A decoder without a child process: it knows the sizes of `a_file` and refuses everything else."""

    def __init__(self) -> None:
        self.is_started = False
        self.is_closed = False

    def start(self) -> None:
        self.is_started = True

    def close(self) -> None:
        self.is_closed = True

    def inspect(self, data: bytes, *, name: str, page: int = 0) -> _Facts:
        found = _FILE.fullmatch(data)
        if found is None or not int(found[4]) <= page < int(found[3]):
            raise UnreadableImageError("queue.full", waiting=0)  # any code there is a sentence for
        return _Facts("PNG", Size(int(found[1]), int(found[2])), int(found[3]), ())

    def count_pages(self, data: bytes) -> int:
        found = _FILE.fullmatch(data)
        return 1 if found is None else int(found[3])

    def render(self, data: bytes, *, name: str, page: int = 0, fit: Callable[[Size], Size]) -> _Rendered:
        facts = self.inspect(data, name=name, page=page)
        seen = fit(facts.size)
        png, jpeg = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (seen.width, seen.height), (200, 30, 30)).save(png, "PNG")
        Image.new("RGB", (8, 8), (200, 30, 30)).save(jpeg, "JPEG")
        return _Rendered(
            picture_id=hashlib.sha256(png.getvalue()).hexdigest(),
            format=facts.format,
            size=facts.size,
            view=png.getvalue() + b"view of " + data,
            view_mime="image/png",
            thumbnail=jpeg.getvalue() + b"thumbnail of " + data,
            seen_png=png.getvalue(),
            page=page,
            page_count=facts.page_count,
            notes=facts.notes,
        )


def an_assistant(
    engine: FakeEngine, folder: Path, *, history: HistoryStore | None = None, settings: Settings | None = None
) -> Assistant:
    """Put an assistant together, not yet opened, whose history lies in `folder`."""
    return Assistant(
        engine=engine,
        decoder=cast(PictureDecoder, FakeDecoder()),
        history=history or HistoryStore(folder),
        settings=settings or Settings(data_dir=folder),
    )


def with_queue(limit: int, limit_per_owner: int) -> Settings:
    """Settings with a short queue."""
    return replace_settings(queue_limit=limit, queue_limit_per_owner=limit_per_owner)


def replace_settings(**changes: object) -> Settings:
    """The defaults with some changes."""
    return Settings.model_validate({**Settings().model_dump(), **changes})


@dataclass(frozen=True)
class FakeTorch:
    """What a torch without a graphics card says of itself."""

    version: str = "2.13.0+cpu"
    cuda_build: str = ""
    accelerators: tuple[Accelerator, ...] = ()


class FakeProbe:
    """The engine's room as `doctor` looks at it: real folders, a fake engine, and a torch that may be broken."""

    def __init__(self, settings: Settings, engine: FakeEngine, *, torch: FakeTorch | Exception | None = None) -> None:
        self._settings = settings
        self._engine = engine
        self._torch = torch or FakeTorch()

    def models(self) -> tuple[ModelFolder, ...]:
        return list_models(self._settings.models_dir)

    def torch(self) -> FakeTorch:
        if isinstance(self._torch, Exception):
            raise self._torch
        return self._torch

    def fits(self) -> tuple[Fit, ...]:
        return ()

    def prepared(self) -> EngineStatus:
        self._engine.prepare()
        return self._engine.status

    def running(self) -> RunningApp | None:
        return None
