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
from qwen_vl_app.texts import Language, render

PRIVATE_SETTINGS = frozenset(
    {"model", "models_dir", "data_dir", "remote_address", "remote_model", "remote_key", "api_keys", "public_origins"}
    | {"api_file_folder", "model_aliases"}
)
"""Settings whose values name places, people or keys; only that they are set is told."""
_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\|/(?:home|root|Users|mnt|media|srv|opt|data|var|tmp|work)/)[^\s\"'<>|,;]*")
_LONG_HEX = re.compile(r"\b[0-9a-f]{32,}\b")


def write_ticket(findings: Sequence[Finding], settings: Settings | None) -> str:
    """Return the text: the machine, the findings in English, settings that differ, and the versions of packages."""
    lines = [
        f"visual assistant {__version__}, doctor's report of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "",
        *(
            f"{finding.verdict.value:<8}{finding.check}: {render(finding.about, Language.ENGLISH)}"
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
    return [
        f"  {name} = {'(set)' if name in PRIVATE_SETTINGS else getattr(settings, name)}"
        for name in Settings.model_fields
        if getattr(settings, name) != getattr(usual, name)
    ]


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
