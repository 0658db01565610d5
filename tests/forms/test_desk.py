"""The desk: forms are kept whole, decisions are appended with who and when, exports carry the evidence, erasing erases."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pypdfium2
import pytest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.errors import FormError, UsageError
from qwen_vl_app.forms import (
    FORMS_NAME,
    Change,
    FieldMark,
    FieldState,
    FieldType,
    FillPlan,
    FormDesk,
    FormExport,
    FormField,
    FormRule,
    FormTemplate,
    JudgedForm,
    Names,
    RuleKind,
    Verdict,
    export_forms,
    forms_csv,
    named_values,
)
from qwen_vl_app.forms.evidence import FormColumn, row_titles
from qwen_vl_app.forms.exports import forms_json
from qwen_vl_app.forms.fields import told_apart
from qwen_vl_app.forms.truth_folder import cases_in
from qwen_vl_app.imaging.report import ReportEntry
from qwen_vl_app.texts import Language
from tests.forms.parts import TEMPLATE, PlateModel, form_assistant
from tests.ui.fakes import png


@pytest.fixture
def model() -> PlateModel:
    return PlateModel()


@pytest.fixture
def assistant(tmp_path: Path, model: PlateModel) -> Iterator[Assistant]:
    with form_assistant(tmp_path, model) as opened:
        opened.wait_until_loaded(60)
        yield opened


@pytest.fixture
def desk(assistant: Assistant) -> FormDesk:
    return FormDesk(assistant)


def fill(desk: FormDesk, assistant: Assistant, name: str = "plate.png", *, width: int = 280) -> JudgedForm:
    """Fill and keep a form from a picture of that width."""
    return desk.fill(FillPlan(TEMPLATE), assistant.stage(png(width=width, height=140), name))


def review(desk: FormDesk, judged: JudgedForm, *, load: str = "70") -> JudgedForm:
    """Decide every field, correcting one."""
    form_id = judged.form.form_id
    desk.accept(form_id, "serial", who="Ann")
    desk.correct(form_id, "load", load, who="Ann")
    return desk.accept(form_id, "note", who="Bo")


def test_a_decision_says_who_and_when_and_changes_no_reading(desk: FormDesk, assistant: Assistant) -> None:
    """Also for the next process; the reading stays beside the person's word."""
    judged = review(desk, fill(desk, assistant))
    again = FormDesk(assistant).judged(judged.form.form_id)
    load = again.judged("load")
    assert again.is_reviewed and load.state is FieldState.CORRECTED
    assert (load.value.shown, load.reading.written) == ("70 kg", "50")
    assert load.decision is not None and load.decision.who == "Ann" and load.decision.at.tzinfo is not None
    assert [each.who for each in desk.decisions(judged.form.form_id)] == ["Ann", "Ann", "Bo"]


def test_nobody_decides_without_a_name(desk: FormDesk, assistant: Assistant) -> None:
    """A blank name, or one of control characters alone, is none."""
    judged = fill(desk, assistant)
    for who in ("", "  ", "\x00\n"):
        with pytest.raises(UsageError):
            desk.accept(judged.form.form_id, "serial", who=who)
    assert desk.decisions(judged.form.form_id) == ()


def test_a_correction_is_judged_by_the_rules_too(desk: FormDesk, assistant: Assistant) -> None:
    """A person may be wrong as well: over the maximum stays marked, and null says that nothing stands there."""
    judged = fill(desk, assistant)
    over = desk.correct(judged.form.form_id, "load", "700", who="Ann").judged("load")
    assert [each.code for each in over.doubts] == ["forms.rule.above"]
    none = desk.correct(judged.form.form_id, "load", " ", who="Ann").judged("load")
    assert none.value.is_null and none.decision is not None and none.decision.written is None


def test_accepting_the_rest_leaves_the_doubtful(desk: FormDesk, assistant: Assistant, model: PlateModel) -> None:
    """Only what nothing speaks against."""
    model.again["Load"] = "80"
    judged = desk.accept_rest(fill(desk, assistant).form.form_id, who="Ann")
    assert {each.field.key for each in judged.fields if each.state.is_settled} == {"serial", "note"}


