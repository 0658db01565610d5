"""The demo model's tokenizer keeps what it is given, and copies values one character at a time."""

from __future__ import annotations

import pytest

from scripts.demo_model import vocabulary
from scripts.demo_model.panels import DIGITS, LETTERS
from scripts.demo_model.phrases import LABELS, LABELS_ZH

TOKENIZER = vocabulary.load()


@pytest.mark.parametrize("sentence", sorted(set(vocabulary.all_sentences())))
def test_every_sentence_comes_back(sentence: str) -> None:
    """Encoding and decoding gives the sentence again."""
    assert TOKENIZER.decode(TOKENIZER.encode(sentence).ids, skip_special_tokens=False) == sentence


@pytest.mark.parametrize("value", ["A7K-2.5", "XYZ", "00.1", "2026-11-21", *LABELS])
def test_values_and_labels_are_one_token_a_character(value: str) -> None:
    """Alone, quoted and after a space, capitals, digits and marks stay apart."""
    assert len(TOKENIZER.encode(value).ids) == len(value)
    inside = f'{{"SN": "{value}"}}'
    tokens = [TOKENIZER.decode([i]) for i in TOKENIZER.encode(inside).ids]
    assert "".join(tokens) == inside
    assert all(character in tokens for character in value)


def test_chinese_characters_of_the_lessons_are_one_token_each() -> None:
    """Every Chinese character that a lesson may hold has a token of its own."""
    assert all(len(TOKENIZER.encode(c).ids) == 1 for c in vocabulary.chinese_characters())
    assert all(len(TOKENIZER.encode(label).ids) == len(label) for label in LABELS_ZH)


def test_unknown_characters_survive_as_bytes() -> None:
    """What no lesson holds still comes back, as bytes."""
    for text in ("ß€", "龘", "🙂", "naïve"):
        assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


def test_the_alphabet_of_values_has_no_letters_that_look_like_digits() -> None:
    """I and O are not drawn in values."""
    assert not set("IO") & set(LETTERS)
    assert len(set(DIGITS + LETTERS)) == 34
