"""What stands on pictures becomes values: numbers and dates of any country, units, choices, tables; null stays null."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.forms import Choice, FieldType, FormField, Names, value_of
from qwen_vl_app.forms.values import UNCERTAIN

NUMBER = FormField("x", type=FieldType.NUMBER)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", 12.5),
        ("12,5", 12.5),
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
        ("1 234,5", 1234.5),
        ("1'234.5", 1234.5),
        ("12,345,678", 12345678),
        ("−4", -4),
        ("- 18 °C", -18),
        ("– 0,5", -0.5),
        ("＋１２．５", 12.5),
        ("1.5e3", 1500),
        ("1.2万", 12000),
        ("≈ 7 kg", 7),
        ("0,123", 0.123),
        ("3x10^5", 300_000),
        ("3 x 10^-5", 0.00003),
        ("2.5×10³", 2500),
        ("2.5×10⁻³ V", 0.0025),
        ("2.5x10-3", 0.0025),
        ("1.5 * 10 ^ 6", 1_500_000),
        ("7 m³", 7),
        ("12 500 kg", 12_500),
        ("1 234 567", 1_234_567),
        ("10 000 h", 10_000),
    ],
)
def test_numbers_are_read_as_they_are_written_anywhere(text: str, value: float) -> None:
    """Marks, groups, wide digits, exponents and 万."""
    assert value_of(NUMBER, text).value == value


@pytest.mark.parametrize(
    "text",
    [
        *("P-204", "12 or 13", "4.5 bar 7", "abc", "1.2.3", "12-11-2026"),
        # How many there are of what: transformers, cables, pumps.
        *(
            "2x1000 kVA",
            "2 x 100 kVA",
            "2×10 kVA",
            "2x10 kVA",
            "2X1000 kVA",
            "3x1050 kVA",
            "2*100",
            "3x105",
            "2 x 10 3",
        ),
        *("3x10+6 mm²", "3x2.5 mm²", "3 x ,5"),
        *("10² kPa", "50² kg", "10^5 Pa"),  # a footnote's digit or a power: no 102
    ],
)
def test_what_is_no_one_number_is_said_to_be_none(text: str) -> None:
    """A name with digits, or two numbers: the text stays, with the reason."""
    found = value_of(NUMBER, text)
    assert found.problem is not None and found.problem.code == "forms.value.no_number"
    assert found.shown == text


def test_a_mark_that_may_be_either_is_told() -> None:
    """1,234 is a thousand or a little more than one: taken as the first, and a person is asked; a setting settles it."""
    found = value_of(NUMBER, "1,234")
    assert found.value == 1234 and [note.code for note in found.notes] == ["forms.value.ambiguous_number"]
    settled = value_of(FormField("x", type=FieldType.NUMBER, decimal_mark=","), "1,234")
    assert settled.value == 1.234 and not settled.notes


@pytest.mark.parametrize(
    ("text", "value", "is_doubted"),
    [
        ("(1,234.50)", 1234.5, True),
        ("($ 12.50 )", 12.5, True),
        ("(-5)", -5, False),
        ("12.5 (mg)", 12.5, False),
        ("(approx.) 5", None, False),
    ],
)
def test_a_number_in_brackets_may_be_a_negative_one(text: str, value: float | None, is_doubted: bool) -> None:
    """In a ledger it is one, on a drawing it is not. A person says which."""
    found = value_of(FormField("x", type=FieldType.NUMBER), text)
    assert found.value == (text if value is None else value)
    assert ("forms.value.ambiguous_number" in [note.code for note in found.notes]) is is_doubted


@pytest.mark.parametrize("mark", ["", ".", ","])
@pytest.mark.parametrize(
    ("text", "value", "is_doubted"),
    [
        ("380 400 415 V", 380_400_415, True),
        ("400 230", 400_230, True),
        ("-220 240", -220_240, True),
        ("100 000 h", 100_000, False),
        ("250 050", 250_050, False),
        ("12 500 kg", 12_500, False),
        ("1 234 567", 1_234_567, False),
        ("380'400", 380_400, False),
        ("1 234 567", 1_234_567, False),
        ("10 000 h", 10_000, False),
        ("1 450 1/min", 1450, False),
        ("0 400 mbar", 400, True),
        ("000 427", 427, False),
        ("415 V", 415, False),
    ],
)
def test_readings_beside_each_other_may_be_one_number(text: str, value: int, is_doubted: bool, mark: str) -> None:
    """Three digits each, parted by blanks: the voltages of a plate, or a number's thousands. A person says which."""
    found = value_of(replace(NUMBER, decimal_mark=mark), text)
    assert (found.value, found.problem) == (value, None)
    assert ("forms.value.ambiguous_number" in [note.code for note in found.notes]) is is_doubted


