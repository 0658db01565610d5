"""The rows: conversations, turns, pictures of turns, and the files that their renditions lie in.

Ids only ever grow and are never given twice; everything is ordered by them and never by a clock. Changes here need a
migration beside them. Does not know words: `rows_to_words` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, Dialect, ForeignKey, Index, Integer, MetaData, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class AnyText(TypeDecorator[str]):
    """Text as it may come from files and models: unpaired surrogates, which UTF-8 cannot hold, become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what the database can hold."""
        return None if value is None else storable(value)


class UtcTime(TypeDecorator[datetime]):
    """A moment, kept in UTC to the microsecond and handed out with its zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC without a zone, as SQLite keeps it."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone."""
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) else None


def storable(text: str) -> str:
    """Return the text with unpaired surrogates replaced; almost always the very same text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Base(DeclarativeBase):
    """The root of the rows. Constraints have names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ConversationRow(Base):
    """The head of a conversation. `last_turn_id` is its place in the list: the newest turn anywhere stands first."""

    __tablename__ = "conversations"
    __table_args__ = (
        Index("ix_conversations_owner_is_pinned_last_turn_id", "owner", "is_pinned", "last_turn_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(AnyText)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    last_turn_id: Mapped[int] = mapped_column(Integer)
    is_pinned: Mapped[bool] = mapped_column(Boolean, server_default=false(), default=False)
    is_renamed: Mapped[bool] = mapped_column(Boolean, server_default=false(), default=False)
    """Whether a person chose the title; else it is words of the first question, and goes with them."""
    active_turn_id: Mapped[int | None] = mapped_column(Integer)
    """The last turn of the branch that is shown."""


class TurnRow(Base):
    """A question and what became of it. The answer's text has a column of its own; the rest of it is one document."""

    __tablename__ = "turns"
    __table_args__ = (
        Index("ix_turns_conversation_id_id", "conversation_id", "id"),
        Index("ix_turns_conversation_id_parent_id", "conversation_id", "parent_id"),
        Index("ix_turns_asked_at", "asked_at"),
        Index("ix_turns_state", "state"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
    question: Mapped[str] = mapped_column(AnyText)
    sampling: Mapped[str] = mapped_column(Text)
    """JSON of the SamplingParams."""
    answer_text: Mapped[str | None] = mapped_column(AnyText)
    """What has been said so far; None before the first word."""
    answer: Mapped[str | None] = mapped_column(Text)
    """JSON of the finished answer without its text; None while the turn is open and after an interruption."""
    parent_id: Mapped[int | None] = mapped_column(Integer)
    """The turn that this one continues. Always an earlier one; where it is gone, the path simply begins here."""
    fingerprint: Mapped[str] = mapped_column(Text, server_default="", default="")
    precision: Mapped[str] = mapped_column(Text, server_default="", default="")

    pictures: Mapped[list[PictureRow]] = relationship(
        order_by="PictureRow.position", lazy="raise_on_sql", passive_deletes=True
    )


class PictureRow(Base):
    """A picture of a turn, without its bytes."""

    __tablename__ = "turn_pictures"
    __table_args__ = (
        Index("ix_turn_pictures_turn_id", "turn_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    picture_id: Mapped[str] = mapped_column(AnyText)
    name: Mapped[str] = mapped_column(AnyText)
    format: Mapped[str] = mapped_column(AnyText)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    seen_width: Mapped[int] = mapped_column(Integer)
    seen_height: Mapped[int] = mapped_column(Integer)
    seen_tokens: Mapped[int] = mapped_column(Integer)
    seen_detail: Mapped[str] = mapped_column(Text)
    view_mime: Mapped[str] = mapped_column(Text)
    page: Mapped[int] = mapped_column(Integer)
    page_count: Mapped[int] = mapped_column(Integer)
    notes: Mapped[str] = mapped_column(Text)
    """JSON list of the Reasons that came with the picture: what was done to it on arrival cannot be found out later."""
    clip: Mapped[str | None] = mapped_column(Text)
    """JSON of the Clip: its length and the times of the seen frames; None for a picture."""

    renditions: Mapped[list[RenditionRow]] = relationship(lazy="raise_on_sql", passive_deletes=True)


class RenditionRow(Base):
    """One named form of a picture, and the file that holds it. Several rows of one owner may share a file."""

    __tablename__ = "renditions"
    __table_args__ = (Index("ix_renditions_file", "file"),)

    turn_picture_id: Mapped[int] = mapped_column(ForeignKey("turn_pictures.id", ondelete="CASCADE"), primary_key=True)
    rendition: Mapped[str] = mapped_column(Text, primary_key=True)
    file: Mapped[str] = mapped_column(Text)
    mime: Mapped[str] = mapped_column(Text)


class CachedAnswerRow(Base):
    """That a turn's answer may be given again. It has no words of its own: with the turn it goes as well."""

    __tablename__ = "cached_answers"
    __table_args__ = (Index("ix_cached_answers_turn_id", "turn_id"), Index("ix_cached_answers_used_no", "used_no"))

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    """The hash of owner and question: see `answer_cache`."""
    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    kept_at: Mapped[datetime] = mapped_column(UtcTime)
    answer_bytes: Mapped[int] = mapped_column(Integer)
    used_no: Mapped[int] = mapped_column(Integer)
    """Grows with every use; the smallest goes first."""


class ReceiptRow(Base):
    """What an erasure removed, in numbers."""

    __tablename__ = "receipts"
    __table_args__ = (Index("ix_receipts_owner_id", "owner", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(UtcTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    conversations: Mapped[int] = mapped_column(Integer)
    turns: Mapped[int] = mapped_column(Integer)
    pictures: Mapped[int] = mapped_column(Integer)
    files: Mapped[int] = mapped_column(Integer)
    file_bytes: Mapped[int] = mapped_column(Integer)
    cached_answers: Mapped[int] = mapped_column(Integer)
    runs: Mapped[int] = mapped_column(Integer, server_default="0")
    forms: Mapped[int] = mapped_column(Integer, server_default="0")


class CorrectionRow(Base):
    """What a person added to a turn that may not be changed."""

    __tablename__ = "corrections"
    __table_args__ = (Index("ix_corrections_turn_id", "turn_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    added_at: Mapped[datetime] = mapped_column(UtcTime)
    text: Mapped[str] = mapped_column(AnyText)


class AuditRow(Base):
    """A line of the audit file that is decided but may not have reached the file yet."""

    __tablename__ = "audit_outbox"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    line: Mapped[str] = mapped_column(Text)


class FactRow(Base):
    """A small fact about the folder as a whole, by its name."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
