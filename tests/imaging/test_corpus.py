"""The pictures of others: fuzzing finds, bombs, broken and odd files, where they are on this machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qwen_vl_app.chat import Rendition, Size
from qwen_vl_app.errors import PictureError
from qwen_vl_app.imaging import PictureDecoder, RenderedPicture, check_own_form, to_image_input
from qwen_vl_app.texts import Language, render

from .conftest import MAX_PIXELS, decode

pytestmark = pytest.mark.corpus

HARMLESS = {"image.child_failed", "image.timeout", "image.memory"}
"""Refusals that cost a child: good for a file not met before, wrong for these."""


@pytest.fixture(scope="module")
def strict() -> Iterator[PictureDecoder]:
    """A decoder with the app's own limits."""
    made = PictureDecoder(max_bytes=64 * 2**20, max_pixels=MAX_PIXELS, timeout_s=5)
    made.start()
    yield made
    made.close()


def fit(size: Size) -> Size:
    """About a megapixel in whole patches, as a model would have it."""
    shrink = min(1.0, math.sqrt(1_000_000 / size.pixels))
    return Size(*(max(28, round(side * shrink / 28) * 28) for side in (size.width, size.height)))


def files(corpus: Path, folder: str) -> list[Path]:
    found = sorted(path for path in (corpus / folder).iterdir() if path.is_file())
    assert found
    return found


def assert_own_form(picture: RenderedPicture) -> None:
    """Let what was made come in again from an archive."""
    seen = fit(picture.size)
    check_own_form(picture.view, Rendition.VIEW, mime=picture.view_mime, seen=seen)
    check_own_form(picture.thumbnail, Rendition.THUMBNAIL, mime="image/jpeg", seen=seen)
    check_own_form(picture.seen_png, Rendition.SEEN, mime="image/png", seen=seen)


def test_every_ordinary_file_is_read(corpus: Path, strict: PictureDecoder) -> None:
    """Photos, documents, charts, screenshots and gauges become pictures, each within the time limit."""
    for file in files(corpus, "ordinary"):
        picture = strict.render(file.read_bytes(), name=file.name, fit=fit)
        seen = to_image_input(picture.seen_png)
        assert (seen.size, seen.picture_id) == (fit(picture.size), picture.picture_id), file.name
        view = decode(picture.view)
        assert abs(view.width / view.height - picture.size.width / picture.size.height) < 0.02, file.name
        assert max(decode(picture.thumbnail).size) <= 320, file.name
        assert_own_form(picture)


def test_no_hostile_file_does_harm(corpus: Path, strict: PictureDecoder) -> None:
    """Each is read or refused in a sentence, in 5 seconds at most, by one and the same child, and nothing piles up."""
    strict.start()
    first = strict._child
    before = psutil.Process().memory_info().rss
    read = refused = 0
    for file in files(corpus, "hostile"):
        try:
            picture = strict.render(file.read_bytes(), name=file.name, fit=fit)
        except PictureError as error:
            refused += 1
            assert error.code not in HARMLESS, (file.name, error)
            for language in Language:
                assert "{" not in render(error, language), (file.name, error)
        else:
            read += 1
            assert to_image_input(picture.seen_png).size == fit(picture.size), file.name
            assert_own_form(picture)
    assert read > 100 and refused > 50
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
    assert first is not None and strict._child is first


def test_accepted_formats_are_never_guessed_from_names(corpus: Path, strict: PictureDecoder) -> None:
    """What is not accepted is refused by what it is."""
    for file in files(corpus, "hostile"):
        if file.name.startswith("not-accepted-format"):
            with pytest.raises(PictureError) as error:
                strict.inspect(file.read_bytes(), name="photo.jpg")
            assert error.value.code in ("image.format_unsupported", "image.format_unknown", "image.is_clip"), file.name