@pytest.mark.parametrize("mark", ["", ".", ","])
@pytest.mark.parametrize(
    "text",
    [
        *("1450 400", "2900 380 V", "12345 678", "1450 400 230", "1450'400", "1500 230,5", "1500 230.5"),
        *("1.5 400", "1,5 230 V", "0.75 100 mm²", "2.5 380 400", "0,00012 345"),
    ],
)
def test_readings_that_cannot_be_one_number_are_none(text: str, mark: str) -> None:
    """The groups of a number are three digits long, behind the first one: a speed and a voltage stay what they are."""
    found = value_of(replace(NUMBER, decimal_mark=mark), text)
    assert found.problem is not None and found.problem.code == "forms.value.no_number"
    assert found.shown == text


@pytest.mark.parametrize(
    ("text", "value", "is_doubted"),
    [
        ("1.250 400", 1.2504, True),
        ("0.123 456", 0.123456, True),
        ("1,234 567", 1.234567, True),
        ("1.250 050", 1.25005, False),
        ("1 234,5", 1234.5, False),
        ("12 500,25 kg", 12_500.25, False),
        ("1'234'567.25", 1_234_567.25, False),
    ],
)
def test_gaps_behind_a_mark_may_part_readings(text: str, value: float, is_doubted: bool) -> None:
    """Groups of decimals are rare, and two readings are not."""
    found = value_of(NUMBER, text)
    assert (found.value, bool(found.notes)) == (value, is_doubted)


def test_a_number_that_is_not_written_with_the_fields_mark_is_none() -> None:
    """Behind the decimals' comma no point groups anything: 1,234.5 is no 1.2345."""
    for mark, text in ((",", "1,234.5"), (".", "1.234,5"), (",", "1.234,567.8")):
        assert value_of(replace(NUMBER, decimal_mark=mark), text).problem is not None


@pytest.mark.parametrize(
    ("text", "kept", "shown"),
    [
        ("< 0.05", "<0.05", "<0.05 kPa"),
        ("＜３", "<3", "<3 kPa"),
        ("<0,05 kPa", "<0.05", "<0.05 kPa"),
        ("≤ 3", "≤3", "≤3 kPa"),
        ("<= 3", "≤3", "≤3 kPa"),
        ("≦3 bar", "≤300", "≤300 kPa"),
        (">10", ">10", ">10 kPa"),
        ("﹥ 1,200.5", ">1200.5", ">1200.5 kPa"),
        ("≧ -18", "≥-18", "≥-18 kPa"),
        ("± 0.1", "±0.1", "±0.1 kPa"),
        ("+/- 0.1", "±0.1", "±0.1 kPa"),
        ("+/-0.1", "±0.1", "±0.1 kPa"),
    ],
)
@pytest.mark.parametrize("mark", ["", ","])
def test_a_value_beyond_a_limit_is_not_the_limit(text: str, kept: str, shown: str, mark: str) -> None:
    """A laboratory's "< 0.05" says that less was there: the sign stays, a person is asked, and nobody reckons with it."""
    marked = (each.replace(",", "").replace(".", mark or ".") for each in (text.replace("0,05", "0.05"), kept, shown))
    text, kept, shown = marked
    field = replace(NUMBER, unit="kPa", decimal_mark=mark)
    found = value_of(field, text)
    assert (found.value, found.shown, found.problem) == (kept, shown, None)
    assert "forms.value.limit" in {note.code for note in found.notes} & UNCERTAIN
    again = value_of(field, found.shown)  # as a person accepts what is shown, and a table keeps its cells
    assert (again.value, again.shown) == (kept, shown) and value_of(field, kept).value == kept


