"""Templates: written down, refused where they cannot be meant, made from schemas and headers, kept as versions."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import jsonschema
import openpyxl
import pytest

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms import FieldType, FormField, FormTemplate, Names, dump_template, form_question, load_template
from qwen_vl_app.forms.delimited import csv_lines
from qwen_vl_app.forms.schema import reading_schema
from qwen_vl_app.forms.sources import keep_from_file, keep_from_text, template_from_file, template_from_text
from qwen_vl_app.forms.store import TemplateStore, shipped
from qwen_vl_app.forms.template import slug


@pytest.mark.parametrize("template", shipped(), ids=lambda template: template.name)
def test_what_ships_is_whole_in_both_languages(template: FormTemplate) -> None:
    """Titles and names in English and Chinese; the document comes back as it was; null fits every field's schema."""
    assert template.title.en and template.title.zh and template.about.en and template.about.zh
    for field in template.fields:
        assert field.names.en and field.names.zh, field.key
    assert load_template(dump_template(template)) == template
    for language in ("en", "zh"):
        schema = reading_schema(template, language)
        properties = schema["properties"]
        assert isinstance(properties, dict)
        nothing = dict.fromkeys(properties)
        jsonschema.validate(nothing, schema)
        for name in nothing:
            assert name in form_question(template, language)


def test_the_four_that_the_site_asked_for_ship() -> None:
    """Nameplate, inspection form, meter reading, delivery note."""
    assert {template.name for template in shipped()} == {
        "nameplate",
        "inspection_form",
        "meter_reading",
        "delivery_note",
    }


