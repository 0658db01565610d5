"""Ready-made tasks beside the composer: choose one, fill it in, read how to ask better, and keep tasks of one's own.

Knows the tasks there are and writes their question into the composer. Does not ask it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from qwen_vl_app.chat import Detail
from qwen_vl_app.errors import AppError
from qwen_vl_app.own_tasks import OwnTask, as_file, read_tasks
from qwen_vl_app.tasks import TASKS, Takes, Task, prompt_of
from qwen_vl_app.texts import t
from qwen_vl_app.ui.cards_html import show_task_cards
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit

NEW = "+"
"""In the place of a task's name: a new one of one's own."""
_SEPARATORS = re.compile(r"[\n,;，；、]+")


def show_tasks(visit: Visit) -> None:
    """Show the dialog from the click that asked for it until it is closed, whatever else happens on the page."""
    state, words = visit.state, visit.words
    if state.tasks is None:
        return

    def close() -> None:
        state.tasks = None

    @st.dialog(words("tasks.title"), width="large", on_dismiss=close)
    def dialog() -> None:
        if state.tasks is None:
            st.rerun()  # a task was taken: with a whole run the dialog closes
        chosen = next((task for task in TASKS if task.name == state.tasks), None)
        if chosen is not None:
            _fill_in(visit, chosen)
        elif state.tasks == NEW:
            _write_new(visit)
        else:
            _choose(visit)

    dialog()


def _choose(visit: Visit) -> None:
    words = visit.words
    if visit.assistant.status.engine.is_demo:
        st.caption(f":material/science: {words('tasks.demo')}")
    st.caption(words("tasks.what"))
    show_task_cards(words)
    st.subheader(words("tasks.yours"), anchor=False)
    _show_own(visit)


def _back(visit: Visit) -> None:
    def back() -> None:
        visit.state.tasks = ""

    st.button(visit.words("tasks.back"), key="task-back", icon=":material/arrow_back:", type="tertiary", on_click=back)


# 1. A ready-made one


def _fill_in(visit: Visit, task: Task) -> None:
    words, language = visit.words, visit.words.language
    engine = visit.assistant.status.engine
    _back(visit)
    st.subheader(t(task.title_code, language), anchor=False)
    given_key = f"task-given-{task.name}"

    def make(written: str) -> str:
        """Return the question that the task makes of what was written; empty while that is missing."""
        whole = task.takes is Takes.INSTRUCTION
        given = [part for each in ([written] if whole else _SEPARATORS.split(written)) if (part := each.strip())]
        if task.takes is not Takes.NOTHING and not given:
            return ""
        return prompt_of(task, given, coordinates=engine.coordinates, language=language.value)

    written = ""
    if task.takes is not Takes.NOTHING:
        written = st.text_area(
            words(f"tasks.{task.takes.value}"),
            placeholder=words(f"tasks.{task.takes.value}_example"),
            key=given_key,
            height=110,
        )
    if task.picture_count > 1:
        st.caption(f":material/photo_library: {words('tasks.two')}")
    prompt = made = make(written)
    if not made:
        st.caption(words("tasks.missing"))
    else:
        prompt = st.text_area(words("tasks.question"), value=made, key=_prompt_key(made), height=110)
    detail = engine.plan.rung(task.detail).detail if engine.plan is not None else task.detail
    st.caption(f":material/lightbulb: {words('tasks.better', hint=plain(t(task.hint_code, language)))}")
    st.caption(f":material/photo_size_select_large: {words('tasks.rung', detail=words(f'detail.{detail.value}'))}")

    def now() -> tuple[str, Detail]:
        last = make(_text_of(given_key))
        return (_text_of(_prompt_key(last)) if last == made else last), detail

    _end(visit, prompt, detail, now=now)


def _prompt_key(made: str) -> str:
    """Return the key of a question to be changed. It carries the words, so that it shows anew what the task made of them."""
    return f"task-prompt-{hash(made)}"


def _text_of(key: str) -> str:
    value = value_of(key)
    return value if isinstance(value, str) else ""


def _take(visit: Visit, prompt: str, *, detail: str) -> None:
    if prompt:  # else the click that took it emptied it as well
        visit.state.write(prompt, detail=detail)
        visit.state.tasks = None


def _end(visit: Visit, prompt: str, detail: Detail, *, now: Callable[[], tuple[str, Detail]]) -> None:
    """Offer to take the question, and to keep it under a name.

    `now` returns, in a callback, what stands in the widgets: the click that takes a question is often what ends its writing.
    """
    words = visit.words

    def take() -> None:
        last, rung = now()
        _take(visit, last.strip(), detail=rung.value)

    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            words("tasks.take"),
            key="task-take",
            type="primary",
            disabled=not prompt.strip(),
            on_click=take,
        )
        with st.popover(words("tasks.save_as"), icon=":material/bookmark_add:", disabled=not prompt.strip()):
            title = st.text_input(words("tasks.own_name"), max_chars=80, key="task-own-name")
            if st.button(words("tasks.save"), key="task-save") and _save(visit, [OwnTask(title, prompt, detail)]):
                st.caption(f":material/check: {words('tasks.saved')}")


# 2. A person's own


def _show_own(visit: Visit) -> None:
    words, store = visit.words, visit.assistant.own_tasks
    try:
        tasks = store.of(visit.owner)
    except AppError as error:
        st.warning(words.render(error), icon=":material/info:")
        return
    if not tasks:
        st.caption(words("tasks.none"))
    for at, task in enumerate(tasks):
        with st.container(horizontal=True, gap="small", vertical_alignment="center", wrap=False, key=f"own-task-{at}"):
            take = partial(_take, visit, task.prompt, detail=_rung(visit, task.detail))
            st.button(
                plain(task.title),
                key=f"take-own-{task.title}",  # by its title: at its position stands another one after a click on the bin
                help=plain(task.prompt[:300]),
                width="stretch",
                on_click=take,
            )
            _show_removing(visit, task)
    _show_sharing(visit, tasks)


def _show_removing(visit: Visit, task: OwnTask) -> None:
    words = visit.words
    with st.popover(
        words("tasks.remove"), icon=":material/delete:", type="tertiary", key=f"ask-remove-own-{task.title}"
    ):
        st.markdown(words("tasks.remove_sure", title=plain(task.title)))
        if st.button(words("tasks.remove"), key=f"remove-own-{task.title}", type="primary"):
            try:
                visit.assistant.own_tasks.remove(visit.owner, task.title)
            except AppError as error:
                st.warning(words.render(error), icon=":material/info:")
            else:
                st.rerun()


def _show_sharing(visit: Visit, tasks: Sequence[OwnTask]) -> None:
    words = visit.words

    def write_new() -> None:
        visit.state.tasks = NEW

    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(words("tasks.new"), key="task-new", icon=":material/add:", on_click=write_new)
        if tasks:
            st.download_button(
                words("tasks.share"),
                as_file(tasks),
                file_name="tasks.json",
                mime="application/json",
                key="task-share",
                icon=":material/download:",
                on_click="ignore",
            )
        with st.popover(words("tasks.bring"), icon=":material/upload_file:"):
            file = st.file_uploader(words("tasks.bring"), type="json", key="task-file", label_visibility="collapsed")
            if file is not None and st.button(words("tasks.save"), key="task-bring"):
                try:
                    brought = read_tasks(file.getvalue())
                except AppError as error:
                    st.warning(words.render(error), icon=":material/info:")
                else:
                    if _save(visit, brought):
                        st.caption(f":material/check: {words('tasks.brought', count=len(brought))}")


def _write_new(visit: Visit) -> None:
    words, plan = visit.words, visit.assistant.status.engine.plan
    _back(visit)
    st.subheader(words("tasks.new"), anchor=False)
    prompt = st.text_area(words("tasks.question"), key="task-own-prompt", height=140)
    rungs = [rung.detail for rung in plan.rungs] if plan is not None else list(Detail)
    detail = st.selectbox(
        words("composer.detail"),
        rungs,
        index=rungs.index(plan.rung().detail) if plan is not None else 0,
        format_func=lambda each: words(f"detail.{each.value}"),
        key="task-own-detail",
    )

    def now() -> tuple[str, Detail]:
        chosen = value_of("task-own-detail")
        return _text_of("task-own-prompt"), chosen if isinstance(chosen, Detail) else detail

    _end(visit, prompt, detail, now=now)


def _save(visit: Visit, tasks: Sequence[OwnTask]) -> bool:
    try:
        visit.assistant.own_tasks.save(visit.owner, tasks)
    except AppError as error:
        st.warning(visit.words.render(error), icon=":material/info:")
        return False
    return True


def _rung(visit: Visit, detail: Detail) -> str:
    plan = visit.assistant.status.engine.plan
    return plan.rung(detail).detail.value if plan is not None else ""