@pytest.mark.parametrize(
    "text", ["≪ 5", "<> 5", "5 ± 0.1", "12 ± 1", "0.05 >", "≠ 3", "&lt; 3", "less than 3", "3 以上"]
)
def test_a_limit_that_is_written_otherwise_is_no_number_either(text: str) -> None:
    """What is not understood is shown to a person as it stands there."""
    found = value_of(NUMBER, text)
    assert found.problem is not None and found.shown == text


def test_a_tolerance_is_turned_as_the_difference_that_it_is() -> None:
    """±9 °F are ±5 °C, and no -12.8."""
    found = value_of(FormField("x", type=FieldType.NUMBER, unit="°C"), "±9 °F")
    assert (found.value, found.shown) == ("±5", "±5 °C")


@pytest.mark.parametrize("mark", ["", ".", ","])
@pytest.mark.parametrize("number", [1.234, -0.125, 12.5, 1234.5, 1234567.0, 0.0000005])
def test_what_is_shown_is_read_again_as_the_same(number: float, mark: str) -> None:
    """A person corrects what the page shows, and a table's cells and a program's numbers come back without a mark of theirs."""
    field = FormField("x", type=FieldType.NUMBER, unit="kg", decimal_mark=mark)
    found = value_of(field, number)
    assert (found.value, found.problem) == (number, None)
    assert value_of(field, found.shown).value == number
    assert ("," in found.shown) is (mark == "," and not number.is_integer())


@pytest.mark.parametrize(
    ("text", "unit", "value", "shown"),
    [
        ("6.3 bar", "kPa", 630, "630 kPa"),
        ("77 °F", "°C", 25, "25 °C"),
        ("5 PS", "kW", 3.67749375, "3.67749375 kW"),
        ("0.5 MPa", "bar", 5, "5 bar"),
        ("50 Hz", "Hz", 50, "50 Hz"),
        ("12 公斤", "kg", 12, "12 kg"),
        ("90 l/min", "m³/h", 5.4, "5.4 m³/h"),
        ("400", "V", 400, "400 V"),
        ("10 mΩ", "Ω", 0.01, "0.01 Ω"),
        ("5 mW", "kW", 0.000005, "0.000005 kW"),
        ("18 Mpa", "bar", 180, "180 bar"),
        ("2 MWH", "kWh", 2000, "2000 kWh"),
        ("20 bar(g)", "bar", 20, "20 bar"),
        ("(85 dB(A))", "dB", 85, "85 dB"),
        ("12 (kg)", "kg", 12, "12 kg"),
        ("1 450 1/min", "rpm", 1450, "1450 rpm"),
    ],
)
def test_units_are_turned_into_the_fields_own(text: str, unit: str, value: float, shown: str) -> None:
    """A number without a unit is taken to be in it already."""
    found = value_of(FormField("x", type=FieldType.NUMBER, unit=unit), text)
    assert (found.shown, found.problem) == (shown, None)
    assert found.value == pytest.approx(value)


def test_a_unit_of_something_else_is_refused() -> None:
    """Litres are no kilograms, and MW is not mW: nothing is made up."""
    found = value_of(FormField("x", type=FieldType.NUMBER, unit="kg"), "5 l")
    assert found.problem is not None and found.problem.code == "forms.value.wrong_unit"
    assert value_of(FormField("x", type=FieldType.NUMBER, unit="kW"), "2 MW").value == 2000
    unclear = value_of(FormField("x", type=FieldType.NUMBER, unit="kW"), "2 mw")  # either of the two
    assert unclear.problem is not None and unclear.problem.code == "forms.value.wrong_unit"