def test_a_plain_template_asks_in_the_published_words_alone() -> None:
    """Small models understand no others."""
    template = FormTemplate("t", (FormField("a", Names("TAG")), FormField("b", Names("BAR"))))
    assert form_question(template, "en") == 'Extract the key-value information in the format:{"TAG": "", "BAR": ""}'
    assert form_question(template, "zh") == "提取图中的：['TAG','BAR']，并且按照json格式输出。"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("[]", "forms.template.not_json"),
        ("{", "forms.template.not_json"),
        ('{"name": "t", "fields": []}', "forms.template.no_fields"),
        ('{"name": "T T", "fields": [{"key": "a"}]}', "forms.template.bad_name"),
        ('{"name": "t", "fields": [{"key": "a"}, {"key": "a"}]}', "forms.template.name_twice"),
        ('{"name": "t", "fields": [{"key": "a", "type": "colour"}]}', "forms.template.bad_value"),
        ('{"name": "t", "fields": [{"key": "a", "typo": 1}]}', "forms.template.bad_value"),
        ('{"name": "t", "fields": [{"key": "a", "type": "choice"}]}', "forms.template.no_choices"),
        ('{"name": "t", "fields": [{"key": "a", "type": "table"}]}', "forms.template.no_columns"),
        ('{"name": "t", "fields": [{"key": "a", "unit": "furlong"}]}', "forms.template.unknown_unit"),
        ('{"name": "t", "fields": [{"key": "a", "pattern": "("}]}', "forms.template.bad_pattern"),
        ('{"name": "t", "fields": [{"key": "a", "format": "YY"}]}', "forms.template.bad_date_format"),
        ('{"name": "t", "fields": [{"key": "a", "minimum": 2, "maximum": 1}]}', "forms.template.empty_range"),
        (
            '{"name": "t", "fields": [{"key": "a"}], "rules": [{"kind": "sum", "fields": ["a", "b"]}]}',
            "forms.template.rule_unknown_field",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(document: str, code: str) -> None:
    """One sentence each."""
    with pytest.raises(FormError) as refused:
        load_template(document)
    assert refused.value.code == code


NESTED = {"type": "object", "properties": {"x": {"type": "object", "properties": {"y": {}}}}}


def test_a_json_schema_becomes_a_template() -> None:
    """Types, enumerations, limits, references, "or null", lists and tables; booleans are a choice."""
    schema = {
        "title": "Pump check",
        "type": "object",
        "required": ["Serial No."],
        "$defs": {"amount": {"type": "number", "minimum": 0}},
        "properties": {
            "Serial No.": {"type": "string", "pattern": "^[A-Z]+$"},
            "流量": {"anyOf": [{"$ref": "#/$defs/amount"}, {"type": "null"}]},
            "count": {"type": ["integer", "null"], "exclusiveMaximum": 9},
            "checked on": {"type": "string", "format": "date"},
            "verdict": {"enum": ["good", "bad", None]},
            "leaks": {"type": "boolean", "description": "oil below the shaft"},
            "parts": {"type": "array", "items": {"type": "string"}},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        },
    }
    template = template_from_text(json.dumps(schema))
    kinds = {field.key: field.type for field in template.fields}
    assert template.name == "pump_check"
    assert kinds == {
        "serial_no": FieldType.TEXT,
        "field_2": FieldType.NUMBER,
        "count": FieldType.INTEGER,
        "checked_on": FieldType.DATE,
        "verdict": FieldType.CHOICE,
        "leaks": FieldType.CHOICE,
        "parts": FieldType.LIST,
        "rows": FieldType.TABLE,
    }
    serial, flow = template.fields[0], template.fields[1]
    assert (serial.is_required, serial.pattern) == (True, "[A-Z]+")
    assert (flow.names.zh, flow.minimum) == ("流量", 0)
    assert template.field("leaks").hint.en == "oil below the shaft"


def test_objects_within_a_schema_give_their_fields() -> None:
    """Under both names; required where all of them are. References at the top, `allOf`, and values as `oneOf` are understood."""
    schema = {
        "$ref": "#/$defs/Delivery",
        "$defs": {
            "Delivery": {
                "title": "送货",
                "required": ["to"],
                "properties": {
                    "to": {"$ref": "#/$defs/Place"},
                    "how": {"oneOf": [{"const": "road"}, {"const": "sea"}]},
                },
                "allOf": [{"properties": {"weight": {"oneOf": [{"type": "number"}, {"type": "string"}]}}}],
            },
            "Place": {"type": "object", "required": ["city"], "properties": {"city": {}, "zip": {"type": "integer"}}},
        },
    }
    template = template_from_text(json.dumps(schema))
    assert template.title.zh == "送货"
    found = {field.key: (field.names.en, field.type, field.is_required) for field in template.fields}
    assert found == {
        "to_city": ("to city", FieldType.TEXT, True),
        "to_zip": ("to zip", FieldType.INTEGER, False),
        "how": ("how", FieldType.CHOICE, False),
        "weight": ("weight", FieldType.TEXT, False),
    }
    assert [choice.value for choice in template.field("how").choices] == ["road", "sea"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", "forms.schema.not_json"),
        ("[1]", "forms.schema.no_object"),
        ('{"type": "object"}', "forms.schema.no_object"),
        ('{"type": "objct", "properties": {"a": {}}}', "forms.schema.invalid"),
        (json.dumps({"properties": {"a": {"type": "array", "items": NESTED}}}), "forms.schema.nested"),
        (
            '{"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}',
            "forms.schema.own_reference",
        ),
        ('{"properties": {"a": {"type": "array", "items": {"$ref": "#"}}}}', "forms.schema.own_reference"),
        ('{"properties": {"a": {"$ref": "#/$defs/gone"}}}', "forms.schema.no_reference"),
        (json.dumps({"properties": {f"f{n}": {} for n in range(61)}}), "forms.template.too_many_fields"),
    ],
)
def test_schemas_that_describe_no_form(text: str, code: str) -> None:
    """Each is refused in a sentence."""
    with pytest.raises(FormError) as refused:
        template_from_text(text)
    assert refused.value.code == code


def workbook(*lines: tuple[object, ...]) -> bytes:
    """An XLSX file of these lines."""
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def test_a_workbooks_header_becomes_a_template() -> None:
    """A title above it is passed over; kinds are guessed from the lines below; long digits are names."""
    data = workbook(
        ("Deliveries 2026",),
        ("No.", "供应商", "Weight", "Pieces", "Date", "Code"),
        ("0042", "ACME", 12.5, 3, "2026-01-02", "4006381333931"),
        ("0043", "Müller", 1.5, 4, "2026-01-03", "4006381333948"),
    )
    template = template_from_file(data, "deliveries.xlsx")
    assert [field.type for field in template.fields] == [
        FieldType.TEXT,
        FieldType.TEXT,
        FieldType.NUMBER,
        FieldType.INTEGER,
        FieldType.DATE,
        FieldType.TEXT,
    ]
    assert [field.names.of("en") for field in template.fields][:2] == ["No.", "供应商"]
    assert template.name == "deliveries"


