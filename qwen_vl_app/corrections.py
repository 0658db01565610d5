"""A person's corrections of places and tables: how they are written down beside an answer, and what stands after them.

An answer is never changed: a correction is one more line of its turn, readable by people and by this file. The latest one
counts, and one that takes everything back leaves the model's version. Does not know where corrections are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qwen_vl_app.answers import Place, PlaceSource, places_of, tables_in, to_markdown
from qwen_vl_app.chat import Answer, Box, Correction, Region, Size, Table
from qwen_vl_app.errors import UsageError
from qwen_vl_app.texts import Language, t

MAX_PLACES = 5_000
MAX_ROWS = 50_000
MAX_LABEL = 500
_MARK = "visual-assistant"
_BLOCK = re.compile(rf"^```json {_MARK}\n(.*?)\n```\s*\Z", re.S | re.M)


@dataclass(frozen=True, slots=True)
class CorrectedTable:
    """A table as a person left it. `of` names for each row the model's row, from 0; None where it was added."""

    table: Table
    of: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Corrected:
    """What stands after all corrections. `places` is None where nobody touched them; `tables` are by number, from 0."""

    places: tuple[Place, ...] | None = None
    tables: Mapping[int, CorrectedTable] = field(default_factory=dict)


def corrected(
    added: Sequence[Correction], *, regions: Sequence[Region], tables: Sequence[Table], sizes: Sequence[Size]
) -> Corrected:
    """Return what stands after these corrections, oldest first. One that does not fit the answer is passed over.

    `sizes` are those of the originals, in the question's order.
    """
    places: tuple[Place, ...] | None = None
    standing: dict[int, CorrectedTable] = {}
    for correction in added:
        said = _said(correction.text)
        try:
            if "places" in said:
                listed = said["places"]
                places = None if listed is None else _places(listed, regions=regions, sizes=sizes)
            elif "table" in said:
                number = _index(said["table"], len(tables))
                if said["rows"] is None:
                    standing.pop(number, None)
                else:
                    standing[number] = _table(said["rows"], tables[number])
        except (KeyError, TypeError, ValueError, UsageError):
            continue  # of another version, or a person's own words that look like ours: the answer stays as it is
    return Corrected(places, standing)


def text_as_it_stands(answer: Answer, added: Sequence[Correction], *, sizes: Sequence[Size], language: Language) -> str:
    """Return the model's words and, where a person corrected tables in them, these below as Markdown."""
    tables = [each.table for each in tables_in(answer.parsed)]
    after = corrected(added, regions=answer.parsed.regions, tables=tables, sizes=sizes)
    mine = [
        f"{t('corrections.table', language, number=number + 1)}\n\n{to_markdown(each.table)}"
        for number, each in sorted(after.tables.items())
    ]
    return "\n\n".join((answer.text, *mine))


def amended(
    said: object, *, standing: Sequence[Place], regions: Sequence[Region], picture_index: int, size: Size
) -> tuple[Place, ...]:
    """Return the places after a person's work on one picture, those on the others as they stand.

    `said` is a list of objects: `of` (the model's region, from 1, or null), `label`, `box` or `point` in whole pixels of
    the original. Raises UsageError where it is none.
    """
    try:
        if not isinstance(said, list):
            raise UsageError("corrections.not_places")
        mine = [{**each, "picture": picture_index + 1} for each in said]
        sizes = [Size(1, 1)] * picture_index + [size]
        changed = _places(mine, regions=regions, sizes=sizes)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("corrections.not_places") from error
    others = [place for place in standing if place.region.picture_index != picture_index]
    return tuple(sorted([*others, *changed], key=_order))


def places_text(
    places: Sequence[Place], *, regions: Sequence[Region], sizes: Sequence[Size], language: Language
) -> str:
    """Return the correction that says where places are now; nothing but the model's own takes all corrections back."""
    kept = [place for place in places if place.of is not None]
    if tuple(places) == places_of(regions):
        return withdrawn_places(language)
    sentence = t(
        "corrections.places",
        language,
        changed=sum(place.source is PlaceSource.CORRECTED for place in places),
        added=sum(place.source is PlaceSource.ADDED for place in places),
        removed=len(regions) - len(kept),
    )
    return _text(sentence, {"unit": "px", "places": [_place_said(place, sizes) for place in places]})


def withdrawn_places(language: Language) -> str:
    """Return the correction that goes back to the model's places."""
    return _text(t("corrections.places_withdrawn", language), {"places": None})


