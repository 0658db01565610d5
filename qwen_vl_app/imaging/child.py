"""The decoder child: reads requests from its standard input, answers on its standard output, ends with its parent.

Confines itself, and has a clock of its own in case the parent is gone; does not know who asks.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import BinaryIO

from qwen_vl_app.chat import JsonValue, Size
from qwen_vl_app.errors import ImageTooLargeError, PictureError
from qwen_vl_app.imaging.confinement import confine_this_process
from qwen_vl_app.imaging.encoding import render_all
from qwen_vl_app.imaging.frames import (
    BrokenFrameError,
    Frame,
    facts_to_json,
    read_frame,
    reasons_to_json,
    text,
    whole,
    write_frame,
)
from qwen_vl_app.imaging.limits import CLIP_PATIENCE, Limits
from qwen_vl_app.imaging.opening import Opened, open_picture, pages_of, prepare_pillow
from qwen_vl_app.imaging.preflight import look_over
from qwen_vl_app.offline import go_offline

CLIP_KINDS = frozenset({"inspect_clip", "render_clip"})


def main() -> None:
    """Serve until the parent closes the pipe.

    Arguments: the memory limit in bytes, the seconds one step may take, "keep" where it is to keep its rights.
    """
    memory_bytes, timeout_s, keeps_rights = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:] == ["keep"]
    go_offline()
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a file
        os.dup2(nowhere.fileno(), 1)  # a library that prints must not speak into the answers
    prepare_pillow()
    confinement = confine_this_process(memory_bytes, keeps_rights=keeps_rights)
    write_frame(answers, {"kind": "ready", "confinement": confinement.to_json()})
    while True:
        try:
            request = read_frame(requests)
        except BrokenFrameError:
            return
        try:
            _serve(request, requests, answers, timeout_s)
        except PictureError as error:
            _say_error(answers, error)
        except MemoryError:
            _say_error(answers, ImageTooLargeError("image.memory"))
        except (BrokenFrameError, OSError):
            return
        finally:
            del request


def _serve(request: Frame, requests: BinaryIO, answers: BinaryIO, timeout_s: float) -> None:
    if request.head["kind"] in CLIP_KINDS:
        # Only now, because few children see one, and the library of clips takes as long to load as all the others.
        from qwen_vl_app.imaging.clip_child import serve_clip  # noqa: PLC0415

        serve_clip(request, requests, answers, timeout_s=timeout_s * CLIP_PATIENCE)
        return
    if request.head["kind"] == "pages":
        faulthandler.dump_traceback_later(timeout_s, exit=True)
        try:
            count = pages_of(request.parts[0])
        finally:
            faulthandler.cancel_dump_traceback_later()
        write_frame(answers, {"kind": "pages", "count": count})
        return
    limits = Limits(max_bytes=whole(request.head["max_bytes"]), max_pixels=whole(request.head["max_pixels"]))
    faulthandler.dump_traceback_later(
        timeout_s, exit=True
    )  # the parent's own clock is earlier: this one is for orphans
    try:
        opened = open_picture(
            request.parts[0],
            page=whole(request.head["page"]),
            limits=limits,
            ending=text(request.head["ending"]),
        )
    finally:
        faulthandler.cancel_dump_traceback_later()
    write_frame(answers, _describe(opened))
    if request.head["kind"] != "render":
        return
    wanted = read_frame(requests)
    if wanted.head["kind"] != "fit":
        return
    seen = Size(whole(wanted.head["width"]), whole(wanted.head["height"]))
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        made = render_all(opened.image, seen, format=opened.format)
        warnings = look_over(opened.image, seen, format=opened.format)
    finally:
        faulthandler.cancel_dump_traceback_later()
    write_frame(
        answers,
        {
            "kind": "rendered",
            "view_mime": made.view_mime,
            "picture_id": made.picture_id,
            "warnings": reasons_to_json(warnings),
        },
        parts=(made.view, made.thumbnail, made.seen_png),
    )


def _describe(opened: Opened) -> dict[str, JsonValue]:
    return {
        "kind": "opened",
        "format": opened.format,
        "width": opened.size.width,
        "height": opened.size.height,
        "page": opened.page,
        "page_count": opened.page_count,
        "notes": reasons_to_json(opened.notes),
    }


def _say_error(answers: BinaryIO, error: PictureError) -> None:
    head = {"kind": "error", "class": type(error).__name__, "code": error.code, "facts": facts_to_json(error.facts)}
    write_frame(answers, head)
