"""A question and what can be done with a turn, as one piece of HTML each: many turns must cost a page next to nothing.

Knows how a question, its pictures and its buttons look. Does not know what the buttons do: the browser's part of the
composer tells `acts` which was clicked, by the `data-` names that stand here. Everything that a stranger wrote is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from qwen_vl_app.chat import Conversation, Rendition, Turn, TurnPicture, TurnState
from qwen_vl_app.ui.pictures import sizes_words
from qwen_vl_app.ui.words import Words

PICTURES = "/app/pictures"
"""The guarded route under which a browser gets its own kept pictures."""
THUMBNAIL_HEIGHT_PX = 128
THUMBNAIL_WIDTHS_PX = (64, 232)
LONG_CHARS, LONG_LINES = 1_600, 24
"""A longer question is folded; so is an answer of three times that."""
FROM_CACHE = "history.from_cache"
"""The note of an answer that was given before and came from storage."""
_KEPT_AT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


def picture_url(picture_id: int, rendition: Rendition) -> str:
    """Return where the browser finds a kept picture."""
    return f"{PICTURES}/{picture_id}/{rendition.value}"


def question_html(turn: Turn, words: Words, *, may_edit: bool = True) -> str:
    """Return a kept question with its pictures, its time, and the button to edit it: not while it is being answered."""
    edit = button("edit", words("turn.edit"), icon="edit", turn=turn.id) if may_edit else ""
    return (
        f'<section class="qvl-question" data-turn-place="{turn.id}" aria-label="{escape(words("turn.person"))}">'
        f"{thumbnails_html(turn, words)}"
        f'<div class="qvl-bubble">{folded(_as_typed(turn.question), turn.question, words)}</div>'
        f'<div class="qvl-acts">{_time(turn.asked_at, words)}{edit}</div></section>'
    )


def thumbnails_html(turn: Turn, words: Words) -> str:
    """Return a row of thumbnails with what the model saw of each; a click on one asks for the large view."""
    if not turn.pictures:
        return ""
    return f'<div class="qvl-thumbs">{"".join(_thumbnail(picture, turn, words) for picture in turn.pictures)}</div>'


def actions_html(turn: Turn, words: Words, *, may_erase: bool) -> str:
    """Return what can be done with a turn: copy, ask again, erase, see other versions, and where it came from."""
    parts = []
    if turn.answer is not None and turn.answer.text:
        parts.append(button("copy", words("turn.copy"), icon="copy", turn=turn.id))
    again = words("turn.ask_again")
    is_done = turn.state is TurnState.DONE
    parts.append(button("again", again, icon="again", text="" if is_done else again, turn=turn.id))
    if may_erase:
        parts.append(button("erase", words("erase.turn"), icon="erase", turn=turn.id))
    parts += _versions(turn, words)
    parts += _cache_badge(turn, words)
    return f'<div class="qvl-acts qvl-answer-acts" data-acts-of="{turn.id}">{"".join(parts)}</div>'


def head_html(conversation: Conversation, words: Words, *, is_private: bool) -> str:
    """Return a conversation's title in one line, and what can be done with all of it."""
    title, end, take = escape(conversation.title), words("turn.end_private"), words("turn.take_away")
    acts = button("end-private", end, text=end) if is_private else ""
    acts += button("take-away", take, icon="take", text=take)
    return f'<div class="qvl-head"><h2 title="{title}">{title}</h2><div class="qvl-acts">{acts}</div></div>'


def earlier_html(words: Words) -> str:
    """Return the button that lets a conversation grow upwards."""
    return f'<div class="qvl-acts qvl-earlier">{button("earlier", words("turn.earlier"), text=words("turn.earlier"))}</div>'


def button(act: str, label: str, *, icon: str = "", text: str = "", is_disabled: bool = False, **facts: int) -> str:
    """Return a button that the browser's part of the composer understands. Without `text` its icon stands alone."""
    data = "".join(f' data-{name}="{value}"' for name, value in facts.items())
    shown = f'<span class="qvl-icon qvl-icon-{icon}"></span>' if icon else ""
    off = " disabled" if is_disabled else ""
    named = f'aria-label="{escape(label)}" title="{escape(label)}"'
    return f'<button type="button" data-act="{act}"{data} {named}{off}>{shown}{escape(text)}</button>'


