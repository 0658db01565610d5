"""A loop is noticed; what only looks like one is left alone."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer

from qwen_vl_app.config import ROOT
from qwen_vl_app.engine.local.repetition import LoopGuard
from qwen_vl_app.engine.local.tokens import TextTokens


@pytest.fixture(scope="module")
def tokens() -> TextTokens:
    """The tokenizer of the model that ships with the app."""
    return TextTokens(ROOT / "models" / "demo" / "tokenizer.json", model="demo")


def stopped_after(text: str, tokens: TextTokens) -> str | None:
    """Return the part of a text after which the guard spoke, None where it never did."""
    guard = LoopGuard(lambda token: b"\n" in tokens.bytes_of(token))
    ids = tokens.encode(text)
    for place, token in enumerate(ids):
        if guard.add(token):
            return tokens.decode(ids[: place + 1])
    return None


@pytest.mark.parametrize(
    "unit",
    [
        "0",
        " the",
        "and so on, ",
        "The gauge on the left shows the pressure of the second boiler, which is the same as before. ",
        "| 12 | OK |\n",
        '{"bbox_2d": [10, 20, 30, 40], "label": "bolt"},\n',
        "I see a valve.\nIt is red.\nIt is closed.\n\n",
        "读取图片中的文字。",
    ],
)
def test_a_loop_is_noticed(unit: str, tokens: TextTokens) -> None:
    """One piece over and over is ended, after a true beginning and before a thousand tokens were wasted."""
    beginning = "There are two gauges in the picture.\n"
    cut = stopped_after(beginning + unit * 2000, tokens)
    assert cut is not None
    assert len(tokens.encode(cut)) < len(tokens.encode(beginning)) + 1200


def test_a_sampled_walk_is_not_a_loop(tokens: TextTokens) -> None:
    """Tokens without a period are never taken for one, however few different ones there are."""
    walk = random.Random(3)
    guard = LoopGuard(lambda token: False)
    assert not any(guard.add(walk.choice((5, 6))) for _ in range(5000))


@pytest.mark.parametrize(
    "text",
    [
        "| Nr | Tag | State |\n|---|---|---|\n" + "".join(f"| {row} | P-{row * 7} | OK |\n" for row in range(300)),
        "".join(f"{row}. The bolt is tight.\n" for row in range(1, 300)),
        "[" + ",\n".join(f'{{"bbox_2d": [{x}, 20, {x + 9}, 40], "label": "bolt"}}' for x in range(0, 2000, 10)) + "]",
        "| State |\n|---|\n" + "| OK |\n" * 60,
        "<tr>" + "<td>0</td>" * 25 + "</tr>\n",
        "|" + "---|" * 40 + "\n",
        "[" + "0, " * 100 + "0]",
        "Contents " + "." * 120 + " 7\n",
        "Ja. Ja. Ja. Ja. Ja. Ja. Ja. Ja. He said it eight times.",
    ],
)
def test_tables_and_real_lists_are_left_alone(text: str, tokens: TextTokens) -> None:
    """Rows, entries and boxes that differ in a number, equal rows, rulers and zeros are no loop."""
    assert stopped_after(text, tokens) is None


def test_the_tokenizer_of_this_test_is_a_real_one(tokens: TextTokens) -> None:
    """Texts come back whole, so that the test speaks of texts and not of unknown tokens."""
    assert isinstance(Tokenizer.from_file(str(ROOT / "models" / "demo" / "tokenizer.json")), Tokenizer)
    assert tokens.decode(tokens.encode("| 12 | OK |\n")) == "| 12 | OK |\n"
