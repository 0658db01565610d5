"""Where JSON stands in an answer: in fences, or bare between the words.

Knows what counts as data (a bare number, `[1]` or `[x]` in a sentence does not). Does not know what the data means.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from qwen_vl_app.answers.code import CodeBlock, code_blocks, outside_code
from qwen_vl_app.answers.json_text import Ending, JsonReading, read_json
from qwen_vl_app.answers.thoughts import without_thoughts
from qwen_vl_app.chat import JsonValue

_JSON_FENCES = frozenset({"json", "json5", "jsonc", "jsonl", "ndjson", "geojson"})
_OPEN_FENCES = frozenset({"", "text", "txt", "plaintext", "python", "py", "javascript", "js"})
_LINE_END = re.compile(r"[^\S\n]*(?:\n|\Z)")
_BETWEEN = re.compile(r"[\s,]*")
_OPENING = re.compile(r"[\[{]")


@dataclass(frozen=True, slots=True)
class JsonBlock:
    """One value and the stretch of the answer that it was read from (for a fence, the whole fence).

    `opening` is where its first bracket stands; -1 where a fence is indented, so that its text is not the answer's.
    """

    value: JsonValue
    start: int
    end: int
    opening: int = -1


def json_blocks(text: str, blocks: tuple[CodeBlock, ...], repairs: Counter[str]) -> list[JsonBlock]:
    """Return the JSON values in order; bare ones only where no fence holds any. `repairs` counts what was mended."""
    fenced: list[JsonBlock] = []
    for block in blocks:
        source = block.source.strip()
        is_json = block.language in _JSON_FENCES
        if is_json or (block.language in _OPEN_FENCES and source.startswith(("{", "["))):
            # Python that begins with a bracket may be code: only what reads as a whole counts there.
            values = _values(source, repairs, is_json=is_json or block.language == "")
            at = text.find(source, block.start, block.end)
            fenced.extend(
                JsonBlock(value, block.start, block.end, at + opening if at >= 0 else -1) for opening, value in values
            )
            if is_json and not values and source:
                repairs["json_unreadable"] += 1
    if fenced:
        return fenced
    return [found for at, part in outside_code(text, blocks) for found in _bare(part, at, repairs)]


def data_stretches(text: str) -> list[tuple[int, int]]:
    """Return where the data of an answer begins and ends: whole fences, or lines. What stands within a sentence is a part of it."""
    text = without_thoughts(text)
    blocks = code_blocks(text)
    fences = {block.start for block in blocks}
    found: dict[int, int] = {}
    last = 0
    for block in json_blocks(text, blocks, Counter()):
        goes_on = last > 0 and _BETWEEN.fullmatch(text, last, block.start) is not None
        begins_line = goes_on or _begins_line(text, block.start)
        is_whole = not _is_plain(block.value) or _ends_line(text, block.end)
        if block.start in fences or (begins_line and is_whole):
            found[block.start] = last = block.end
    return list(found.items())


def without_data(text: str) -> str:
    """Return what an answer says around its data."""
    kept, position = "", 0
    for start, end in data_stretches(text):
        kept += text[position:start]
        position = end
    return (kept + text[position:]).strip()


def _is_plain(value: JsonValue) -> bool:
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)


def _values(source: str, repairs: Counter[str], *, is_json: bool) -> list[tuple[int, JsonValue]]:
    """Return each value and where it begins."""
    values: list[tuple[int, JsonValue]] = []
    position = 0
    is_lost = False
    while (found := _OPENING.search(source, position)) is not None:
        reading = read_json(source, found.start())
        if reading.ending is Ending.TOO_DEEP:
            repairs["json_too_deep"] += 1
            break
        if not is_json and reading.ending is Ending.BROKEN:
            return []
        if reading.ending is Ending.WHOLE or reading.value:
            _count(reading, repairs)
            values.append((found.start(), reading.value))
        elif reading.ending is Ending.CUT:
            repairs["json_cut"] += 1
        else:
            is_lost = True  # nothing of it was whole, and what stands behind it is read as if it had not been there
        position = reading.end
    repairs["json_broken"] += bool(values) and is_lost
    return values


def _bare(part: str, offset: int, repairs: Counter[str]) -> list[JsonBlock]:
    found: list[JsonBlock] = []
    position = 0
    while (opening := _OPENING.search(part, position)) is not None:
        start = opening.start()
        reading = read_json(part, start)
        position = reading.end
        if reading.ending is Ending.TOO_DEEP:
            repairs["json_too_deep"] += 1
            break
        if _is_data(part, start, reading):
            _count(reading, repairs)
            found.append(JsonBlock(reading.value, offset + start, offset + reading.end, offset + start))
    return found


def _is_data(part: str, start: int, reading: JsonReading) -> bool:
    value = reading.value
    if isinstance(value, dict):
        return bool(value) or (reading.ending is Ending.WHOLE and _stands_alone(part, start, reading.end))
    if not isinstance(value, list):
        return False
    if any(isinstance(item, dict | list) and item for item in value):
        return True
    if reading.ending is not Ending.WHOLE or part[reading.end : reading.end + 1] in ("(", "[", ":"):
        return False
    return len(value) > 1 or _stands_alone(part, start, reading.end)


def _stands_alone(part: str, start: int, end: int) -> bool:
    return _begins_line(part, start) and _ends_line(part, end)


def _begins_line(part: str, start: int) -> bool:
    while start and part[start - 1] != "\n" and part[start - 1].isspace():
        start -= 1
    return not start or part[start - 1] == "\n"


def _ends_line(part: str, end: int) -> bool:
    return _LINE_END.match(part, end) is not None


def _count(reading: JsonReading, repairs: Counter[str]) -> None:
    repairs.update(reading.repairs)
    if reading.ending is Ending.CUT:
        repairs["json_cut"] += 1
    elif reading.ending is Ending.BROKEN:
        repairs["json_broken"] += 1
