"""Tables of an answer: as they stand, open to be sorted and corrected, and as files to take away.

Knows which cells a person changed. Does not know how a table was read out of an answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from qwen_vl_app.answers import AnswerTable, to_csv, to_fields, to_markdown, to_records, to_xlsx, unique_names
from qwen_vl_app.chat import Table
from qwen_vl_app.corrections import CorrectedTable, table_text, withdrawn_table
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.standing import Standing
from qwen_vl_app.ui.desk import Desk
from qwen_vl_app.ui.holdings import TableDraft, TableInHand
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import TABLE, PageState, value_of
from qwen_vl_app.ui.words import Words

PLAIN_ROWS, PLAIN_COLUMNS = 20, 6
"""A larger table scrolls, sorts and is searched in a grid of its own."""
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,11})\.\d{0,2}[1-9]")


def show_tables(standing: Standing, words: Words, *, desk: Desk | None, key: str) -> None:
    """Show every table of an answer as a person left it."""
    for number, found in enumerate(standing.tables):
        own = f"{key}{TABLE}{number}"
        mine = standing.corrected.tables.get(number)
        if desk is not None and desk.can_correct and desk.is_open(own):
            with st.container(key=f"looked-at-{own}", gap="small"):
                _show_editor(standing, number=number, desk=desk, key=own)
        else:
            _show_table(found, mine, words)
            if desk is not None and own in desk.visit.state.table_drafts:
                st.caption(f":material/edit_note: {words('tables.unsaved')}")
        _show_tools(found, mine, words, desk=desk, number=number, key=own)


def _head(found: AnswerTable, words: Words) -> tuple[str, ...]:
    return (words("tables.field"), words("tables.value")) if found.is_fields else unique_names(found.table.columns)


def _show_table(found: AnswerTable, mine: CorrectedTable | None, words: Words) -> None:
    shown = found.table if mine is None else mine.table
    names = _head(found, words)
    alt = words("answer.table_alt")
    if len(shown.rows) <= PLAIN_ROWS and len(names) <= PLAIN_COLUMNS:
        # Stands at once, wraps its lines and is read aloud; its cells are Markdown, so their signs are made plain.
        cells = [_marked(row, at, found.table, mine, words) for at, row in enumerate(shown.rows)]
        st.table(
            {plain(name): [row[at] for row in cells] for at, name in enumerate(names)}, hide_index=True, width="content"
        )
    else:
        st.dataframe(_typed(shown, names), hide_index=True, alt=alt)
    if mine is not None:
        st.caption(f":material/edit: {words('tables.corrected', **counts_of(mine, found.table))}")


def _marked(row: Sequence[str], at: int, model: Table, mine: CorrectedTable | None, words: Words) -> tuple[str, ...]:
    """Return a row's cells as Markdown; what a person changed stands out, with what it was."""
    if mine is None:
        return tuple(plain(cell) for cell in row)
    of = mine.of[at]
    if of is None:
        return tuple(f"**{plain(cell)}** *({words('view.mark_added')})*" if cell else "" for cell in row)
    return tuple(
        plain(cell) if cell == was else f"**{plain(cell)}** *({words('tables.was', text=plain(was) or '–')})*"
        for cell, was in zip(row, model.rows[of], strict=True)
    )


def counts_of(mine: CorrectedTable, model: Table) -> Mapping[str, int]:
    """Return how many cells a person changed, and how many rows they added and removed."""
    pairs = [(row, model.rows[of]) for row, of in zip(mine.table.rows, mine.of, strict=True) if of is not None]
    return {
        "changed": sum(cell != was for row, own in pairs for cell, was in zip(row, own, strict=True)),
        "added": sum(of is None for of in mine.of),
        "removed": len(model.rows) - len(pairs),
    }


