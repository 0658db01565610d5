"""What the doctor says: a finding with its verdict. Knows words alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qwen_vl_app.errors import Reason


class Verdict(StrEnum):
    """What a finding means for the app."""

    OK = "ok"
    NOTE = "note"
    """It works, but a person may want to know."""
    PROBLEM = "problem"
    """The app, or a part of it, does not work until this is mended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. The sentence of `about` says what to do where the verdict is not OK."""

    check: str
    verdict: Verdict
    about: Reason