def test_the_worst_form_stands_first_and_the_reviewed_last(
    desk: FormDesk, assistant: Assistant, model: PlateModel
) -> None:
    """The order in which a person should look."""
    calm = fill(desk, assistant, "calm.png", width=281)
    reviewed = review(desk, fill(desk, assistant, "done.png", width=282))
    model.again["Load"] = "80"
    doubtful = fill(desk, assistant, "doubtful.png", width=283)
    assert [each.form.picture_name for each in desk.list()] == ["doubtful.png", "calm.png", "done.png"]
    assert {calm.form.form_id, reviewed.form.form_id, doubtful.form.form_id} == {
        each.form.form_id for each in desk.list()
    }
    assert desk.list(owners=("somebody else",)) == ()


def test_a_torn_decision_loses_only_itself(desk: FormDesk, assistant: Assistant, tmp_path: Path) -> None:
    """A kill in the middle of a line: what was decided before stands, and the next decision is whole."""
    form_id = fill(desk, assistant).form.form_id
    desk.accept(form_id, "serial", who="Ann")
    journal = tmp_path / "data" / "forms" / "filled" / form_id / "decisions.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"key": "lo')
    desk.accept(form_id, "note", who="Ann")
    assert [each.key for each in desk.decisions(form_id)] == ["serial", "note"]


def test_a_form_is_filled_again_over_what_a_kill_left_of_it(desk: FormDesk, assistant: Assistant) -> None:
    """A run that is resumed writes the form that it was killed in the middle of, or while the first of it was removed."""
    plan = FillPlan(TEMPLATE, source="run-1")
    picture = assistant.stage(png(width=280, height=140), "plate.png")
    judged = desk.fill(plan, picture)
    filled = assistant.settings.data_dir / FORMS_NAME / "filled"
    for left in (f".{judged.form.form_id}.part", f".erasing-{judged.form.form_id}"):
        (filled / left).mkdir()
        (filled / left / "upload").write_bytes(b"half")
    assert desk.fill(plan, picture).form.form_id == judged.form.form_id
    assert [entry.name for entry in filled.iterdir()] == [judged.form.form_id]


def test_a_table_in_a_folder_that_is_a_file_is_one_sentence(
    desk: FormDesk, assistant: Assistant, tmp_path: Path
) -> None:
    """As for any other place that cannot be written."""
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    judged = fill(desk, assistant)
    with pytest.raises(FormError) as refused:
        export_forms(
            FormExport.CSV,
            tmp_path / "notes.txt" / "out.csv",
            (judged,),
            file_of=desk.file,
            language=Language.ENGLISH,
        )
    assert refused.value.code == "forms.target_unwritable"


@pytest.mark.parametrize("form_id", ["..", "../../x", "", "a/b", "no-such-form", ".hidden"])
def test_an_id_leads_nowhere_else(desk: FormDesk, form_id: str) -> None:
    """Whatever is typed."""
    with pytest.raises(FormError) as refused:
        desk.judged(form_id)
    assert refused.value.code == "forms.unknown"


@pytest.mark.parametrize("number", ["12345678.912", "12345678901", "0.00000025", "12345678901234567"])
def test_no_digit_is_lost_on_the_way_out(desk: FormDesk, assistant: Assistant, number: str) -> None:
    """A meter's long count stands in the table as on the picture."""
    judged = fill(desk, assistant)
    judged = desk.correct(judged.form.form_id, "load", number, who="Li Na")
    (line,) = csv.DictReader(io.StringIO(forms_csv((judged,), Language.ENGLISH).decode("utf-8-sig")))
    assert line["Load"].removesuffix(" kg") == number


def test_a_limit_keeps_its_sign_on_the_way_out(desk: FormDesk, assistant: Assistant, model: PlateModel) -> None:
    """A person is asked; a table has it as text without its unit, as the numbers around it, and a program likewise."""
    model.form = {"Serial": "AB-123", "Load": "< 0.05 kg", "Note": None}
    judged = fill(desk, assistant)
    load = judged.judged("load")
    assert load.state is FieldState.DOUBTFUL and "forms.value.limit" in [doubt.code for doubt in load.doubts]
    (line,) = csv.DictReader(io.StringIO(forms_csv((judged,), Language.ENGLISH).decode("utf-8-sig")))
    assert line["Load"] == "<0.05"
    assert json.loads(forms_json((judged,), Language.ENGLISH))["forms"][0]["values"]["load"] == "<0.05"


