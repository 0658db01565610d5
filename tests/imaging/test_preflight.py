"""What is told about a picture before it is asked about, and above all what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from qwen_vl_app.chat import Size
from qwen_vl_app.imaging.fonts import font_for
from qwen_vl_app.imaging.limits import Limits
from qwen_vl_app.imaging.opening import open_picture, prepare_pillow
from qwen_vl_app.imaging.preflight import look_over


def _page(*, letter_px: int = 30, width: int = 1400, height: int = 1800) -> Image.Image:
    """Draw a page of print."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = font_for("abc", letter_px)
    for row in range(60, height - 60, letter_px * 2):
        draw.text((60, row), "pump three runs warm near its bearing " * 8, fill="black", font=font)
    draw.rectangle((width - 60, 0, width, height), fill="white")
    return image


def _panel() -> Image.Image:
    """Draw a grey panel with lamps and a label, as a camera would see it."""
    image = Image.effect_noise((1000, 750), 14).convert("RGB").point(lambda level: level * 0.8)
    draw = ImageDraw.Draw(image)
    for at in range(12):
        x, y = 90 + at % 4 * 230, 90 + at // 4 * 230
        draw.ellipse((x, y, x + 110, y + 110), fill=(190, 40, 30), outline=(20, 20, 20), width=6)
        draw.rectangle((x, y + 130, x + 110, y + 160), fill=(235, 235, 225))
        draw.text((x + 8, y + 134), "P-204", fill="black", font=font_for("P", 24))
    return image


def _codes(image: Image.Image, *, shrink: float = 1.0, form: str = "JPEG") -> list[str]:
    seen = Size(round(image.width * shrink), round(image.height * shrink))
    return [reason.code for reason in look_over(image, seen, format=form)]


def test_good_pictures_are_not_blamed() -> None:
    """A sharp page and a sharp panel pass without a word."""
    assert _codes(_page()) == []
    assert _codes(_page(), form="PDF") == []
    assert _codes(_panel()) == []
    assert _codes(Image.new("RGB", (300, 200), "#336699"), form="PNG") == []


def test_a_blurred_picture_is_told_and_one_that_is_sharp_when_smaller_is_not() -> None:
    """Blur counts at the size that the model sees."""
    blurred = _panel().filter(ImageFilter.GaussianBlur(4))
    assert _codes(blurred) == ["preflight.blurred"]
    assert "preflight.blurred" not in _codes(blurred, shrink=0.2)


def test_a_dark_picture_is_told() -> None:
    """Nearly no light is told, a dark screenshot is not."""
    assert _codes(ImageEnhance.Brightness(_panel()).enhance(0.1)) == ["preflight.dark"]
    screen = Image.new("RGB", (800, 600), "#0d1117")
    ImageDraw.Draw(screen).text((60, 60), "status: ready", fill="#e6eaf0", font=font_for("s", 40))
    assert _codes(screen, form="PNG") == []


def test_a_reflection_is_told_and_a_white_label_is_not() -> None:
    """A burnt-out spot with a soft rim is glare; one with a hard rim is paper."""
    mask = Image.new("L", (1000, 750), 0)
    ImageDraw.Draw(mask).ellipse((330, 200, 670, 540), fill=255)
    panel = _panel()
    panel.paste((255, 255, 255), mask=mask)
    assert "preflight.glare" not in _codes(panel)
    glaring = _panel()
    soft = mask.filter(ImageFilter.GaussianBlur(45)).point(lambda level: min(255, level * 2))
    glaring.paste((255, 255, 255), mask=soft)
    assert "preflight.glare" in _codes(glaring)


def test_letters_that_are_too_small_are_told_in_pixels_as_seen() -> None:
    """The same page is fine at its own size and too small at a third of it."""
    reasons = look_over(_page(), Size(420, 540), format="PNG")
    assert [reason.code for reason in reasons] == ["preflight.small_letters"]
    assert 3 <= int(reasons[0].facts["pixels"] or 0) <= 7


def test_print_on_its_side_is_told() -> None:
    """A page turned by a quarter is told, either way round."""
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270):
        assert _codes(_page().transpose(turn), form="PNG") == ["preflight.sideways"]


@pytest.mark.corpus
def test_other_peoples_good_pictures_are_not_blamed(corpus: Path) -> None:
    """Photos, documents and screenshots that are good enough pass without a word at 1,280 tokens."""
    prepare_pillow()
    told = {}
    for file in sorted((corpus / "ordinary").iterdir()):
        opened = open_picture(file.read_bytes(), page=0, limits=Limits(max_bytes=2**27, max_pixels=10**8))
        shrink = min(1.0, (1280 * 784 / opened.size.pixels) ** 0.5)
        seen = Size(max(28, int(opened.size.width * shrink)), max(28, int(opened.size.height * shrink)))
        if reasons := look_over(opened.image, seen, format=opened.format):
            told[file.name] = reasons
    assert told == {}