def test_a_csv_header_becomes_a_template_in_any_encoding() -> None:
    """Semicolons and GB 18030, as Excel in China writes them."""
    document = "表号;读数\n A1;12,5\n"
    template = template_from_file(document.encode("gb18030"), "表.csv")
    assert template.fields == template_from_file(document.encode("utf-16"), "表.csv").fields
    assert [(field.names.zh, field.type) for field in template.fields] == [
        ("表号", FieldType.TEXT),
        ("读数", FieldType.NUMBER),
    ]
    western = "Prüfgröße;Straße\nKöln;12,5\n"
    template = template_from_file(western.encode("cp1252"), "a.csv")  # as Excel in Germany writes it
    assert [field.names.en for field in template.fields] == ["Prüfgröße", "Straße"]


@pytest.mark.parametrize(
    "text",
    [
        "file;Größe;Prüfdatum\nKöln.png;12,5;05.11.2023\n",
        "Größe;b\n1;2\n",
        "file;température\né.png;20 °C\n",
        "文件,编号\n图片1.png,A相-1\n",
        "表号;读数\nA1;12,5\n",
        "file,备注\na.png,珺镕喆测试温度正常\n",
        "序號,額定電壓,備註,日期\n",
        "文件,備註\na.png,變壓器額定電壓\n",
        "設備編號;電壓 kV;電流 A\n",
        "A相電壓,B相電壓\n",
        "電\t號\n",
        "Ölstand;Füllhöhe;Übergabe\n",
        "numéro;référence;ÉTAT;né\n",
        "più;città;qualità\n",
        "Måling;Værdi;Størrelse\n",
        "Señal;Niño;presión;él\n",
        "Ação;Pressão;Vazão\n",
        "°C;µm;m³;Ø mm\n",
        "file\tnote\na.png\t1,5\n",
        ";;\nfile;a,b;c\na.png;1,2;3\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk", "cp1252"])
def test_lines_are_read_however_a_spreadsheet_saves_them(text: str, encoding: str) -> None:
    """Western letters are no Chinese ones, although GB 18030 reads nearly any bytes as such."""
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        return  # a spreadsheet could not save it so either
    mark = next(mark for mark in ";\t," if mark in text)
    assert list(csv_lines(data)) == [line.split(mark) for line in text.splitlines()]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('file,"U; V; W"\r\na.png,5\r\n', [["file", "U; V; W"], ["a.png", "5"]]),
        ('file;"Masse, kg"\na.png;1,5\n', [["file", "Masse, kg"], ["a.png", "1,5"]]),
        ('"file";"a ""x"", b, c";d\n', [["file", 'a "x", b, c', "d"]]),
        ('file;"Masse,\nnetto,\nkg"\na.png;1\n', [["file", "Masse,\nnetto,\nkg"], ["a.png", "1"]]),
        ('file;2" Rohr;3" Rohr\na.png;1;2\n', [["file", '2" Rohr', '3" Rohr'], ["a.png", "1", "2"]]),
        ('"";"";""\nfile;a,b;c\n', [["", "", ""], ["file", "a,b", "c"]]),
        ("sep=;\r\nfile;a, b, c\r\n", [["file", "a, b, c"]]),
        ("SEP=,\nfile,U;V;W\n", [["file", "U;V;W"]]),
        ('"sep=|"\nfile|a,b\n', [["file", "a,b"]]),
        ("sep=\t\nfile\ta,b\n", [["file", "a,b"]]),
        ("file;Masse, kg, netto\na.png;1,5\n", [["file", "Masse, kg, netto"], ["a.png", "1,5"]]),
        ("Masse, kg, netto;文件\n1,5;a.png\n", [["Masse, kg, netto", "文件"], ["1,5", "a.png"]]),
        ("September,file\n1,a.png\n", [["September", "file"], ["1", "a.png"]]),
        ("file\na.png\n", [["file"], ["a.png"]]),
        ("a;b\n1,5;2\n", [["a", "b"], ["1,5", "2"]]),
    ],
)
def test_what_separates_cells_is_told_from_what_stands_in_them(
    text: str, lines: list[list[str]], encoding: str
) -> None:
    """Marks within quotation marks count for nothing, Excel's own line says which it is, and a known title stays whole."""
    assert list(csv_lines(text.encode(encoding), titles=("file", "文件"))) == lines


def test_a_title_over_several_columns_goes_with_the_titles_below_it() -> None:
    """Merged cells are empty but for the first."""
    data = workbook(
        ("Pumps",), ("Tag", "Reading", None, "Date"), (None, "min", "max", None), ("P-1", 1.5, 2, "2026-01-02")
    )
    template = template_from_file(data, "pumps.xlsx")
    found = [(field.names.en, field.type) for field in template.fields]
    assert found == [
        ("Tag", FieldType.TEXT),
        ("Reading min", FieldType.NUMBER),
        ("Reading max", FieldType.INTEGER),
        ("Date", FieldType.DATE),
    ]