@pytest.mark.parametrize("language", list(Language))
def test_forms_are_taken_away(desk: FormDesk, assistant: Assistant, tmp_path: Path, language: Language) -> None:
    """Values and evidence, numbers as numbers, crops in the workbook, room to sign; a name is never a formula."""
    judged = fill(desk, assistant, "=cmd().png")
    forms = (review(desk, judged),)
    for kind in FormExport:
        target = tmp_path / f"out.{kind.value}"
        assert export_forms(kind, target, forms, file_of=desk.file, language=language) == 1
    text = (tmp_path / "out.csv").read_text(encoding="utf-8-sig")
    assert "AB-123" in text and "70" in text and "\n'=cmd" in text.replace("\r", "")
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    values, evidence = book.worksheets
    head = [cell.value for cell in values[1]]
    load = head.index(TEMPLATE.fields[1].names.of(language))
    assert values[2][load].value == 70 and values[2][0].data_type == "s"
    assert len(evidence._images) == 2
    (document,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["forms"]
    assert document["values"] == {"serial": "AB-123", "load": 70, "note": None}
    assert document["fields"]["load"]["decision"]["who"] == "Ann"
    assert document["fields"]["serial"]["second_look"]["outcome"] == "agree"
    assert document["fields"]["serial"]["box"] is not None
    assert len(pypdfium2.PdfDocument(io.BytesIO((tmp_path / "out.pdf").read_bytes()))) == 1


@pytest.mark.parametrize(
    ("language", "names"), [("en", ("Date (MFG)", "Date (EXP)")), ("zh", ("日期 (生产)", "日期 (有效)"))]
)
def test_fields_of_one_name_are_told_apart_on_the_way_out(
    desk: FormDesk, assistant: Assistant, model: PlateModel, language: str, names: tuple[str, str]
) -> None:
    """By what stands on the picture before them; always alike, also where only one of them has a value."""
    name = Names("Date", "日期")
    fields = (
        FormField("made", name, FieldType.DATE, label=Names("MFG", "生产")),
        FormField("until", name, FieldType.DATE, label=Names("EXP", "有效")),
        FormField("note", Names("Note", "备注")),
    )
    plan = FillPlan(FormTemplate("t", fields), language)
    judged = []
    for width, until in ((280, "2026-01-02"), (281, None)):
        model.form = {fields[0].asked_as(language): "2025-01-02", fields[1].asked_as(language): until}
        judged.append(desk.fill(plan, assistant.stage(png(width=width, height=140), "a.png")))
    note = fields[2].names.of(language)
    assert [dict(named_values(each)) for each in judged] == [
        {names[0]: "2025-01-02", names[1]: "2026-01-02", note: None},
        {names[0]: "2025-01-02", names[1]: None, note: None},
    ]
    lines = list(csv.reader(io.StringIO(forms_csv(judged, Language(language)).decode("utf-8-sig"))))
    assert [lines[0][4:7], lines[1][4:6]] == [[*names, note], ["2025-01-02", "2026-01-02"]]


@pytest.mark.parametrize(("language", "model"), [(Language.ENGLISH, "Model"), (Language.CHINESE, "模型")])
def test_a_field_called_like_a_column_of_the_app_is_told_apart(language: Language, model: str) -> None:
    """A program that takes a value by its column's name would get the name of the language model."""
    titles = row_titles((FormColumn("model", model), FormColumn("note", "Note")), language)
    assert titles[4:6] == (f"{model} (2)", "Note") and model in titles[6:]


def test_fields_of_one_name_are_told_apart_in_the_evidence(
    desk: FormDesk, assistant: Assistant, model: PlateModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a workbook's second sheet, on paper, and in the sentence that one of them lies after the other."""
    fields = (
        FormField("made", Names("Date"), FieldType.DATE, label=Names("MFG")),
        FormField("until", Names("Date"), FieldType.DATE, label=Names("EXP")),
        FormField("found", label=Names("S/N")),
    )
    model.form = {"MFG": "2026-01-02", "EXP": "2025-01-02", "S/N": "A1"}
    template = FormTemplate("t", fields, rules=(FormRule(RuleKind.ORDER, ("made", "until")),))
    judged = desk.fill(FillPlan(template), assistant.stage(png(width=280, height=140), "a.png"))
    paper: list[str] = []

    def report(target: Path, entries: Iterator[ReportEntry], **_: object) -> None:
        target.touch()
        paper.extend(line for entry in entries for line in entry.lines)

    monkeypatch.setattr("qwen_vl_app.forms.exports.write_report", report)
    for kind in (FormExport.XLSX, FormExport.PDF):
        target = tmp_path / f"out.{kind.value}"
        export_forms(kind, target, (judged,), file_of=desk.file, language=Language.ENGLISH)
    evidence = openpyxl.load_workbook(tmp_path / "out.xlsx").worksheets[1]
    assert {cell.value for cell in evidence["B"][1:]} == {"Date (MFG)", "Date (EXP)", "S/N"}
    told = "Date (MFG) lies after Date (EXP)."
    assert {told in str(cell.value) for cell in evidence["H"][1:3]} == {True}
    assert [line.partition(": ")[0] for line in paper[:3]] == ["Date (MFG)", "Date (EXP)", "S/N"]
    assert told in paper[0] and told in paper[1]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ((("a", "Date", "MFG"), ("b", "Due", "EXP")), ["Date", "Due"]),
        ((("a", "Date", ""), ("b", "Date", "EXP")), ["Date", "Date (EXP)"]),
        ((("a", "Date", ""), ("b", "date ", "Date")), ["Date", "date  (b)"]),
        ((("a", "Date", "X"), ("b", "Date", "X"), ("c", "Date (b)", "")), ["Date (X)", "Date (b) (b)", "Date (b)"]),
        ((("a", "Date (EXP)", ""), ("b", "Date", "EXP"), ("c", "Date", "")), ["Date (EXP)", "Date (b)", "Date"]),
    ],
)
def test_no_two_fields_have_one_name(fields: tuple[tuple[str, str, str], ...], names: list[str]) -> None:
    """Whatever labels and keys a template has; a name that only one field has stays as it is."""
    made = [FormField(key, Names(name), label=Names(label)) for key, name, label in fields]
    found = told_apart(made, {key: name for key, name, _ in fields}, "en")
    assert list(found.values()) == names and list(found) == [key for key, _, _ in fields]


