"""From words to rows and back: the one place that knows both."""

from __future__ import annotations

from collections.abc import Sequence

from qwen_vl_app.chat import (
    Answer,
    Conversation,
    Detail,
    FinishReason,
    Rendition,
    SeenSize,
    Size,
    StagedPicture,
    Turn,
    TurnPicture,
    TurnState,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.answer_json import (
    dump_clip,
    dump_reasons,
    load_answer,
    load_clip,
    load_reasons,
    load_sampling,
    load_schema,
)
from qwen_vl_app.history.tables import ConversationRow, PictureRow, RenditionRow, TurnRow

_UPLOAD_MIME = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "HEIF": "image/heif",
    "HEIC": "image/heic",
    "AVIF": "image/avif",
    "PDF": "application/pdf",
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "WEBM": "video/webm",
    "MKV": "video/x-matroska",
    "AVI": "video/x-msvideo",
}


def renditions_of(picture: StagedPicture) -> dict[Rendition, bytes]:
    """Return the bytes of every form of a picture."""
    return {
        Rendition.UPLOAD: picture.upload,
        Rendition.VIEW: picture.view,
        Rendition.SEEN: picture.seen_png,
        Rendition.THUMBNAIL: picture.thumbnail,
    }


def to_picture_row(picture: StagedPicture, position: int, *, keys: dict[Rendition, str]) -> PictureRow:
    """Return the row of a picture and those of its renditions, whose files have the given keys."""
    mimes = {
        Rendition.UPLOAD: _UPLOAD_MIME.get(picture.format.upper(), "application/octet-stream"),
        Rendition.VIEW: picture.view_mime,
        Rendition.SEEN: "image/png",
        Rendition.THUMBNAIL: "image/jpeg",
    }
    return PictureRow(
        position=position,
        picture_id=picture.picture_id,
        name=picture.name,
        format=picture.format,
        width=picture.size.width,
        height=picture.size.height,
        seen_width=picture.seen.size.width,
        seen_height=picture.seen.size.height,
        seen_tokens=picture.seen.tokens,
        seen_detail=picture.seen.detail.value,
        view_mime=picture.view_mime,
        page=picture.page,
        page_count=picture.page_count,
        notes=dump_reasons(picture.notes),
        clip=dump_clip(picture.clip),
        renditions=[
            RenditionRow(rendition=rendition.value, file=key, mime=mimes[rendition]) for rendition, key in keys.items()
        ],
    )


def see_anew(row: PictureRow, picture: StagedPicture, *, key: str) -> None:
    """Give a row another seen picture, whose file has the key; everything else of it stays."""
    row.picture_id = picture.picture_id
    row.seen_width, row.seen_height = picture.seen.size.width, picture.seen.size.height
    row.seen_tokens, row.seen_detail = picture.seen.tokens, picture.seen.detail.value
    row.clip = dump_clip(picture.clip)
    for rendition in row.renditions:
        if rendition.rendition == Rendition.SEEN:
            rendition.file = key


def to_turn(row: TurnRow, *, branch_ids: tuple[int, ...], pictures: Sequence[PictureRow] | None = None) -> Turn:
    """Return the turn of a row, with the `pictures` or those that are loaded with it. Raises HistoryError `history.record_damaged`."""
    schema, is_schema_exact = load_schema(row.sampling)
    try:
        return Turn(
            id=row.id,
            conversation_id=row.conversation_id,
            asked_at=row.asked_at,
            state=TurnState(row.state),
            question=row.question,
            pictures=tuple(_to_picture(picture) for picture in (row.pictures if pictures is None else pictures)),
            answer=_to_answer(row),
            sampling=load_sampling(row.sampling),
            finished_at=row.finished_at,
            parent_id=row.parent_id,
            branch_ids=branch_ids,
            fingerprint=row.fingerprint,
            precision=row.precision,
            schema=schema,
            is_schema_exact=is_schema_exact,
        )
    except ValueError as error:
        # A state or a size's name that no version of the app ever wrote.
        raise HistoryError("history.record_damaged") from error


def to_conversation(row: ConversationRow, *, turn_count: int, thumbnail_picture_id: int | None) -> Conversation:
    """Return the head of a conversation."""
    return Conversation(
        id=row.id,
        title=row.title,
        created_at=row.created_at,
        updated_at=row.updated_at,
        turn_count=turn_count,
        thumbnail_picture_id=thumbnail_picture_id,
        is_pinned=row.is_pinned,
    )


def _to_answer(row: TurnRow) -> Answer | None:
    if row.answer is not None:
        return load_answer(row.answer, row.answer_text or "")
    if not row.answer_text:
        return None
    if row.state == TurnState.INTERRUPTED:
        return Answer(row.answer_text, FinishReason.FAILED, error=Reason("history.interrupted"))
    return Answer(row.answer_text, FinishReason.STOPPED)


def _to_picture(row: PictureRow) -> TurnPicture:
    return TurnPicture(
        id=row.id,
        picture_id=row.picture_id,
        name=row.name,
        format=row.format,
        size=Size(row.width, row.height),
        seen=SeenSize(Size(row.seen_width, row.seen_height), row.seen_tokens, Detail(row.seen_detail)),
        view_mime=row.view_mime,
        page=row.page,
        page_count=row.page_count,
        notes=load_reasons(row.notes),
        clip=load_clip(row.clip),
    )
