"""How sure the model was of each value in the JSON that it wrote, from the probabilities of the value's own tokens.

Knows texts, tokens and where JSON stands in an answer. Does not know what a probability is worth: a model may be sure and
wrong, and how often it is has to be measured.
"""

from __future__ import annotations

import codecs
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qwen_vl_app.answers.code import code_blocks
from qwen_vl_app.answers.json_blocks import json_blocks
from qwen_vl_app.answers.json_text import Path, read_json
from qwen_vl_app.answers.thoughts import without_thoughts
from qwen_vl_app.chat import Answer, Confidence, JsonValue, ScoredToken


@dataclass(frozen=True, slots=True)
class ValueScore:
    """One text, number, true, false or null of an answer, at the characters `start` to `end` of its text.

    `mean` is the geometric mean and `least` the smallest of its tokens' probabilities among what a schema left; the
    sign that ends a value counts, for it says that no digit follows. `least_allowed` is the smallest share of
    probability that the schema left to choose from at one of them: near 0, the model wanted to write something else.
    """

    value: JsonValue
    start: int
    end: int
    mean: float
    least: float
    least_allowed: float = 1.0


def confidence_of(text: str, tokens: Sequence[ScoredToken]) -> Confidence | None:
    """Return how sure a whole answer was; None where no token's probability is known."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    if not known:
        return None
    values = [score.least for score in value_scores(text, tokens).values()]
    return Confidence(mean=math.exp(sum(known) / len(known)), least=min(values, default=math.exp(min(known))))


def sureness(answer: Answer) -> float | None:
    """Return the one figure that says how much an answer is worth a look, 0..1.

    One guessed digit makes a value wrong, so with values it is the least sure token of them. Prose has many ways to say the
    same, and the corners of boxes many that are as good, so there it is the mean.
    """
    if answer.confidence is None:
        return None
    has_values = answer.parsed.has_data and not answer.parsed.regions
    return answer.confidence.least if has_values else answer.confidence.mean


def value_scores(text: str, tokens: Sequence[ScoredToken]) -> Mapping[Path, ValueScore]:
    """Return the score of every value in the text's JSON, by its path in `ParsedAnswer.data`; none where there is no JSON.

    `tokens` are those of the same text; a value whose tokens' probabilities are not known has no score.
    """
    said = without_thoughts(text)
    blocks = json_blocks(said, code_blocks(said), Counter())
    spans: dict[Path, tuple[JsonValue, int, int]] = {}
    for number, block in enumerate(blocks):
        if block.opening < 0:
            continue
        reading = read_json(said, block.opening, with_spans=True)
        front: Path = () if len(blocks) == 1 else (number,)
        for path, value in _leaves(reading.value):
            if path in reading.spans:
                spans[front + path] = (value, *reading.spans[path])
    if not blocks and (bare := _bare_value(said)) is not None:
        spans[()] = bare
    places = _places(text, tokens)
    scores = {path: _score(tokens, places, *span, text=text) for path, span in spans.items()}
    return {path: score for path, score in scores.items() if score is not None}


def _leaves(whole: JsonValue) -> Iterator[tuple[Path, JsonValue]]:
    waiting: list[tuple[Path, JsonValue]] = [((), whole)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(((*path, key), inner) for key, inner in value.items())
        elif isinstance(value, list):
            waiting.extend(((*path, at), inner) for at, inner in enumerate(value))
        else:
            yield path, value


def _bare_value(text: str) -> tuple[JsonValue, int, int] | None:
    """Return a value that is the whole answer, which no reader of blocks takes for data."""
    start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    reading = read_json(f"[{text[start:end]} ]")
    if reading.repairs or not isinstance(reading.value, list) or len(reading.value) != 1:
        return None
    value = reading.value[0]
    return None if isinstance(value, dict | list) else (value, start, end)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each token's characters begin and end in the text; both ascend."""

    starts: list[int]
    ends: list[int]


def _places(text: str, tokens: Sequence[ScoredToken]) -> _Places:
    raw = [token.raw or token.text.encode() for token in tokens]
    if not b"".join(raw).decode(errors="replace").startswith(text):
        # Tokens of another kind than the text, such as those of a server that tells no bytes: what each added then.
        raw = [token.text.encode() for token in tokens]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for piece in raw:
        starts.append(at)
        at += len(decoder.decode(piece))
        is_inside = bool(decoder.getstate()[0])
        ends.append(at + is_inside)  # a part of a character belongs to the character
    return _Places(starts, ends)


def _score(
    tokens: Sequence[ScoredToken], places: _Places, value: JsonValue, start: int, end: int, *, text: str
) -> ValueScore | None:
    ends_openly = isinstance(value, int | float) and not isinstance(value, bool)
    reach = min(end + ends_openly, len(text) + 1)
    first = bisect_right(places.ends, start)
    last = bisect_left(places.starts, reach)
    own = [token for token in tokens[first:last] if token.logprob is not None]
    if not own:
        return None
    logprobs = [min((token.logprob or 0.0) - token.allowed, 0.0) for token in own]
    return ValueScore(
        value=value,
        start=start,
        end=end,
        mean=math.exp(sum(logprobs) / len(logprobs)),
        least=math.exp(min(logprobs)),
        least_allowed=math.exp(min(0.0, *(token.allowed for token in own))),
    )