def test_erasing_leaves_no_form_and_no_truth(desk: FormDesk, assistant: Assistant, tmp_path: Path) -> None:
    """Templates stay: they hold no picture."""
    review(desk, fill(desk, assistant))
    desk.templates.save(TEMPLATE)
    erased = desk.erase()
    assert (erased.forms, erased.cases) == (1, 1)
    left = [file for file in (tmp_path / "data" / "forms").rglob("*") if file.is_file()]
    assert [file.name for file in left] == ["v1.json"]


def test_erasing_the_history_reaches_forms(desk: FormDesk, assistant: Assistant, tmp_path: Path) -> None:
    """Of the same owner, in the same period: pictures, values and decisions, the truth set and its results."""
    runs = BatchRuns(assistant)
    review(desk, fill(desk, assistant), load="71.25")
    mine = desk.fill(FillPlan(TEMPLATE, owner="a" * 32), assistant.stage(png(width=300, height=150), "mine.png"))
    desk.acceptance.activate(desk.acceptance.run())
    receipt = assistant.records.erase_everything("local")
    assert receipt.is_complete and receipt.files >= 8
    assert [each.form.form_id for each in desk.list()] == [mine.form.form_id]
    assert desk.acceptance.cases() == ()
    left = b"".join(file.read_bytes() for file in (tmp_path / "data" / "forms").rglob("*") if file.is_file())
    assert b"71.25" not in left and b"plate.png" not in left
    runs.close()


def test_a_site_that_keeps_records_deletes_nothing(tmp_path: Path, model: PlateModel) -> None:
    """Corrections are what it has."""
    with form_assistant(tmp_path, model, keep="records") as assistant:
        assistant.wait_until_loaded(60)
        desk = FormDesk(assistant)
        form_id = fill(desk, assistant).form.form_id
        with pytest.raises(FormError):
            desk.delete(form_id)
        with pytest.raises(FormError):
            desk.erase()
        assert desk.judged(form_id)


