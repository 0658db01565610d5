"""Finding on the records page: words in titles, questions, answers and what was read, by day and by picture.

Knows how a hit looks and how one leafs through many. Does not know how they are found or ranked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

import streamlit as st

from qwen_vl_app.chat import Fragment, Rendition, SearchHit, TextPiece
from qwen_vl_app.records import day_of
from qwen_vl_app.ui.acts import act
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import PageState, value_of
from qwen_vl_app.ui.turn_html import picture_url
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

HITS_AT_ONCE = 10
_WITH = {"any": None, "with": True, "without": False}


def show_search(visit: Visit) -> None:
    """Show what is looked for, and what was found."""
    words, state = visit.words, visit.state
    wanted = st.text_input(
        words("records.words"),
        key="find-words",
        icon=":material/search:",
        placeholder=words("records.words_how"),
        label_visibility="collapsed",
        on_change=_from_the_beginning,
        args=(state,),
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="top", key="find-filters"):
        st.date_input(
            words("records.days"), value=[], key="find-range", width=320, on_change=_from_the_beginning, args=(state,)
        )
        pictures = st.segmented_control(
            words("records.pictures"),
            list(_WITH),
            default="any",
            required=True,
            format_func=lambda name: words(f"records.pictures_{name}"),
            key="find-pictures",
            on_change=_from_the_beginning,
            args=(state,),
        )
    days = days_chosen("find-range")
    since = until = None
    if days is not None:
        (since, _), (_, until) = day_of(days[0], zone=words.zone), day_of(days[1], zone=words.zone)
    found = visit.assistant.records.search(
        visit.owner,
        wanted or "",
        since=since,
        until=until,
        has_pictures=_WITH[pictures or "any"],
        limit=HITS_AT_ONCE,
        offset=state.records.offset,
    )
    if not found.hits:
        is_asked = bool((wanted or "").strip() or days or pictures != "any")
        st.caption(words("list.nothing_found" if is_asked else "list.empty"))
    with st.container(gap="small", key="hits"):
        for hit in found.hits:
            _show_hit(visit, hit)
    if state.records.offset or found.has_more:
        with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center", key="leaf"):
            _show_leaf(visit, -HITS_AT_ONCE, is_there=state.records.offset > 0)
            number = state.records.offset // HITS_AT_ONCE + 1
            st.caption(words("records.page", number=number), width="content")
            _show_leaf(visit, HITS_AT_ONCE, is_there=found.has_more)


def days_chosen(key: str) -> tuple[date, date] | None:
    """Return the first and the last day of a date range, in its widget; one day alone is both. None where there is none."""
    value = value_of(key)
    days = [each for each in value if isinstance(each, date)] if isinstance(value, (tuple, list)) else []
    return (min(days), max(days)) if days else None


def _from_the_beginning(state: PageState) -> None:
    state.records.offset = 0


def _show_leaf(visit: Visit, step: int, *, is_there: bool) -> None:
    def leaf() -> None:
        visit.state.records.offset = max(0, visit.state.records.offset + step)

    name, icon = ("before", ":material/chevron_left:") if step < 0 else ("after", ":material/chevron_right:")
    st.button(visit.words(f"records.{name}"), key=f"leaf-{name}", icon=icon, disabled=not is_there, on_click=leaf)


def _show_hit(visit: Visit, hit: SearchHit) -> None:
    words, conversation = visit.words, hit.conversation
    thumbnail = conversation.thumbnail_picture_id

    def open_hit() -> None:
        act(visit, {"act": "open", "conversation": conversation.id, "turn": hit.turn_id})

    with st.container(border=True, gap="xsmall", key=f"hit-{hit.turn_id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
            if thumbnail is not None:
                st.html(
                    f'<img class="qvl-hit" src="{picture_url(thumbnail, Rendition.THUMBNAIL)}" alt="" loading="lazy">',
                    width="content",
                )
            with st.container(gap=None):
                st.button(plain(conversation.title), key=f"open-hit-{hit.turn_id}", type="tertiary", on_click=open_hit)
                st.caption(words.moment(hit.asked_at, now=datetime.now(UTC)))
        for fragment in _telling(hit, words):
            st.markdown(fragment)


def _telling(hit: SearchHit, words: Words) -> Iterable[str]:
    """Yield the fragments with what was looked for marked; without any, what was asked stands for itself."""
    for fragment in hit.fragments:
        if fragment.field == "title":  # it stands above
            continue
        yield f":gray[{words(f'records.in_{fragment.field}')}]  {_marked(fragment)}"


def _marked(fragment: Fragment) -> str:
    return "".join(_piece(piece) for piece in fragment.pieces)


def _piece(piece: TextPiece) -> str:
    """Return a piece as the page's Markdown: spaces at its ends matter, signs mean themselves."""
    said = plain(piece.text)
    if not said:
        return " " if piece.text else ""
    before, after = (" " if end.isspace() else "" for end in (piece.text[:1], piece.text[-1:]))
    return f"{before}:yellow-background[**{said}**]{after}" if piece.is_match else f"{before}{said}{after}"
