"""Known answers: pictures with questions whose right answers came with a model, and whether it still gives them.

Knows `known.json` in a model's folder, written by whoever made the model, and holds answers against it. Does not ask, does not
know why an answer is right, nor what is done about a wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_vl_app.chat import Answer, Box, JsonValue, Region
from qwen_vl_app.errors import Reason

LISTING = "known.json"
LEAST_OVERLAP = 0.5
"""Intersection over union from which a box counts as found."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """One question and what its answer must hold: exactly one of `text`, `data` and `regions` is wanted.

    `pictures` are files by name; `regions` are in fractions of the upright picture, like every region.
    """

    name: str
    question: str
    pictures: tuple[tuple[str, bytes], ...] = field(repr=False)
    text: str | None = None
    data: JsonValue = None
    regions: tuple[Region, ...] | None = None


@dataclass(frozen=True, slots=True)
class KnownResult:
    """What became of one question. `said` is the model's own text; `problem` is None where it was right."""

    known: KnownAnswer
    said: str
    problem: Reason | None

    @property
    def is_right(self) -> bool:
        """True for an answer that holds what is wanted."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class KnownAnswersResult:
    """What became of all questions. A model that brings none has a total of 0, and a reason if its list is damaged."""

    results: tuple[KnownResult, ...] = ()
    reasons: tuple[Reason, ...] = ()
    """Why not all is right, one for each wrong answer, in the order they were asked."""

    @property
    def right(self) -> int:
        """How many answers were right."""
        return sum(result.is_right for result in self.results)

    @property
    def total(self) -> int:
        """How many questions were asked."""
        return len(self.results)

    @property
    def are_all_right(self) -> bool:
        """True where questions were asked and none went wrong."""
        return bool(self.results) and not self.reasons


def load_known_answers(folder: Path) -> tuple[KnownAnswer, ...]:
    """Return the questions that a model's folder brings; none where it has no list.

    Raises ValueError for a list that is damaged or names a picture that is not in the folder.
    """
    try:
        listing = (folder / LISTING).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ValueError(str(error)) from error
    try:
        entries = json.loads(listing)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(entries, list):
        raise ValueError("no list")
    try:
        return tuple(_read(folder, entry) for entry in entries)
    except (KeyError, TypeError, AttributeError, OSError) as error:
        raise ValueError(repr(error)) from error


def _read(folder: Path, entry: Any) -> KnownAnswer:
    inside = folder.resolve()
    pictures = []
    for named in entry["pictures"]:
        file = (folder / str(named)).resolve()
        if not file.is_relative_to(inside):
            raise ValueError("a picture outside the model's folder")
        pictures.append((file.name, file.read_bytes()))
    wanted = entry["answer"]
    if len(wanted) != 1 or not wanted.keys() <= {"text", "data", "boxes"}:
        raise ValueError("an answer is a text, data or boxes")
    regions = None
    if "boxes" in wanted:
        regions = tuple(Region(Box(*map(float, each["box"])), str(each["label"])) for each in wanted["boxes"])
    text = str(wanted["text"]) if "text" in wanted else None
    return KnownAnswer(str(entry["name"]), str(entry["question"]), tuple(pictures), text, wanted.get("data"), regions)


def holds(answer: Answer, known: KnownAnswer) -> bool:
    """Say whether an answer holds what is wanted: the same text, the same data, or the same things in the same places."""
    if known.regions is not None:
        return _same_regions(answer.parsed.regions, known.regions)
    if known.text is not None:
        return answer.text.strip() == known.text.strip()
    return answer.parsed.has_data and answer.parsed.data == known.data


def finds(answer: Answer, known: KnownAnswer) -> bool:
    """Say whether an answer points at every thing that is wanted, whatever it calls them and whatever else it points at."""
    return all(
        any(overlap(found.box, wanted.box) >= LEAST_OVERLAP for found in answer.parsed.regions)
        for wanted in known.regions or ()
    )


def _same_regions(found: Sequence[Region], wanted: Sequence[Region]) -> bool:
    free = list(found)
    for region in wanted:
        same = [other for other in free if other.label == region.label]
        best = max(same, key=lambda other: overlap(other.box, region.box), default=None)
        if best is None or overlap(best.box, region.box) < LEAST_OVERLAP:
            return False
        free.remove(best)
    return not free


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, 0 where they do not meet."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (one.x2 - one.x1) * (one.y2 - one.y1) + (other.x2 - other.x1) * (other.y2 - other.y1)
    return shared / (areas - shared)
