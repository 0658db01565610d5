"""The decoder: hands strangers' bytes to a warm child process and takes renditions back, within time and memory.

Knows processes, pipes and clocks. Decodes nothing itself, so that a file which crashes, hangs or fills memory costs one
child and one calm sentence. The child is a fresh interpreter, never a fork: this process may hold a GPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qwen_vl_app.chat import JsonValue, Size
from qwen_vl_app.errors import (
    ImageShapeError,
    ImageTooLargeError,
    PictureError,
    UnreadableImageError,
)
from qwen_vl_app.imaging.child_process import ChildProcess
from qwen_vl_app.imaging.confinement import Confinement
from qwen_vl_app.imaging.frames import BrokenFrameError, Frame, facts_from_json, reasons_from_json, text, whole
from qwen_vl_app.imaging.limits import Limits
from qwen_vl_app.imaging.renditions import PictureFacts, RenderedPicture

log = logging.getLogger(__name__)

DEFAULT_MEMORY_BYTES = 2 * 2**30
"""A picture of 100 megapixels with transparency takes 400 MB decoded, once more turned, once more over white."""
START_TIMEOUT_S = 60.0
"""A child that imports on a cold disk is slow, not hung."""
MESSAGES_PER_CHILD = 2000
"""About a thousand pictures; then a fresh child, since decoders in C leak."""

_ERRORS: dict[str, type[PictureError]] = {
    kind.__name__: kind for kind in (UnreadableImageError, ImageTooLargeError, ImageShapeError)
}


class PictureDecoder:
    """One warm decoder child at a time; calls from several threads wait for one another.

    `timeout_s` is processor time that the child may take to open one picture, and again to make its renditions; a child
    that stands still is given up after as much wall time, and one that waits for its turn after four times as much.
    `memory_bytes` limits the child where its system allows it. After `close` calls are refused until `start`.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_pixels: int,
        timeout_s: float,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        self._limits = Limits(max_bytes=max_bytes, max_pixels=max_pixels)
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._is_closed = False
        self._is_told = False

    def start(self) -> None:
        """Begin to warm the child up. Returns at once; without it the first call does so. Raises PictureError."""
        with self._lock:
            self._is_closed = False
            if self._child is None:
                self._new_child()

    def close(self) -> None:
        """End the child, also in the middle of a picture, whose caller gets a PictureError."""
        self._is_closed = True
        if (child := self._child) is not None:
            child.strike()
        with self._lock:
            if self._child is not None:
                self._child.kill()
            self._child = None

    def inspect(self, data: bytes, *, name: str = "", page: int = 0) -> PictureFacts:
        """Return what a file is, having decoded it once. `page` counts from 0. Raises PictureError."""
        self._limits.check_bytes(len(data))
        with self._lock:
            return self._exchange(name).inspect(data, page, self._limits)

    def render(
        self,
        data: bytes,
        *,
        name: str = "",
        page: int = 0,
        fit: Callable[[Size], Size],
    ) -> RenderedPicture:
        """Return a file's renditions.

        `fit` gets the upright original's size and returns the size that the model will see; what it raises passes
        through. It runs in the caller's thread and must not call this decoder. Raises PictureError.
        """
        self._limits.check_bytes(len(data))
        with self._lock:
            conversation = self._exchange(name)
            facts = conversation.inspect(data, page, self._limits, stays=True)
            try:
                seen = fit(facts.size)
            except BaseException:
                conversation.abandon()
                raise
            return conversation.render(facts, seen)

    def confinement(self) -> Confinement:
        """Return what the system holds the child to; a child is started for that, where there is none. Raises PictureError."""
        with self._lock:
            return self._ready_child().confinement

    def count_pages(self, data: bytes) -> int:
        """Return how many pages a file has, also where one of them cannot be read. Raises PictureError."""
        self._limits.check_bytes(len(data))
        with self._lock:
            return self._exchange("").count_pages(data)

    def _exchange(self, name: str) -> Exchange:
        return Exchange(self._ready_child(), self._timeout_s, self._replace, name)

    def _new_child(self, *, is_bare: bool = True) -> ChildProcess:
        """Begin to start a child, with the lock held. Raises PictureError, also once this decoder is closed."""
        if self._is_closed:
            raise PictureError("image.decoder_closed")
        try:
            child = ChildProcess(memory_bytes=self._memory_bytes, timeout_s=self._timeout_s, is_bare=is_bare)
        except OSError as error:
            raise PictureError("image.decoder_failed") from error
        self._child = child
        if self._is_closed:  # asked again after the child is in its place: `close` or this, whichever is later, ends it
            child.kill()
            self._child = None
            raise PictureError("image.decoder_closed")
        return child

    def _ready_child(self) -> ChildProcess:
        """Return a child that waits for work, with the lock held. Raises PictureError."""
        if self._is_closed:
            raise PictureError("image.decoder_closed")
        child = self._child
        if child is None or not child.is_alive or child.messages >= MESSAGES_PER_CHILD:
            if child is not None:
                child.kill()
            child = self._new_child()
        for is_last in (False, True):
            try:
                child.await_ready(START_TIMEOUT_S)
            except BrokenFrameError:
                child.kill()
                self._child = None
                if self._is_closed:
                    raise PictureError("image.decoder_closed") from None
                log.warning("a decoder child did not start")
                if not is_last:  # a machine may need something of the environment: a library path, say
                    child = self._new_child(is_bare=False)
            else:
                if not child.confinement.has_memory_limit and not self._is_told:
                    self._is_told = True
                    log.warning("this system does not limit the memory of the decoder child")
                return child
        raise PictureError("image.decoder_failed")

    def _replace(self) -> PictureError | None:
        """Kill the child and begin to warm up the next one; return why there will be none."""
        if self._child is not None:
            self._child.kill()
        self._child = None
        try:
            self._new_child()
        except PictureError as error:  # the next call tries again and tells
            return error
        return None


