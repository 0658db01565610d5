"""Sample pictures that come with a model: a file, a title and a question in each language.

Knows `samples/samples.json` in a model's folder. Does not know what a model makes of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. `title` and `question` are by language code; `data` is the picture's file."""

    name: str
    title: Mapping[str, str]
    question: Mapping[str, str]
    data: bytes = field(repr=False)


def load_samples(folder: Path) -> tuple[Sample, ...]:
    """Return the samples of a model's folder; none where there are none, and no entry that cannot be read."""
    listing = folder / "samples" / "samples.json"
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    samples = [_read(listing.parent, entry) for entry in entries] if isinstance(entries, list) else []
    return tuple(sample for sample in samples if sample is not None)


def _read(folder: Path, entry: Any) -> Sample | None:
    try:
        name = Path(entry["file"]).name
        return Sample(name, dict(entry["title"]), dict(entry["question"]), (folder / name).read_bytes())
    except (KeyError, TypeError, ValueError, OSError):
        log.warning("a sample in %s cannot be read", folder.name)
        return None