def test_a_site_that_keeps_nothing_writes_no_form(tmp_path: Path, model: PlateModel) -> None:
    """Forms live as long as the process; nothing of a picture reaches the disk."""
    with form_assistant(tmp_path, model, keep="nothing") as assistant:
        assistant.wait_until_loaded(60)
        desk = FormDesk(assistant)
        assert review(desk, fill(desk, assistant)).is_reviewed
        assert not (tmp_path / "data" / "forms").exists()


# The truth set


def test_corrections_feed_the_truth_set(desk: FormDesk, assistant: Assistant) -> None:
    """A reviewed form with a correction joins by itself; one without does when somebody says so."""
    first = fill(desk, assistant, width=281)
    with pytest.raises(FormError):
        desk.add_to_truth(first.form.form_id)
    review(desk, first)
    (case,) = desk.acceptance.cases()
    assert dict(case.values) == {"serial": "AB-123", "load": "70", "note": None}


def test_what_got_worse_is_refused_until_somebody_says_so(
    desk: FormDesk, assistant: Assistant, model: PlateModel
) -> None:
    """Under the first model all is right; under the second a value is wrong and one invented: no forms are filled."""
    review(desk, fill(desk, assistant), load="50 kg")
    desk.add_to_truth(desk.list()[0].form.form_id)
    first = desk.acceptance.run()
    assert (first.count(FieldMark.RIGHT), first.is_worse) == (3, False)
    assert desk.acceptance.verdict() is Verdict.NO_TRUTH
    desk.acceptance.activate(first)
    assert desk.acceptance.verdict() is Verdict.ACCEPTED

    assistant._engine._status = replace_status(assistant, fingerprint="another", dtype="bf16")  # type: ignore[attr-defined]
    assert desk.acceptance.verdict() is Verdict.UNTRIED
    model.form = {"Serial": "AB-128", "Load": "50", "Note": "made up"}
    second = desk.acceptance.run()
    assert [(each.key, each.mark, each.change) for each in second.changed] == [
        ("serial", FieldMark.WRONG, Change.WORSE),
        ("note", FieldMark.INVENTED, Change.WORSE),
    ]
    with pytest.raises(FormError) as refused:
        desk.acceptance.activate(second)
    assert refused.value.code == "forms.accept.worse"
    with pytest.raises(FormError) as refused:
        fill(desk, assistant)
    assert refused.value.code == "forms.accept.refused"
    desk.acceptance.activate(second, anyway=True, who="Ann")
    assert fill(desk, assistant)


def replace_status(assistant: Assistant, **changes: str) -> object:
    """The engine's status, as another model would say it."""
    from dataclasses import replace

    return replace(assistant._engine.status, **changes)  # type: ignore[arg-type]


def test_a_folder_of_truth_is_read(desk: FormDesk, tmp_path: Path) -> None:
    """A table, or a file beside the picture; an empty cell says that nothing is there, a missing column says nothing."""
    folder = tmp_path / "truth"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(width=281, height=140))
    (folder / "b.png").write_bytes(png(width=282, height=140))
    (folder / "c.png").write_bytes(png(width=283, height=140))
    (folder / "truth.csv").write_text("file,Serial,note\nA.PNG,AB-123,\n", encoding="utf-8")
    (folder / "b.png.json").write_text('{"values": {"load": 50}}', encoding="utf-8")
    cases = list(cases_in(folder, template=TEMPLATE, language="en", max_bytes=2**20))
    assert [(case.picture_name, dict(case.values)) for case, _ in cases] == [
        ("a.png", {"serial": "AB-123", "note": None}),
        ("b.png", {"load": 50}),
    ]
    report = desk.acceptance.run(cases)
    assert (len(report.fields), report.count(FieldMark.RIGHT)) == (3, 3)
    with pytest.raises(FormError) as refused:
        list(cases_in(folder, template=None, language="en", max_bytes=2**20))
    assert refused.value.code == "forms.truth.no_template"


