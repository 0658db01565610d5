"""A template while somebody edits it: its fields as lines, its rules, and everything that was typed and not saved yet.

Knows how a template becomes lines and back, and what changes a line's place. Does not know how lines look, or how a
template is kept.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qwen_vl_app.forms import Checksum, Choice, FieldType, FormField, FormRule, FormTemplate, Looking, Names, RuleKind
from qwen_vl_app.forms.schema import names_for
from qwen_vl_app.forms.template import MAX_FIELDS, checked, slug

Line = dict[str, Any]
"""A field, or a rule, as the editor shows it."""
MAX_NAME = 100
_SEPARATORS = re.compile(r"[\n\t,;，；、]+")
_NUMBERS = (FieldType.INTEGER, FieldType.NUMBER)
_FITS: Mapping[RuleKind, tuple[FieldType, ...]] = {
    RuleKind.ORDER: (FieldType.DATE, *_NUMBERS),
    RuleKind.SUM: _NUMBERS,
    RuleKind.EQUAL: (FieldType.TEXT, FieldType.DATE, FieldType.CHOICE, *_NUMBERS),
}
_editions = itertools.count(1)


@dataclass(slots=True)
class TemplateDraft:
    """One template in the editor. `lines` and `rules` are what its widgets began with, `now_...` what they say.

    A settled draft begins anew with what its widgets said, under another `edition`: that is how lines change their
    places, and how nothing is lost when the page shows something else meanwhile.
    """

    before: FormTemplate | None
    title: Names
    lines: list[Line]
    rules: list[Line]
    now_title: Names
    now_lines: list[Line]
    now_rules: list[Line]
    edition: int = 0
    shown: int = 0
    """The edition whose widgets are on the page, or were: one that was never shown keeps its keys, so that nothing typed early is lost."""
    opened: int = 0
    """The place of the line whose details are open."""
    pending: dict[str, Callable[[TemplateDraft], None]] = field(default_factory=dict)
    """What was clicked, by the widgets' keys, done once everything that was typed before the click has arrived."""
    heard: set[str] = field(default_factory=set)
    """The keys of what was done: the page may tell of a click again where a run was interrupted."""
    is_refused: bool = False
    """Whether somebody wanted to save it and could not, so that the reason stands there until it is mended."""

    @classmethod
    def of(cls, template: FormTemplate | None) -> TemplateDraft:
        """Begin with a template as it is kept, or with an empty one."""
        title = template.title if template is not None else Names()
        lines = [line_of(each) for each in template.fields] if template is not None else []
        rules = [rule_line(each) for each in template.rules] if template is not None else []
        draft = cls(template, title, lines, rules, title, lines, rules)
        draft.settle()
        return draft

    def settle(self) -> None:
        """Let the widgets begin anew with what they say now. New lines get keys, which stay from then on."""
        self.title, self.edition = self.now_title, next(_editions)
        self.lines = with_keys(self.now_lines)
        self.rules = [dict(rule) for rule in self.now_rules]
        self.opened = max(min(self.opened, len(self.lines) - 1), 0)
        self.now_lines, self.now_rules = list(self.lines), list(self.rules)

    def wish(self, key: str, act: Callable[[TemplateDraft], None]) -> None:
        """Let something be done with the draft, once for a key, when this run has heard every widget; for callbacks."""
        if key not in self.heard:
            self.pending[key] = act

    def do_pending(self) -> bool:
        """Do what was clicked; return whether anything was."""
        acts, self.pending = self.pending, {}
        self.heard.update(acts)
        for act in acts.values():
            act(self)
        if acts:
            self.settle()
        return bool(acts)

    @property
    def is_changed(self) -> bool:
        """Whether anything would be lost with it."""
        before = self.before
        if before is None:
            return _said(self.now_title, self.now_lines, self.now_rules) != _said(Names(), [], [])
        lines, rules = [line_of(each) for each in before.fields], [rule_line(each) for each in before.rules]
        return _said(self.now_title, self.now_lines, self.now_rules) != _said(before.title, lines, rules)

    def open(self, at: int) -> None:
        """Open the details of the line at a place."""
        self.opened = at

    def add(self, names: str) -> None:
        """Add fields, whose names are separated by commas or lines, and open the first of them."""
        found = [name.strip()[:MAX_NAME] for name in _SEPARATORS.split(names) if name.strip()]
        if found:
            self.opened = len(self.now_lines)
            self.now_lines += [line_of(FormField("", names_for(name))) for name in found[: MAX_FIELDS + 1]]

    def move(self, step: int) -> None:
        """Move the open line up (-1) or down (1)."""
        if 0 <= self.opened + step < len(self.now_lines):
            self.now_lines.insert(self.opened + step, self.now_lines.pop(self.opened))
            self.opened += step

    def remove(self) -> None:
        """Take the open line out; the next one is open then."""
        if self.opened < len(self.now_lines):
            self.now_lines.pop(self.opened)

    def add_rule(self) -> None:
        """Add a rule without fields."""
        self.now_rules.append(rule_line(FormRule(RuleKind.ORDER, ())))

    def remove_rule(self, number: int) -> None:
        """Take a rule out."""
        self.now_rules.pop(number)