@pytest.mark.parametrize(
    ("text", "format", "iso"),
    [
        ("2026-11-21", "", "2026-11-21"),
        ("21.11.2026", "", "2026-11-21"),
        ("11/21/2026", "", "2026-11-21"),
        ("03/04/2026", "MM/DD/YYYY", "2026-03-04"),
        ("03/04/2026", "DD/MM/YYYY", "2026-04-03"),
        ("2026年11月21日", "", "2026-11-21"),
        ("21 Nov 2026", "", "2026-11-21"),
        ("Nov. 21, 2026", "", "2026-11-21"),
        ("20261121", "", "2026-11-21"),
        ("03/2021", "", "2021-03"),
        ("5. März 2024", "", "2024-03-05"),
        ("２０２６年１月２日", "", "2026-01-02"),
        ("5. 11. 2023", "", "2023-11-05"),
        ("15 12 2024", "", "2024-12-15"),
        ("2024. 5. 3.", "", "2024-05-03"),
        ("05NOV2023", "", "2023-11-05"),
        ("Nov-05-2023", "", "2023-11-05"),
        ("5/11 2023", "DD/MM/YYYY", "2023-11-05"),
        ("5/11-2023", "DD/MM/YYYY", "2023-11-05"),
    ],
)
def test_dates_are_read_in_any_order(text: str, format: str, iso: str) -> None:  # noqa: A002 - the field's name
    """Words and numbers, both languages; a month without a day stays a month."""
    assert value_of(FormField("x", type=FieldType.DATE, format=format), text).value == iso


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("10:30 12.03.2024", "2024-03-12"),
        ("10:12 07.11.2023", "2023-11-07"),
        ("14:05:33 07.11.2023", "2023-11-07"),
        ("05.11.2023 14.30 Uhr", "2023-11-05"),
        ("05.11.2023 14h30", "2023-11-05"),
        ("2:30 PM 05.11.2023", "2023-11-05"),
        ("5 Nov 2023 14:30", "2023-11-05"),
        ("5 Nov 2023 2 PM", "2023-11-05"),
        ("Sun Nov 5 14:30:00 2023", "2023-11-05"),
        ("5 Nov 2023 14:30 +0100", "2023-11-05"),
        ("10:30 5 11 2023", "2023-11-05"),
        ("2023-11-05T14:30:00.250+08:00", "2023-11-05"),
        ("20231105T143000", "2023-11-05"),
        ("2023年11月5日 14时30分", "2023-11-05"),
        ("2023-11-05 下午3点", "2023-11-05"),
        ("12345678 05.11.2023", "2023-11-05"),
        ("12341211 05.11.2023", "2023-11-05"),
        ("20201332 5 Nov 2023", "2023-11-05"),
        ("2023-11-05,2 PM", "2023-11-05"),
        ("05.11.2023/14.30 Uhr", "2023-11-05"),
        ("05.11.2023, 12,30 Uhr", "2023-11-05"),
        ("05.11.2023 14 h 30 min", "2023-11-05"),
        ("5 Nov 2023 14h30min", "2023-11-05"),
        ("14 h 30, 05.11.2023", "2023-11-05"),
        ("8h 05.11.2023", "2023-11-05"),
        ("12 h 05/11/2023", "2023-11-05"),
        ("24h 05-11-2023", "2023-11-05"),
        ("8h 05 11 2023", "2023-11-05"),
        ("8h 05 Nov 2023", "2023-11-05"),
        ("8 h 05. November 2023", "2023-11-05"),
        ("24 h 05/2024", "2024-05"),
        ("2023-11-05 AM", "2023-11-05"),
        ("2023/11/5 PM", "2023-11-05"),
        ("2023-11-05 p.m.", "2023-11-05"),
        ("2023-11-05 am Kessel", "2023-11-05"),
        ("2023-11-05h", "2023-11-05"),
        ("2023-11-05时", "2023-11-05"),
        ("Lot 15 12/2024", "2024-12"),
        ("Lot 15, 12/2024", "2024-12"),
        ("Lot 15, 12.05.2024", "2024-05-12"),
        ("05.11.2023 (11/2023)", "2023-11-05"),
    ],
)
def test_a_neighbour_is_no_part_of_a_date(text: str, iso: str) -> None:
    """Times of day, lots and serial numbers stand beside it; nothing of them is taken for a day or a year, and nobody is asked."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), text)
    assert (found.value, found.notes) == (iso, ())


@pytest.mark.parametrize(
    "text", ["05/11/23 AM", "05-11-23 am Kessel", "05. 11. 23 am Kessel", "8h 05.11.23", "14 h 30, 05.11.23"]
)
def test_a_time_takes_nothing_of_a_date_with_a_short_year(text: str) -> None:
    """The day is no minutes, and the year no hour: a person is asked for the century alone."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), text)
    assert (found.value, [note.code for note in found.notes]) == ("2023-11-05", ["forms.value.short_year"])


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("05/2024 06/2025", "2024-05"),
        ("05/2024-06/2025", "2024-05"),
        ("2024/05 - 2025/06", "2024-05"),
        ("MFG 05/2024 EXP 2025-06-30", "2025-06-30"),
        ("MFG 5 Nov 2023 EXP 05.11.2024", "2023-11-05"),
        ("MFG 5 Nov 2023 EXP 05/2025", "2023-11-05"),
        ("5 Nov 2023 6 Dec 2024", "2023-11-05"),
        ("Nov 2023 6 Dec 2024", "2024-12-06"),
        ("MFG NOV 2023 EXP NOV 2025", "2023-11"),
        ("31 Feb 2026 12/2024", "2024-12"),
        ("生产日期：2023年11月5日 有效期：2025-11-04", "2023-11-05"),
        ("20240115 05.11.2023", "2023-11-05"),
        ("31.02.2026 12/2024", "2024-12"),
        ("15 12/2024", "2024-12-15"),
    ],
)
def test_two_dates_are_shown_to_a_person_however_they_are_written(text: str, iso: str) -> None:
    """Months, days and words in one text, also where one of them cannot be: one is taken, and a person is asked."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), text)
    assert (found.value, [note.code for note in found.notes]) == (iso, ["forms.value.several_dates"])


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("EXP Nov 2023 LOT 12", "2023-11"),
        ("Charge 7, EXP Dez 2025", "2025-12"),
        ("Dec 2025 (24 months)", "2025-12"),
        ("5. März 2026, 12,5 kg", "2026-03-05"),
        ("5. März 2026,12,5 kg", "2026-03-05"),
        ("5. März 2026, 12,30 Uhr", "2026-03-05"),
        ("05 03 2026, 12,5 kg", "2026-03-05"),
        ("05 03 2026,12,5 kg", "2026-03-05"),
        ("12 kg, 5 Nov 2023", "2023-11-05"),
        ("Lot 20231, 5 Nov 2023", "2023-11-05"),
        ("may be 5 Nov 2023", "2023-11-05"),
        ("5 Nov 14:30 2023", "2023-11-05"),
        ("2023-Nov-05", "2023-11-05"),
        ("2023 NOV 05", "2023-11-05"),
        ("2023 5 Nov", "2023-11-05"),
        ("05/NOV/2023", "2023-11-05"),
        ("5.Nov.2023", "2023-11-05"),
        ("5th of November, 2023", "2023-11-05"),
        ("November 5th, 2023", "2023-11-05"),
        ("EXP05NOV2023", "2023-11-05"),
        ("NOV/2023", "2023-11"),
        ("2025 Dec", "2025-12"),
        ("2026,3,5", "2026-03-05"),
    ],
)
def test_a_month_as_a_word_takes_the_numbers_right_beside_it(text: str, iso: str) -> None:
    """A lot, a number of months, a mass is no day; every usual way to write a date is."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), text)
    assert (found.value, found.notes) == (iso, ())


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("Charge 7, Dez 2025", "2025-12"),
        ("Nov 2025 12 kg", "2025-11"),
        ("2025 Dec 12 kg", "2025-12-12"),
        ("Best before end Nov 2025, 2 pcs", "2025-11"),
        ("NOV 2023 05", "2023-11"),
        ("Lot 15 Nov 2025", "2025-11-15"),
        ("Charge: 15. Nov 2025", "2025-11-15"),
        ("12 Nov 5 2023", "2023-11-05"),
        ("2023 5 Nov 2024", "2024-11-05"),
        ("5 - 12 Nov 2023", "2023-11-12"),
        ("5./6. Nov 2023", "2023-11-06"),
        ("5 Nov 2023/2024", "2023-11-05"),
        ("12,5 Nov 2023", "2023-11"),
    ],
)
def test_a_number_that_may_be_part_of_a_date_is_shown_to_a_person(text: str, iso: str) -> None:
    """Beside a month as a word stand more numbers than a date has, or one that a word says is something else."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), text)
    assert (found.value, [note.code for note in found.notes]) == (iso, ["forms.value.several_dates"])


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("SN 1234-5678 / 05/11/2023", "2023-11-05"),
        ("0815 / 05/11/2023", "2023-11-05"),
        ("SN 12 / 05/11/2023", "2023-11-05"),
        ("5678/05/11/2023", "2023-11-05"),
        ("A1-05.11.2023", "2023-11-05"),
        ("05 11 2023 12,5 kg", "2023-11-05"),
        ("2023 11 05, 12 kg", "2023-11-05"),
        ("KW 45/2023 (05.11.2023)", "2023-11-05"),
        ("7,5 kW 12/2026", "2026-12"),
        ("60 W 10/2026", "2026-10"),
        ("MFG 12/2026", "2026-12"),
        ("Rev. 03/2026", "2026-03"),
        ("民国112年11月5日", "2023-11-05"),
        ("中華民國 99 年 3 月", "2010-03"),
        ("令和5年11月5日", "2023-11-05"),
        ("令和元年5月1日", "2019-05-01"),
        ("平成28年3月5日", "2016-03-05"),
    ],
)
def test_a_year_is_one_of_ours_whatever_it_is_counted_from(text: str, iso: str) -> None:
    """Other numbers of four digits are serial numbers; the years of Taiwan and Japan are turned into those of the calendar."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), text)
    assert (found.value, found.notes) == (iso, ())


