"""The fields of a template in the editor: a list of them, and beside it everything that can be said of the chosen one.

Knows which details a kind of field has. Does not know how a draft becomes a template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from qwen_vl_app.forms import Checksum, FieldType, Looking
from qwen_vl_app.forms.units import known_units
from qwen_vl_app.ui.forms_draft import MAX_NAME, Line, TemplateDraft
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit

LONG_LIST, LONG_LIST_PX = 12, 560
_ADD = "ft-add-names"
_FORMATS = ("YYYY-MM-DD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY", "YYYY年M月D日")
_NUMBER = ("unit", "minimum", "maximum", "mark", "needle", "look")
_DETAILS: Mapping[FieldType, tuple[str, ...]] = {
    FieldType.TEXT: ("pattern", "checksum", "identifier", "look"),
    FieldType.INTEGER: _NUMBER,
    FieldType.NUMBER: _NUMBER,
    FieldType.DATE: ("format", "earliest", "latest", "look"),
    FieldType.CHOICE: ("choices", "look"),
    FieldType.LIST: (),
    FieldType.TABLE: ("columns",),
}
_WIDE = ("choices", "columns")
_FOR_ALL = ("label", "hint", "key")
"""What every field has, whatever its kind."""


def show_fields(visit: Visit, draft: TemplateDraft) -> None:
    """Show the fields, and let the draft know what they say now."""
    words = visit.words
    with st.container(border=True, key="ft-fields"):
        st.markdown(f"**{words('builder.fields')}**")
        _show_add(visit, draft)
        if draft.lines:
            listed, details = st.columns([1, 2])
            with details:  # first, for the list tells what they say
                line = _show_details(visit, draft, dict(draft.lines[draft.opened]))
            draft.now_lines = [line if at == draft.opened else each for at, each in enumerate(draft.lines)]
            is_long = len(draft.lines) > LONG_LIST
            with listed, st.container(height=LONG_LIST_PX if is_long else "content", border=False, key="ft-list"):
                _show_list(visit, draft)


def _show_list(visit: Visit, draft: TemplateDraft) -> None:
    words, language = visit.words, visit.words.language.value
    other = "en" if language == "zh" else "zh"

    def named(at: int, line: Line) -> str:
        name = line[language] or line[other] or line["key"] or words("builder.nameless")
        return f"{at + 1}. {plain(name)}"

    labels = labels_of((at, named(at, line)) for at, line in enumerate(draft.now_lines))
    key = key_of(f"ft-open-{draft.edition}", labels.values())
    st.radio(
        words("builder.fields"),
        list(labels),
        index=draft.opened,
        format_func=labels.__getitem__,
        captions=[plain(_summary(visit, line)) for line in draft.now_lines],
        key=key,
        label_visibility="collapsed",
        on_change=lambda: draft.wish(key, lambda found: found.open(_place(value_of(key)))),
    )


def _summary(visit: Visit, line: Line) -> str:
    """Return what a field asks for, in a few words."""
    words = visit.words
    kind = FieldType(line["type"])
    parts = [words(f"forms.type_{kind}")]
    if line["required"]:
        parts.append(words("builder.is_required"))
    if kind in (FieldType.INTEGER, FieldType.NUMBER):
        low, high = (None if line[name] is None else f"{line[name]:g}" for name in ("minimum", "maximum"))
        limits = f"{low}–{high}" if low and high else f"≥ {low}" if low else f"≤ {high}" if high else ""
        parts.append(f"{limits} {line['unit']}".strip())
    if kind is FieldType.DATE:
        parts.append(line["format"])
    if kind is FieldType.TEXT:
        parts += [line["pattern"], words(f"forms.sum_{line['checksum']}") if line["checksum"] else ""]
    if kind is FieldType.CHOICE:
        parts.append(", ".join(each.split("=")[0].strip() for each in line["choices"].split(",")))
    if kind is FieldType.TABLE:
        parts.append(", ".join(each.split(":")[0].strip() for each in line["columns"].split(",")))
    return " · ".join(part if len(part) <= 40 else f"{part[:39]}…" for part in parts if part)


def _show_add(visit: Visit, draft: TemplateDraft) -> None:
    words = visit.words

    key = f"ft-add-button-{draft.edition}"

    def add() -> None:
        names = str(value_of(_ADD) or "")
        draft.wish(key, lambda found: found.add(names))

    form = st.form("ft-add", border=False, clear_on_submit=True)
    with form, st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(words("builder.add_names"), key=_ADD, placeholder=words("builder.add_example"), max_chars=4000)
        st.form_submit_button(words("builder.add"), icon=":material/add:", key=key, on_click=add)


def _show_details(visit: Visit, draft: TemplateDraft, line: Line) -> Line:
    """Show everything that can be said of a field and return what it says."""
    words, at = visit.words, draft.opened
    token = f"{draft.edition}-{at}"
    names = ("zh", "en") if words.language.value == "zh" else ("en", "zh")
    with st.container(key="ft-details", gap="small"):
        for name in names:
            line[name] = st.text_input(
                words(f"forms.col_{name}"), value=line[name], key=f"ft-name-{name}-{token}", max_chars=MAX_NAME
            ).strip()
        kinds = [kind.value for kind in FieldType]
        line["type"] = _choose(
            words("forms.col_type"),
            kinds,
            line["type"],
            key=f"ft-type-{token}",
            helped=None,
            said=lambda kind: words(f"forms.type_{kind}"),
        )
        line["required"] = st.checkbox(words("forms.col_required"), value=line["required"], key=f"ft-required-{token}")
        own = _DETAILS[FieldType(line["type"])]
        for name in own:
            if name in _WIDE:
                line[name] = _show_detail(visit, line, name, token=token)
        with st.grid(columns=2, min_column_width=130, vertical_alignment="bottom"):
            for name in (*own, *_FOR_ALL):
                if name not in _WIDE:
                    line[name] = _show_detail(visit, line, name, token=token)
        with st.container(horizontal=True, gap="small"):
            _button(visit, draft, "move_up", ":material/arrow_upward:", lambda found: found.move(-1), off=at == 0)
            last = at == len(draft.lines) - 1
            _button(visit, draft, "move_down", ":material/arrow_downward:", lambda found: found.move(1), off=last)
            _button(visit, draft, "remove_field", ":material/delete:", lambda found: found.remove())
    return line


def _place(chosen: object) -> int:
    return chosen if isinstance(chosen, int) else 0


def _button(
    visit: Visit, draft: TemplateDraft, name: str, icon: str, act: Callable[[TemplateDraft], None], *, off: bool = False
) -> None:
    key = f"ft-{name.replace('_', '-')}-{draft.edition}"
    st.button(
        visit.words(f"builder.{name}"),
        key=key,
        icon=icon,
        type="tertiary",
        disabled=off,
        on_click=draft.wish,
        args=(key, act),
    )


def _show_detail(visit: Visit, line: Line, name: str, *, token: str) -> Any:
    """Show one detail of a field and return what it says."""
    words = visit.words
    key, title, value = f"ft-{name}-{token}", words(f"forms.col_{name}"), line[name]
    helped = words(f"forms.col_{name}_what") if name in _HELPED else None
    match name:
        case "identifier" | "needle":
            return st.checkbox(title, value=value is True, key=key, help=helped)
        case "minimum" | "maximum":
            return st.number_input(title, value=value, key=key, format="%g", step=None)
        case "unit":
            return _choose(title, ["", *known_units()], value, key=key, helped=helped)
        case "mark":
            return _choose(
                title, ["", ".", ","], value, key=key, helped=helped, said=lambda mark: mark or words("builder.either")
            )
        case "format":
            return _choose(title, ["", *_FORMATS], value, key=key, helped=helped)
        case "checksum":
            return _choose(
                title,
                ["", *(kind.value for kind in Checksum)],
                value,
                key=key,
                helped=helped,
                said=lambda kind: words(f"forms.sum_{kind}") if kind else "–",
            )
        case "look":
            return _choose(
                title,
                [look.value for look in Looking],
                value,
                key=key,
                helped=helped,
                said=lambda look: words(f"forms.looking_{look}"),
            )
    return st.text_input(title, value=value, key=key, help=helped, max_chars=4000 if name in _WIDE else 300)


_HELPED = frozenset(
    (*_WIDE, *_FOR_ALL, "pattern", "identifier", "needle", "mark", "format", "earliest", "latest", "look")
)


def _choose(
    title: str,
    options: list[str],
    value: str,
    *,
    key: str,
    helped: str | None,
    said: Callable[[str], str] = lambda option: option or "–",
) -> str:
    if value not in options:
        options = [*options, value]
    found = st.selectbox(
        title,
        options,
        index=options.index(value),
        format_func=said,
        key=key,
        help=helped,
    )
    return found or ""