@pytest.mark.parametrize(
    ("table", "encoding"),
    [
        ("文件,编号,备注\nA.PNG,AB-123,正常\n", "gb18030"),
        ("文件,编号,备注\nA.PNG,AB-123,正常\n,,\n", "utf-8"),
        ("file;Serial;note\nA.PNG;AB-123;geprüft in Köln\n", "cp1252"),
        ("file;Serial;note\nA.PNG;AB-123;Größe 5\n;;\n", "utf-8-sig"),
        ("file\tSerial\tnote\na.png\tAB-123\t正常\n", "utf-16"),
        (",,\n\nFile, Serial ,NOTE\n\na.png,AB-123,ok\n,\n , ,\n", "utf-8"),
    ],
)
def test_a_table_of_truth_is_read_as_spreadsheets_save_it(tmp_path: Path, table: str, encoding: str) -> None:
    """China's and Germany's Excel, its Unicode text, and lines of nothing but separators."""
    (tmp_path / "a.png").write_bytes(png(width=281, height=140))
    (tmp_path / "truth.csv").write_bytes(table.encode(encoding))
    ((case, _),) = cases_in(tmp_path, template=TEMPLATE, language="en", max_bytes=2**20)
    note = next(part for line in table.splitlines() for part in re.split(r"[,;\t]", line)[2:] if "AB-123" in line)
    assert dict(case.values) == {"serial": "AB-123", "note": note}


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (b"Serial\nAB-123\n", "forms.truth.no_file_column"),
        (b"file,Serial\n,AB-123\n", "forms.truth.no_file_column"),
        (b"file,Serial\na\x00b,AB\n", "forms.truth.unreadable"),
    ],
)
def test_a_table_of_truth_that_cannot_be_meant_is_refused(tmp_path: Path, table: bytes, code: str) -> None:
    """A value of which nobody says whose it is, or bytes that are no text."""
    (tmp_path / "truth.csv").write_bytes(table)
    with pytest.raises(FormError) as refused:
        list(cases_in(tmp_path, template=TEMPLATE, language="en", max_bytes=2**20))
    assert refused.value.code == code


def test_truth_of_fields_of_one_name_is_told_by_their_own(tmp_path: Path) -> None:
    """By the titles of a run's results; the name that both have says nothing of which is meant."""
    fields = tuple(FormField(key, Names("Date"), label=Names(label)) for key, label in (("a", "MFG"), ("b", "EXP")))
    (tmp_path / "a.png").write_bytes(png(width=281, height=140))
    (tmp_path / "truth.csv").write_text("file,Date (EXP),Date\na.png,2026-01-02,2025-01-02\n", encoding="utf-8")
    ((case, _),) = cases_in(tmp_path, template=FormTemplate("t", fields), language="en", max_bytes=2**20)
    assert dict(case.values) == {"b": "2026-01-02"}


@pytest.mark.parametrize("part", ["fingerprint", "dtype", "device", "attention", "build", "driver"])
def test_a_change_of_anything_below_the_answers_asks_for_a_new_run(
    desk: FormDesk, assistant: Assistant, part: str
) -> None:
    """Weights, precision, device, kernels, library and driver: each is written down with what was accepted."""
    review(desk, fill(desk, assistant), load="50 kg")
    desk.acceptance.activate(desk.acceptance.run())
    assert desk.acceptance.verdict() is Verdict.ACCEPTED
    assistant._engine._status = replace_status(assistant, **{part: "another"})  # type: ignore[attr-defined]
    assert desk.acceptance.verdict() is Verdict.UNTRIED
    (difference,) = desk.acceptance.run().differences
    assert difference.part == {"dtype": "precision"}.get(part, part)
    assert difference.after == "another"


def test_what_was_accepted_before_the_driver_was_written_down_is_run_again(
    desk: FormDesk, assistant: Assistant, tmp_path: Path
) -> None:
    """An older record is read, and is not taken for the same."""
    review(desk, fill(desk, assistant), load="50 kg")
    assistant._engine._status = replace_status(assistant, build="torch 2.13.0")  # type: ignore[attr-defined]
    desk.acceptance.activate(desk.acceptance.run())
    (record,) = (tmp_path).rglob("active.json")
    kept = json.loads(record.read_text())
    del kept["configuration"]["build"], kept["configuration"]["driver"]
    record.write_text(json.dumps(kept))
    assert desk.acceptance.active() is not None
    assert desk.acceptance.verdict() is Verdict.UNTRIED
