"""Rules: each has a sentence, judges only what is known, and knows right check digits from wrong ones."""

from __future__ import annotations

from datetime import date

import pytest

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.forms import Checksum, FieldType, FormField, FormRule, FormTemplate, Names, RuleKind, value_of
from qwen_vl_app.forms.checksums import holds
from qwen_vl_app.forms.rules import breaches, told
from qwen_vl_app.texts import Language

TODAY = date(2026, 11, 21)


def codes(template: FormTemplate, **written: JsonValue) -> list[str]:
    """What does not hold of these values."""
    values = {field.key: value_of(field, written.get(field.key)) for field in template.fields}
    return [breach.reason.code for breach in breaches(template, values, today=TODAY)]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Checksum.LUHN, "4539 1488 0343 6467", "4539 1488 0343 6468"),
        (Checksum.GTIN, "4006381333931", "4006381333932"),
        (Checksum.GTIN, "96385074", "96385075"),
        (Checksum.GTIN, "４００６３８１３３３９３１", "４００６３８１３３３９３２"),
        (Checksum.IBAN, "GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 33"),
        (Checksum.ISO6346, "CSQU3054383", "CSQU3054384"),
        (Checksum.ISO6346, "CSQU 305438‑3", "CSQU 305438‑4"),
        (Checksum.VIN, "1M8GDM9AXKP042788", "1M8GDM9AXKP042789"),
        (Checksum.USCC, "91350100M000100Y43", "91350100M000100Y44"),
        (Checksum.CN_ID, "11010519491231002X", "110105194912310021"),
    ],
)
def test_check_digits(kind: Checksum, right: str, wrong: str) -> None:
    """Published examples hold, and one changed character does not."""
    assert holds(kind, right)
    assert not holds(kind, wrong)
    assert not holds(kind, "") and not holds(kind, "号码")


def test_a_fields_own_rules() -> None:
    """Required, range, pattern, check digit and the bounds of a date."""
    template = FormTemplate(
        "t",
        (
            FormField("serial", pattern=r"[A-Z]{2}\d{3}", is_required=True),
            FormField("load", type=FieldType.NUMBER, minimum=1, maximum=10),
            FormField("code", checksum=Checksum.GTIN),
            FormField("on", type=FieldType.DATE, earliest="2000-01-01", latest="today"),
        ),
    )
    assert codes(template) == ["forms.rule.required"]
    assert codes(template, serial="AB123", load="5", code="4006381333931", on="2026-11-21") == []
    assert codes(template, serial="ab1", load="11", code="4006381333932", on="2026-11-22") == [
        "forms.rule.pattern",
        "forms.rule.above",
        "forms.rule.checksum",
        "forms.rule.after",
    ]
    assert codes(template, serial="AB123", load="0", on="1999-12-31") == ["forms.rule.below", "forms.rule.before"]


@pytest.mark.parametrize(
    ("written", "broken"),
    [
        ("< 5", []),
        ("< 20", []),
        ("< 1", ["forms.rule.below"]),
        ("≤ 1", []),
        ("> 5", []),
        ("> 10", ["forms.rule.above"]),
        ("≥ 10", []),
        ("≥ 10.5", ["forms.rule.above"]),
        ("± 5", []),
    ],
)
def test_a_limit_breaks_a_range_only_where_every_value_does(written: str, broken: list[str]) -> None:
    """Below 20 may well be 5; above 10 is above 10. In a table's cell as well."""
    number = FormField("load", type=FieldType.NUMBER, minimum=1, maximum=10)
    table = FormField("lines", type=FieldType.TABLE, columns=(number,))
    assert codes(FormTemplate("t", (number,)), load=written) == broken
    told_of_cells = ["forms.rule.cell"] if broken else []
    assert codes(FormTemplate("t", (table,)), lines=[{"load": written}]) == told_of_cells


def test_nothing_is_reckoned_with_a_limit() -> None:
    """It has no place in an order and adds up to nothing, alone and in a table."""
    fields = tuple(FormField(key, type=FieldType.NUMBER) for key in ("a", "b", "c"))
    table = FormField("lines", type=FieldType.TABLE, columns=(FormField("x", type=FieldType.NUMBER),))
    rules = (
        FormRule(RuleKind.ORDER, ("a", "b")),
        FormRule(RuleKind.SUM, ("a", "b", "c")),
        FormRule(RuleKind.SUM, ("lines.x", "c")),
        FormRule(RuleKind.EQUAL, ("a", "b")),
    )
    template = FormTemplate("t", (*fields, table), rules=rules)
    cells: JsonValue = [{"x": "1"}, {"x": "<2"}]
    assert codes(template, a="< 9", b="< 2", c="50", lines=cells) == ["forms.rule.equal"]
    assert codes(template, a="< 2", b="＜2", c="50", lines=cells) == []


