"""The records: finding what was asked, forgetting it, taking it away, and checking that it is whole.

Knows the four parts of the page and what is asked before something is erased. Does not know how anything is kept: what a
site keeps and what an erasure removed, the hub says.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date, datetime

import streamlit as st

from qwen_vl_app.chat import ErasureReceipt
from qwen_vl_app.errors import AppError, HistoryError, Reason
from qwen_vl_app.private import is_private
from qwen_vl_app.records import day_of
from qwen_vl_app.texts import format_bytes
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.pictures import forget_pictures
from qwen_vl_app.ui.records_search import days_chosen, show_search
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

EXPORT, BACKUP = "/app/records/everything.zip", "/app/records/backup.zip"
LARGEST_ARCHIVE_MB = 1024
"""A larger one is brought in from a terminal."""
RECEIPTS_SHOWN = 20


def show_records_page(visit: Visit) -> None:
    """Show the page."""
    words, status = visit.words, visit.assistant.status
    st.title(words("records.title"), anchor=False)
    if status.history_problem is not None:
        st.warning(words.render(status.history_problem), icon=":material/info:")
        return
    st.caption(policy_line(visit))
    for problem in visit.state.problems:
        st.warning(words.render(problem.reason), icon=":material/info:")
    parts: dict[str, Callable[[Visit], None]] = {
        "find": show_search,
        "forget": _show_forgetting,
        "take": _show_taking,
        "check": _show_checking,
    }
    tabs = st.tabs([words(f"records.tab_{name}") for name in parts])
    for tab, show in zip(tabs, parts.values(), strict=True):
        with tab:
            try:
                show(visit)
            except AppError as error:
                st.warning(words.render(error), icon=":material/info:")


def policy_line(visit: Visit) -> str:
    """Return what the site keeps, and for how long, as a sentence."""
    keeping = visit.assistant.records.keeping
    return visit.words(f"records.policy_{keeping.mode.value}", days=keeping.days)


# 1. Forgetting


def _show_forgetting(visit: Visit) -> None:
    words, state = visit.words, visit.state.records
    if not visit.assistant.records.can_erase:
        st.markdown(words("records.not_erased_here"))
        return
    st.markdown(words("records.forget_what"))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="erase-days"):
        st.date_input(
            words("records.days"),
            value=[],
            max_value=_today(words),
            key="erase-range",
            help=words("records.days_how"),
            width=320,
        )
        st.button(
            words("records.erase_days"),
            key="erase-days-ask",
            icon=":material/event_busy:",
            disabled=days_chosen("erase-range") is None,
            on_click=_ask_first,
            args=(visit, "days"),
        )
        st.button(
            words("records.erase_everything"),
            key="erase-everything-ask",
            icon=":material/delete_forever:",
            on_click=_ask_first,
            args=(visit, "everything"),
        )
    if state.asking:
        _confirm(visit, state.asking)
    if state.receipt is not None:
        _show_receipt(visit, state.receipt)
    _show_receipts(visit)


def _ask_first(visit: Visit, what: str) -> None:
    visit.state.forget_dialogs()
    visit.state.records.asking = what


def _confirm(visit: Visit, what: str) -> None:
    words = visit.words
    days = days_chosen("erase-range")
    if what == "days" and days is None:
        visit.state.records.asking = ""
        return

    def close() -> None:
        visit.state.records.asking = ""

    def erase() -> None:
        close()
        if what == "everything":
            if _erase(visit, lambda: visit.assistant.records.erase_everything(visit.owner)):
                visit.state.forget_everything()
        elif days is not None:
            since, until = _ends_of(visit, *days)
            if _erase(visit, lambda: visit.assistant.records.erase_period(visit.owner, since=since, until=until)):
                visit.state.forget_period(since, until)

    @st.dialog(words("records.erase_sure_title"), on_dismiss=close)
    def dialog() -> None:
        if what == "everything" or days is None:
            st.markdown(words("records.erase_everything_sure"))
        else:
            first, last = days
            st.markdown(words("records.erase_days_sure", first=first.isoformat(), last=last.isoformat()))
        st.caption(words("records.erase_runs_too"))
        with st.container(horizontal=True):
            if st.button(words("records.erase_for_good"), key="erase-sure", type="primary", on_click=erase):
                st.rerun()
            if st.button(words("list.cancel"), key="erase-cancel", on_click=close):
                st.rerun()

    dialog()


def _ends_of(visit: Visit, first: date, last: date) -> tuple[datetime, datetime]:
    since, _ = day_of(first, zone=visit.words.zone)
    _, until = day_of(last, zone=visit.words.zone)
    return since, until


def _erase(visit: Visit, erase: Callable[[], ErasureReceipt]) -> bool:
    """Erase, and let go of what this tab and the page's own caches hold of it. Returns False where it was refused.

    Also then something may be gone, such as private conversations: whatever is gone is let go of, and nothing else.
    """
    state, number = visit.state, visit.state.conversation_id
    state.problems = []
    try:
        state.records.receipt = erase()
    except AppError as error:
        state.problems = [Problem(error.reason)]
    finally:
        forget_pictures()
    state.forget_gone(
        is_turn_gone=lambda turn_id: _is_gone(lambda: visit.assistant.turn(visit.owner, turn_id)),
        is_conversation_gone=lambda each: _is_gone(lambda: visit.assistant.conversation(visit.owner, each)),
    )
    if is_private(number) and state.conversation_id is None:  # what is typed for it must not be kept by the next click
        state.asks_privately = visit.assistant.private.may_begin
    return not state.problems


def _is_gone(look: Callable[[], object]) -> bool:
    """Return whether the history has it no longer. Where it cannot be read, nothing is known, and nothing let go of."""
    try:
        look()
    except HistoryError as error:
        return error.code == "history.not_found"
    return False


def _show_receipt(visit: Visit, receipt: ErasureReceipt) -> None:
    words = visit.words
    with st.container(border=True, key="receipt"):
        icon = ":material/check_circle:" if receipt.is_complete else ":material/hourglass_top:"
        code = "records.receipt_complete" if receipt.is_complete else "records.receipt_pending"
        st.markdown(f"**{icon} {words(code, number=receipt.id)}**")
        st.markdown("\n".join(f"- {line}" for line in _removed(receipt, words)))
        if not receipt.is_complete:
            st.button(words("records.settle"), key="settle", icon=":material/refresh:", on_click=_settle, args=(visit,))
        for caveat in receipt.caveats:
            st.caption(f":material/info: {words.render(caveat)}")


def _removed(receipt: ErasureReceipt, words: Words) -> list[str]:
    lines = [
        words("records.removed_turns", turns=receipt.turns, conversations=receipt.conversations),
        words("records.removed_pictures", pictures=receipt.pictures, files=receipt.files, size=receipt.file_bytes),
    ]
    if receipt.cached_answers:
        lines.append(words("records.removed_answers", count=receipt.cached_answers))
    if receipt.runs:
        lines.append(words("records.removed_runs", count=receipt.runs))
    if receipt.forms:
        lines.append(words("records.removed_forms", count=receipt.forms))
    return lines


def _settle(visit: Visit) -> None:
    records, state = visit.assistant.records, visit.state.records
    try:
        records.settle()
        if state.receipt is not None:
            number = state.receipt.id
            state.receipt = next((each for each in records.receipts(visit.owner) if each.id == number), None)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]


def _show_receipts(visit: Visit) -> None:
    words = visit.words
    receipts = visit.assistant.records.receipts(visit.owner, limit=RECEIPTS_SHOWN)
    if not receipts:
        return
    with st.expander(words("records.receipts"), type="compact"):
        st.dataframe(
            {
                words("records.receipt_number"): [each.id for each in receipts],
                words("records.receipt_at"): [words.time(each.asked_at) for each in receipts],
                words("records.receipt_scope"): [words(f"records.scope_{each.scope}") for each in receipts],
                words("records.receipt_turns"): [each.turns for each in receipts],
                words("records.receipt_pictures"): [each.pictures for each in receipts],
                words("records.receipt_runs"): [each.runs for each in receipts],
                words("records.receipt_forms"): [each.forms for each in receipts],
                words("records.receipt_size"): [format_bytes(each.file_bytes) for each in receipts],
                words("records.receipt_done"): [
                    words("records.done" if each.is_complete else "records.pending") for each in receipts
                ],
            },
            hide_index=True,
            alt=words("records.receipts"),
        )


# 2. Taking away and bringing in


def _show_taking(visit: Visit) -> None:
    words, records, state = visit.words, visit.assistant.records, visit.state.records
    language = words.language.value
    st.subheader(words("records.export"), anchor=False)
    st.markdown(words("records.export_what"))
    st.link_button(words("records.export_do"), f"{EXPORT}?lang={language}", icon=":material/download:")
    st.subheader(words("records.import"), anchor=False)
    archive = st.file_uploader(
        words("records.import_what"),
        type=["zip"],
        max_upload_size=LARGEST_ARCHIVE_MB,
        key=f"import-{state.upload}",
    )
    if archive is not None:
        st.button(
            words("records.import_do"), key="import-do", icon=":material/upload:", on_click=_bring_in, args=(visit,)
        )
    if state.told is not None:
        st.success(words.render(state.told), icon=":material/check_circle:")
    st.subheader(words("records.backup"), anchor=False)
    st.markdown(words("records.backup_what"))
    if records.is_only_owner(visit.owner):
        st.link_button(words("records.backup_do"), f"{BACKUP}?lang={language}", icon=":material/save:")
    else:
        st.caption(words.say("records.others_are_here"))


def _bring_in(visit: Visit) -> None:
    state = visit.state
    archive = value_of(f"import-{state.records.upload}")
    if not isinstance(archive, io.BytesIO):
        return
    state.problems, state.records.told = [], None
    try:
        ids = visit.assistant.records.import_archive(archive, owner=visit.owner)
    except AppError as error:
        state.problems = [Problem(error.reason)]
    else:
        state.records.told = Reason("ui.records.imported", count=len(ids))
    state.records.upload += 1  # an uploader lets go of its file only when it is another one


# 3. Checking


def _show_checking(visit: Visit) -> None:
    words, records, state = visit.words, visit.assistant.records, visit.state
    st.subheader(words("records.verify"), anchor=False)
    st.markdown(words("records.verify_what"))
    st.button(words("records.verify_do"), key="verify", icon=":material/fact_check:", on_click=_verify, args=(visit,))
    found = state.records.verification
    if found is not None and found.is_sound:
        st.success(words("records.sound", lines=found.audit.lines), icon=":material/check_circle:")
    elif found is not None:
        for problem in (found.audit.problem, *found.storage):
            if problem is not None:
                st.warning(words.render(problem), icon=":material/info:")
    st.subheader(words("records.answers"), anchor=False)
    st.markdown(words("records.answers_what"))
    figures = records.cache_figures()
    with st.container(horizontal=True, gap="medium", key="figures"):
        st.metric(words("records.answers_hits"), f"{figures.hits:,}")
        st.metric(words("records.answers_misses"), f"{figures.misses:,}")
        st.metric(words("records.answers_saved"), words("records.seconds", seconds=figures.saved_s))
        st.metric(words("records.answers_held"), f"{figures.entries:,}")
        st.metric(words("records.answers_bytes"), format_bytes(figures.answer_bytes))
    st.button(
        words("records.forget_answers"),
        key="forget-answers",
        icon=":material/restart_alt:",
        help=words("records.forget_answers_what"),
        on_click=_forget_answers,
        args=(visit,),
    )


def _verify(visit: Visit) -> None:
    try:
        visit.state.records.verification = visit.assistant.records.verify()
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]


def _forget_answers(visit: Visit) -> None:
    try:
        visit.assistant.records.forget_answers(visit.owner)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]


def _today(words: Words) -> date:
    return datetime.now(words.zone).date()
