"""Where words go: answers to stdout, everything about them to stderr, always as UTF-8 and never as a terminal's orders.

Knows consoles, pipes and control characters. Does not know what the words mean.
"""

from __future__ import annotations

import io
import json
import locale
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console

from qwen_vl_app.errors import AppError, Fact, Reason
from qwen_vl_app.texts import Language, render, t

_HARMLESS = frozenset("\n\t")
_BIDI = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Characters that make a terminal or a reader show text in another order than it is written."""


def speak_utf8() -> None:
    """Make both streams write UTF-8 whatever the console's code page is; what cannot be encoded is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def harmless(text: str, *, keep: frozenset[str] = _HARMLESS) -> str:
    """Return text whose control characters are visible (`\\x1b`) and so command no terminal.

    A model or a file name may hold escape sequences that colour, overwrite or answer back. Carriage returns vanish, so
    that nothing is written over.
    """
    if text.isprintable():
        return text
    return "".join(_shown(character, keep) for character in text)


def one_line(text: str) -> str:
    """Return text as one harmless line: for names, which may hold line breaks."""
    return harmless(text, keep=frozenset())


def _shown(character: str, keep: frozenset[str]) -> str:
    if character in keep:
        return character
    if character == "\r" and keep:
        return ""
    is_control = character < " " or "\x7f" <= character <= "\x9f" or character in _BIDI
    return character.encode("unicode_escape").decode("ascii") if is_control else character


class Terminal:
    """One command's way to speak. With `is_json`, stdout carries JSON alone."""

    def __init__(self, *, language: Language, is_json: bool = False, is_verbose: bool = False) -> None:
        self.language = language
        self.is_json = is_json
        self.is_verbose = is_verbose

    def stream(self, text: str) -> None:
        """Write a piece of an answer, as it is into a pipe or a file, harmless to a terminal."""
        sys.stdout.write(harmless(text) if _is_terminal(sys.stdout) else text)
        sys.stdout.flush()

    def line(self, text: str = "", *, style: str = "") -> None:
        """Write one harmless line to stdout; `style` shows on terminals alone."""
        if style and _is_terminal(sys.stdout):
            Console(markup=False, highlight=False, soft_wrap=True).print(one_line(text), style=style)
        else:
            sys.stdout.write(one_line(text) + "\n")
        sys.stdout.flush()

    def json(self, value: Mapping[str, Any]) -> None:
        """Write one JSON object as one line to stdout."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()

    def note(self, about: Reason | AppError, *, name: str = "") -> None:
        """Tell something beside the answer, on stderr."""
        sys.stderr.write(self._named(about, name) + "\n")
        sys.stderr.flush()

    def tell(self, sentence: str) -> None:
        """Tell a sentence that is rendered already, on stderr."""
        sys.stderr.write(one_line(sentence) + "\n")
        sys.stderr.flush()

    def fail(self, about: Reason | AppError, *, name: str = "", partial_text: str = "") -> None:
        """Tell why there is no answer: a sentence on stderr and, with `--json`, an object on stdout."""
        if self.is_json:
            error = {"code": about.code, "message": render(about, self.language)}
            if name:
                error["file"] = name
            self.json({"error": error, "text": partial_text} if partial_text else {"error": error})
        self.note(about, name=name)

    def say(self, code: str, /, **facts: Fact) -> str:
        """Return a sentence in this terminal's language."""
        return t(code, self.language, **facts)

    def _named(self, about: Reason | AppError, name: str) -> str:
        sentence = render(about, self.language)
        return one_line(f"{name}: {sentence}" if name else sentence)

    def watched(self) -> Console | None:
        """Return the console to show progress on, or None where nobody watches."""
        return Console(stderr=True, markup=False, highlight=False) if _is_terminal(sys.stderr) else None


def language_of(given: Mapping[str, Any]) -> Language:
    """Return the language of a `language` setting; this machine's where there is none or it says `auto`."""
    wanted = given.get("language")
    return Language(wanted) if wanted in tuple(Language) else system_language()


def system_language() -> Language:
    """Return the language that this machine's people have set."""
    try:
        name = locale.getlocale()[0] or ""
    except ValueError:  # a locale that Python does not know
        name = ""
    return Language.from_locale("zh" if name.startswith("Chinese") else name)  # Windows says it in English


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()
