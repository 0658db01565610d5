"""The two catalogues, English and Chinese, and the one way to a sentence: `t(code, language, **facts)`.

Each language is a folder of TOML files, one a room; keys are dotted codes. Knows words; does not know who says them or
how they are shown.
"""

from __future__ import annotations

import logging
import string
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from qwen_vl_app.errors import AppError, Fact, Reason

log = logging.getLogger(__name__)


class Language(StrEnum):
    """The languages the app speaks."""

    ENGLISH = "en"
    CHINESE = "zh"

    @classmethod
    def from_locale(cls, locale: str | None) -> Language:
        """Return the language for a browser's or system's locale such as `zh-CN`; English where there is no better."""
        return cls.CHINESE if (locale or "").lower().startswith("zh") else cls.ENGLISH


def t(code: str, language: Language | str = Language.ENGLISH, /, **facts: Fact) -> str:
    """Return the sentence for `code` with its facts filled in.

    A fact may be formatted as `{size:bytes}`, `{wait:seconds}`, `{tokens:count}` or `{detail:detail}`. An unknown code or a missing fact is
    a mistake of ours, found by the tests; a user still gets the code rather than a traceback.
    """
    template = catalogue(Language(language)).get(code) or catalogue(Language.ENGLISH).get(code)
    if template is None:
        log.error("no sentence for %s", code)
        return code
    try:
        return _FactFormatter(Language(language)).vformat(template, (), facts)
    except (KeyError, ValueError, IndexError, AttributeError):
        log.error("the sentence for %s does not fit its facts", code)
        return template


def render(about: Reason | AppError, language: Language | str = Language.ENGLISH) -> str:
    """Return the sentence for an error or a reason."""
    return t(about.code, language, **about.facts)


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """Return every sentence of a language by its dotted code."""
    sentences: dict[str, str] = {}
    folder = resources.files(__package__) / language.value
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            for code, sentence in _flatten(tomllib.loads(file.read_text(encoding="utf-8"))):
                if code in sentences:
                    raise ValueError(f"{code} stands twice in the {language.value} catalogue")
                sentences[code] = sentence
    return sentences


def placeholders(template: str) -> frozenset[str]:
    """Return the names of the facts that a sentence uses."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        code = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{code}.")
        else:
            yield code, str(value)


class _FactFormatter(string.Formatter):
    """Formats facts the way people read them: bytes, seconds and counts, and the names of picture details in their language."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec:
            case "bytes":
                return format_bytes(float(value))
            case "seconds":
                return format_seconds(float(value), self._language)
            case "count":
                return f"{int(value):,}"
            case "detail":
                return catalogue(self._language).get(f"ui.detail.{value}", str(value))
            case _:
                return str(super().format_field(value, format_spec))


def format_bytes(count: float) -> str:
    """Return a size in the unit a person would use: `640 KB`, `15.4 GB` (powers of 1024)."""
    for unit in ("B", "KB", "MB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def format_seconds(seconds: float, language: Language | str = Language.ENGLISH) -> str:
    """Return a duration as `0.8 s`, `14 s`, `3 min 20 s` or `10 h 12 min`, with the units of the language."""
    if seconds < 10:
        return t("duration.tenths", language, seconds=seconds)
    whole = round(seconds)
    if whole < 90:
        return t("duration.seconds", language, seconds=whole)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return t("duration.minutes_seconds" if rest else "duration.minutes", language, minutes=minutes, seconds=rest)
    hours, rest = divmod(round(whole / 60), 60)
    return t("duration.hours_minutes" if rest else "duration.hours", language, hours=hours, minutes=rest)
