"""Files that come in: what each is, what the model would see of it, and the picture or clip that can be asked about.

Knows the decoders and the engine's plan of sizes. Does not know whose file it is, where the picture then waits for its
question (`staging.py`), or what is asked. Nothing is kept here, neither in memory nor on the disk.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from qwen_vl_app.chat import Box, Detail, SeenSize, Size, SizePlan, StagedPicture
from qwen_vl_app.engine.base import Engine
from qwen_vl_app.engine.clips import SeenClip, pair_tokens, seen_clip
from qwen_vl_app.errors import ModelNotLoadedError, PictureError, Reason, UsageError
from qwen_vl_app.imaging import (
    ClipDecoder,
    ClipFacts,
    FrameChoice,
    PictureDecoder,
    PictureFacts,
    clean_name,
    sniff_clip,
)
from qwen_vl_app.tiles import parts_of

_PAGES_TRIED = 20
"""Of a document whose first page cannot be read: each further try may take as long as a page may."""


class Intake:
    """Takes files in, from any thread; `start` before the first, `close` at the end."""

    def __init__(
        self,
        engine: Engine,
        decoder: PictureDecoder,
        *,
        clip_decoder: ClipDecoder | None,
        wait_for_plan: Callable[[], object],
        detail: Detail | None,
    ) -> None:
        """Prepare. `wait_for_plan` returns once the engine has its plan of sizes; without `clip_decoder` no clip is taken.

        `detail` is the rung where a call names none; None for the best that the plan allows.
        """
        self._engine = engine
        self._decoder = decoder
        self._clip_decoder = clip_decoder
        self._wait_for_plan = wait_for_plan
        self._detail = detail

    def start(self) -> None:
        """Start the decoder of pictures; that of clips starts with the first clip."""
        self._decoder.start()

    def close(self) -> None:
        """Stop both decoders."""
        self._decoder.close()
        if self._clip_decoder is not None:
            self._clip_decoder.close()

    def look(
        self, data: bytes, name: str, *, page: int = 0, detail: Detail | None = None
    ) -> tuple[PictureFacts, SeenSize]:
        """Return what a file is and what the model would see of it. Raises PictureError, ModelNotLoadedError."""
        self._wait_for_plan()
        facts = self._decoder.inspect(data, name=name, page=page)
        return facts, self._engine.seen_size(facts.size, detail=detail or self._detail)

    def look_clip(self, data: bytes, *, detail: Detail | None = None) -> tuple[ClipFacts, SeenClip]:
        """Return what a clip is and what the model would see of it. Raises as `stage_upload`."""
        plan, decoder = self._plan_for_clips()
        facts = decoder.inspect_clip(data)
        return facts, self._seen_clip(plan, facts, detail)

    def stage(self, data: bytes, name: str, *, page: int = 0, detail: Detail | None = None) -> StagedPicture:
        """Turn a file into a picture that can be asked about, at the size the plan allows now.

        `page` counts from 0 and matters for documents of several pages. Waits for the plan of sizes, which is there
        before the weights are. Raises PictureError, ModelNotLoadedError.
        """
        self._wait_for_plan()
        seen: list[SeenSize] = []

        def fit(size: Size) -> Size:
            seen.append(self._engine.seen_size(size, detail=detail or self._detail))
            return seen[-1].size

        picture = self._decoder.render(data, name=name, page=page, fit=fit)
        return StagedPicture(
            staged_id=uuid.uuid4().hex,
            picture_id=picture.picture_id,
            name=clean_name(name),
            format=picture.format,
            size=picture.size,
            seen=seen[-1],
            upload=data,
            view=picture.view,
            view_mime=picture.view_mime,
            thumbnail=picture.thumbnail,
            seen_png=picture.seen_png,
            page=picture.page,
            page_count=picture.page_count,
            notes=picture.notes,
        )

    def stage_upload(self, data: bytes, name: str, *, page: int = 0, detail: Detail | None = None) -> StagedPicture:
        """Turn a file into a picture or, where its bytes are one, into a clip. Raises as `stage`, and UsageError."""
        if sniff_clip(data) is None:
            return self.stage(data, name, page=page, detail=detail)
        plan, decoder = self._plan_for_clips()
        chosen: list[SeenClip] = []

        def choose(facts: ClipFacts) -> FrameChoice:
            chosen.append(self._seen_clip(plan, facts, detail))
            return FrameChoice(chosen[-1].count, chosen[-1].seen.size)

        made = decoder.render_clip(data, choose=choose)
        seen, clip = chosen[-1].seen, made.clip
        tokens = pair_tokens(seen, chosen[-1].count)[0] * clip.pairs  # a damaged clip has fewer
        return StagedPicture(
            staged_id=uuid.uuid4().hex,
            picture_id=made.picture_id,
            name=clean_name(name),
            format=made.facts.format,
            size=made.facts.size,
            seen=replace(seen, tokens=tokens),
            upload=data,
            view=made.view,
            view_mime="image/jpeg",
            thumbnail=made.thumbnail,
            seen_png=made.seen_png,
            notes=made.facts.notes,
            clip=clip,
        )

    def stage_first_readable(self, data: bytes, name: str, *, detail: Detail | None = None) -> StagedPicture:
        """Turn a file into a picture or clip: of a document the first page that can be read, with a note where others are before it.

        From there a person can turn to any other page. Raises as `stage_upload`, about the first page.
        """
        try:
            return self.stage_upload(data, name, detail=detail)
        except PictureError as error:
            refusal = error
        for page in range(1, min(self.page_count(data), _PAGES_TRIED)):
            try:
                picture = self.stage(data, name, page=page, detail=detail)
            except PictureError:
                continue
            return replace(picture, notes=(Reason("image.pages_before_unreadable", count=page), *picture.notes))
        raise refusal

    def page_count(self, data: bytes) -> int:
        """Return how many pages a file has, also where some cannot be read; 1 where that cannot be told."""
        try:
            return self._decoder.count_pages(data)
        except PictureError:
            return 1

    def expected_seconds(self, picture_tokens: Sequence[int]) -> float | None:
        """Return the seconds to the first word of an answer about pictures of so many tokens; None while not known."""
        try:
            return self._engine.predict(picture_tokens).first_token_s
        except ModelNotLoadedError:
            return None

    def part_count(self, picture: StagedPicture) -> int:
        """Return in how many parts a question `in_parts` would look at a picture; 0 where the whole shows as much."""
        return len(self.parts(picture))

    def parts(self, picture: StagedPicture) -> tuple[Box, ...]:
        """Return those parts as fractions of the upright original."""
        plan = self._engine.status.plan
        if plan is None or picture.clip is not None:
            return ()
        return parts_of(picture.size, picture.seen.size, max_pixels=plan.rung().max_pixels)

    def _plan_for_clips(self) -> tuple[SizePlan, ClipDecoder]:
        if self._clip_decoder is None:
            raise UsageError("clip.not_here")
        self._wait_for_plan()
        plan = self._engine.status.plan
        if plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        return plan, self._clip_decoder

    def _seen_clip(self, plan: SizePlan, facts: ClipFacts, detail: Detail | None) -> SeenClip:
        return seen_clip(
            plan, facts.size, seconds=facts.seconds, frame_count=facts.frame_count, detail=detail or self._detail
        )