def table_text(number: int, changed: CorrectedTable, *, model: Table, language: Language) -> str:
    """Return the correction of the table of that number, from 0; the model's own rows take it back."""
    if changed.table.rows == model.rows:
        return withdrawn_table(number, language)
    rows = [
        {"of": None if of is None else of + 1, "cells": list(row)}
        for row, of in zip(changed.table.rows, changed.of, strict=True)
    ]
    said = {"table": number + 1, "columns": list(model.columns), "rows": rows}
    return _text(t("corrections.table", language, number=number + 1), said)


def withdrawn_table(number: int, language: Language) -> str:
    """Return the correction that goes back to the model's table."""
    return _text(t("corrections.table_withdrawn", language, number=number + 1), {"table": number + 1, "rows": None})


def _text(sentence: str, said: Mapping[str, Any]) -> str:
    # A fence inside a label would end ours.
    body = json.dumps(said, ensure_ascii=False).replace("```", "\\u0060\\u0060\\u0060")
    return f"{sentence}\n\n```json {_MARK}\n{body}\n```"


def _said(text: str) -> Mapping[str, Any]:
    block = _BLOCK.search(text)
    try:
        said = json.loads(block[1]) if block else {}
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _place_said(place: Place, sizes: Sequence[Size]) -> Mapping[str, Any]:
    of = None if place.of is None else place.of + 1
    if place.source is PlaceSource.MODEL:
        return {"of": of}
    region = place.region
    x1, y1, x2, y2 = region.box.to_pixels(sizes[region.picture_index])
    where = {"point": [x1, y1]} if region.is_point else {"box": [x1, y1, x2, y2]}
    return {"of": of, "label": region.label, "picture": region.picture_index + 1, **where}


def _places(listed: object, *, regions: Sequence[Region], sizes: Sequence[Size]) -> tuple[Place, ...]:
    if not isinstance(listed, list) or len(listed) > MAX_PLACES:
        raise UsageError("corrections.not_places")
    places: list[Place] = []
    taken: set[int] = set()
    for said in listed:
        if not isinstance(said, dict):
            raise UsageError("corrections.not_places")
        of = None if said.get("of") is None else _index(said["of"], len(regions))
        if of is not None:
            if of in taken:
                raise UsageError("corrections.not_places")
            taken.add(of)
        if of is not None and "box" not in said and "point" not in said:
            places.append(Place(regions[of], of=of))
            continue
        places.append(_place(said, of, regions=regions, sizes=sizes))
    return tuple(sorted(places, key=_order))


def _place(said: Mapping[str, Any], of: int | None, *, regions: Sequence[Region], sizes: Sequence[Size]) -> Place:
    index = _index(said["picture"], len(sizes))
    size = sizes[index]
    pixels = [_pixel(number) for number in (said["box"] if "box" in said else [*said["point"], *said["point"]])]
    x1, y1, x2, y2 = pixels
    is_inside = 0 <= x1 <= x2 <= size.width and 0 <= y1 <= y2 <= size.height
    if not is_inside or ("box" in said and (x1 == x2 or y1 == y2)):
        raise UsageError("corrections.not_places")
    label = " ".join(str(said.get("label") or "").split())[:MAX_LABEL]
    box = Box(x1 / size.width, y1 / size.height, x2 / size.width, y2 / size.height)
    region = Region(box, label, index)
    if of is None:
        return Place(region, PlaceSource.ADDED)
    own = regions[of]
    if (own.box.to_pixels(size), own.label, own.picture_index) == ((x1, y1, x2, y2), label, index):
        return Place(own, of=of)
    if own.box.to_pixels(size) == (x1, y1, x2, y2) and own.picture_index == index:
        return Place(replace(own, label=label), PlaceSource.CORRECTED, of)
    return Place(region, PlaceSource.CORRECTED, of)


def _order(place: Place) -> tuple[bool, int]:
    return place.of is None, place.of or 0


def _table(rows: object, model: Table) -> CorrectedTable:
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise UsageError("corrections.not_a_table")
    cells: list[tuple[str, ...]] = []
    of: list[int | None] = []
    for row in rows:
        values = row["cells"]
        if len(values) != len(model.columns) or not all(isinstance(value, str) for value in values):
            raise UsageError("corrections.not_a_table")
        cells.append(tuple(values))
        of.append(None if row["of"] is None else _index(row["of"], len(model.rows)))
    return CorrectedTable(Table(model.columns, tuple(cells)), tuple(of))


def _index(number: object, count: int) -> int:
    """Return an index from 0 of a number from 1. Raises ValueError where there is no such thing."""
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= count:
        raise ValueError(number)
    return number - 1


def _pixel(number: object) -> int:
    if isinstance(number, float) and number.is_integer():  # neither infinity nor a part of a pixel
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(number)
    return number
