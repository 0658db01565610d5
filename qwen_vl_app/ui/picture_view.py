"""The picture that is being looked at: zoom, places one by one, corrections, and what can be taken away of it.

Knows what the browser's part (`frontend/picture_view.js`) is told and tells: words, pixels of the original. Does not draw;
pictures with boxes are drawn by `imaging`, so that pixels agree.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

import streamlit as st

from qwen_vl_app.answers import Place, PlacedPicture, PlaceSource, places_of, places_table, to_coco, to_csv
from qwen_vl_app.chat import Region, Rendition
from qwen_vl_app.corrections import amended, places_text
from qwen_vl_app.errors import AppError, HistoryError
from qwen_vl_app.imaging import COLOURS, draw_regions, view_size
from qwen_vl_app.ui.browser_part import browser_part
from qwen_vl_app.ui.desk import Desk
from qwen_vl_app.ui.pictures import ShownPicture
from qwen_vl_app.ui.state import acted, value_of
from qwen_vl_app.ui.words import Words

MAX_INLINE_BYTES = 6_000_000
"""A picture that is not kept travels with the page; a larger one is shown as it stands."""
_LABELS = (
    "as_seen", "zoom_in", "zoom_out", "fit", "full", "large", "small", "labels", "labels_toggle", "show_all", "show_none",
    "only", "no_label", "places", "no_places", "unsaved", "correct", "correct_done", "add", "add_how", "save", "discard",
    "undo", "remove", "restore", "restore_all", "models", "models_shown", "cut_place", "cut_shown", "label", "left", "top",
    "right", "bottom", "number", "what", "mark_corrected", "mark_added", "mark_removed", "check", "viewport", "editing",
    "wheel", "row", "unreadable", "take_away", "close",
)  # fmt: skip
_ACTS = ("take_away", "close")
"""What stands below a picture that is worked on."""
_AS_IS = {name: f"{{{name}}}" for name in ("name", "label", "number", "left", "top", "right", "bottom")}


def show_picture_view(
    picture: ShownPicture,
    places: Sequence[Place],
    *,
    regions: Sequence[Region],
    index: int,
    pictures: Sequence[ShownPicture],
    desk: Desk,
    key: str,
) -> None:
    """Show the picture of that index among `pictures` to be worked on. `places` are all that stand, on every picture.

    `regions` are the model's own, on every picture.
    """
    words = desk.visit.words
    widget = f"picture-{key}"
    try:
        data = view_data(picture, places, regions=regions, index=index, words=words, can_correct=desk.can_correct)
    except HistoryError as error:
        st.caption(words.render(error))
        return

    def take() -> None:
        value = value_of(widget)
        said = value.get("saved") if isinstance(value, Mapping) else None
        if not isinstance(said, Mapping):
            return
        try:
            after = amended(
                said.get("places"), standing=places, regions=regions, picture_index=index, size=picture.size
            )
            text = places_text(after, regions=regions, sizes=[each.size for each in pictures], language=words.language)
        except AppError as error:
            desk.refuse(error)
            return
        desk.correct(text)

    def do() -> None:
        wanted = acted(widget).get("act")
        if wanted == "close":
            desk.close()
        elif wanted == "take_away":
            desk.visit.state.forget_dialogs()
            desk.visit.state.taking = key

    browser_part("picture_view")(
        key=widget, data={"key": key, **data, "acts": _ACTS}, on_saved_change=take, on_did_change=do
    )


def show_bare_picture(picture: ShownPicture, words: Words, *, key: str) -> None:
    """Show a picture alone, to be zoomed and cut. Raises HistoryError where it cannot be read."""
    data = view_data(picture, (), regions=(), index=0, words=words, can_correct=False)
    browser_part("picture_view")(key=f"picture-{key}", data={"key": key, **data, "is_bare": True})


def view_data(
    picture: ShownPicture,
    places: Sequence[Place],
    *,
    regions: Sequence[Region],
    index: int,
    words: Words,
    can_correct: bool,
) -> Mapping[str, Any]:
    """Return what the browser's part is told, as JSON can carry it. Raises HistoryError where a picture cannot be read."""
    own = [
        _told(Place(region, of=at), picture, words)
        for at, region in enumerate(regions)
        if region.picture_index == index
    ]
    told = [_told(place, picture, words) for place in places if place.region.picture_index == index]
    size, seen = picture.size, picture.seen
    is_whole = (size.width, size.height) == (seen.size.width, seen.size.height)
    facts = {"width": size.width, "height": size.height, "tokens": seen.tokens}
    return {
        "labels": {name: words(f"view.{name}", **_AS_IS) for name in _LABELS},
        "name": picture.name,
        "width": size.width,
        "height": size.height,
        "view": _address(picture, Rendition.VIEW),
        "seen": _address(picture, Rendition.SEEN),
        "cut": f"{picture.address}/cut" if picture.address else "",
        "badge": words("view.badge_whole", **facts)
        if is_whole
        else words("view.badge", seen_width=seen.size.width, seen_height=seen.size.height, **facts),
        "pixels": words("view.pixels", width=size.width, height=size.height),
        "palette": [list(colour) for colour in COLOURS],
        "can_correct": can_correct,
        "is_private": not picture.is_cached,
        "is_corrected": told != own,
        "version": hashlib.sha256(json.dumps([told, own]).encode()).hexdigest()[:16],
        "places": told,
        "model": own,
    }


