"""Places that an answer located: as a drawn picture with a list, or open to be worked on; and those that cannot be right.

Knows which of the two is shown. Does not know how either is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from qwen_vl_app.answers import Place, places_of
from qwen_vl_app.chat import Answer, LeftOut
from qwen_vl_app.standing import Standing
from qwen_vl_app.ui.desk import Desk
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.picture_view import can_be_opened, counts_of, show_picture_view, show_take_away
from qwen_vl_app.ui.pictures import ShownPicture, show_regions
from qwen_vl_app.ui.state import PageState
from qwen_vl_app.ui.words import Words


def show_places(
    answer: Answer,
    standing: Standing,
    pictures: Sequence[ShownPicture],
    words: Words,
    *,
    desk: Desk | None,
    key: str,
) -> None:
    """Show every picture that something was located on; one on which nothing was found can be opened to add places."""
    regions = answer.parsed.regions
    places = standing.corrected.places if standing.corrected.places is not None else places_of(regions)
    indices = {place.region.picture_index for place in places} | {region.picture_index for region in regions}
    if not indices and answer.parsed.data == [] and pictures:
        indices = {0}
    is_first = True
    for index in sorted(indices):
        if index >= len(pictures):
            continue
        picture, own = pictures[index], f"{key}-{index}"
        if desk is not None and desk.is_open(own, is_first=is_first) and can_be_opened(picture):
            show_picture_view(picture, places, regions=regions, index=index, pictures=pictures, desk=desk, key=own)
        else:
            _show_drawn(picture, [each for each in places if each.region.picture_index == index], words, desk, key=own)
        if desk is not None and desk.visit.state.taking == own:  # also where a newer answer has closed the picture
            show_take_away(
                picture,
                places,
                regions=regions,
                index=index,
                model=answer.model,
                words=words,
                key=own,
                on_close=partial(_take_no_more, desk.visit.state),
            )
        is_first = False
    if standing.corrected.places is not None:
        st.caption(f":material/edit: {words('view.saved', **counts_of(places, regions))}")
    _show_left_out(answer.parsed.left_out, words)


def _take_no_more(state: PageState) -> None:
    state.taking = ""


def _show_drawn(picture: ShownPicture, places: Sequence[Place], words: Words, desk: Desk | None, *, key: str) -> None:
    on_open = desk.open(key) if desk is not None and can_be_opened(picture) else None
    show_regions(picture, [place.region for place in places], words, key=key, on_open=on_open)
    if not places:
        st.caption(words("view.no_places"))
        return
    # A plain table: it stands at once, and is read aloud. Its cells are Markdown, so a label's signs are made plain.
    st.table(_columns(places, picture, words), hide_index=True, width="content")
    st.caption(words("answer.places_note", width=picture.size.width, height=picture.size.height))


def _columns(places: Sequence[Place], picture: ShownPicture, words: Words) -> Mapping[str, list[str | int]]:
    pixels = [place.region.box.to_pixels(picture.size) for place in places]
    columns: dict[str, list[str | int]] = {
        words("answer.number"): list(range(1, len(places) + 1)),
        words("answer.label"): [_label(place, words) for place in places],
    }
    for at, side in enumerate(("left", "top", "right", "bottom")):
        columns[words(f"answer.{side}")] = [box[at] for box in pixels]
    return columns


def _label(place: Place, words: Words) -> str:
    said = [plain(place.region.label)]
    if place.source.value != "model":
        said.append(f"*({words(f'view.mark_{place.source.value}')})*")
    said += [f"⚠ {words('view.check')}: {words(f'doubt.{code}')}" for code in place.region.doubts]
    return " ".join(part for part in said if part)


def _show_left_out(left_out: Sequence[LeftOut], words: Words) -> None:
    if not left_out:
        return
    with st.expander(f":material/warning: {words('view.left_out', count=len(left_out))}", type="compact"):
        st.table(
            {
                words("view.what"): [plain(each.label) for each in left_out],
                words("view.written"): [plain(each.written) for each in left_out],
                words("view.why"): [words(f"doubt.{each.code}") for each in left_out],
            },
            hide_index=True,
            width="content",
        )