def _typed(table: Table, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return columns for a grid; one that holds nothing but plain numbers sorts as numbers, and loses nothing by it."""
    columns: dict[str, list[Any]] = {}
    for at, name in enumerate(names):
        cells = [row[at] for row in table.rows]
        if cells and all(_WHOLE.fullmatch(cell) for cell in cells):
            columns[name] = [int(cell) for cell in cells]
        elif cells and all(_WHOLE.fullmatch(cell) or _DECIMAL.fullmatch(cell) for cell in cells):
            columns[name] = [float(cell) for cell in cells]
        else:
            columns[name] = cells
    return columns


# 1. Correcting


def _show_editor(standing: Standing, *, number: int, desk: Desk, key: str) -> None:
    words, state = desk.visit.words, desk.visit.state
    assert desk.turn_id is not None  # noqa: S101 - only such tables can be corrected
    found, mine = standing.tables[number], standing.corrected.tables.get(number)
    model = CorrectedTable(found.table, tuple(range(len(found.table.rows))))
    names, before = _head(found, words), mine or model
    fresh = TableDraft(before, desk.turn_id, state.conversation_id, began_with=before)
    draft = state.table_drafts.get(key) or fresh
    last = state.table_in_hand
    if last is not None and last.key == key and (last.names, last.draft.corrected) != (names, draft.corrected):
        # Other names, in another language, or other rows, from another tab: Streamlit takes the grid for another one.
        keep_unsaved(state)
        draft = state.table_drafts.get(key) or fresh
    widget = f"edit-{key}-{draft.generation}"
    in_hand = state.table_in_hand = TableInHand(key, widget, names, draft)
    st.caption(words("tables.hint"))
    if draft.began_with not in (None, before):
        st.warning(words("tables.corrected_elsewhere"), icon=":material/info:")
    # As text: a grid of numbers takes neither the decimal point that the model missed, nor "n/a", nor the letter in a tag.
    st.data_editor(
        {name: [row[at] for row in draft.corrected.table.rows] for at, name in enumerate(names)},
        num_rows="delete",
        hide_index=True,
        key=widget,
        on_change="ignore",
        width="stretch",
    )

    def now() -> CorrectedTable:
        return _now(in_hand)

    def put_down() -> None:
        state.table_in_hand = None
        state.table_drafts.pop(key, None)

    def add_row() -> None:
        after = now()
        table = Table(found.table.columns, (*after.table.rows, ("",) * len(names)))
        put_down()
        state.table_drafts[key] = _later(draft, CorrectedTable(table, (*after.of, None)))

    def save() -> None:
        after = now()
        try:
            stands = desk.table_now(number, standing.tables) or model
        except HistoryError as error:
            desk.refuse(error)
            return
        is_saved = after in (before, stands)
        if not is_saved and stands != before:
            return  # corrected elsewhere since it was drawn: the next run says so, and what was written here stays
        if is_saved or desk.correct(table_text(number, after, model=found.table, language=words.language)):
            put_down()
            desk.close()

    def restore() -> None:
        if mine is None or desk.correct(withdrawn_table(number, words.language)):
            put_down()
            desk.close()

    def close() -> None:
        put_down()
        desk.close()

    with st.container(horizontal=True, gap="small", key=f"editing-{key}"):
        st.button(words("tables.save"), key=f"save-{key}", type="primary", on_click=save)
        st.button(words("tables.add_row"), key=f"row-{key}", icon=":material/add:", on_click=add_row)
        if mine is not None or key in state.table_drafts:
            st.button(words("tables.restore"), key=f"restore-{key}", icon=":material/undo:", on_click=restore)
        st.button(words("view.discard"), key=f"discard-{key}", type="tertiary", on_click=close)


def keep_unsaved(state: PageState) -> None:
    """Keep what was done in a grid that the page no longer shows: after the run its widget is forgotten, with every cell."""
    in_hand, state.table_in_hand = state.table_in_hand, None
    if in_hand is not None and (after := _now(in_hand)) != in_hand.draft.corrected:
        state.table_drafts[in_hand.key] = _later(in_hand.draft, after)


def _now(in_hand: TableInHand) -> CorrectedTable:
    return edited(in_hand.draft.corrected, value_of(in_hand.widget), names=in_hand.names)


def _later(draft: TableDraft, table: CorrectedTable) -> TableDraft:
    return replace(draft, corrected=table, generation=draft.generation + 1)


def edited(draft: CorrectedTable, changes: object, *, names: Sequence[str]) -> CorrectedTable:
    """Return a table after what a person did in the grid: `edited_rows` by position and name, `deleted_rows`."""
    if not isinstance(changes, Mapping):
        return draft
    rows = [list(row) for row in draft.table.rows]
    for position, cells in dict(changes.get("edited_rows") or {}).items():
        if int(position) < len(rows):
            for name, value in cells.items():
                if name in names:
                    rows[int(position)][names.index(name)] = _text(value)
    gone = {int(position) for position in changes.get("deleted_rows") or ()}
    left = [at for at in range(len(rows)) if at not in gone]
    # A row that was added and never filled is none.
    left = [at for at in left if draft.of[at] is not None or any(rows[at])]
    table = Table(draft.table.columns, tuple(tuple(rows[at]) for at in left))
    return CorrectedTable(table, tuple(draft.of[at] for at in left))


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.15g}"
    return "" if value is None else str(value)


# 2. Taking away


def _show_tools(
    found: AnswerTable, mine: CorrectedTable | None, words: Words, *, desk: Desk | None, number: int, key: str
) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"table-tools-{key}"):
        if desk is not None and desk.can_correct and not desk.is_open(key):
            st.button(
                words("tables.correct"),
                key=f"open-table-{key}",
                icon=":material/edit_note:",
                type="tertiary",
                on_click=desk.open(key),
            )
        name = words("view.take_away")
        # Filled when it is opened: thirty answers would otherwise bring a hundred buttons that nobody sees.
        shelf = st.popover(
            name, icon=":material/download:", type="tertiary", key=f"take-table-{key}", on_change="rerun"
        )
        if shelf.open:
            with shelf:
                _show_files(found, mine, words, number=number, key=key)


def _show_files(found: AnswerTable, mine: CorrectedTable | None, words: Words, *, number: int, key: str) -> None:
    shown = found.table if mine is None else mine.table
    if mine is not None:
        names = {True: words("view.which_corrected"), False: words("view.which_model")}
        is_mine = st.radio(
            words("view.which"), (True, False), format_func=names.__getitem__, key=f"which-{key}", horizontal=True
        )
        shown = mine.table if is_mine else found.table
    headed = Table(_head(found, words), shown.rows) if found.is_fields else shown
    title = words("tables.name", number=number + 1)
    for label, ending, mime, make in (
        ("XLSX (Excel)", "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", partial(to_xlsx, headed, sheet=title)),
        ("CSV", "csv", "text/csv", partial(to_csv, headed)),
        ("JSON", "json", "application/json", partial(_json, found, shown)),
        ("Markdown", "md", "text/markdown", partial(to_markdown, headed)),
    ):  # fmt: skip
        st.download_button(
            label,
            make,
            file_name=f"{words('tables.file', number=number + 1)}.{ending}",
            mime=mime,
            key=f"take-{ending}-{key}",
            on_click="ignore",
            width="stretch",
        )
    if any(len(cell) > 1 and cell[0] == "0" and cell.isdigit() for row in shown.rows for cell in row):
        st.caption(words("tables.zeros"))


def _json(found: AnswerTable, shown: Table) -> str:
    said = to_fields(shown, found.data) if found.is_fields else to_records(shown, found.data)
    return json.dumps(said, ensure_ascii=False, indent=2)
