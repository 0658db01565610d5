"""The decoder of clips: a warm child of its own, so that a long clip keeps no picture waiting.

Knows what the child is asked and what it answers. Decodes nothing itself; see `decoder`.
"""

from __future__ import annotations

from collections.abc import Callable

from qwen_vl_app.chat import Clip, JsonValue, Size
from qwen_vl_app.errors import ImageTooLargeError, Reason, UnreadableImageError
from qwen_vl_app.imaging.clips import ClipFacts, ClipLimits, FrameChoice, RenderedClip
from qwen_vl_app.imaging.decoder import DEFAULT_MEMORY_BYTES, Exchange, PictureDecoder
from qwen_vl_app.imaging.frames import BrokenFrameError, Frame, reasons_from_json, text, whole
from qwen_vl_app.imaging.limits import CLIP_PATIENCE


class ClipDecoder(PictureDecoder):
    """As `PictureDecoder`, for clips. Its child is started by the first one. `timeout_s` is that of a picture."""

    def __init__(
        self,
        *,
        max_bytes: int,
        max_pixels: int,
        max_seconds: float,
        timeout_s: float,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        super().__init__(max_bytes=max_bytes, max_pixels=max_pixels, timeout_s=timeout_s, memory_bytes=memory_bytes)
        self._clip_limits = ClipLimits(max_bytes=max_bytes, max_pixels=max_pixels, max_seconds=max_seconds)

    def inspect_clip(self, data: bytes) -> ClipFacts:
        """Return what a clip is. Raises PictureError."""
        self._clip_limits.check_bytes(len(data))
        with self._lock:
            return self._clip_exchange().inspect_clip(data, self._clip_limits)

    def render_clip(self, data: bytes, *, choose: Callable[[ClipFacts], FrameChoice]) -> RenderedClip:
        """Return a clip's renditions; `choose` tells how many frames are seen, and how large. Raises PictureError.

        What `choose` raises passes through; it must not call this decoder.
        """
        self._clip_limits.check_bytes(len(data))
        with self._lock:
            exchange = self._clip_exchange()
            facts = exchange.inspect_clip(data, self._clip_limits, stays=True)
            try:
                choice = choose(facts)
            except BaseException:
                exchange.abandon()
                raise
            return exchange.render_clip(facts, choice)

    def _clip_exchange(self) -> _ClipExchange:
        return _ClipExchange(self._ready_child(), CLIP_PATIENCE * self._timeout_s, self._replace, "")


class _ClipExchange(Exchange):
    """One clip's way through the child."""

    def ask(self, head: dict[str, JsonValue], *parts: bytes) -> Frame:
        """See `Exchange.ask`; what is said of a picture that is too much would be wrong advice here."""
        try:
            return super().ask(head, *parts)
        except UnreadableImageError as error:
            if error.code == "image.timeout":
                raise UnreadableImageError("clip.timeout", **error.facts) from error
            raise
        except ImageTooLargeError as error:
            if error.code == "image.memory":
                raise ImageTooLargeError("clip.memory") from error
            raise

    def inspect_clip(self, data: bytes, limits: ClipLimits, *, stays: bool = False) -> ClipFacts:
        answer = self.ask(
            {
                "kind": "render_clip" if stays else "inspect_clip",
                "max_bytes": limits.max_bytes,
                "max_pixels": limits.max_pixels,
                "max_seconds": int(limits.max_seconds),
            },
            data,
        )
        try:
            return ClipFacts(
                format=text(answer.head["format"]),
                size=Size(whole(answer.head["width"]), whole(answer.head["height"])),
                seconds=_seconds(answer.head["seconds"]),
                frame_count=whole(answer.head["frame_count"]),
                notes=reasons_from_json(answer.head["notes"]),
            )
        except (KeyError, BrokenFrameError) as error:
            self._replace()
            raise UnreadableImageError("image.child_failed") from error

    def render_clip(self, facts: ClipFacts, choice: FrameChoice) -> RenderedClip:
        answer = self.ask(
            {"kind": "fit", "width": choice.size.width, "height": choice.size.height, "count": choice.count}
        )
        try:
            return _rendered(answer, facts, choice)
        except (KeyError, ValueError, BrokenFrameError) as error:
            self._replace()
            raise UnreadableImageError("image.child_failed") from error


def _rendered(answer: Frame, facts: ClipFacts, choice: FrameChoice) -> RenderedClip:
    view, thumbnail, seen_png = answer.parts
    told = answer.head["moments"]
    if not isinstance(told, list):
        raise BrokenFrameError("no moments")
    moments = tuple(_seconds(each) for each in told)
    if not moments or len(moments) % 2 or len(moments) > choice.count:
        raise BrokenFrameError("not as many frames as asked for")
    notes = facts.notes
    if len(moments) < choice.count:
        notes = (*notes, Reason("clip.partly_damaged", count=len(moments), wanted=choice.count))
    return RenderedClip(
        facts=ClipFacts(facts.format, facts.size, facts.seconds, facts.frame_count, notes),
        clip=Clip(_seconds(answer.head["seconds"]), moments),
        view=view,
        thumbnail=thumbnail,
        seen_png=seen_png,
        picture_id=text(answer.head["picture_id"]),
    )


def _seconds(value: JsonValue) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BrokenFrameError("no seconds")
    return float(value)