def test_dates_in_order() -> None:
    """A month beside a day is compared by months; what is not there is not judged."""
    fields = (FormField("a", type=FieldType.DATE), FormField("b", type=FieldType.DATE))
    template = FormTemplate("t", fields, rules=(FormRule(RuleKind.ORDER, ("a", "b")),))
    assert codes(template, a="2026-01-02", b="2026-01-01") == ["forms.rule.order_dates"]
    assert codes(template, a="2026-01-02", b="01/2026") == []
    assert codes(template, a="2026-01-02") == []


def test_what_is_the_same_may_be_written_in_two_ways() -> None:
    """A number's last zero, another unit, a date's format: none of them makes it another value."""
    fields = (
        FormField("a", type=FieldType.NUMBER, unit="kg"),
        FormField("b", type=FieldType.NUMBER, unit="t", decimal_mark=","),
        FormField("c", type=FieldType.DATE, format="DD.MM.YYYY"),
        FormField("d", type=FieldType.DATE),
        FormField("e"),
        FormField("f"),
    )
    rules = tuple(FormRule(RuleKind.EQUAL, keys) for keys in (("a", "b"), ("c", "d"), ("e", "f")))
    template = FormTemplate("t", fields, rules=rules)
    assert codes(template, a="12.50", b="12,5 kg", c="01.02.2026", d="2026-02-01", e="Ab 1", f="AB 1") == []
    assert (
        codes(template, a="12.5", b="12,5 t", c="01.02.2026", d="2026-01-02", e="A", f="B") == ["forms.rule.equal"] * 3
    )


def test_sums_over_fields_and_columns() -> None:
    """A total beside its parts, a table's column among them; an unknown part judges nothing."""
    columns = (FormField("n", type=FieldType.NUMBER), FormField("name"))
    item = FormField("items", type=FieldType.TABLE, columns=columns)
    total = FormField("total", type=FieldType.NUMBER)
    template = FormTemplate("t", (item, total), rules=(FormRule(RuleKind.SUM, ("items.n", "total"), 0.5),))
    assert codes(template, items=[{"n": "1.5"}, {"n": "2"}], total="3.5") == []
    assert codes(template, items=[{"n": "1.5"}, {"n": "2"}], total="5") == ["forms.rule.sum"]
    assert codes(template, items=[{"n": "1.5"}, {"n": None, "name": "bolt"}], total="9") == []


def test_a_rule_names_its_fields_in_the_readers_language() -> None:
    """The sentence has names, not keys."""
    fields = (
        FormField("a", Names("Ordered", "下单"), type=FieldType.DATE),
        FormField("b", Names("Delivered", "送达"), type=FieldType.DATE),
    )
    template = FormTemplate("t", fields, rules=(FormRule(RuleKind.ORDER, ("a", "b")),))
    values = {"a": value_of(fields[0], "2026-02-01"), "b": value_of(fields[1], "2026-01-01")}
    (breach,) = breaches(template, values)
    assert told(breach.reason, template, Language.ENGLISH) == "Ordered lies after Delivered."
    assert told(breach.reason, template, Language.CHINESE) == "下单 晚于 送达。"


def test_a_rule_names_columns_of_one_name_apart() -> None:
    """As the fields: which of the two dates of a line is wrong."""
    columns = (
        FormField("made", Names("Date"), FieldType.DATE, label=Names("MFG"), latest="2026-01-01"),
        FormField("until", Names("Date"), FieldType.DATE, label=Names("EXP")),
    )
    template = FormTemplate("t", (FormField("lines", Names("Lines"), FieldType.TABLE, columns=columns),))
    values = {"lines": value_of(template.fields[0], [{"made": "2026-02-01", "until": "2026-03-01"}])}
    (breach,) = breaches(template, values)
    assert "Date (MFG)" in told(breach.reason, template, Language.ENGLISH)


def test_a_pattern_without_end_stops() -> None:
    """A site's own pattern may go back and forth for ever on a long text: it counts as not matching."""
    template = FormTemplate("t", (FormField("x", pattern=r"(a+)+b"),))
    assert codes(template, x="a" * 60 + "c") == ["forms.rule.pattern"]
