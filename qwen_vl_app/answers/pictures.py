"""Which of several pictures a stretch of an answer speaks about.

Knows "Picture 2" in a sentence before a block, keys that name or count pictures, and lists with one entry a picture. What
nobody said stays None. Does not know the pictures.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from qwen_vl_app.answers.json_blocks import JsonBlock
from qwen_vl_app.chat import JsonValue

_WORDS = r"(?:picture|image|photo|img|图片|图像|图|照片)"
_NAMED = re.compile(rf"(?<![A-Za-z]){_WORDS}s?\s{{0,4}}[_#:-]?\s{{0,4}}(\d{{1,4}})(?![\d.])", re.I)
_ORDINAL = re.compile(r"第\s{0,4}([一二三四五六七八九十]|\d{1,4})\s{0,4}[张幅个]\s{0,4}(?:图|照片)")
_KEY = re.compile(rf"{_WORDS}[\s_#-]{{0,2}}(\d{{1,4}})\Z", re.I)
_HINT_KEYS = frozenset(
    {"picture", "image", "photo", "img", "picture_id", "image_id", "picture_number", "image_number", "图片", "图像"}
)
_INDEX_KEYS = frozenset({"picture_index", "image_index", "img_idx", "image_idx", "picture_idx", "img_index"})


@dataclass(frozen=True, slots=True)
class PictureHint:
    """A number that the model gave a picture; `is_index` where its key says that it counts from 0."""

    number: int
    is_index: bool = False


def as_picture_hint(value: dict[str, JsonValue]) -> PictureHint | None:
    """Return the picture that an object names under a key of its own."""
    for key, item in value.items():
        name = key.lower()
        if name not in _HINT_KEYS and name not in _INDEX_KEYS:
            continue
        if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 10_000:
            return PictureHint(item, name in _INDEX_KEYS)
        if isinstance(item, str):
            found = _KEY.match(item.strip())
            if found is not None or re.fullmatch(r"\d{1,4}", item.strip()):
                return PictureHint(int(found[1] if found else item), name in _INDEX_KEYS and found is None)
    return None


def picture_key(key: str) -> PictureHint | None:
    """Return the picture that a key such as `Picture 2` or `image_2` names."""
    found = _KEY.match(key.strip()[:40])
    return PictureHint(int(found[1])) if found else None


class PictureNames:
    """What an answer says about which picture is meant; the model itself is told of them as Picture 1, Picture 2 ..."""

    def __init__(self, text: str, values: Sequence[JsonBlock], count: int) -> None:
        self.count = count
        self._marks: list[tuple[int, int]] = []
        if count > 1:
            marks = [(found.start(), int(found[1])) for found in _NAMED.finditer(text)]
            marks += [(found.start(), _ordinal(found[1])) for found in _ORDINAL.finditer(text)]
            inside = _Spans(values)
            self._marks = sorted(mark for mark in marks if not inside.hold(mark[0]))
        self._values = values
        hints = list(_hints(values)) if count > 1 else []
        numbers = [hint.number for hint in hints if not hint.is_index]
        indices = [hint.number for hint in hints if hint.is_index]
        # A model that counts from 0 says 0 somewhere; one that counts its indices from 1 reaches the count of pictures.
        self._number_base = 0 if 0 in numbers else 1
        self._index_base = 1 if count in indices and 0 not in indices else 0

    def resolve(self, hint: PictureHint) -> int | None:
        """Return the index from 0; it may lie outside the question's pictures. With one picture there is nothing to tell."""
        if self.count == 1:
            return 0
        return hint.number - (self._index_base if hint.is_index else self._number_base)

    def before(self, position: int) -> int | None:
        """Return the picture named last before a position in the text."""
        if self.count == 1:
            return 0
        at = bisect_left(self._marks, (position, -1))
        return self._marks[at - 1][1] - 1 if at else None

    def of_block(self, number: int) -> int | None:
        """Return the picture that a JSON block speaks about: the one named since the block before, else by its place."""
        if self.count == 1:
            return 0
        begin = self._values[number - 1].end if number else 0
        first = bisect_left(self._marks, (begin, -1))
        last = bisect_left(self._marks, (self._values[number].start, -1))
        named = {mark[1] for mark in self._marks[first:last]}
        if len(named) == 1:
            return named.pop() - 1
        if not named and len(self._values) == self.count and all(isinstance(one.value, list) for one in self._values):
            return number
        return None

    def is_list_of_pictures(self, value: list[JsonValue]) -> bool:
        """Tell whether a list has one list for each picture."""
        return (
            self.count > 1
            and len(value) == self.count
            and all(isinstance(item, list) and all(isinstance(part, dict) for part in item) for item in value)
        )


class _Spans:
    """The stretches that JSON takes, so that a label such as "picture 3" names no picture."""

    def __init__(self, values: Sequence[JsonBlock]) -> None:
        self._starts = [block.start for block in values]
        self._ends = [block.end for block in values]

    def hold(self, position: int) -> bool:
        at = bisect_left(self._starts, position + 1) - 1
        return at >= 0 and position < self._ends[at]


def _hints(values: Sequence[JsonBlock]) -> list[PictureHint]:
    found: list[PictureHint] = []
    waiting: list[JsonValue] = [block.value for block in values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            own = as_picture_hint(value)
            found.extend([] if own is None else [own])
            found.extend(hint for key in value if (hint := picture_key(key)) is not None)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return found


def _ordinal(written: str) -> int:
    return "一二三四五六七八九十".find(written) + 1 or int(written)
