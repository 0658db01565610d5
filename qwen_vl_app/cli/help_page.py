"""The page that `--help` prints, whole in the language of its reader: what typer writes around our words as well.

Knows how typer lays a page out. Does not know what any command does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer

from qwen_vl_app.texts import Language, catalogue, t

_Formatter: Any = typer.Context.formatter_class
_EXTRAS = re.compile(r"\[([^\[\]]+)\]$")
"""What typer says behind a flag's help: its default, the numbers it takes, whether it has to be given."""
_SENTENCE = re.compile(r"(?<=[.:。：])\s|(?<=[。：])")
_OF_HELP = "Show this message and exit."


def context_class(language: Language) -> type[Any]:
    """Return the class of a command's context whose help is written in a language."""

    class Page(_Formatter):  # type: ignore[misc]
        def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
            super().write_usage(prog, args, t("cli.help_page.usage", language) if prefix is None else prefix)

        def write_heading(self, heading: str) -> None:
            known = f"cli.help_page.{heading.lower()}"
            self.write(f"{t(known, language) if known in catalogue(language) else f'{heading}:'}\n")

        def write_dl(self, rows: Sequence[tuple[str, str]], *args: Any, **given: Any) -> None:
            super().write_dl([(name, _told(what, language)) for name, what in rows], *args, **given)

    class Context(typer.Context):
        formatter_class = Page

    return Context


def short_help(code: str, language: Language) -> str:
    """Return a command's line in the list of commands, never cut off: its own, else the first sentence of its help."""
    own = f"cli.help_line.{code}"
    first = _SENTENCE.split(t(f"cli.help.{code}", language))[0].rstrip(":：")
    return t(own, language) if own in catalogue(language) else first


def _told(what: str, language: Language) -> str:
    if what == _OF_HELP:
        return t("cli.help.flag.help", language)
    extras = _EXTRAS.search(what)
    if extras is None:
        return what
    return f"{what[: extras.start()]}[{'; '.join(_extra(each, language) for each in extras[1].split('; '))}]"


def _extra(said: str, language: Language) -> str:
    if said == "required":
        return t("cli.help_page.required", language)
    word, colon, value = said.partition(": ")
    return t("cli.help_page.default", language, value=value) if (word, colon) == ("default", ": ") else said
