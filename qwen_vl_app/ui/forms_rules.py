"""The rules between the fields of a template: a line for each, whose fields are chosen from those that there are.

Knows the draft's fields by their names. Does not know what a rule is good for, or how a template is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from qwen_vl_app.forms import FormField, FormRule, FormTemplate, RuleKind
from qwen_vl_app.ui.visit import Visit

KIND_WIDTH_PX, TOLERANCE_WIDTH_PX = 240, 120


def show_rules(
    visit: Visit, template: FormTemplate | None, fields: Sequence[FormField], *, token: str
) -> Sequence[Mapping[str, Any]]:
    """Show the rules and return a line for each: its `kind`, the keys of its `fields` in the order chosen, its `tolerance`."""
    words, forms = visit.words, visit.state.forms
    given = template.rules if template is not None else ()
    if forms.rules_of != token:
        forms.rules_of, forms.rule_rows = token, list(range(len(given)))
    names = names_of(fields, visit.words.language.value)
    lines = []
    with st.expander(words("forms.rules")):
        st.caption(words("forms.rules_what"))
        for row in forms.rule_rows:
            before = given[row] if row < len(given) else FormRule(RuleKind.ORDER, ())
            lines.append(_show_rule(visit, before, names, row=row, token=token))
        st.button(
            words("forms.rule_add"), key=f"ft-rule-add-{token}", icon=":material/add:", on_click=_add, args=(visit,)
        )
    return lines


def names_of(fields: Iterable[FormField], language: str) -> Mapping[str, str]:
    """Return every field and every column of a table that a rule may be about: its name by its key."""
    names: dict[str, str] = {}
    for field in fields:
        own = field.names.of(language) or field.key
        names[field.key] = own
        for column in field.columns:
            names[f"{field.key}.{column.key}"] = f"{own} › {column.names.of(language) or column.key}"
    return names


def _show_rule(visit: Visit, before: FormRule, names: Mapping[str, str], *, row: int, token: str) -> Mapping[str, Any]:
    words = visit.words
    # What a rule names and no field has any more stays to be seen, until somebody takes it out.
    options = [*names, *(key for key in before.fields if key not in names)]
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"ft-rule-{row}-{token}"):
        kind = st.selectbox(
            words("forms.rule_kind"),
            list(RuleKind),
            index=list(RuleKind).index(before.kind),
            format_func=lambda kind: words(f"forms.rule_{kind}"),
            key=f"ft-rule-kind-{row}-{token}",
            width=KIND_WIDTH_PX,
        )
        chosen = st.multiselect(
            words("forms.rule_fields"),
            options,
            default=list(before.fields),
            format_func=lambda key: names.get(key, key),
            placeholder=words("forms.rule_choose"),
            key=f"ft-rule-fields-{row}-{token}",
        )
        tolerance = None
        if kind is not RuleKind.ORDER:
            tolerance = st.number_input(
                words("forms.rule_tolerance"),
                min_value=0.0,
                value=before.tolerance,
                key=f"ft-rule-tolerance-{row}-{token}",
                width=TOLERANCE_WIDTH_PX,
            )
        st.button(
            "",
            help=words("forms.rule_remove"),
            key=f"ft-rule-remove-{row}-{token}",
            icon=":material/delete:",
            on_click=_remove,
            args=(visit, row),
        )
    return {"kind": kind, "fields": chosen, "tolerance": tolerance}


def _add(visit: Visit) -> None:
    forms = visit.state.forms
    forms.rules_made += 1
    forms.rule_rows = [*forms.rule_rows, 1000 + forms.rules_made]  # beyond those that the template has


def _remove(visit: Visit, row: int) -> None:
    visit.state.forms.rule_rows = [each for each in visit.state.forms.rule_rows if each != row]
