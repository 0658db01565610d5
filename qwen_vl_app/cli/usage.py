"""What is wrong with a command as it was typed, in one sentence of our own, and where to look it up.

Knows the errors that typer's parser raises; they name no base class of their own, so their names tell them apart. What a later
typer says in another way is passed on in its own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from qwen_vl_app.cli.terminal import one_line, system_language
from qwen_vl_app.texts import Language, t

_COMMAND = re.compile(r"No such command (['\"])(.+?)\1\.(?: Did you mean (.+)\?)?\Z", re.DOTALL)
"""A message about a command that there is not, with those that resemble it: 'one', 'another'."""
_WORDS = re.compile(r"extra argument.*\((.+)\)", re.DOTALL)


def language_asked(words: Sequence[str]) -> Language:
    """Return the language that a command's words ask for, before anything is known of the command; else this machine's."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--language" and (value or following) in tuple(Language):
            return Language(value or following)
    return system_language()


def wrong_usage(error: Any, language: Language) -> str:
    """Return what is wrong with a command, one harmless line. `error` is what typer's parser raised."""
    return one_line(_sentence(error, language))


def where_to_look(error: Any, language: Language) -> str:
    """Return how to see what a command takes, one harmless line; nothing where the error belongs to no command."""
    context = getattr(error, "ctx", None)
    return "" if context is None else one_line(t("cli.usage.help", language, command=context.command_path))


def _sentence(error: Any, language: Language) -> str:
    message = str(error.format_message())
    match type(error).__name__:
        case "NoSuchOption":
            near = ", ".join(sorted(error.possibilities or ()))
            return t("cli.usage.no_option", language, name=error.option_name) + _near(near, language)
        case "MissingParameter":
            return t("cli.usage.missing", language, name=_name(error.param))
        case "BadParameter" if error.param is not None:
            return _bad_value(error.param, message, language)
        case "BadOptionUsage":
            wants = "requires" in message
            return t(f"cli.usage.{'no_value' if wants else 'a_value'}", language, name=error.option_name)
    if "Missing command" in message:
        return t("cli.usage.no_command_given", language)
    if command := _COMMAND.match(message):
        near = (command[3] or "").replace("'", "")
        return t("cli.usage.no_command", language, name=command[2]) + _near(near, language)
    if words := _WORDS.search(message):
        return t("cli.usage.too_many", language, words=words[1])
    return message


def _near(names: str, language: Language) -> str:
    return t("cli.usage.near", language, names=names) if names else ""


def _name(parameter: Any) -> str:
    """Return what a person types: a flag's longest form, an argument's place in the usage line."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name)


def _bad_value(parameter: Any, message: str, language: Language) -> str:
    name = _name(parameter)
    described = getattr(parameter, "type_descriptor", None)
    choices = getattr(described, "choices", None)
    if choices:
        return t("cli.usage.choice", language, name=name, choices=", ".join(str(c.value) for c in choices))
    annotation = getattr(described, "annotation", None)
    if annotation is datetime:
        return t("cli.usage.day", language, name=name)
    if annotation not in (int, float):
        return message
    least, most = parameter.min, parameter.max
    if least is not None and most is not None:
        return t("cli.usage.range", language, name=name, least=least, most=most)
    if least is not None:
        return t("cli.usage.least", language, name=name, least=least)
    return t("cli.usage.number", language, name=name)