@pytest.mark.parametrize("text", ["Nr. 12/2026", "Lot 12/2026", "2026 Dec 5 AM"])
def test_a_month_that_may_be_something_else_is_shown_to_a_person(text: str) -> None:
    """The twelfth of a year's documents; a day that looks like an hour."""
    found = value_of(FormField("x", type=FieldType.DATE), text)
    assert (found.value, [note.code for note in found.notes]) == ("2026-12", ["forms.value.several_dates"])


@pytest.mark.parametrize("text", ["05NOV23", "05 Nov 23", "5-Nov-23", "5 Nov '23", "NOV 05 23", "Nov 5, 23"])
def test_a_short_year_stands_behind_a_month_as_a_word(text: str) -> None:
    """Which century it is, a person says."""
    found = value_of(FormField("x", type=FieldType.DATE), text)
    assert (found.value, [note.code for note in found.notes]) == ("2023-11-05", ["forms.value.short_year"])


@pytest.mark.parametrize(
    "text",
    [
        "12341211",
        "20261332",
        "10:30",
        "05:11.2023",
        "7 5 11 2023",
        "Datum: 5/11-2023",
        "31 Feb 2026",
        "Nov 21",
        "5 Nov",
    ],
)
def test_what_may_be_anything_is_no_date(text: str) -> None:
    """Eight digits of a serial number, a time alone, numbers of which nobody knows which belong together."""
    found = value_of(FormField("x", type=FieldType.DATE), text)
    assert found.problem is not None and found.problem.code == "forms.value.no_date"