def _said(title: Names, lines: Iterable[Line], rules: Iterable[Line]) -> object:
    fields = [line for line in with_keys(lines) if _is_field(line)]
    return title, fields, [(rule["kind"], list(rule["fields"]), rule["tolerance"] or 0.0) for rule in rules]


# 1. A template as lines


def line_of(each: FormField) -> Line:
    """Return a field as a line: what a person can read and write of it."""
    return {
        "was": each.key,
        "en": each.names.en,
        "zh": each.names.zh,
        "type": each.type.value,
        "required": each.is_required,
        "unit": each.unit,
        "mark": each.decimal_mark,
        "choices": ", ".join("=".join((choice.value, *choice.also)) for choice in each.choices),
        "columns": ", ".join(
            f"{column.names.en or column.names.zh or column.key}"
            + ("" if column.type is FieldType.TEXT else f":{column.type.value}")
            for column in each.columns
        ),
        "format": each.format,
        "earliest": each.earliest,
        "latest": each.latest,
        "minimum": each.minimum,
        "maximum": each.maximum,
        "pattern": each.pattern,
        "checksum": each.checksum.value if each.checksum else "",
        "identifier": each.is_identifier,
        "needle": each.is_needle,
        "look": each.second_look.value,
        "label": each.label.en or each.label.zh,
        "hint": each.hint.en or each.hint.zh,
        "key": each.key,
    }


def rule_line(rule: FormRule) -> Line:
    """Return a rule as a line."""
    return {"kind": rule.kind, "fields": list(rule.fields), "tolerance": rule.tolerance}


def names_of(
    lines: Iterable[Line], language: str, *, before: FormTemplate | None, kind: RuleKind | None = None
) -> Mapping[str, str]:
    """Return every field and every column of a table by its key, with its name: all, or those that a rule may be about."""
    names: dict[str, str] = {}
    for each in fields_of(lines, before=before):
        own = each.names.of(language) or each.key
        if kind is None or each.type in _FITS[kind]:
            names[each.key] = own
        for column in each.columns if each.type is FieldType.TABLE else ():
            if kind is None or (kind is RuleKind.SUM and column.type in _FITS[kind]):
                names[f"{each.key}.{column.key}"] = f"{own} › {column.names.of(language) or column.key}"
    return names


# 2. Lines as a template


def fields_of(lines: Iterable[Mapping[str, Any]], *, before: FormTemplate | None) -> tuple[FormField, ...]:
    """Return the fields that lines say; what a line cannot show stays as it was. A line without a name is none."""
    return tuple(
        _field_of(line, str(line["key"]), _of_key(before, _text(line, "was") or str(line["key"])))
        for line in with_keys(lines)
        if _is_field(line)
    )


