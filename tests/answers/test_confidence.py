"""Each value's score comes from its own tokens, whatever stands around it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vl_app.answers import confidence_of, parse_answer, sureness, value_scores
from qwen_vl_app.chat import Answer, CoordinateSpace, FinishReason, ScoredToken


def tokens_of(pieces: Sequence[tuple[str, float]], *, allowed: float = 1.0) -> tuple[ScoredToken, ...]:
    """Tokens with their probabilities."""
    return tuple(
        ScoredToken(piece, math.log(chance), piece.encode(), allowed=math.log(allowed)) for piece, chance in pieces
    )


def text_of(tokens: Sequence[ScoredToken]) -> str:
    return b"".join(token.raw for token in tokens).decode()


def test_a_value_has_the_probabilities_of_its_own_tokens() -> None:
    """Keys, colons and the next value do not count."""
    tokens = tokens_of(
        [('{"', 0.1), ("serial", 0.1), ('": "', 0.9), ("A", 0.5), ("7", 0.8), ('", "', 0.9), ("on", 0.2), ('": ', 0.1),
         ("true", 0.7), ("}", 1.0)]
    )  # fmt: skip
    scores = value_scores(text_of(tokens), tokens)
    assert scores[("serial",)].value == "A7"
    assert scores[("serial",)].least == pytest.approx(0.5)
    assert scores[("serial",)].mean == pytest.approx((0.9 * 0.5 * 0.8 * 0.9) ** 0.25)
    assert scores[("on",)].mean == pytest.approx(0.7)
    assert text_of(tokens)[scores[("serial",)].start : scores[("serial",)].end] == '"A7"'


def test_the_end_of_a_number_counts() -> None:
    """12 may have become 123: the sign behind it says that it did not."""
    tokens = tokens_of([('{"v": ', 1.0), ("12", 0.9), ("}", 0.3)])
    assert value_scores(text_of(tokens), tokens)[("v",)].least == pytest.approx(0.3)


def test_what_a_schema_left_is_the_measure() -> None:
    """A token that took half of what was allowed was half sure, however little was allowed; and that is told."""
    tokens = (*tokens_of([('{"v": ', 1.0)]), *tokens_of([("null", 0.01)], allowed=0.02), *tokens_of([("}", 1.0)]))
    score = value_scores(text_of(tokens), tokens)[("v",)]
    assert score.value is None
    assert score.least == pytest.approx(0.5)
    assert score.least_allowed == pytest.approx(0.02)


def test_characters_of_several_tokens_are_found() -> None:
    """A character may be cut anywhere: each part belongs to it."""
    pieces = [b'{"a": "', "米".encode()[:1], "米".encode()[1:], b'", "b": "', b"x", b'"}']
    tokens = tuple(
        ScoredToken("", math.log(chance), raw) for raw, chance in zip(pieces, (1, 0.5, 0.6, 1, 0.7, 1), strict=True)
    )
    scores = value_scores(b"".join(pieces).decode(), tokens)
    assert scores[("a",)].least == pytest.approx(0.5)
    assert scores[("b",)].least == pytest.approx(0.7)


def test_lists_fences_and_several_blocks_are_found() -> None:
    """The paths are those of the parsed data."""
    text = 'See:\n```json\n[{"n": 1}, {"n": 2}]\n```\nand\n```json\n{"k": ["x"]}\n```\n'
    tokens = tokens_of([(sign, 0.9) for sign in text])
    scores = value_scores(text, tokens)
    data = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=()).data
    assert data == [[{"n": 1}, {"n": 2}], {"k": ["x"]}]
    assert set(scores) == {(0, 0, "n"), (0, 1, "n"), (1, "k", 0)}


def test_a_bare_value_is_a_value() -> None:
    """A schema may ask for one number alone."""
    tokens = tokens_of([("4", 0.9), ("2", 0.8)])
    assert value_scores("42", tokens)[()].least == pytest.approx(0.8)


def test_no_json_has_no_scores() -> None:
    """A sentence is no value, and an unknown probability is none."""
    tokens = tokens_of([("no ", 0.5), ("plate", 0.5)])
    assert value_scores("no plate", tokens) == {}
    assert value_scores('{"a": 1}', (ScoredToken('{"a": 1}', None),)) == {}


LEAF = st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=6)
DATA = st.dictionaries(st.text(max_size=4), LEAF | st.lists(LEAF, max_size=3), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(DATA, st.data())
def test_every_value_of_any_answer_has_a_score(data: dict[str, object], draw: st.DataObject) -> None:
    """However it is cut into tokens, each value is found at its place with its own least probability."""
    written = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
    text = written.decode()
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(written)), max_size=12)) | {0, len(written)})
    tokens = tuple(
        ScoredToken("", -0.01 * (number + 1), written[start:end]) for number, (start, end) in enumerate(pairwise(cuts))
    )
    scores = value_scores(text, tokens)
    for score in scores.values():
        assert json.loads(text[score.start : score.end]) == score.value
        assert 0.8 < score.least <= score.mean < 1
    leaves = sum(len(value) if isinstance(value, list) else 1 for value in json.loads(text).values())
    assert len(scores) == leaves


def _answer(text: str, *logprobs: float) -> Answer:
    """An answer of one token a character, the last ones as probable as given."""
    scored = [0.0] * (len(text) - len(logprobs)) + list(logprobs)
    tokens = [ScoredToken(character, logprob) for character, logprob in zip(text, scored, strict=True)]
    parsed = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=())
    return Answer(text, FinishReason.STOP, parsed, confidence=confidence_of(text, tokens))


def test_values_count_by_their_least_sure_token_and_prose_as_a_whole() -> None:
    """A guessed digit makes a value wrong; a word that could have been another makes nothing wrong."""
    value = _answer('{"serial": "A7"}', math.log(0.25), 0.0, 0.0)
    assert sureness(value) == pytest.approx(0.25)
    prose = _answer("It is a pump.", math.log(0.25), 0.0)
    assert sureness(prose) == pytest.approx(0.25 ** (1 / 13))
    assert prose.confidence is not None and prose.confidence.least == pytest.approx(0.25)


def test_where_no_probability_is_known_nothing_is_said() -> None:
    """A server that tells none, a stored answer of before."""
    assert confidence_of("Yes", [ScoredToken("Yes", None)]) is None
    assert sureness(Answer("Yes", FinishReason.STOP)) is None