def test_a_date_is_written_as_the_field_says() -> None:
    """The value is ISO, what is shown is the site's own."""
    found = value_of(FormField("x", type=FieldType.DATE, format="DD.MM.YYYY"), "2026-01-09")
    assert (found.value, found.shown) == ("2026-01-09", "09.01.2026")


def test_doubtful_dates_say_so() -> None:
    """Day and month that could be swapped, a year of two digits, a day that does not exist."""
    field = FormField("x", type=FieldType.DATE)
    assert [note.code for note in value_of(field, "03/04/2026").notes] == ["forms.value.ambiguous_date"]
    assert [note.code for note in value_of(field, "25.12.25").notes] == ["forms.value.short_year"]
    both = value_of(field, "MFG 2025-01-02 EXP 2027-01-02")
    assert (both.value, [note.code for note in both.notes]) == ("2025-01-02", ["forms.value.several_dates"])
    assert not value_of(field, "2026-11-21 14:30 (2026.11.21)").notes
    wrong = value_of(field, "31.02.2026")
    assert wrong.problem is not None and wrong.problem.code == "forms.value.no_date"


@pytest.mark.parametrize("nothing", [None, "", "  ", "null", "N/A", "无", "—"])
@pytest.mark.parametrize("kind", [kind for kind in FieldType if kind not in (FieldType.LIST, FieldType.TABLE)])
def test_nothing_is_null_for_every_kind(nothing: JsonValue, kind: FieldType) -> None:
    """What a model writes for what it cannot see is no value."""
    found = value_of(FormField("x", type=kind, choices=(Choice("a"),)), nothing)
    assert found.is_null and found.value is None and found.problem is None


