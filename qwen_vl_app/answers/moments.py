"""Times in an answer about a clip, as seconds from its beginning.

Knows the forms in which both families write them, in prose and in JSON. Does not know clips but for their length: what
lies behind the end cannot be meant and is left out. Never raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from qwen_vl_app.answers.json_blocks import JsonBlock
from qwen_vl_app.chat import JsonValue, Moment

MAX_MOMENTS = 500
BEYOND_S = 1.0
"""How far behind the end a time may lie and still mean the end: models round."""
_MAX_LABEL = 200
_MAX_DEPTH = 6
_START_KEYS = (
    "start",
    "start_time",
    "starttime",
    "start_s",
    "begin",
    "begin_time",
    "from",
    "开始",
    "开始时间",
    "起始时间",
)
_END_KEYS = ("end", "end_time", "endtime", "end_s", "finish", "until", "to", "stop", "结束", "结束时间")
_TIME_KEYS = (
    *("time", "timestamp", "timestamps", "time_range", "timerange", "time_span", "segment", "interval", "moment"),
    *("seconds", "second", "t", "时间", "时间戳", "时间段"),
)
_LABEL_KEYS = (
    *("event", "label", "description", "caption", "text", "text_content", "action", "activity", "content", "name"),
    *("title", "summary", "what", "事件", "描述", "内容", "动作"),
)
_CLOCK = r"(?:(?P<{0}h>\d{{1,2}}):)?(?P<{0}m>\d{{1,3}}):(?P<{0}s>\d{{2}}(?:\.\d{{1,6}})?)(?!\d|:\d)"
_SPOKEN = (
    r"(?:(?P<{0}min>\d{{1,3}})\s?(?:min(?:utes?)?|分钟?)\s?(?:and\s)?)?"
    r"(?P<{0}sec>\d{{1,5}}(?:\.\d{{1,6}})?)\s?(?:s(?:ec(?:onds?)?)?\b|秒)"
)
_BARE = r"(?P<{0}bare>\d{{1,5}}(?:\.\d{{1,6}})?)"
_JOIN = r"\s?(?:-|–|—|~|～|to|until|till|and|到|至|->|→)\s?"
_CLOSE = r"\s?[\])>】]?"
_OPEN = r"[\[(<【]?\s?"


def _form(name: str) -> str:
    return rf"(?:{_CLOCK.format(name)}|{_SPOKEN.format(name)})"


_TIMES = re.compile(
    rf"(?<![A-Za-z0-9_.:])(?:(?:{_form('a')}|{_BARE.format('a')}(?=\s?(?:-|–|—|~|～|to|到|至)\s?\d)){_CLOSE}{_JOIN}{_OPEN}{_form('b')}|{_form('c')})",
    re.I,
)
_FIRST = tuple(f"a{part}" for part in ("h", "m", "s", "min", "sec", "bare"))
_LASTING = re.compile(
    r"(?:\b(?:for|lasts?|lasting|takes?|took|every|within|about every|after another)|持续|长达|每|共|总长)\s{0,2}$",
    re.I,
)
_MOST_BEFORE = 40
"""More characters than the longest of these has."""
_AROUND = " \t\r\n-–—*•·:：,，;；.。()[]<>【】#|\"'`"
_FILLER = re.compile(r"^(?:from|between|从|在|于)\b|^(?:from|at|从|在)$", re.I)


def find_moments(text: str, values: Sequence[JsonBlock], *, seconds: float) -> tuple[Moment, ...]:
    """Return the times that an answer about a clip of that length names, as they stand, each once, the first 500.

    Where JSON names times, the prose around it is not read: it says the same once more.
    """
    found = list(_unique(_of_values([block.value for block in values]), seconds))
    if not found:
        found = list(_unique(_of_text(text), seconds))
    return tuple(found)


def times_in(line: str, *, seconds: float) -> Iterator[tuple[int, int, float]]:
    """Yield the times that a line of prose names: where each begins and ends in it, and the second of the clip that it means.

    Of a span whose two times stand in brackets of their own only the first counts, so that no bracket is torn from its other.
    """
    for match in _TIMES.finditer(line):
        inside = _within(Moment(*_span(match), ""), seconds)
        if inside is None or _is_duration(line, match.start()):
            continue
        start, end = match.span()
        if any(mark in match.group() for mark in "[]()<>【】"):
            end = max(match.end(name) for name in _FIRST if match.end(name) != -1)
        yield start, end, inside.start_s


def _is_duration(line: str, at: int) -> bool:
    """Return whether the words before a time make it a duration; only the last ones are looked at, for there may be many times."""
    return _LASTING.search(line[max(0, at - _MOST_BEFORE) : at]) is not None


def _unique(moments: Iterator[Moment], seconds: float) -> Iterator[Moment]:
    seen: set[tuple[float, float | None]] = set()
    for moment in moments:
        inside = _within(moment, seconds)
        if inside is None or (inside.start_s, inside.end_s) in seen:
            continue
        seen.add((inside.start_s, inside.end_s))
        yield inside
        if len(seen) >= MAX_MOMENTS:
            return


def _within(moment: Moment, seconds: float) -> Moment | None:
    start, end = moment.start_s, moment.end_s
    if end is not None and end < start:
        start, end = end, start
    if not (math.isfinite(start) and 0 <= start <= seconds + BEYOND_S):
        return None
    start = min(start, seconds)
    end = None if end is None or not math.isfinite(end) else min(end, seconds)
    return Moment(round(start, 3), None if end is None or end <= start else round(end, 3), moment.label)


def _of_text(text: str) -> Iterator[Moment]:
    for line in text.splitlines():
        matches = [match for match in _TIMES.finditer(line) if not _is_duration(line, match.start())]
        for number, match in enumerate(matches):
            # What stands behind a time belongs to it, up to the next; the first may have its words before it.
            behind = line[match.end() : matches[number + 1].start() if number + 1 < len(matches) else len(line)]
            before = line[: match.start()] if number == 0 else ""
            yield Moment(*_span(match), _label(behind, before))


def _span(match: re.Match[str]) -> tuple[float, float | None]:
    single = _seconds(match, "c")
    if single is not None:
        return single, None
    start, end = _seconds(match, "a"), _seconds(match, "b")
    return (0.0 if start is None else start), end


def _seconds(match: re.Match[str], name: str) -> float | None:
    groups = match.groupdict()
    if groups[f"{name}s"] is not None:
        hours, minutes = int(groups[f"{name}h"] or 0), int(groups[f"{name}m"])
        return hours * 3600 + minutes * 60 + float(groups[f"{name}s"])
    if groups[f"{name}sec"] is not None:
        return int(groups[f"{name}min"] or 0) * 60 + float(groups[f"{name}sec"])
    bare = groups.get(f"{name}bare")
    return None if bare is None else float(bare)


def _label(behind: str, before: str) -> str:
    for part in (behind, before):
        words = _FILLER.sub("", part.strip(_AROUND)).strip(_AROUND)
        if words:
            return words[:_MAX_LABEL]
    return ""


def _of_values(value: JsonValue, depth: int = 0) -> Iterator[Moment]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value:
            yield from _of_values(entry, depth + 1)
    elif isinstance(value, dict):
        folded = {str(key).strip().lower().replace(" ", "_").replace("-", "_"): entry for key, entry in value.items()}
        own = _of_entry(folded)
        if own is not None:
            yield own
            return
        for entry in value.values():
            yield from _of_values(entry, depth + 1)


def _of_entry(entry: Mapping[str, JsonValue]) -> Moment | None:
    label = next((str(entry[key]) for key in _LABEL_KEYS if isinstance(entry.get(key), str)), "").strip()[:_MAX_LABEL]
    start = next((_one(entry[key]) for key in _START_KEYS if key in entry), None)
    if start is not None:
        return Moment(start, next((_one(entry[key]) for key in _END_KEYS if key in entry), None), label)
    for key in _TIME_KEYS:
        told = entry.get(key)
        if isinstance(told, list) and 1 <= len(told) <= 2:
            times = [_one(each) for each in told]
            if times[0] is not None:
                return Moment(times[0], times[1] if len(times) == 2 else None, label)
        if isinstance(told, str) and (match := _TIMES.search(told)) is not None:
            return Moment(*_span(match), label)
        single = _one(told)
        if single is not None:
            return Moment(single, None, label)
    return None


def _one(value: JsonValue) -> float | None:
    """Return one time: a number is seconds, a text is read."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e9 else None
    if not isinstance(value, str):
        return None
    match = _TIMES.search(value)
    if match is not None:
        return _span(match)[0]
    bare = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*", value)
    return None if bare is None else float(bare[1])
