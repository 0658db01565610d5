"""A person's corrections: the model's version stays, what was changed is told, and odd words change nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from qwen_vl_app.answers import Place, PlaceSource, places_of
from qwen_vl_app.chat import Box, Correction, Region, Size, Table
from qwen_vl_app.corrections import (
    Corrected,
    CorrectedTable,
    amended,
    corrected,
    places_text,
    table_text,
    withdrawn_places,
    withdrawn_table,
)
from qwen_vl_app.errors import UsageError
from qwen_vl_app.texts import Language

SIZES = (Size(400, 300), Size(90, 90))
REGIONS = (
    Region(Box(1 / 3, 0.1, 0.5, 0.5), "lamp"),
    Region(Box(0.5, 0.5, 0.75, 0.75), "valve", doubts=("boxes_clamped",)),
    Region(Box(0.5, 0.5, 0.5, 0.5), "screw", 1),
)
TABLE = Table(("a", "b"), (("1", "x"), ("2", "y")))
EN = Language.ENGLISH


def after(*texts: str) -> Corrected:
    added = [Correction(text, datetime(2026, 1, 1, tzinfo=UTC)) for text in texts]
    return corrected(added, regions=REGIONS, tables=[TABLE], sizes=SIZES)


def said_by_page(*changes: object) -> list[object]:
    """What the picture view sends: every place on the first picture, in pixels."""
    first = {"of": 1, "label": "lamp", "box": list(REGIONS[0].box.to_pixels(SIZES[0]))}
    second = {"of": 2, "label": "valve", "box": list(REGIONS[1].box.to_pixels(SIZES[0]))}
    return [first, second, *changes]


def amend(said: object) -> tuple[Place, ...]:
    return amended(said, standing=places_of(REGIONS), regions=REGIONS, picture_index=0, size=SIZES[0])


def text_of(places: tuple[Place, ...]) -> str:
    return places_text(places, regions=REGIONS, sizes=SIZES, language=EN)


def test_what_nobody_touched_is_the_models_to_the_last_digit() -> None:
    """Pixels sent back unchanged are no correction, and the other picture's places stay."""
    places = amend(said_by_page())
    assert places == places_of(REGIONS)
    assert after(text_of(places)).places is None


def test_moved_renamed_added_and_removed_places_are_told_apart() -> None:
    """Each correction comes back as it was made, with who made it; a reader of the text understands it, too."""
    said = [
        {"of": 1, "label": "red  lamp", "box": list(REGIONS[0].box.to_pixels(SIZES[0]))},
        {"of": None, "label": "```new", "box": [0, 0, 400, 1]},
    ]
    places = amend(said)
    assert [place.source for place in places] == [PlaceSource.CORRECTED, PlaceSource.MODEL, PlaceSource.ADDED]
    text = text_of(places)
    assert text.startswith("Places corrected by a person: 1 moved or renamed, 1 added, 1 removed.")
    assert text.count("```") == 2
    standing = after(text).places
    assert standing == places
    assert standing is not None
    assert standing[0].region.label == "red lamp" and standing[0].region.box == REGIONS[0].box
    assert standing[2].region.box.to_pixels(SIZES[0]) == (0, 0, 400, 1)
    again = amended(
        [{"of": 2, "label": "valve", "box": list(REGIONS[1].box.to_pixels(SIZES[0]))}],
        standing=standing,
        regions=REGIONS,
        picture_index=0,
        size=SIZES[0],
    )
    assert [place.of for place in again] == [1, 2]
    assert again[0].source is PlaceSource.MODEL and again[0].region.doubts == ("boxes_clamped",)


def test_the_latest_counts_and_everything_can_be_taken_back() -> None:
    """The model's version is one correction away, and another may follow it."""
    one = text_of(amend([{"of": None, "label": "x", "box": [1, 1, 9, 9]}]))
    assert after(one, withdrawn_places(EN)).places is None
    places = after(withdrawn_places(EN), one).places
    assert places is not None and [place.region.label for place in places] == ["screw", "x"]


@pytest.mark.parametrize(
    "said",
    [
        None,
        [{"of": 9, "label": "", "box": [0, 0, 1, 1]}],
        [{"of": 1, "label": "", "box": [0, 0, 1, 1]}] * 2,
        [{"of": None, "label": "", "box": [0, 0, 401, 1]}],
        [{"of": None, "label": "", "box": [5, 5, 5, 9]}],
        [{"of": None, "label": "", "box": [0.5, 0, 1, 1]}],
        [{"of": None, "label": "", "box": [float("nan"), 0, 1, 1]}],
        [{"of": None, "label": "", "box": [0, 0, float("inf"), 1]}],
        [{"of": None, "label": "", "box": [0, 0, 10**400, 1]}],
        [{"of": None, "label": "", "box": [0, 0, 1]}],
        [{"of": None, "label": ""}],
        [{"of": True, "label": "", "box": [0, 0, 1, 1]}],
        ["x"],
        [{"of": None, "label": "", "box": [0, 0, 1, 1]}] * 5001,
    ],
)
def test_places_that_cannot_be_are_refused(said: object) -> None:
    """Nothing that does not fit the picture is kept."""
    with pytest.raises(UsageError):
        amend(said)


def test_tables_keep_their_rows_apart() -> None:
    """Changed cells, added and removed rows come back; the model's own rows take it back."""
    mine = CorrectedTable(Table(("a", "b"), (("2", "Y"), ("3", "z"))), (1, None))
    text = table_text(0, mine, model=TABLE, language=EN)
    assert after(text).tables == {0: mine}
    assert after(text, withdrawn_table(0, EN)).tables == {}
    assert after(text, table_text(0, CorrectedTable(TABLE, (0, 1)), model=TABLE, language=EN)).tables == {}


@pytest.mark.parametrize(
    "text",
    [
        "it was 42",
        "```json visual-assistant\nnonsense\n```",
        "```json visual-assistant\n[1]\n```",
        '```json visual-assistant\n{"places": 3}\n```',
        '```json visual-assistant\n{"places": ["pump", null]}\n```',
        '```json visual-assistant\n{"places": [{"of": null, "picture": 1, "box": [0, 0, 1e999, 9]}]}\n```',
        '```json visual-assistant\n{"places": [{"of": 77}]}\n```',
        '```json visual-assistant\n{"table": 5, "rows": []}\n```',
        '```json visual-assistant\n{"table": 1, "rows": [{"of": 1, "cells": ["one"]}]}\n```',
        "```json visual-assistant\n" + "[" * 100_000 + "\n```",
    ],
)
def test_words_that_are_no_correction_of_ours_change_nothing(text: str) -> None:
    """A person's own note, damage, and what another version wrote leave the answer as it is."""
    assert after(text) == Corrected()


def test_a_point_stays_a_point() -> None:
    """It can be moved, and is still told as a point."""
    places = amended(
        [{"of": 3, "label": "screw", "point": [10, 20]}],
        standing=places_of(REGIONS),
        regions=REGIONS,
        picture_index=1,
        size=SIZES[1],
    )
    assert places[2].region.is_point
    assert json.loads(text_of(places).split("\n")[3])["places"][2] == {
        "of": 3,
        "label": "screw",
        "picture": 2,
        "point": [10, 20],
    }