def test_years_may_be_titles() -> None:
    """Other numbers above numbers are a table without a header."""
    template = template_from_file(workbook(("Tag", 2025, 2026), ("P-1", 1.5, 2)), "years.xlsx")
    assert [field.names.en for field in template.fields] == ["Tag", "2025", "2026"]


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (workbook(("P-1", 1.5, "ok"), ("P-2", 2.5, "ok")), "a.xlsx", "forms.header.no_header"),
        (workbook(tuple(f"Column {n}" for n in range(300))), "a.xlsx", "forms.template.too_many_fields"),
        (b"", "a.json", "forms.template.unknown_file"),
        (b"PK\x03\x04 nothing", "a.xlsx", "forms.header.unreadable"),
        (b"\x00\x01\x02", "a.csv", "forms.header.unreadable"),
        (b"1,2,3\n", "a.csv", "forms.header.none"),
        (b"\xff\xfe\x00", "a.json", "forms.template.unknown_file"),
    ],
)
def test_files_that_hold_no_header(data: bytes, name: str, code: str) -> None:
    """Each is refused in a sentence."""
    with pytest.raises(FormError) as refused:
        template_from_file(data, name)
    assert refused.value.code == code


def test_a_workbook_that_unpacks_to_far_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never unpacked."""
    monkeypatch.setattr("qwen_vl_app.forms.headers.MAX_UNPACKED_BYTES", 2**20)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/sharedStrings.xml", b"\0" * (2**20 + 1))
    with pytest.raises(FormError) as refused:
        template_from_file(file.getvalue(), "a.xlsx")
    assert refused.value.code == "forms.header.too_large"


def test_versions_count_and_old_ones_stay(tmp_path: Path) -> None:
    """Saving what has not changed does nothing; what ships is never changed; a damaged version falls back."""
    store = TemplateStore(tmp_path)
    own = FormTemplate("nameplate", (FormField("a"),))
    first = store.save(own)
    assert store.save(own) == first and first.version == 1
    second = store.save(FormTemplate("nameplate", (FormField("a"), FormField("b"))))
    assert (second.version, store.versions("nameplate")) == (2, (1, 2))
    assert store.get("nameplate", version=1) == first
    assert len(store.get("nameplate", version=0).fields) == 11
    (tmp_path / "templates" / "nameplate" / "v2.json").write_text("torn", encoding="utf-8")
    assert store.get("nameplate") == first
    store.remove("nameplate")
    assert store.get("nameplate").version == 0
    with pytest.raises(FormError):
        store.remove("nameplate")
    with pytest.raises(FormError):
        store.get("../../etc/passwd")


def test_a_new_template_never_takes_the_place_of_another(tmp_path: Path) -> None:
    """Names are made up from titles, and many titles make the same: Chinese ones, long ones, none."""
    store = TemplateStore(tmp_path)
    for title in ("泵铭牌", "阀门铭牌", "电机铭牌"):
        made = FormTemplate(slug(title), (FormField("serial", Names("Serial")),), Names(zh=title))
        store.save_new(made)
    own = [each for each in store.list() if each.version]
    assert sorted((each.name, each.version) for each in own) == [("form", 1), ("form_2", 1), ("form_3", 1)]
    assert {each.title.zh for each in own} == {"泵铭牌", "阀门铭牌", "电机铭牌"}


def test_what_is_taken_in_twice_is_a_version_of_itself_alone(tmp_path: Path) -> None:
    """A schema with the same title is the next version; another one, or one without a title, is a template of its own."""
    store = TemplateStore(tmp_path)

    def schema(title: str, *labels: str) -> str:
        return json.dumps({"title": title, "type": "object", "properties": {label: {} for label in labels}})

    first = keep_from_text(store, schema("Pump", "tag"))
    assert keep_from_text(store, schema("Pump", "tag", "flow")).version == 2
    assert keep_from_text(store, schema("Valve", "tag")).name != first.name
    untitled = [keep_from_text(store, schema("", label)).name for label in ("a", "b")]
    assert len(set(untitled)) == 2
    shared = dump_template(store.get("pump")).encode()
    assert keep_from_file(store, shared, "from a friend.json").name == "pump"
    by_file = [keep_from_file(store, b"Tag,Flow\n1,2\n", name).name for name in ("泵.csv", "阀.csv")]
    assert len(set(by_file)) == 2