class Exchange:
    """One picture's way through the child: opened, then rendered, each within the limit."""

    def __init__(
        self, child: ChildProcess, timeout_s: float, replace: Callable[[], PictureError | None], name: str
    ) -> None:
        self._child = child
        self._limit_s = timeout_s
        self._replace = replace
        self._ending = name.rpartition(".")[2][:8] if "." in name else ""

    def inspect(self, data: bytes, page: int, limits: Limits, *, stays: bool = False) -> PictureFacts:
        """Have the picture opened; with `stays` the child waits for `render` or `abandon`. Raises PictureError."""
        answer = self.ask(
            {
                "kind": "render" if stays else "inspect",
                "page": page,
                "max_bytes": limits.max_bytes,
                "max_pixels": limits.max_pixels,
                "ending": self._ending,
            },
            data,
        )
        try:
            return PictureFacts(
                format=text(answer.head["format"]),
                size=Size(whole(answer.head["width"]), whole(answer.head["height"])),
                page=whole(answer.head["page"]),
                page_count=whole(answer.head["page_count"]),
                notes=reasons_from_json(answer.head["notes"]),
            )
        except (KeyError, BrokenFrameError) as error:
            self._replace()
            raise UnreadableImageError("image.child_failed") from error

    def count_pages(self, data: bytes) -> int:
        """Have the pages counted. Raises PictureError."""
        answer = self.ask({"kind": "pages"}, data)
        try:
            return whole(answer.head["count"])
        except (KeyError, BrokenFrameError) as error:
            self._replace()
            raise UnreadableImageError("image.child_failed") from error

    def render(self, facts: PictureFacts, seen: Size) -> RenderedPicture:
        """Have the renditions made of the picture that stays. Raises PictureError."""
        answer = self.ask({"kind": "fit", "width": seen.width, "height": seen.height})
        try:
            view, thumbnail, seen_png = answer.parts
            return RenderedPicture(
                format=facts.format,
                size=facts.size,
                view=view,
                view_mime=text(answer.head["view_mime"]),
                thumbnail=thumbnail,
                seen_png=seen_png,
                picture_id=text(answer.head["picture_id"]),
                page=facts.page,
                page_count=facts.page_count,
                notes=(*facts.notes, *reasons_from_json(answer.head["warnings"])),
            )
        except (KeyError, ValueError, BrokenFrameError) as error:
            self._replace()
            raise UnreadableImageError("image.child_failed") from error

    def abandon(self) -> None:
        """Tell the child that nobody wants the picture any more."""
        try:
            self._child.send({"kind": "abandon"})
        except OSError:
            self._replace()

    def ask(self, head: dict[str, JsonValue], *parts: bytes) -> Frame:
        """Send one message and return the answer to it; a child that takes too long is replaced. Raises PictureError."""
        answer: Frame | None = None
        failure: Exception | None = None
        with self._child.deadline(self._limit_s) as deadline:
            try:
                self._child.send(head, *parts)
                answer = self._child.receive()
            except (OSError, BrokenFrameError) as error:
                failure = error
            except BaseException:  # an interrupt between two halves of a message: the child's next words are not ours
                self._replace()
                raise
        if answer is None or deadline.has_passed:
            refusal = self._replace()
            if refusal is not None and refusal.code == "image.decoder_closed":
                raise refusal from failure
            if deadline.has_passed:
                raise UnreadableImageError("image.timeout", limit=self._limit_s) from failure
            log.warning("a decoder child died over a file")
            raise UnreadableImageError("image.child_failed") from failure
        if answer.head.get("kind") == "error":
            raise self._error_of(answer)
        return answer

    def _error_of(self, answer: Frame) -> PictureError:
        try:
            code = text(answer.head["code"])
            error = _ERRORS[text(answer.head["class"])](code, **facts_from_json(answer.head["facts"]))
        except (KeyError, BrokenFrameError) as failure:
            self._replace()
            wrong = UnreadableImageError("image.child_failed")
            wrong.__cause__ = failure
            return wrong
        if code == "image.memory":  # what it still holds is unknown
            self._replace()
        return error
