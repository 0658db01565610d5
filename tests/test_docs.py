"""What the documents say can be done: every link leads somewhere, every command and option is there, both languages say it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_vl_app.cli.program import spoken
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.texts import Language

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "models").glob("*.md"),
        *(ROOT / "offline_pkgs").glob("*.md"),
        ROOT / "models" / "demo" / "README.md",
    ]
)
TRANSLATED = ("README", "docs/install", "models/README", "offline_pkgs/README")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"python3? (?:scripts/\w+\.py|-m qwen_vl_app\b)[^`\n|]*")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands_of(document: Path) -> Iterator[list[str]]:
    """Give the words of every command of ours, in blocks and in sentences."""
    for found in COMMAND.findall(document.read_text(encoding="utf-8")):
        words = shlex.split(found.partition("#")[0].partition(" > ")[0].rstrip(".,;: "), posix=True)
        yield [word.rstrip("),.;:") for word in words if word not in ("COMMAND", "...", "…")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """Files beside it and headings in them; nothing points into the web but to this machine."""
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        file, _, heading = target.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        found = (document.parent / file).resolve() if file else document
        assert found.exists(), f"{_name(document)} links to {target}"
        if heading:
            headings = re.findall(r"(?m)^#+ (.+)$", found.read_text(encoding="utf-8"))
            slugs = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert heading in slugs, f"{_name(document)} links to {target}"


def problem_of(words: list[str]) -> str:
    """Return what is wrong with a command, empty where nothing is."""
    if words[1] == "-m":
        return _problem_of_module(words[3:])
    script = ROOT / words[1]
    if not script.is_file():
        return f"there is no {words[1]}"
    text = script.read_text(encoding="utf-8")
    known = set(re.findall(r'"(--[a-z][\w-]*)"', text))
    passes_on = words[1] == "scripts/test.py" or "parse_known_args" in text
    missing = [word for word in map(_flag, words[2:]) if word and word not in known and not passes_on]
    return f"{words[1]} has no {missing[0]}" if missing else ""


def _problem_of_module(words: list[str]) -> str:
    command: Any = spoken(Language.ENGLISH)
    for word in words:
        if word.startswith("-"):
            if _flag(word) not in {each for parameter in command.params for each in parameter.opts}:
                return f"{command.name} has no {word}"
        elif word in getattr(command, "commands", {}):
            command = command.commands[word]
        elif getattr(command, "commands", {}) and re.fullmatch(r"[a-z-]+", word):
            return f"there is no command {word}"
    return ""


def _flag(word: str) -> str:
    return word.partition("=")[0] if word.startswith("-") else ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_command_is_one_that_is_there(document: Path) -> None:
    """With its options; a renamed flag fails here before it fails at somebody's desk."""
    for words in commands_of(document):
        assert not problem_of(words), f"{_name(document)}: {shlex.join(words)}: {problem_of(words)}"


def test_the_check_itself_notices(tmp_path: Path) -> None:
    """A wrong command, a wrong option and a wrong script are told."""
    text = (
        "`python scripts/nothing.py` and `python -m qwen_vl_app dokter`,\n    python scripts/build_kit.py --tarket x\n"
    )
    (tmp_path / "x.md").write_text(text + "python -m qwen_vl_app doctor --nonsense\n", encoding="utf-8")
    told = [problem_of(words) for words in commands_of(tmp_path / "x.md")]
    assert len(told) == 4
    assert all(told), told


@pytest.mark.parametrize("name", TRANSLATED)
def test_both_languages_have_the_same_sections_commands_and_figures(name: str) -> None:
    """A step that one language has, the other has too."""
    english, chinese = ROOT / f"{name}.md", ROOT / f"{name}.zh.md"

    def told(document: Path) -> tuple[int, list[str], int, list[str]]:
        text = document.read_text(encoding="utf-8")
        blocks = re.findall(r"(?ms)^ *```\n(.*?)^ *```$", text)
        commands = [
            re.sub(r'"[^"]*"', '""', line.partition("#")[0]).strip()  # questions and remarks are in the page's language
            for block in blocks
            for line in block.splitlines()
            if line.strip().startswith(("python", "pip", "hf"))
        ]
        figures = sorted(re.findall(r"\d[\d.]* ?%|\d+,\d{3}|\d[\d.]* GB", text))
        return len(re.findall(r"(?m)^#+ ", text)), commands, len(re.findall(r"(?m)^\|", text)), figures

    assert told(english) == told(chinese)
    assert f"({chinese.name})" in english.read_text(encoding="utf-8")
    assert f"({english.name})" in chinese.read_text(encoding="utf-8")


def test_settings_that_documents_name_exist() -> None:
    """`name = value` in code is a setting of this app."""
    for name in TRANSLATED:
        for document in (ROOT / f"{name}.md", ROOT / f"{name}.zh.md"):
            for setting in re.findall(r"`([a-z_]+) = [^`]+`", document.read_text(encoding="utf-8")):
                assert setting in Settings.model_fields, setting
