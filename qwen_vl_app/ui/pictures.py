"""Pictures on the page: thumbnails with what the model sees of them, and the upright view large on click.

Knows renditions by their source. Does not know where they are kept; caches are keyed by owner and picture, and dropped
when something is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import streamlit as st

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Clip, Region, Rendition, SeenSize, Size, StagedPicture, TurnPicture
from qwen_vl_app.errors import AppError, HistoryError
from qwen_vl_app.imaging import draw_regions
from qwen_vl_app.private import is_private
from qwen_vl_app.ui.kept_html import forget_html
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.words import Words

CARD_WIDTH_PX = 240
THUMBNAIL_HEIGHT_PX = 144
DRAWN_SIDE_PX = 1400


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """One picture as the page shows it. `key` is unique on the page; `bytes_of` raises HistoryError."""

    key: str
    name: str
    size: Size
    seen: SeenSize
    page: int
    page_count: int
    bytes_of: Callable[[Rendition], bytes]
    address: str = ""
    """Where a browser gets its renditions from; empty where it is not kept."""
    clip: Clip | None = None
    player: str = ""
    """Where a browser gets the clip itself from; empty where it is none, or is not kept."""
    is_cached: bool = True
    """False for a private one: what goes with its tab is in no cache that outlives it."""


def kept_picture(assistant: Assistant, owner: str, picture: TurnPicture) -> ShownPicture:
    """Return a picture of a kept turn, or of a private one."""
    is_cached = not is_private(picture.id)

    def bytes_of(rendition: Rendition) -> bytes:
        if not is_cached:
            return assistant.picture(owner, picture.id, rendition).data
        return _kept_bytes(assistant, owner, picture.id, rendition.value)

    return ShownPicture(
        key=f"kept-{picture.id}",
        name=picture.name,
        size=picture.size,
        seen=picture.seen,
        page=picture.page,
        page_count=picture.page_count,
        bytes_of=bytes_of,
        address=f"/app/pictures/{picture.id}",
        clip=picture.clip,
        player=f"/app/clips/{picture.id}" if picture.clip is not None else "",
        is_cached=is_cached,
    )


def staged_picture(picture: StagedPicture) -> ShownPicture:
    """Return a picture that is not kept (yet)."""
    forms = {
        Rendition.UPLOAD: picture.upload,
        Rendition.VIEW: picture.view,
        Rendition.SEEN: picture.seen_png,
        Rendition.THUMBNAIL: picture.thumbnail,
    }
    return ShownPicture(
        key=f"staged-{picture.staged_id}",
        name=picture.name,
        size=picture.size,
        seen=picture.seen,
        page=picture.page,
        page_count=picture.page_count,
        bytes_of=forms.__getitem__,
        clip=picture.clip,
    )


@st.cache_data(max_entries=1024, show_spinner=False)
def _kept_bytes(_assistant: Assistant, owner: str, picture_id: int, rendition: str) -> bytes:
    return _assistant.picture(owner, picture_id, Rendition(rendition)).data


@st.cache_data(max_entries=64, show_spinner=False)
def _drawn(_shown: ShownPicture, key: str, regions: tuple[Region, ...]) -> bytes:
    del key  # it is here for the cache alone
    return _draw(_shown, regions)


def _draw(shown: ShownPicture, regions: tuple[Region, ...]) -> bytes:
    return draw_regions(shown.bytes_of(Rendition.VIEW), regions, numbers=len(regions) > 1, max_side=DRAWN_SIDE_PX)


def forget_pictures() -> None:
    """Drop every cached picture, and what was written about them: something was deleted for good."""
    forget_html()
    _kept_bytes.clear()
    _drawn.clear()


OpenLarge: TypeAlias = Callable[[ShownPicture, Words], None]
"""Shows one picture large."""


def show_pictures(pictures: Sequence[ShownPicture], words: Words, *, open_large: OpenLarge) -> None:
    """Show a row of thumbnails, each with its sizes and tokens; a click opens the upright view."""
    if not pictures:
        return
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        for picture in pictures:
            show_picture(picture, words, open_large=open_large)


def show_picture(
    picture: ShownPicture, words: Words, *, open_large: OpenLarge, height_px: int = THUMBNAIL_HEIGHT_PX
) -> None:
    """Show one thumbnail as a card of fixed width, so that nothing jumps when the picture arrives."""
    with st.container(width=CARD_WIDTH_PX, gap="xxsmall", key=f"card-{picture.key}"):
        try:
            thumbnail = picture.bytes_of(Rendition.THUMBNAIL)
        except HistoryError as error:
            st.caption(words.render(error))
            return
        width = round(min(CARD_WIDTH_PX, max(40.0, height_px * picture.size.width / picture.size.height)))
        with st.container(width=width, key=f"thumb-{picture.key}", gap=None):
            st.image(thumbnail, width="stretch", alt=words("picture.alt", name=picture.name))
            # The button lies over the thumbnail (see `style`), so that the picture itself is what one clicks.
            label = words("picture.enlarge", name=plain(picture.name))
            if st.button(label, key=f"enlarge-{picture.key}", type="tertiary", width="stretch"):
                open_large(picture, words)
        st.caption(f"{_name_line(picture, words)}  \n{sizes_line(picture, words)}")


def sizes_line(picture: ShownPicture, words: Words) -> str:
    """Return the original size, the size that the model sees, and its tokens; of a clip its length and frames as well."""
    return sizes_words(picture.size, picture.seen, picture.clip, words)


def sizes_words(size: Size, seen: SeenSize, clip: Clip | None, words: Words) -> str:
    """Return what `sizes_line` says."""
    facts: dict[str, float] = {
        "width": size.width,
        "height": size.height,
        "seen_width": seen.size.width,
        "seen_height": seen.size.height,
        "tokens": seen.tokens,
    }
    if clip is None:
        return words("picture.sizes", **facts)
    return words("clip.sizes", **facts, seconds=clip.seconds, frames=len(clip.moments))


def show_regions(
    picture: ShownPicture,
    regions: Sequence[Region],
    words: Words,
    *,
    key: str,
    on_open: Callable[[], None] | None = None,
) -> None:
    """Show the upright view with the regions drawn on it; a click on it calls `on_open`."""
    plainly = tuple(replace(region, doubts=()) for region in regions)
    try:
        drawn = _drawn(picture, picture.key, plainly) if picture.is_cached else _draw(picture, plainly)
    except AppError as error:
        st.caption(words.render(error))
        return
    with st.container(key=f"regions-{key}"):
        st.image(drawn, alt=words("answer.regions_alt", name=picture.name, count=len(regions)))
        if on_open is not None:
            # The button lies over the picture (see `style`), as over a thumbnail.
            st.button(words("view.open", name=plain(picture.name)), key=f"look-{key}", on_click=on_open)


def _name_line(picture: ShownPicture, words: Words) -> str:
    name = picture.name if len(picture.name) <= 26 else f"{picture.name[:14]}…{picture.name[-10:]}"
    if picture.page_count > 1:
        return f"{plain(name)} · {words('picture.page', page=picture.page + 1, count=picture.page_count)}"
    return plain(name)
