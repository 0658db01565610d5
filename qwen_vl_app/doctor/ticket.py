"""The findings as one text for a support ticket, without anything private.

Knows which facts are anybody's business: versions, sizes, verdicts. Names of people, machines and folders are taken out, and
no question, answer, picture or key was ever in.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from qwen_vl_app import __version__
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.doctor.finding import Finding
from qwen_vl_app.errors import Fact, Reason
from qwen_vl_app.texts import Language, render

TOLD_CHOICES = frozenset({"language", "device", "precision", "attention", "decode", "detail", "keep", "remote_family"})
"""Settings of one word out of a few. Of the others only numbers are told: a place, a name or a key is told as set, no more."""
_PUBLISHED = re.compile(r"demo(-relative)?|qwen[\d.]+-vl(-\d+b)?(-a\d+b)?(-instruct|-thinking)?(-fp8)?", re.IGNORECASE)
"""The names that models are published under. A folder of another name may carry a customer's."""
_NAMES_OF_MODELS = frozenset({"model", "near", "present"})
_PATH = re.compile(
    r"(?:"
    r"[A-Za-z]:\\|(?<![A-Za-z])[A-Za-z]:/|\\\\"  # a drive, a server
    r"|(?i:file:)/+|(?<![A-Za-z0-9_:/])//(?=[^\s/])|(?<!\w)~(?:[A-Za-z_][\w.-]*)?[\\/]"
    # Any absolute path of two or more parts. What a letter or a digit stands before is a ratio, a unit or an address.
    r"|(?<![A-Za-z0-9_/\\~])[\\/](?=[^\s\"'<>|,;\\/][^\n\"'<>|,;\\/]*[\\/])"
    r"|/(?:home|root|Users|mnt|media|srv|opt|data|var|tmp|work)/"  # also where a flag's letters are stuck to it
    r")"
    # A blank belongs to it where another separator follows: half a name would be left otherwise.
    r"(?:[^\s\"'<>|,;]|[^\S\n](?=[^\n\"'<>|,;]*[\\/]))*"
)
_LONG_HEX = re.compile(r"\b[0-9a-f]{32,}\b")


def write_ticket(findings: Sequence[Finding], settings: Settings | None) -> str:
    """Return the text: the machine, the findings in English, settings that differ, and the versions of packages."""
    lines = [
        f"visual assistant {__version__}, doctor's report of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "",
        *(
            f"{finding.verdict.value:<8}{finding.check}: {render(_anonymous(finding.about), Language.ENGLISH)}"
            for finding in findings
        ),
        "",
        "Settings that differ from the usual ones:",
        *(_settings(settings) or ["  none"]),
        "",
        "Packages:",
        *_packages(),
    ]
    return without_private("\n".join(lines)) + "\n"


def without_private(text: str) -> str:
    """Return a text without this account's and this machine's names, and without paths."""
    text = _PATH.sub("<folder>", text)
    for name, stand_in in ((str(Path.home()), "<home>"), (_account(), "<account>"), (platform.node(), "<machine>")):
        if len(name) >= 3:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", stand_in, text, flags=re.IGNORECASE)
    return _LONG_HEX.sub("<hash>", text)


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name
        return ""


def _settings(settings: Settings | None) -> list[str]:
    if settings is None:
        return ["  could not be read"]
    usual = Settings()
    told = {name: getattr(settings, name) for name in Settings.model_fields}
    return [
        f"  {name} = {value if name in TOLD_CHOICES or isinstance(value, bool | int | float) else '(set)'}"
        for name, value in told.items()
        if value != getattr(usual, name)
    ]


def _anonymous(about: Reason) -> Reason:
    """Return what a finding says with a stand-in for the name of every model that is not one of those published.

    With it go the files of such a folder, and everywhere the names of known questions: both may be called anything.
    """
    facts = about.facts
    stand_ins: dict[str, Fact] = {}
    if not about.code.startswith("settings."):  # what is near a misspelt setting is a setting
        names = {key for key in _NAMES_OF_MODELS & facts.keys() if not _PUBLISHED.fullmatch(str(facts[key]))}
        stand_ins |= dict.fromkeys(names, "<model>")
        if names and "file" in facts:
            stand_ins["file"] = "<file>"
    if about.code.startswith("known.") and "name" in facts:
        stand_ins["name"] = "<question>"
    return Reason(about.code, **{**facts, **stand_ins}) if stand_ins else about


def _packages() -> list[str]:
    try:
        text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    except OSError:
        return ["  requirements.txt could not be read"]
    lines = []
    for name in re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)==", text):
        try:
            lines.append(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"  {name} missing")
    return lines
