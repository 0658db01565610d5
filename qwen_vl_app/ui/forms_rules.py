"""The rules between the fields of a template: a line for each, whose fields are chosen from those that there are.

Knows the draft's fields by their names. Does not know what a rule is good for, or how a template is kept.
"""

from __future__ import annotations

import streamlit as st

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms import RuleKind
from qwen_vl_app.ui.forms_draft import Line, TemplateDraft, names_of
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.visit import Visit

TOLERANCE_WIDTH_PX = 120


def show_rules(visit: Visit, draft: TemplateDraft) -> None:
    """Show the rules, and let the draft know what they say now: `kind`, the keys of `fields` in their order, `tolerance`."""
    words = visit.words
    with st.container(border=True, key="ft-rules"):
        st.markdown(f"**{words('forms.rules')}**")
        st.caption(words("forms.rules_what"))
        draft.now_rules = [_show_rule(visit, draft, rule, number=at) for at, rule in enumerate(draft.rules)]
        st.button(
            words("forms.rule_add"),
            key=f"ft-rule-add-{draft.edition}",
            icon=":material/add:",
            on_click=draft.wish,
            args=(f"ft-rule-add-{draft.edition}", TemplateDraft.add_rule),
        )


def refuse_unfit(draft: TemplateDraft, language: str) -> None:
    """Refuse a rule about a field that it cannot be about. Raises FormError `builder.rule_unfit`."""
    names = names_of(draft.now_lines, language, before=draft.before)
    for rule in draft.now_rules:
        fitting = names_of(draft.now_lines, language, before=draft.before, kind=rule["kind"])
        for key in rule["fields"]:
            if key in names and key not in fitting:
                raise FormError(f"builder.unfit.{rule['kind'].value}", name=names[key])


def _show_rule(visit: Visit, draft: TemplateDraft, rule: Line, *, number: int) -> Line:
    words, language = visit.words, visit.words.language.value
    token = f"{number}-{draft.edition}"
    with st.container(key=f"ft-rule-{token}", gap="small"):
        kind, tolerance = _show_kind(visit, draft, rule, number=number)
        names = names_of(draft.now_lines, language, before=draft.before)
        fitting = names_of(draft.now_lines, language, before=draft.before, kind=kind)
        # What a rule names and no field has any more, or none that fits, stays to be seen until somebody takes it out.
        said = draft.now_rules[number]["fields"]
        odd = [key for key in dict.fromkeys((*rule["fields"], *said)) if key not in fitting]
        labels = labels_of(
            [*fitting.items(), *((key, names.get(key) or words("builder.rule_gone", key=key)) for key in odd)]
        )
        key = key_of(f"ft-rule-fields-{token}", labels.values())
        if rule.get("list") != key:  # another list, which begins with what the last one said
            rule["list"], rule["fields"] = key, said
        chosen = st.multiselect(
            words("forms.rule_fields"),
            list(labels),
            default=rule["fields"],
            format_func=labels.__getitem__,
            placeholder=words("forms.rule_choose"),
            key=key,
            select_all=False,
        )
    return {"kind": kind, "fields": list(chosen), "tolerance": tolerance}


def _show_kind(visit: Visit, draft: TemplateDraft, rule: Line, *, number: int) -> tuple[RuleKind, float | None]:
    words, token = visit.words, f"{number}-{draft.edition}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox(
            words("forms.rule_kind"),
            list(RuleKind),
            index=list(RuleKind).index(rule["kind"]),
            format_func=lambda kind: words(f"forms.rule_{kind}"),
            key=f"ft-rule-kind-{token}",
            width="stretch",
        )
        tolerance: float | None = rule["tolerance"]
        if kind is not RuleKind.ORDER:
            tolerance = st.number_input(
                words("forms.rule_tolerance"),
                min_value=0.0,
                value=tolerance,
                format="%g",
                key=f"ft-rule-tolerance-{token}",
                width=TOLERANCE_WIDTH_PX,
            )
        st.button(
            "",
            help=words("forms.rule_remove"),
            key=f"ft-rule-remove-{token}",
            icon=":material/delete:",
            on_click=draft.wish,
            args=(f"ft-rule-remove-{token}", lambda found: found.remove_rule(number)),
        )
    return RuleKind(kind or rule["kind"]), tolerance
