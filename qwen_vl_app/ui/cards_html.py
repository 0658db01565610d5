"""Cards that one clicks to begin with: a ready-made task, or a sample picture with its question, as one piece of HTML.

Knows how cards look. Does not know what a click on one does: `acts` hears of it by the number that stands on it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from html import escape

import streamlit as st

from qwen_vl_app.samples import Sample
from qwen_vl_app.tasks import TASKS, Task
from qwen_vl_app.texts import t
from qwen_vl_app.ui.words import Words

SAMPLES = "/app/samples"
"""The guarded route under which a browser gets the pictures of samples."""
_TASKS_WIDE, _SAMPLES_WIDE = ("200px", 3), ("150px", 4)
"""How narrow a card may become, and how many stand beside each other at most."""
_ICONS = {
    "describe": "visibility",
    "read-text": "notes",
    "spot-text": "match_case",
    "extract-fields": "fact_check",
    "find-and-count": "filter_center_focus",
    "table": "table_view",
    "compare": "compare",
    "screenshot-to-code": "code",
    "check": "checklist",
}


def show_task_cards(words: Words) -> None:
    """Show every ready-made task as a card; a click opens it."""
    st.html(_cards([_task(task, words, at=at) for at, task in enumerate(TASKS)], *_TASKS_WIDE))


def show_sample_cards(samples: Sequence[Sample], words: Words) -> None:
    """Show every sample as a card; a click asks its question."""
    st.html(_cards([_sample(sample, words, at=at) for at, sample in enumerate(samples)], *_SAMPLES_WIDE))


def _cards(cards: Sequence[str], least: str, most: int) -> str:
    return f'<div class="qvl-cards" style="--least: {least}; --most: {most}">{"".join(cards)}</div>'


def _task(task: Task, words: Words, *, at: int) -> str:
    icon = _ICONS.get(task.name, "task_alt")
    about = words(f"tasks.about.{task.name.replace('-', '_')}")
    return (
        f'<button type="button" class="qvl-card" data-act="task" data-task="{at}">'
        f'<b><span class="qvl-symbol" aria-hidden="true" translate="no">{icon}</span>'
        f"{escape(t(task.title_code, words.language))}</b><small>{escape(about)}</small></button>"
    )


def _sample(sample: Sample, words: Words, *, at: int) -> str:
    title = words.of(sample.title)
    label = escape(words("demo.ask", title=title, question=words.of(sample.question)))
    # The number alone would be another picture after another model was chosen.
    address = f"{SAMPLES}/{at}?v={zlib.crc32(sample.data):08x}"
    return (
        f'<button type="button" class="qvl-card qvl-sample" data-act="sample" data-sample="{at}" '
        f'aria-label="{label}" title="{label}"><img src="{address}" alt="">{escape(title)}</button>'
    )