def folded(inner: str, text: str, words: Words, *, times: int = 1) -> str:
    """Return the HTML behind a fold where its text is very long; all of it stays in the page, to be found and copied."""
    if not is_long(text, times=times):
        return inner
    return f'<div class="qvl-fold"><div class="qvl-folded">{inner}</div>{unfolder_html(words)}</div>'


def unfolder_html(words: Words) -> str:
    """Return the switch that opens the fold that it stands in."""
    return f'<label class="qvl-unfold"><input type="checkbox">{escape(words("turn.show_all"))}</label>'


def is_long(text: str, *, times: int = 1) -> bool:
    """Return whether a text is so long that it should be folded."""
    return len(text) > LONG_CHARS * times or text.count("\n") > LONG_LINES * times


def cached_at(turn: Turn) -> datetime | None:
    """Return when the model gave this answer, where it came from storage."""
    for note in turn.answer.notes if turn.answer is not None else ():
        if note.code == FROM_CACHE and _KEPT_AT.fullmatch(said := str(note.facts.get("at", ""))):
            return datetime.strptime(said, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    return None


def _thumbnail(picture: TurnPicture, turn: Turn, words: Words) -> str:
    least, most = THUMBNAIL_WIDTHS_PX
    width = round(min(most, max(least, THUMBNAIL_HEIGHT_PX * picture.size.width / picture.size.height)))
    label = escape(words("picture.enlarge", name=picture.name))
    name = escape(picture.name)
    if picture.page_count > 1:
        name += f" · {escape(words('picture.page', page=picture.page + 1, count=picture.page_count))}"
    sizes = sizes_words(picture.size, picture.seen, picture.clip, words)
    return (
        f'<figure><button type="button" data-act="large" data-turn="{turn.id}" data-picture="{picture.id}" '
        f'aria-label="{label}" title="{label}">'
        f'<img src="{picture_url(picture.id, Rendition.THUMBNAIL)}" alt="{escape(words("picture.alt", name=picture.name))}" '
        f'width="{width}" height="{THUMBNAIL_HEIGHT_PX}" loading="lazy"></button>'
        f"<figcaption><b>{name}</b> · {_lines(sizes)}</figcaption></figure>"
    )


def _versions(turn: Turn, words: Words) -> Sequence[str]:
    """Where a question was asked more than once: which of its versions this is, and the way to the others."""
    count = len(turn.branch_ids)
    if count < 2:
        return ()
    at = turn.branch_ids.index(turn.id)
    ways = [
        button(
            "version",
            words(f"turn.version_{name}"),
            icon=name,
            is_disabled=not 0 <= at + step < count,
            turn=turn.branch_ids[(at + step) % count],
        )
        for step, name in ((-1, "before"), (1, "after"))
    ]
    told = escape(words("turn.version", number=at + 1, count=count))
    return (ways[0], f'<span title="{told}" aria-label="{told}" role="img">{at + 1} / {count}</span>', ways[1])


def _cache_badge(turn: Turn, words: Words) -> Sequence[str]:
    at = cached_at(turn)
    if at is None:
        return ()
    told = escape(words("turn.from_cache", at=words.moment(at, now=datetime.now(UTC))))
    why = escape(words("turn.from_cache_why"))
    run = words("turn.run_again")
    return (f'<span class="qvl-badge" title="{why}">{told}</span>', button("again", run, text=run, turn=turn.id))


def _time(at: datetime, words: Words) -> str:
    return (
        f'<time datetime="{at.isoformat()}" title="{words.time(at)}">{words.moment(at, now=datetime.now(UTC))}</time>'
    )


def _as_typed(text: str) -> str:
    return f'<p class="qvl-typed">{escape(text)}</p>'


def _lines(text: str) -> str:
    return escape(text).replace("  \n", "<br>")
