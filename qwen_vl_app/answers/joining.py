"""One text out of what was said of several parts of a picture: data put together, what stands around it as lines.

Knows JSON. Does not know where a part lies: what an earlier part has said is taken for the same thing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen_vl_app.answers.code import code_blocks
from qwen_vl_app.answers.joined_lines import FENCE, JoinedAnswer, joined_lines, known_words
from qwen_vl_app.answers.json_blocks import json_blocks
from qwen_vl_app.answers.placed import Move, Thing, is_one_thing, is_place_key, moved, says_more_than_places, thing_of
from qwen_vl_app.answers.thoughts import without_thoughts
from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import Reason

_SHOWN = 40
"""Characters of a value that a note shows; `_NAMED` values are named."""
_NAMED = 5
WORDS_FOR_NOTHING = frozenset((
    "null", "none", "n/a", "n.a.", "na", "nil", "unknown", "unreadable", "illegible", "-", "--", "---", "—", "–", "?",
    "not visible", "not shown", "not readable", "not legible", "not available", "not applicable", "not given",
    "not specified", "not found", "not present", "no data",
    "无", "空", "未知", "看不清", "看不见", "不可见", "不清楚", "未显示", "未标注", "无法识别", "无法辨认", "不适用",
))  # fmt: skip
"""What models write for a value that a part does not show. It gives way to a value that another part does show.

A form, which has nothing else to fall back on, takes fewer of them for null: "not found" may be what stands there."""

_EMPTY, _NOTHING_TO_SEE, _SOMETHING = range(3)
"""How much a value says."""


def joined_answers(
    texts: Sequence[str], *, whole: str = "", moves: Sequence[Move] = (), is_bare: bool = False
) -> JoinedAnswer:
    """Return what was said of the parts, in their order, as one text.

    A line is left out where an earlier part has said it as often; what one part says twice, stands twice. JSON becomes one
    value: objects get the first value that somebody knows, lists get the items of all, and things with a place stand once.
    It stands in a fence, or with `is_bare` alone.

    What was said of the `whole` is less exact: its data fills what no part knows, its words stand where there are no parts.
    `moves` take the places of each part to the whole, where they are given.
    """
    said_of = [(text, moves[at] if moves else None) for at, text in enumerate(texts) if text.strip()]
    if not said_of:
        said_of, whole = [(whole, None)], ""
    told = _Told()
    read = [_read(text, told.repairs, move, is_bare=is_bare) for text, move in said_of]
    filling = _read(whole, told.repairs, None, is_bare=is_bare)
    if not any(piece.values for piece in (*read, filling)):
        return joined_lines([text for text, _ in said_of])
    said = joined_lines([piece.around for piece in read])
    told.left_out += said.left_out
    data = _filled(_joined(read, told), _joined([filling], _Told()))
    written = _written(data)
    text = "\n\n".join(filter(None, (said.text, written if is_bare else f"```json\n{written}\n```")))
    return JoinedAnswer(text, told.notes(), told.left_out)


def says_something(value: JsonValue) -> bool:
    """Tell a value from none, and from words such as "N/A" or "not visible"."""
    return _weight(value) == _SOMETHING


def say_more_than_places(texts: Sequence[str]) -> bool:
    """Tell whether the data of one of these texts says more of things than where they are and what they are called."""
    return any(says_more_than_places(value) for text in texts for value in _read(text, Counter(), None).values)


@dataclass(slots=True)
class _Told:
    """What has to be told about how the data came about."""

    repairs: Counter[str] = field(default_factory=Counter)
    differing: dict[str, list[str]] = field(default_factory=dict)
    """By the path of a value: what the parts say there."""
    left_out: int = 0

    def notes(self) -> tuple[Reason, ...]:
        notes = [Reason("tiles.lines_left_out", count=self.left_out)] if self.left_out else []
        notes += [Reason(f"answers.{code}", count=count) for code, count in sorted(self.repairs.items()) if count]
        if self.differing:
            named = [
                f"{name} ({', '.join(shown)})" if name else ", ".join(shown) for name, shown in self.differing.items()
            ]
            more = ", …" if len(named) > _NAMED else ""
            notes.append(Reason("tiles.values_differ", fields=", ".join(named[:_NAMED]) + more))
        return tuple(notes)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one part said: its values, and the text around them."""

    values: list[JsonValue]
    around: str


def _read(text: str, repairs: Counter[str], move: Move | None, *, is_bare: bool = False) -> _Piece:
    """Return the data of a text that is data, in a fence or from its first letter; a list within a sentence is words.

    With `is_bare` a text may also be a single number, word or truth.
    """
    text = without_thoughts(text)
    here: Counter[str] = Counter()
    found = json_blocks(text, code_blocks(text), here)
    begins = len(text) - len(text.lstrip())
    if not found or not (FENCE.match(text, found[0].start) or found[0].start == begins):
        return _scalar(text) if is_bare else _Piece([], text)
    repairs.update(here)
    around, position = "", 0
    for block in found:
        around += text[position : block.start]
        position = max(position, block.end)
    values = [block.value if move is None else moved(block.value, move) for block in found]
    return _Piece(values, around + text[position:])


