"""A clip on the page: the player, the frames that the model saw, and the times that the answer names.

Knows what the browser's part (`frontend/clip_view.js`) is told: addresses, seconds, words. Does not play or decode.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from qwen_vl_app.chat import Answer, Clip, Moment, Rendition
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.imaging import SHEET_COLUMNS, sheet_frame
from qwen_vl_app.ui.browser_part import browser_part
from qwen_vl_app.ui.pictures import ShownPicture
from qwen_vl_app.ui.words import Words


def show_clips(answer: Answer, pictures: Sequence[ShownPicture], words: Words, *, key: str) -> None:
    """Show the clips that an answer speaks about. Its times belong to the first: nobody says to which of several."""
    moments = answer.parsed.moments
    for index, picture in enumerate(pictures):
        if picture.clip is not None:
            show_clip(picture, picture.clip, moments, words, key=f"{key}-{index}")
            moments = ()


def show_clip(picture: ShownPicture, clip: Clip, moments: Sequence[Moment], words: Words, *, key: str) -> None:
    """Show one clip, with the times that can be gone to."""
    try:
        data = clip_data(picture, clip, moments, words)
    except HistoryError as error:
        st.caption(words.render(error))
        return
    browser_part("clip_view")(key=f"clip-{key}", data=data)


def clip_data(picture: ShownPicture, clip: Clip, moments: Sequence[Moment], words: Words) -> Mapping[str, Any]:
    """Return what the browser's part is told, as JSON can carry it. Raises HistoryError where a picture cannot be read."""
    frame = sheet_frame(picture.seen.size)
    return {
        "player": picture.player,
        "sheet": _sheet(picture),
        "columns": min(len(clip.moments), SHEET_COLUMNS),
        "ratio": frame.width / frame.height,
        "seconds": clip.seconds,
        "frames": [{"at": at, "time": clock(at), "label": words("clip.frame", time=clock(at))} for at in clip.moments],
        "events": [_event(moment, words) for moment in moments],
        "labels": {
            "play": words("clip.play", name=picture.name),
            "problem": words("clip.cannot_play" if picture.player else "clip.not_kept"),
            "frames": words("clip.frames", count=len(clip.moments)),
            "events": words("clip.events"),
            "verify": words("clip.verify"),
        },
    }


def clock(seconds: float) -> str:
    """Return a time of a clip as a player writes it, to the tenth: `1:05.2`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest // 10:02d}.{rest % 10}"


def _event(moment: Moment, words: Words) -> Mapping[str, Any]:
    time = clock(moment.start_s) + (f" – {clock(moment.end_s)}" if moment.end_s is not None else "")
    label = words("clip.event", time=time, label=moment.label) if moment.label else words("clip.event_bare", time=time)
    return {"at": moment.start_s, "end": moment.end_s, "time": time, "what": moment.label, "label": label}


def _sheet(picture: ShownPicture) -> str:
    if picture.address:
        return f"{picture.address}/{Rendition.VIEW.value}"
    return f"data:image/jpeg;base64,{base64.b64encode(picture.bytes_of(Rendition.VIEW)).decode()}"
