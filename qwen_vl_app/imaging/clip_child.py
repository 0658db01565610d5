"""The decoder child's way with a clip: what it is, then the frames that are wanted of it. Does not know who asks."""

from __future__ import annotations

import faulthandler
from typing import BinaryIO

import av.logging

from qwen_vl_app.chat import Size
from qwen_vl_app.imaging.clip_encoding import render_clip
from qwen_vl_app.imaging.clip_frames import open_clip, read_frames
from qwen_vl_app.imaging.clips import ClipLimits
from qwen_vl_app.imaging.frames import Frame, read_frame, reasons_to_json, whole, write_frame


def serve_clip(request: Frame, requests: BinaryIO, answers: BinaryIO, *, timeout_s: float) -> None:
    """Answer one request about a clip. Raises PictureError, MemoryError, and BrokenFrameError at the end of the pipe."""
    av.logging.set_level(None)  # its words would name the file's own
    limits = ClipLimits(
        max_bytes=whole(request.head["max_bytes"]),
        max_pixels=whole(request.head["max_pixels"]),
        max_seconds=whole(request.head["max_seconds"]),
    )
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        opened = open_clip(request.parts[0], limits=limits)
    finally:
        faulthandler.cancel_dump_traceback_later()
    write_frame(
        answers,
        {
            "kind": "opened",
            "format": opened.format,
            "width": opened.size.width,
            "height": opened.size.height,
            "seconds": opened.seconds,
            "frame_count": len(opened.ticks),
            "notes": reasons_to_json(opened.notes),
        },
    )
    if request.head["kind"] != "render_clip":
        return
    wanted = read_frame(requests)
    if wanted.head["kind"] != "fit":
        return
    size, count = Size(whole(wanted.head["width"]), whole(wanted.head["height"])), whole(wanted.head["count"])
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        made = render_clip(read_frames(opened, count, size), opened.seconds, count=count, size=size)
    finally:
        faulthandler.cancel_dump_traceback_later()
    write_frame(
        answers,
        {
            "kind": "rendered",
            "seconds": made.clip.seconds,
            "moments": list(made.clip.moments),
            "picture_id": made.picture_id,
        },
        parts=(made.view, made.thumbnail, made.seen_png),
    )
