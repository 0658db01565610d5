"""Places on pictures as they are shown and taken away: the model's, and what a person made of them.

Knows regions and who put them where they are. Does not know how corrections are kept or drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from qwen_vl_app.chat import Region, Size, Table


class PlaceSource(StrEnum):
    """Who put a place where it is."""

    MODEL = "model"
    CORRECTED = "corrected"
    """The model's, moved or named differently by a person."""
    ADDED = "added"
    """A person's own."""


@dataclass(frozen=True, slots=True)
class Place:
    """A region and where it comes from. `of` is its place among the model's regions, from 0; None where it is added."""

    region: Region
    source: PlaceSource = PlaceSource.MODEL
    of: int | None = None


@dataclass(frozen=True, slots=True)
class PlacedPicture:
    """A picture that places lie on: its file's name, and the size of its upright original."""

    name: str
    size: Size


def places_of(regions: Sequence[Region]) -> tuple[Place, ...]:
    """Return the model's own regions as places."""
    return tuple(Place(region, of=at) for at, region in enumerate(regions))


def places_table(places: Sequence[Place], pictures: Sequence[PlacedPicture]) -> Table:
    """Return one row a place, in whole pixels of the upright original; one on a picture that is not there is left out."""
    columns = ("number", "label", "kind", "left_px", "top_px", "right_px", "bottom_px", "source", "picture")
    rows: list[tuple[str, ...]] = []
    for number, place in enumerate(places, 1):
        index = place.region.picture_index
        if 0 <= index < len(pictures):
            pixels = place.region.box.to_pixels(pictures[index].size)
            kind = "point" if place.region.is_point else "box"
            edges = tuple(str(edge) for edge in pixels)
            rows.append((str(number), place.region.label, kind, *edges, place.source.value, pictures[index].name))
    return Table(columns, tuple(rows))
