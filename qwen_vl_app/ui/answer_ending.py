"""What stands below an answer: in one calm sentence each what a person should know about it, its figures, its raw text.

Knows these as HTML. Does not know how the answer itself is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from html import escape

from markdown_it import MarkdownIt

from qwen_vl_app.answers import checks, sureness
from qwen_vl_app.chat import Answer, FinishReason, SeenSize, Size
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.turn_html import FROM_CACHE
from qwen_vl_app.ui.words import Words


def with_checks(answer: Answer, question: str, seen: Sequence[tuple[Size, SeenSize]]) -> Answer:
    """Return the answer with what a person should check among its notes. `seen` are the pictures it speaks about."""
    return replace(answer, notes=(*answer.notes, *checks(question, answer, seen)))


def ending_html(answer: Answer, words: Words) -> str:
    """Return the sentences and the figures of an answer."""
    said = "".join(f'<p class="qvl-small qvl-note">{line}</p>' for line in _notes(answer, words))
    if answer.error is None:
        said += f'<p class="qvl-small">{_markdown().renderInline(figures_line(answer, words))}</p>'
    return said


def raw_html(answer: Answer, words: Words) -> str:
    """Return the model's own words behind a switch: its data in a form to be read, and the text as it came."""
    data = answer.parsed.data
    shown = [answer.text]
    if answer.parsed.has_data and isinstance(data, (dict, list)) and data:
        shown.insert(0, json.dumps(data, ensure_ascii=False, indent=2))
    blocks = "".join(f"<pre><code>{escape(text)}</code></pre>" for text in dict.fromkeys(shown))
    return f'<details class="qvl-raw"><summary>{escape(words("answer.raw"))}</summary>{blocks}</details>'


def figures_line(answer: Answer, words: Words) -> str:
    """Return seconds, tokens a second, and the model, as Markdown."""
    timing, made = answer.timing, answer.usage.completion_tokens
    parts = [words("answer.seconds", seconds=timing.total_s)]
    writing_s = timing.total_s - (timing.first_token_s or 0.0)
    if made > 1 and timing.first_token_s is not None and writing_s > 0:
        parts.append(words("answer.speed", speed=round((made - 1) / writing_s, 1)))
    if answer.usage.prompt_tokens:
        parts.append(words("answer.tokens", read=answer.usage.prompt_tokens, made=made))
    if (sure := sureness(answer)) is not None:
        parts.append(words("answer.sure", percent=round(100 * sure)))
    if answer.model:
        parts.append(plain(answer.model))
    parts.append(words("answer.verify"))
    return " · ".join(parts)


def _notes(answer: Answer, words: Words) -> Iterator[str]:
    line = _markdown().renderInline
    if answer.error is None and answer.finish_reason is not FinishReason.STOP:
        yield line(words(f"answer.ended_{answer.finish_reason.value}"))
    for note in dict.fromkeys((*answer.notes, *answer.parsed.notes)):
        if note.code != FROM_CACHE:  # a badge tells it
            yield line(words.render(note))


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False})
