"""The status line: model, device, queue and the promise of staying offline, each explained on click.

Knows the status words. Does not choose anything.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from qwen_vl_app.assistant import Assistant, AssistantStatus
from qwen_vl_app.chat import EngineState, EngineStatus
from qwen_vl_app.errors import Reason
from qwen_vl_app.model_check import CheckKind
from qwen_vl_app.texts import format_bytes
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.side_rows import SideRow, show_rows
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

LOADING_POLL_S = 0.5
STARTING_POLL_S = 2.0
"""While torch is imported there is no number to tell, and each run of a page takes the interpreter's lock from it."""
STATUS_POLL_S = 2.0
_STARTING = (EngineState.EMPTY, EngineState.LOADING)


def show_status(visit: Visit) -> None:
    """Show the status lines; while the model loads they follow it, and the page runs again when it may be asked."""
    with st.container(gap="xxsmall", key="status"):
        _follow_loading(visit)
        _follow_status(visit.assistant, visit.words)


def _follow_status(assistant: Assistant, words: Words) -> None:
    """Show the lines, and keep them true: others ask as well, and the page does not run for them."""

    @st.fragment(run_every=STATUS_POLL_S)
    def lines() -> None:
        show_rows(status_rows(assistant.status, words), key="status-rows")

    lines()


def status_rows(status: AssistantStatus, words: Words) -> list[SideRow]:
    """Return the lines: the model, the device and its memory, the queue, the promise, and what a person should know."""
    engine = status.engine
    model = words("status.demo") if engine.is_demo else engine.model or words("status.no_model")
    device = " · ".join(part for part in (_device(engine, words), engine.dtype, _memory(engine)) if part)
    rows = [
        SideRow("model", model, explanation=model_details(status, words)),
        SideRow("device", device or words("status.no_device"), explanation=device_details(engine, words)),
        SideRow("queue", queue_line(status, words), explanation=words("status.queue_why")),
        SideRow("offline", words("status.offline"), explanation=words("status.offline_why")),
    ]
    told = (status.history_problem, _wrong_check(status), *status.notices)
    notices = [words.render(notice) for notice in told if notice is not None]
    if notices:
        rows.append(SideRow("notices", words("status.notices"), explanation="\n\n".join(notices)))
    return rows


def _follow_loading(visit: Visit) -> None:
    """Follow the model into memory. The fragment stays when that is over, for a timer of the browser may come late."""
    assistant, words = visit.assistant, visit.words
    first = assistant.status.engine

    every = LOADING_POLL_S if first.plan is not None else STARTING_POLL_S

    @st.fragment(run_every=every if first.state in _STARTING else None)
    def loading() -> None:
        engine = assistant.status.engine
        if first.state not in _STARTING:
            st.empty()
            return
        if engine.state not in _STARTING or (engine.plan is not None) != (first.plan is not None):
            visit.state.draw_anew()
        if _is_reading(engine):
            st.progress(engine.loaded_bytes / engine.weights_bytes, text=loading_line(engine, words))
        else:  # nobody can tell how far an import or a check is: something moves, and no number pretends to know
            line = escape(loading_line(engine, words))
            st.html(f'<div class="qvl-loading" role="status"><span>{line}</span><i></i></div>')

    loading()


def loading_line(engine: EngineStatus, words: Words) -> str:
    """Return what is being done to bring the model into memory, and how much of it is there."""
    if _is_reading(engine):
        loaded, total = format_bytes(engine.loaded_bytes), format_bytes(engine.weights_bytes)
        return words("status.loading", loaded=loaded, total=total)
    return words("status.checking" if engine.weights_bytes else "status.starting")


def _is_reading(engine: EngineStatus) -> bool:
    return engine.weights_bytes > 0 and engine.loaded_bytes < engine.weights_bytes


def _wrong_check(status: AssistantStatus) -> Reason | None:
    """Return what a person should know of a model that is not what it should be; a drawing that was missed is no such thing."""
    check = status.check
    if check is None or check.is_well or check.kind is CheckKind.DRAWN:
        return None
    return check.about if check.is_over else None


def model_details(status: AssistantStatus, words: Words) -> str:
    """Return which model runs, why this one, and how it does on what is known of it, as Markdown."""
    engine, check = status.engine, status.check
    name = plain(engine.model) or words("status.no_model")
    state = words(f"status.state_{engine.state.value}")
    said = [words("status.model_line", model=name, family=plain(engine.family) or "–", state=state)]
    if engine.error is not None:
        said.append(words.render(engine.error))
    reasons = [*engine.choices, *([check.about] if check is not None and check.about is not None else [])]
    if reasons:
        said.append("\n".join(f"- {words.render(reason)}" for reason in reasons))
    if engine.is_demo:
        said += [words("demo.what"), words("demo.real_model")]
    return "\n\n".join(said)


def device_details(engine: EngineStatus, words: Words) -> str:
    """Return where the model runs, how, and how large pictures may be, as Markdown."""
    said = [
        words(
            "status.device_line",
            device=plain(engine.device) or "–",
            precision=engine.dtype or "–",
            attention=plain(engine.attention) or "–",
            memory=_memory(engine) or "–",
        )
    ]
    if engine.plan is not None:
        rung = engine.plan.rung()
        said.append(
            words(
                "status.plan_line",
                detail=words(f"detail.{rung.detail.value}"),
                tokens=rung.max_tokens,
                context=engine.plan.context_tokens,
            )
        )
        if engine.plan.reasons:
            said.append("\n".join(f"- {words.render(reason)}" for reason in engine.plan.reasons))
    return "\n\n".join(said)


def _device(engine: EngineStatus, words: Words) -> str:
    """Return the device by a name that people know: only cards have names of their own."""
    return words("status.processor") if engine.device.lower().startswith("cpu") else engine.device


def _memory(engine: EngineStatus) -> str:
    return format_bytes(engine.loaded_bytes) if engine.loaded_bytes else ""


def queue_line(status: AssistantStatus, words: Words) -> str:
    """Return how many wait, else how many are being answered."""
    if status.waiting:
        return words("status.queue_waiting", waiting=status.waiting)
    if status.unanswered > 1:
        return words("status.queue_several", count=status.unanswered)
    return words("status.queue_busy" if status.unanswered else "status.queue_free")
