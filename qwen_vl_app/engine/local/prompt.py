"""Messages to the sequence the model was trained on: token ids, pictures in their places, and nothing a user can forge.

Knows the chat frame of the Qwen families and reads a folder's own template for what may differ (the default system turn,
how an answer begins). Does not know tensors.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from transformers.utils.chat_template_utils import render_jinja_template

from qwen_vl_app.chat import Clip, ImageInput, Message, Size
from qwen_vl_app.engine.families import Family
from qwen_vl_app.engine.folders import chat_template_of
from qwen_vl_app.engine.local.prefixes import Unit
from qwen_vl_app.engine.local.tokens import TextTokens
from qwen_vl_app.errors import InferenceError, ModelFolderError

log = logging.getLogger(__name__)

TURN, TURN_END = "<|im_start|>", "<|im_end|>"
VISION, VISION_END, PICTURE, CLIP = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
FRAME = (TURN, TURN_END, VISION, VISION_END, PICTURE)
_PROBE = "probe"
TEMPLATE_S = 5.0
"""A template takes some milliseconds."""
_OF_TEMPLATES = "<template>"
"""Where the template library says that a template's own lines are from."""
TraceFunction: TypeAlias = Callable[[FrameType, str, object], "TraceFunction | None"]


@dataclass(frozen=True, slots=True)
class PicturePlace:
    """Where a picture's tokens stand in the sequence, `start` up to but not `end`, and its grid of patches.

    A clip may have several places, one behind the other; `offset` is how many of its tokens stood in those before.
    """

    image: ImageInput
    start: int
    end: int
    grid_height: int
    grid_width: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sequence to continue. `units` equal `token_ids` but for pictures, whose positions hold the picture's id."""

    token_ids: tuple[int, ...]
    units: tuple[Unit, ...]
    pictures: tuple[PicturePlace, ...]

    @property
    def picture_tokens(self) -> int:
        """How many of the tokens are pictures."""
        return sum(place.end - place.start for place in self.pictures)


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """What a folder's own template decides: the system turn where the conversation has none, and how an answer begins."""

    default_system: str | None
    answer_start: str
    is_own: bool
    """True where the folder's template said so; False where it has none or one that could not be read."""


def read_frame(folder: Path, family: Family) -> ChatFrame:
    """Return the chat frame of a folder: from its template where there is one, else the family's."""
    fallback = ChatFrame(family.default_system, "assistant\n", is_own=False)
    template = chat_template_of(folder)
    if template is None:
        return fallback
    try:
        with _ending_within(TEMPLATE_S):
            rendered, _ = render_jinja_template(
                [[{"role": "user", "content": [{"type": "text", "text": _PROBE}]}]],
                chat_template=template,
                add_generation_prompt=True,
            )
        before, after = rendered[0].split(f"{TURN}user\n{_PROBE}{TURN_END}\n")
    except Exception as error:  # noqa: BLE001 - a template is a program of the folder's author and may fail in any way
        log.warning("the model's chat template could not be used: %s", type(error).__name__)
        return fallback
    opening, closing = f"{TURN}system\n", f"{TURN_END}\n"
    is_system = before.startswith(opening) and before.endswith(closing)
    if (before and not is_system) or not after.startswith(TURN):
        log.warning("the model's chat template has a form that is not known; the family's own is used")
        return fallback
    system = before.removeprefix(opening).removesuffix(closing) if before else None
    return ChatFrame(system, after.removeprefix(TURN), is_own=True)


@contextmanager
def _ending_within(seconds: float) -> Iterator[None]:
    """Let a template of this thread run for so long: its loops may have no end. Raises TimeoutError in the template."""
    deadline = time.monotonic() + seconds

    def look(frame: FrameType, _event: str, _fact: object) -> TraceFunction | None:
        if frame.f_code.co_filename != _OF_TEMPLATES:
            return None
        if time.monotonic() > deadline:
            raise TimeoutError
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


