"""Names of uploads are shown and offered for download, so they neither deceive nor break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vl_app.imaging import clean_name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("photo.jpg", "photo.jpg"),
        ("/home/ana/Pictures/photo.jpg", "photo.jpg"),
        ("C:\\Users\\ana\\photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("发票 2026.pdf", "发票 2026.pdf"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("new\nline\ttab\0.png", "new line tab.png"),
        ("\u200bhidden\ufeff.png", "hidden.png"),
        ("what?*<is>|this:.png", "what___is__this_.png"),
        ("nul.png", "nul_.png"),
        ("COM1", "COM1_"),
        ("aux.2026.tiff", "aux_.2026.tiff"),
        ("lpt¹.png", "lpt¹_.png"),
        ("console.png", "console.png"),
        ("", "picture"),
        ("...", "picture"),
        ("///", "picture"),
        (".png", "png"),
        ("photo.jpg ", "photo.jpg"),
        ("  two   spaces.png", "two spaces.png"),
        ("\ud800bad.png", "bad.png"),
    ],
)
def test_names_are_cleaned(name: str, wanted: str) -> None:
    """Folders, invisible and forbidden characters go; what a person reads stays."""
    assert clean_name(name) == wanted


def test_a_long_name_keeps_its_ending() -> None:
    """A program looks at the ending, a person at the beginning."""
    assert clean_name("a" * 500 + ".jpeg").endswith("aaa.jpeg")
    assert len(clean_name("图" * 500 + ".jpeg").encode()) <= 200
    assert clean_name("图" * 500 + ".jpeg").endswith("图.jpeg")


@given(st.text(max_size=300))
def test_any_text_becomes_a_usable_name(name: str) -> None:
    """Never empty, never a path, never too long, and clean once is clean for good."""
    clean = clean_name(name)
    assert clean and len(clean) <= 121 and len(clean.encode()) <= 201
    assert not set(clean) & set('/\\:*?"<>|\0\n\u202e')
    assert clean not in (".", "..") and not clean.endswith((".", " "))
    assert clean_name(clean) == clean
