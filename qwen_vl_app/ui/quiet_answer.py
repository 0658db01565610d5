"""A finished answer further up, drawn as HTML: it reads the same as the newest ones, at a fraction of their cost.

Knows words, places, tables and data as they are read; what one works with (sorting, zooming, files) comes when a person
clicks on it and the turn is opened. Does not know how answers are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from html import escape

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline

from qwen_vl_app.answers import says_values, without_data, without_tables
from qwen_vl_app.chat import Answer, Region, Rendition, Table, Turn, TurnPicture
from qwen_vl_app.standing import CORRECTED, Standing
from qwen_vl_app.ui.answer_ending import ending_html
from qwen_vl_app.ui.markdown import shown_answer
from qwen_vl_app.ui.turn_html import folded, picture_url
from qwen_vl_app.ui.words import Words

ANSWER_FOLD = 3
"""An answer may be so many times as long as a question before it is folded."""
ROWS_AT_ONCE = 50


def quiet_answer_html(
    turn: Turn, answer: Answer, pictures: Sequence[TurnPicture], standing: Standing, words: Words
) -> str:
    """Return an answer as HTML, as a person left it. `pictures` are those that it speaks about."""
    parsed = answer.parsed
    text = without_data(answer.text) if parsed.has_data or parsed.regions else answer.text
    if parsed.tables:
        text = without_tables(text)
    parts = (
        [folded(answer_markdown().render(shown_answer(text)), text, words, times=ANSWER_FOLD)] if text.strip() else []
    )
    placed = standing.corrected.places
    regions = parsed.regions if placed is None else [each.region for each in placed]
    parts += _places(turn, regions, pictures, words)
    if placed is not None:
        parts.append(_small(words.render(CORRECTED)))
    for number, found in enumerate(standing.tables):
        mine = standing.corrected.tables.get(number)
        head = (words("tables.field"), words("tables.value")) if found.is_fields else None
        parts.append(_table(found.table if mine is None else mine.table, turn, words, head=head))
        if mine is not None:
            parts.append(_small(words.render(CORRECTED)))
    if says_values(parsed) and not any(each.data is not None for each in standing.tables):
        parts.append(_code(answer.text, words))
    if answer.error is not None:
        parts.append(_small(words.render(answer.error)))
    parts.append(ending_html(answer, words))
    told = escape(words("turn.model"))
    return f'<section class="qvl-answer" aria-label="{told}">{"".join(parts)}</section>'


def _small(text: str) -> str:
    return f'<p class="qvl-small">{escape(text)}</p>'


@cache
def answer_markdown() -> MarkdownIt:
    """Return what reads an answer that nobody works on any more; it knows formulas from text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.inline.ruler.before("escape", "formula", _formula)
    return markdown


def _formula(state: StateInline, silent: bool) -> bool:
    """Leave a formula as it is written: the stars of $$2*3*4$$ are no emphasis."""
    end = state.src.find("$$", state.pos + 2) if state.src.startswith("$$", state.pos) else -1
    if end < 0:
        return False
    if not silent:
        state.push("text", "", 0).content = " ".join(state.src[state.pos : end + 2].split())
    state.pos = end + 2
    return True


def _places(turn: Turn, regions: Sequence[Region], pictures: Sequence[TurnPicture], words: Words) -> Iterator[str]:
    by_picture: dict[int, list[Region]] = {}
    for region in regions:
        by_picture.setdefault(region.picture_index, []).append(region)
    for index, found in sorted(by_picture.items()):
        if index >= len(pictures):
            continue
        picture = pictures[index]
        boxes = "".join(_box(number, region) for number, region in enumerate(found, 1))
        ratio = f"{picture.size.width} / {picture.size.height}"
        yield (
            f'<button type="button" class="qvl-places" data-act="look" data-turn="{turn.id}" data-picture="{index}" '
            f'title="{escape(words("turn.look"))}" style="aspect-ratio: {ratio}; --ratio: {picture.size.width / picture.size.height:.4f}; '
            f'max-width: min(100%, {picture.size.width}px)">'
            f'<img src="{picture_url(picture.id, Rendition.VIEW)}" loading="lazy" '
            f'alt="{escape(words("answer.regions_alt", name=picture.name, count=len(found)))}">{boxes}</button>'
        )
        labels = ", ".join(escape(region.label) or str(number) for number, region in enumerate(found[:12], 1))
        yield f'<p class="qvl-small">{labels}{" …" if len(found) > 12 else ""}</p>'


def _box(number: int, region: Region) -> str:
    box = region.box
    place = (box.x1, box.y1, max(0.0, box.x2 - box.x1), max(0.0, box.y2 - box.y1))
    left, top, width, height = (f"{fraction * 100:.2f}%" for fraction in place)
    return f'<i style="left: {left}; top: {top}; width: {width}; height: {height}"><b>{number}</b></i>'


def _table(table: Table, turn: Turn, words: Words, *, head: Sequence[str] | None) -> str:
    titles = "".join(f"<th>{escape(column)}</th>" for column in head or table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows[:ROWS_AT_ONCE]
    )
    look = escape(words("turn.look"))
    more = f'<button type="button" class="qvl-look" data-act="look" data-turn="{turn.id}">{look}</button>'
    alt = escape(words("answer.table_alt"))
    return (
        f'<div class="qvl-table" tabindex="0" role="region" aria-label="{alt}"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{more}"
    )


def _code(text: str, words: Words) -> str:
    return folded(f"<pre><code>{escape(text)}</code></pre>", text, words)
