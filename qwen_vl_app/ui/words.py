"""The page's voice: sentences in the language of this tab, numbers and times as its reader writes them.

Knows the language and the browser's time zone. Does not know what is said where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import streamlit as st

from qwen_vl_app.config import Settings
from qwen_vl_app.errors import AppError, Fact, Reason
from qwen_vl_app.texts import Language, catalogue, render, t
from qwen_vl_app.ui.state import PageState


@dataclass(frozen=True, slots=True)
class Words:
    """Says things in one language. Call it with a code under `ui`."""

    language: Language
    zone: tzinfo = UTC
    is_elsewhere: bool = False
    """Readers sit at other computers than the app's: "this computer" would be theirs, so sentences that have it say otherwise."""

    @property
    def zone_name(self) -> str:
        """Return the reader's zone for an address: its name, or its minutes east of Greenwich."""
        if isinstance(self.zone, ZoneInfo):
            return self.zone.key
        return str((self.zone.utcoffset(None) or timedelta()) // timedelta(minutes=1))

    def __call__(self, code: str, /, **facts: Fact) -> str:
        """Return the sentence of the page's own catalogue; where readers are elsewhere, the one that is meant for them."""
        for_them = f"ui.{code}_elsewhere"
        is_theirs = self.is_elsewhere and for_them in catalogue(self.language)
        return t(for_them if is_theirs else f"ui.{code}", self.language, **facts)

    def say(self, code: str, /, **facts: Fact) -> str:
        """Return a sentence of any room's catalogue."""
        return t(code, self.language, **facts)

    def render(self, about: Reason | AppError) -> str:
        """Return the sentence for an error or a reason of any room."""
        return render(about, self.language)

    def of(self, texts: Mapping[str, str]) -> str:
        """Return the one of several texts that is in this language, else the English one."""
        return str(texts.get(self.language.value) or texts.get(Language.ENGLISH.value) or "")

    def time(self, at: datetime) -> str:
        """Return a moment to the second, where the reader is."""
        return at.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def moment(self, at: datetime, *, now: datetime) -> str:
        """Return the time of day, and the day as well where it is not today."""
        here = at.astimezone(self.zone)
        time = here.strftime("%H:%M")
        return time if here.date() == now.astimezone(self.zone).date() else f"{self._date(here.date())} {time}"

    def day(self, at: datetime, *, now: datetime) -> str:
        """Return today, yesterday, or the date."""
        day, today = at.astimezone(self.zone).date(), now.astimezone(self.zone).date()
        if day >= today:
            return self("list.today")
        if day == today - timedelta(days=1):
            return self("list.yesterday")
        return self._date(day)

    def _date(self, day: date) -> str:
        if self.language is Language.CHINESE:
            return f"{day.year} 年 {day.month} 月 {day.day} 日"
        return day.isoformat()


def words_of(state: PageState, settings: Settings) -> Words:
    """Return the tab's voice: the language chosen by hand, else the site's, else the browser's."""
    if state.language is not None:
        language = state.language
    elif settings.language != "auto":
        language = Language(settings.language)
    else:
        language = Language.from_locale(st.context.locale)
    return Words(language, _zone(), is_elsewhere=bool(settings.public_origins))


def _zone() -> tzinfo:
    name, offset_min = st.context.timezone, st.context.timezone_offset
    if name:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # Windows has no zone files of its own: the offset will do
            pass
    return UTC if offset_min is None else timezone(timedelta(minutes=-offset_min))
