"""What is read out of an answer to who hears the page."""

from __future__ import annotations

import pytest

from qwen_vl_app.ui.spoken import spoken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The **lamp** is `on`.", "The lamp is on."),
        ("# Result\n\n- first\n- *second*", "Result\nfirst\nsecond"),
        ("3. Open it.\n4. Close it.", "3. Open it.\n4. Close it."),
        ("Costs $5 and 5~10 °C, 120*80*50.", "Costs $5 and 5~10 °C, 120*80*50."),
        ("It holds \\(a*b*c\\) here.", "It holds a*b*c here."),
        ("Line one\nline two", "Line one\nline two"),
        ("```html\n<b>x</b>\n```", "<b>x</b>"),
        ("a <b>bold</b> tag, :red[not a colour]", "a <b>bold</b> tag, :red[not a colour]"),
        ("See [the page](http://outside.example/).", "See the page (http://outside.example/)."),
        ("", ""),
    ],
)
def test_words_are_read_out_without_the_signs_of_their_looks(text: str, said: str) -> None:
    """Nobody listens to stars and hashes."""
    assert spoken(text, at_most=400) == said


def test_of_a_long_answer_the_beginning_is_read_out() -> None:
    """The ellipsis tells of the rest, whether signs or words are left out."""
    assert spoken("word " * 100, at_most=12) == "word word w…"
    assert len(spoken("*a*" * 1000, at_most=50)) == 50
    assert spoken("\n" * 300 + "late", at_most=50) == "…"
