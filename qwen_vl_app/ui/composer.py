"""The composer at the foot of the page, and above it what was not taken.

Knows what the browser's part of the composer (`frontend/composer.js`) is told: words, choices of detail, the last
question, what goes back into it. Does not ask; `sending` does. Files travel by the upload route, never through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from qwen_vl_app.answers import without_tables
from qwen_vl_app.chat import EngineState, EngineStatus
from qwen_vl_app.private import is_private
from qwen_vl_app.ui.acts import act
from qwen_vl_app.ui.browser_part import browser_part
from qwen_vl_app.ui.conversation import OpenConversation
from qwen_vl_app.ui.holdings import Problem, Restored, Told, View
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.sending import send
from qwen_vl_app.ui.spoken import spoken
from qwen_vl_app.ui.state import COMPOSER, told
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

IN_PARTS = "parts"
"""What the choice of detail is called that looks at a picture part by part; the upload route knows it, too."""
_HEARD_CHARS = 400
"""So much of an answer is read out where it comes; all of it stands on the page."""
_LABELS = (
    "attach",
    "camera",
    "camera_take",
    "camera_none",
    "cancel",
    "send",
    "drop",
    "detail",
    "private",
    "private_on",
    "pictures",
    "alt",
    "staging",
    "answering",
    "waiting",
    "away",
    "away_page",
    "gone",
    "lost",
    "unreachable",
    "unreadable",
    "previous",
    "next",
    "page",
    "add_page",
    "turn",
    "crop",
    "crop_keys",
    "crop_how",
    "crop_take",
    "remove",
    "copied",
    "not_copied",
)


def show_composer(visit: Visit, shown: OpenConversation) -> None:
    """Show the composer at the foot of the page. `shown` is what stands above it."""
    words = visit.words
    with st.bottom.container(key="waiting", gap="small"):
        for problem in visit.state.problems if _is_shown(visit) else ():
            sentence = words.render(problem.reason)
            st.warning(f"**{plain(problem.name)}** · {sentence}" if problem.name else sentence, icon=":material/info:")
        if visit.state.told:
            st.success(" ".join(words.render(each) for each in visit.state.told), icon=":material/check_circle:")
        browser_part("composer")(
            key=COMPOSER,
            data=composer_data(visit, shown),
            on_told_change=lambda: hear(visit, told()),
        )


def hear(visit: Visit, said: Sequence[Told]) -> None:
    """Do what the composer tells, each thing once and in its order, also where two runs hear it at the same time."""
    with visit.state.hearing:
        _hear(visit, said)


def _hear(visit: Visit, said: Sequence[Told]) -> None:
    state = visit.state
    unsent: list[Restored] = []
    problems: list[Problem] = []
    for each in said:
        if each.number <= state.heard:
            continue
        state.heard = each.number
        if each.kind == "did":
            act(visit, each.value)
        elif each.kind == "went":
            state.go_back(each.value)
        elif each.kind == "sent" and (back := send(visit, each.value)) is not None:
            unsent.append(back)
            problems += state.problems
    if unsent:  # also where a later one could be asked
        state.put_back(
            "\n".join(each.text for each in unsent),
            tuple(one for each in unsent for one in each.staged_ids),
            is_private=any(each.is_private for each in unsent),
        )
        state.problems = problems


def composer_data(visit: Visit, shown: OpenConversation) -> Mapping[str, Any]:
    """Return what the browser's part is told, as JSON can carry it."""
    engine, words, state = visit.assistant.status.engine, visit.words, visit.state
    can_ask = engine.state not in (EngineState.FAILED, EngineState.CLOSED)  # while it loads, questions wait in line
    details, default = _details(engine, words)
    restore = state.restore
    return {
        "labels": {name: words(f"composer.{name}", name="{name}") for name in _LABELS}
        | {"tasks": words("tasks.button")},
        "lang": words.language.value,
        "placeholder": words("composer.placeholder" if can_ask else "composer.no_model"),
        "can_ask": can_ask,
        "is_shown": _is_shown(visit),
        "details": details,
        "detail": default,
        "private": _private(visit),
        "jump": None if state.jump is None else {"turn": state.jump[0], "token": state.jump[1]},
        "last_question": state.last_question,
        "place": f"{state.view}:{state.conversation_id}",
        "address": state.address,
        "session": state.session,
        "heard": state.heard,
        "conversation": state.conversation_id,
        "has_begun": state.has_begun,
        "has_drafts": state.has_drafts,
        "answering": len(shown.live),
        "answered": _answered(shown, words),
        "follows": state.view is View.CHAT and (state.conversation_id is not None or bool(state.loose)),
        "restore": None
        if restore is None
        else {
            "text": restore.text,
            "ids": list(restore.staged_ids),
            "token": restore.token,
            "replaces": restore.replaces,
            "detail": restore.detail,
            "is_private": restore.is_private,
        },
    }


def _answered(shown: OpenConversation, words: Words) -> tuple[int, str] | None:
    """Return the newest turn that has its answer, and what a person is told who hears the page and does not see it."""
    newest = next((turn for turn in reversed(shown.turns) if turn.answer is not None and not shown.is_live(turn)), None)
    if newest is None or newest.answer is None:
        return None
    answer = newest.answer
    if answer.error is not None:
        return newest.id, words.render(answer.error)
    text = "" if answer.parsed.has_data else without_tables(answer.text)  # nobody listens to brackets
    heard = spoken(text, at_most=_HEARD_CHARS)
    said = words("composer.answered_text", text=heard) if heard else words("composer.answered")
    return newest.id, said


def _is_shown(visit: Visit) -> bool:
    """Return whether one asks here: on other pages files are dropped for something else."""
    return visit.state.view is View.CHAT


def _private(visit: Visit) -> str:
    """Return how the next question is kept: in an ordinary way, privately, or `choice` where that may be chosen."""
    state = visit.state
    if is_private(state.conversation_id) or (state.conversation_id is None and state.asks_privately):
        return "fixed" if state.conversation_id is not None else "on"
    return "choice" if state.conversation_id is None and visit.assistant.private.may_begin else ""


def _details(engine: EngineStatus, words: Words) -> tuple[list[list[str]], str]:
    if engine.plan is None:
        return [], ""
    rungs = [[rung.detail.value, words(f"detail.{rung.detail.value}")] for rung in engine.plan.rungs]
    rungs.append([IN_PARTS, words("detail.parts")])
    return rungs, engine.plan.rung().detail.value