class PromptBuilder:
    """Builds prompts for one model."""

    def __init__(self, tokens: TextTokens, frame: ChatFrame, family: Family, *, picture_token: int, model: str) -> None:
        missing = [name for name in FRAME if name not in tokens.specials]
        if missing or tokens.specials[PICTURE] != picture_token:
            raise ModelFolderError("engine.folder.foreign_tokenizer", model=model)
        self._tokens = tokens
        self._frame = frame
        self._family = family

    def build(
        self,
        messages: Sequence[Message],
        *,
        answer_ids: Callable[[str], Sequence[int] | None] = lambda text: None,
    ) -> Prompt:
        """Return the sequence that asks the model to answer the last message.

        `answer_ids` may return the tokens that the model itself once chose for an earlier answer's text: they are taken
        as they were, so that what is held of the conversation still fits. Pictures and clips of a message are numbered
        ("Picture 1: ", "Video 1: ") where it has several, in each message anew: so a person counts who asks about them, and
        a later picture changes nothing of what was read before. Raises InferenceError where a picture has no size that the model can see.
        """
        sequence = _Sequence(self._tokens)
        if self._frame.default_system is not None and (not messages or messages[0].role != "system"):
            sequence.special(TURN)
            sequence.text(f"system\n{self._frame.default_system}")
            sequence.special(TURN_END)
            sequence.text("\n")
        for message in messages:
            sequence.special(TURN)
            sequence.text(f"{message.role}\n")
            pictures = clips = 0
            for image in message.images:
                if image.clip is None:
                    pictures += 1
                else:
                    clips += 1
                if len(message.images) > 1:
                    sequence.text(f"Picture {pictures}: " if image.clip is None else f"Video {clips}: ")
                sequence.special(VISION)
                if image.clip is None:
                    sequence.picture(image, self._grid(image))
                else:
                    self._add_clip(sequence, image, image.clip)
                sequence.special(VISION_END)
            known = answer_ids(message.text) if message.role == "assistant" else None
            if known is None:
                sequence.text(message.text)
            else:
                sequence.ids(known)
            sequence.special(TURN_END)
            sequence.text("\n")
        sequence.special(TURN)
        sequence.text(self._frame.answer_start)
        return sequence.prompt()

    def _add_clip(self, sequence: _Sequence, image: ImageInput, clip: Clip) -> None:
        if CLIP not in self._tokens.specials:
            raise InferenceError("engine.clip.unknown_to_model")
        grid = self._grid(image)
        if not self._family.writes_times:
            sequence.clip(image, grid, pairs=clip.pairs)
            return
        # As the library's processor writes it: it keeps the frame around the whole clip, and puts one around every pair.
        for pair in range(clip.pairs):
            at = (clip.moments[2 * pair] + clip.moments[2 * pair + 1]) / 2
            sequence.text(f"<{at:.1f} seconds>")
            sequence.special(VISION)
            sequence.clip(image, grid, pairs=1, before=pair)
            sequence.special(VISION_END)

    def _grid(self, image: ImageInput) -> Size:
        factor = self._family.factor
        size = image.size
        fits = size.width % factor == 0 and size.height % factor == 0 and size.pixels > 0
        if not fits or len(image.rgb) != image.byte_count:
            raise InferenceError("engine.picture.wrong_size", width=size.width, height=size.height, factor=factor)
        return Size(size.width // self._family.patch, size.height // self._family.patch)


class _Sequence:
    """Collects text until a control token comes, because a tokenizer may join characters across our pieces."""

    def __init__(self, tokens: TextTokens) -> None:
        self._tokens = tokens
        self._pending = ""
        self._token_ids: list[int] = []
        self._units: list[Unit] = []
        self._pictures: list[PicturePlace] = []

    def text(self, text: str) -> None:
        self._pending += text

    def ids(self, ids: Sequence[int]) -> None:
        self._flush()
        self._token_ids.extend(ids)
        self._units.extend(ids)

    def special(self, name: str) -> None:
        self.ids((self._tokens.specials[name],))

    def picture(self, image: ImageInput, grid: Size) -> None:
        self._flush()
        start = len(self._token_ids)
        # The merger makes one token of two by two patches in both families.
        count = grid.pixels // 4
        self._token_ids.extend([self._tokens.specials[PICTURE]] * count)
        self._units.extend([image.picture_id] * count)
        self._pictures.append(PicturePlace(image, start, start + count, grid.height, grid.width))

    def clip(self, image: ImageInput, grid: Size, *, pairs: int, before: int = 0) -> None:
        """Add so many pairs of a clip's frames, behind those `before`."""
        self._flush()
        start, each = len(self._token_ids), grid.pixels // 4
        self._token_ids.extend([self._tokens.specials[CLIP]] * (each * pairs))
        self._units.extend([image.picture_id] * (each * pairs))
        end = start + each * pairs
        self._pictures.append(PicturePlace(image, start, end, grid.height, grid.width, offset=each * before))

    def prompt(self) -> Prompt:
        self._flush()
        return Prompt(tuple(self._token_ids), tuple(self._units), tuple(self._pictures))

    def _flush(self) -> None:
        if self._pending:
            encoded = self._tokens.encode(self._pending)
            self._pending = ""
            self._token_ids.extend(encoded)
            self._units.extend(encoded)