def _scalar(text: str) -> _Piece:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _Piece([], text)
    return _Piece([], text) if isinstance(value, list | dict) else _Piece([value], "")


def _joined(pieces: Sequence[_Piece], told: _Told) -> JsonValue:
    """Return the values of several parts as one; None where there are none."""
    found = [value for piece in pieces for value in piece.values]
    if not found:
        return None
    # An empty list says that a part shows nothing; it makes no list of the others' objects.
    best = max(map(_weight, found))
    if best == _EMPTY:
        return found[0]
    telling = [[value for value in piece.values if _weight(value) == best] for piece in pieces]
    values = [each for each in telling if each]
    if all(len(each) == 1 and not isinstance(each[0], list) for each in values) and (
        len({isinstance(each[0], dict) for each in values}) == 1
    ):
        data = values[0][0]
        for each in values[1:]:
            data = _merged(data, each[0], "", told)
        return data
    return _united(
        [[item for value in each for item in (value if isinstance(value, list) else [value])] for each in values], told
    )


def _weight(value: JsonValue) -> int:
    """Return how much a value says; a list as much as the best of its items."""
    if isinstance(value, str):
        plain = _known(value).strip("()[]<>*\"' ").rstrip(".。 ") or _known(value)
        is_nothing = plain in WORDS_FOR_NOTHING or f"{plain}." in WORDS_FOR_NOTHING
        return _EMPTY if not plain else _NOTHING_TO_SEE if is_nothing else _SOMETHING
    if isinstance(value, list) and value:
        return max(map(_weight, value)) or _SOMETHING
    return _EMPTY if value in (None, [], {}) else _SOMETHING


def _merged(first: JsonValue, other: JsonValue, path: str, told: _Told) -> JsonValue:
    """Return the first value that says something; `told` gets the paths where the other says something else."""
    if _weight(other) != _weight(first) or _weight(first) < _SOMETHING:
        return max(first, other, key=_weight)
    if isinstance(first, dict) and isinstance(other, dict):
        return {
            name: _merged(first.get(name), other.get(name), f"{path}.{name}" if path else name, told)
            for name in dict.fromkeys((*first, *other))
        }
    if isinstance(first, list) and isinstance(other, list) and _are_items([*first, *other]):
        return _united([first, other], told)
    # Two parts never agree to the pixel about one place.
    if _known(first) != _known(other) and not is_place_key(path.rpartition(".")[2]):
        shown = told.differing.setdefault(path, [_shown(first)])
        if _shown(other) not in shown:
            shown.append(_shown(other))
    return first


def _filled(data: JsonValue, whole: JsonValue) -> JsonValue:
    """Return what the parts know, with what only the whole does: values, and things that are larger than a part."""
    if _weight(data) < _weight(whole):
        return whole
    if isinstance(data, dict) and isinstance(whole, dict):
        return {name: _filled(data.get(name), whole.get(name)) for name in dict.fromkeys((*data, *whole))}
    if isinstance(data, list) and isinstance(whole, list):
        known = [thing for item in data if (thing := thing_of(item)) is not None]
        larger = [
            item
            for item in whole
            if (thing := thing_of(item)) is not None and not any(is_one_thing(thing, each) for each in known)
        ]
        return data + larger
    return data


def _are_items(values: Sequence[JsonValue]) -> bool:
    """Tell a list of things from one value that happens to be a list, such as a size or a date in numbers."""
    return all(isinstance(value, str | dict) for value in values)


def _united(lists: Sequence[Sequence[JsonValue]], told: _Told) -> list[JsonValue]:
    """Return the items of all lists; those that an earlier list has as often are left out, and counted.

    Things with a place are told apart by that: alike in two places they are two, and of one that two lists have, what both
    know is put together.
    """
    said: Counter[str] = Counter()
    items: list[JsonValue] = []
    things: list[tuple[int, Thing]] = []
    for values in lists:
        here: Counter[str] = Counter()
        earlier = len(things)
        for value in values:
            if (thing := thing_of(value)) is not None:
                at = next((at for at, other in things[:earlier] if is_one_thing(other, thing)), None)
                if at is None:
                    things.append((len(items), thing))
                    items.append(value)
                else:
                    items[at] = _merged(items[at], value, thing.label, told)
                continue
            known = _known(value)
            here[known] += 1
            if here[known] > said[known]:
                items.append(value)
            else:
                told.left_out += 1
        said |= here
    return items


def _known(value: JsonValue) -> str:
    return known_words(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def _shown(value: JsonValue) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _written(data: JsonValue) -> str:
    if isinstance(data, list):
        lines = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in data)
        text = f"[\n{lines}\n]" if lines else "[]"
    else:
        text = json.dumps(data, ensure_ascii=False, indent=2)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, written as an escape
        return json.dumps(data)
    return text