def template_of(
    fields: Sequence[FormField],
    rules: Iterable[Mapping[str, Any]],
    *,
    names: Names,
    before: FormTemplate | None,
) -> FormTemplate:
    """Return the template that the editor says. Raises FormError."""
    kept = tuple(
        FormRule(RuleKind(rule["kind"]), tuple(rule["fields"]), float(rule["tolerance"] or 0.0))
        for rule in rules
        if rule["fields"]
    )
    name = before.name if before is not None else slug(names.en or names.zh, fallback="form")
    return checked(
        FormTemplate(
            name=name,
            fields=tuple(fields),
            title=names,
            version=before.version if before is not None else 0,
            rules=kept,
            about=before.about if before is not None else Names(),
        )
    )


def with_keys(lines: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return the lines, each field with a key of its own: made from its English name, or counted."""
    found = [dict(line) for line in lines]
    taken = {_text(line, "key") for line in found}
    for number, line in enumerate(found, 1):
        if _text(line, "key") or not _is_field(line):
            continue
        wanted = key = slug(_text(line, "en"), fallback=f"field_{number}")
        more = itertools.count(2)
        while key in taken:
            key = f"{wanted}_{next(more)}"
        taken.add(key)
        line["key"] = key
    return found


def _is_field(line: Mapping[str, Any]) -> bool:
    return any(_text(line, name) for name in ("en", "zh", "key"))


def _of_key(template: FormTemplate | None, key: str) -> FormField | None:
    return next((each for each in template.fields if each.key == key), None) if template is not None else None


def _field_of(line: Mapping[str, Any], key: str, before: FormField | None) -> FormField:
    kind = FieldType(_text(line, "type") or "text")
    label, hint = _text(line, "label"), _text(line, "hint")
    checksum = _text(line, "checksum")
    was = line_of(before) if before is not None else {}
    return replace(
        before or FormField(key),
        key=key,
        names=Names(_text(line, "en"), _text(line, "zh")),
        type=kind,
        is_required=line.get("required") is True,
        unit=_text(line, "unit"),
        decimal_mark=_text(line, "mark"),
        # What a line shows shortened is only taken from it where somebody changed it.
        choices=before.choices
        if before and was["choices"] == _text(line, "choices")
        else _choices(_text(line, "choices")),
        columns=before.columns
        if before and was["columns"] == _text(line, "columns")
        else _cells(_text(line, "columns")),
        format=_text(line, "format"),
        earliest=_text(line, "earliest"),
        latest=_text(line, "latest"),
        minimum=_number(line, "minimum"),
        maximum=_number(line, "maximum"),
        pattern=_text(line, "pattern"),
        checksum=Checksum(checksum) if checksum else None,
        is_identifier=line.get("identifier") is True,
        is_needle=line.get("needle") is True,
        second_look=Looking(_text(line, "look") or Looking.DEFAULT.value),
        label=before.label if before and was["label"] == label else names_for(label),
        hint=before.hint if before and was["hint"] == hint else names_for(hint),
    )


def _choices(text: str) -> tuple[Choice, ...]:
    found = (tuple(part.strip() for part in each.split("=") if part.strip()) for each in _split(text))
    return tuple(Choice(words[0], words[1:]) for words in found if words)


def _cells(text: str) -> tuple[FormField, ...]:
    columns: list[FormField] = []
    for number, each in enumerate(_split(text), 1):
        name, _, kind = each.replace("：", ":").partition(":")
        key = slug(name, fallback=f"column_{number}")
        is_kind = kind.strip() in tuple(FieldType)
        columns.append(FormField(key, names_for(name), FieldType(kind.strip()) if is_kind else FieldType.TEXT))
    return tuple(columns)


def _split(text: str) -> Sequence[str]:
    return [part for each in text.replace("，", ",").replace("、", ",").split(",") if (part := each.strip())]


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    return value.strip() if isinstance(value, str) else ""


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    return float(value) if is_number and value is not None else None
