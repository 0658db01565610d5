"""Every code of the history has a sentence in both languages, with the same facts."""

from __future__ import annotations

import re
from pathlib import Path

import qwen_vl_app.history
from qwen_vl_app.texts import Language, catalogue, placeholders

CODE = re.compile(r"[\"'](history\.[a-z_]+)[\"']")
FILES = {"history.db", "history.lock"}


def codes() -> set[str]:
    """The codes that stand in the island's source, and in the hub's, which tells what came from the island."""
    folder = Path(qwen_vl_app.history.__file__).parent
    files = [
        *folder.rglob("*.py"),
        *(folder.parent / name for name in ("assistant.py", "asking.py", "stored_answers.py")),
    ]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return set(CODE.findall(source)) - FILES


def test_codes_and_sentences_are_the_same_set() -> None:
    """No code is without a sentence and no sentence without a use, in either language."""
    for language in Language:
        assert {code for code in catalogue(language) if code.startswith("history.")} == codes()


def test_both_languages_use_the_same_facts() -> None:
    """A sentence says in Chinese what it says in English."""
    english, chinese = catalogue(Language.ENGLISH), catalogue(Language.CHINESE)
    for code in codes():
        assert placeholders(english[code]) == placeholders(chinese[code]), code