def _told(place: Place, picture: ShownPicture, words: Words) -> Mapping[str, Any]:
    return {
        "of": None if place.of is None else place.of + 1,
        "label": place.region.label,
        "box": list(place.region.box.to_pixels(picture.size)),
        "point": place.region.is_point,
        "doubts": [words(f"doubt.{code}") for code in place.region.doubts],
    }


def can_be_opened(picture: ShownPicture) -> bool:
    """Return whether the browser can have the picture at full resolution."""
    if picture.address:
        return True
    try:
        return len(picture.bytes_of(Rendition.VIEW)) <= MAX_INLINE_BYTES
    except HistoryError:
        return False


def _address(picture: ShownPicture, rendition: Rendition) -> str:
    if picture.address:
        return f"{picture.address}/{rendition.value}"
    data = picture.bytes_of(rendition)
    mime = "image/jpeg" if data.startswith(b"\xff\xd8") else "image/png"
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def show_take_away(
    picture: ShownPicture,
    places: Sequence[Place],
    *,
    regions: Sequence[Region],
    index: int,
    model: str,
    words: Words,
    key: str,
    on_close: Callable[[], None],
) -> None:
    """Show a dialog of files: the picture with its boxes, and the boxes, corrected or as the model has them."""
    own = [place for place in places_of(regions) if place.region.picture_index == index]
    mine = [place for place in places if place.region.picture_index == index]

    @st.dialog(words("view.take_away"), on_dismiss=on_close)
    def dialog() -> None:
        taken = mine
        if mine != own:
            names = {True: words("view.which_corrected"), False: words("view.which_model")}
            is_mine = st.radio(
                words("view.which"), (True, False), format_func=names.__getitem__, key=f"which-{key}", horizontal=True
            )
            taken = mine if is_mine else own
        stem = PurePath(picture.name).stem
        for name, ending, mime, make in (
            ("annotated", "boxes.png", "image/png", partial(annotated, picture, taken)),
            ("coco", "coco.json", "application/json", partial(_coco, picture, taken, model)),
            ("csv", "boxes.csv", "text/csv", partial(_csv, picture, taken)),
        ):
            st.download_button(
                words(f"view.{name}"),
                make,
                file_name=f"{stem}-{ending}",
                mime=mime,
                key=f"take-{name}-{key}",
                on_click="ignore",
                width="stretch",
            )
        st.caption(words("view.in_pixels"))
        smaller = view_size(picture.size)
        if smaller != picture.size:
            st.caption(words("view.shrunk", width=smaller.width, height=smaller.height))

    dialog()


def annotated(picture: ShownPicture, places: Sequence[Place]) -> bytes:
    """Return the picture at full resolution with its places drawn in, as PNG."""
    return draw_regions(
        picture.bytes_of(Rendition.VIEW),
        [place.region for place in places],
        numbers=len(places) > 1,
        as_png=True,
    )


def _alone(picture: ShownPicture, places: Sequence[Place]) -> tuple[list[Place], list[PlacedPicture]]:
    """Return the places of one picture as if it were the only one."""
    moved = [Place(Region(each.region.box, each.region.label), each.source, each.of) for each in places]
    return moved, [PlacedPicture(picture.name, picture.size)]


def _coco(picture: ShownPicture, places: Sequence[Place], model: str) -> str:
    return json.dumps(to_coco(*_alone(picture, places), model=model), ensure_ascii=False, indent=2)


def _csv(picture: ShownPicture, places: Sequence[Place]) -> bytes:
    return to_csv(places_table(*_alone(picture, places)))


def counts_of(places: Sequence[Place], regions: Sequence[Region]) -> Mapping[str, int]:
    """Return how many places a person changed, added and removed."""
    return {
        "changed": sum(place.source is PlaceSource.CORRECTED for place in places),
        "added": sum(place.source is PlaceSource.ADDED for place in places),
        "removed": len(regions) - sum(place.of is not None for place in places),
    }