def test_choices_take_their_other_spellings_and_nothing_else() -> None:
    """A word that is no choice stays, with the reason; one that says "none" may be a choice."""
    field = FormField("x", type=FieldType.CHOICE, choices=(Choice("OK", ("合格", "Pass")), Choice("None")))
    assert value_of(field, " pass ").value == "OK"
    assert value_of(field, "合格").value == "OK"
    assert value_of(field, "none").value == "None"
    assert value_of(field, "broken").problem is not None


def test_tables_keep_their_rows_and_say_which_cell_is_wrong() -> None:
    """Cells are found by name in either language; empty rows go; the first wrong cell is named."""
    columns = (FormField("item"), FormField("count", type=FieldType.INTEGER))
    field = FormField("x", type=FieldType.TABLE, columns=columns)
    found = value_of(
        field, [{"item": "nut", "count": "4"}, {"item": None, "count": None}, {"ITEM": "bolt", "count": "x"}]
    )
    assert found.value == [{"item": "nut", "count": 4}, {"item": "bolt", "count": "x"}]
    assert found.problem is not None and dict(found.problem.facts) == {"row": 2, "column": "count"}


def test_a_column_takes_nothing_that_another_was_asked_for() -> None:
    """A renamed column keeps its key, which may be what another one is called now."""
    columns = (FormField("date", Names("Order date")), FormField("date_2", Names("Date")))
    field = FormField("x", type=FieldType.TABLE, columns=columns)
    assert value_of(field, [{"Date": "B"}]).value == [{"date": None, "date_2": "B"}]
    assert value_of(field, [{"Order date": "A", "date": "B"}]).value == [{"date": "A", "date_2": "B"}]
    assert value_of(field, [{"date": "A", "date_2": "B"}]).value == [{"date": "A", "date_2": "B"}]  # as it is kept


def test_a_table_tells_which_of_its_cells_can_be_read_two_ways() -> None:
    """As a field of its own does, each once: a delivery note's 1,234 is a thousand or a little more than one."""
    columns = (FormField("count", type=FieldType.NUMBER), FormField("on", type=FieldType.DATE))
    field = FormField("x", type=FieldType.TABLE, columns=columns)
    line: JsonValue = {"count": "1,234", "on": "03/04/26"}
    assert [note.code for note in value_of(field, [line, line]).notes] == [
        "forms.value.ambiguous_number",
        "forms.value.ambiguous_date",
        "forms.value.short_year",
    ]
    assert value_of(field, [{"count": "5", "on": "2026-04-03"}]).notes == ()


@pytest.mark.parametrize("odd", [{"a": 1}, [1, [2]], True, 3, "\x00", "9" * 5000, {"a": {"b": []}}])
@pytest.mark.parametrize("kind", list(FieldType))
def test_no_answer_of_a_model_breaks_it(odd: JsonValue, kind: FieldType) -> None:
    """Whatever stands there, there is a value or a reason."""
    found = value_of(FormField("x", type=kind, choices=(Choice("a"),), columns=(FormField("y"),)), odd)
    assert isinstance(found.shown, str)
