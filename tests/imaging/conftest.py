"""One decoder for all tests of pictures that behave, and ways to make files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from qwen_vl_app.chat import Size
from qwen_vl_app.imaging import PictureDecoder

MAX_PIXELS = 100_000_000


@pytest.fixture(scope="session")
def decoder() -> Iterator[PictureDecoder]:
    """A warm decoder with the app's usual limits, and time enough for a busy machine."""
    made = PictureDecoder(max_bytes=64 * 2**20, max_pixels=MAX_PIXELS, timeout_s=30)
    made.start()
    yield made
    made.close()


def same(size: Size) -> Size:
    """Let the model see a picture at its own size."""
    return size


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes) -> Image.Image:
    """Return a rendition as a picture."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
