"""The two catalogues say the same things, and everything the code may say is in them."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_vl_app.config import ROOT
from qwen_vl_app.texts import Language, catalogue, format_seconds, placeholders, t

PACKAGE = ROOT / "qwen_vl_app"
CODE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
FORMATS = {"", "bytes", "seconds", "count", "detail"}


def test_both_catalogues_have_the_same_codes() -> None:
    """No sentence stands in one language alone."""
    assert set(catalogue(Language.ENGLISH)) == set(catalogue(Language.CHINESE))


@pytest.mark.parametrize("language", Language)
def test_every_sentence_says_something_and_can_be_formatted(language: Language) -> None:
    """No sentence is empty, no placeholder is positional, and its format is ours or one of Python's numbers."""
    for code, sentence in catalogue(language).items():
        assert sentence.strip(), code
        for _, name, spec, _ in string.Formatter().parse(sentence):
            if name is None:
                continue
            assert name.isidentifier(), f"{code}: {{{name}}}"
            if (spec or "") not in FORMATS:
                assert re.fullmatch(r",?(\.\d)?[dfg%]", spec or ""), f"{code}: {{{name}:{spec}}}"


def test_both_languages_use_the_same_facts() -> None:
    """A fact that one language tells, the other tells too."""
    chinese = catalogue(Language.CHINESE)
    for code, sentence in catalogue(Language.ENGLISH).items():
        assert placeholders(sentence) == placeholders(chinese[code]), code


def test_chinese_sentences_are_chinese() -> None:
    """A sentence that was never translated shows no Chinese character; codes of pure numbers and units excepted."""
    for code, sentence in catalogue(Language.CHINESE).items():
        words = re.sub(r"\{[^}]*\}", "", sentence)
        if re.search(r"[A-Za-z]{3,}\s+[A-Za-z]{3,}\s+[A-Za-z]{3,}", words):
            assert re.search(r"[\u4e00-\u9fff]", words), code


def _spoken() -> Iterator[tuple[str, ast.Call, Path]]:
    """Every call that names a code: t("..."), Reason("...") or an error's class."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            code = node.args[0].value
            if (name in ("t", "Reason") or name.endswith("Error")) and isinstance(code, str) and CODE.fullmatch(code):
                yield code, node, file


def test_every_code_in_the_program_has_a_sentence_and_its_facts() -> None:
    """A code that is raised, given as a reason or shown is in the catalogue, and is given each fact its sentence tells."""
    sentences = catalogue(Language.ENGLISH)
    spoken = list(_spoken())
    assert spoken, "the scan found nothing, so it looks at the wrong place"
    wrong = []
    for code, node, file in spoken:
        place = f"{file.relative_to(ROOT)}:{node.lineno} {code}"
        if code not in sentences:
            wrong.append(f"{place}: no sentence")
        elif all(keyword.arg for keyword in node.keywords):  # **facts cannot be read here
            missing = placeholders(sentences[code]) - {str(keyword.arg) for keyword in node.keywords}
            wrong.extend(f"{place}: without {name}" for name in sorted(missing))
    assert not wrong, "\n".join(wrong)


def test_facts_are_written_the_way_people_read_them() -> None:
    """Facts reach the sentence, and an unknown code is shown as itself rather than as a traceback."""
    assert "192.0.2.1" in t("offline.refused", Language.CHINESE, target="192.0.2.1")
    assert t("no.such.code") == "no.such.code"


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.84, "0.8 s", "0.8 秒"),
        (14, "14 s", "14 秒"),
        (89.4, "89 s", "89 秒"),
        (200, "3 min 20 s", "3 分 20 秒"),
        (180.2, "3 min", "3 分钟"),
        (3599.7, "1 h", "1 小时"),
        (36_720, "10 h 12 min", "10 小时 12 分"),
        (7_190, "2 h", "2 小时"),
        (600_000, "166 h 40 min", "166 小时 40 分"),
    ],
)
def test_durations_are_in_the_language_of_the_sentence(seconds: float, english: str, chinese: str) -> None:
    """Seconds, minutes and hours, each with the word that its language has for it; never hundreds of minutes."""
    assert format_seconds(seconds) == english
    assert t("ui.batch.left", "en", left=seconds) == f"{english} left"
    assert t("ui.batch.left", "zh", left=seconds) == f"还需 {chinese}"


def test_the_names_of_details_are_in_the_language_of_the_sentence() -> None:
    """A reason carries the detail as the settings call it; a name that nobody knows stays as it is."""
    told = t("engine.plan.default_wanted", "zh", detail="low_memory")
    assert "低内存" in told and "low_memory" not in told
    assert '"low memory"' in t("engine.plan.default_wanted", "en", detail="low_memory")
    assert '"odd"' in t("engine.plan.default_wanted", "en", detail="odd")


COUNTED = re.compile(
    r"\{(?!limit|format|model)\w+(:count)?\} (\w+ )?"
    r"(answers|branches|cells|conversations|copies|duplicates|fields|files|folders|forms|lines|looks|models|pages|parts|pictures"
    r"|places|processes|questions|records|requests|rows|runs|threads|turns|values)\b"
)
SEVERAL = {
    "batch.width.gain",  # more than one answer a step
    "cli.bench.quality",  # a whole examination
    "cli.history.branches", "cli.look.pages",  # said only of more than one
    "cli.models.recorded", "cli.models.verified", "prove.report.shipped",  # a model and the app are many files
    "engine.choice.model.largest_fitting",  # the only one has a sentence of its own
    "image.first_frame",
    "staging.chip.offer_parts", "staging.chip.parts", "tiles.asked",  # a picture that is cut has two parts or more
    "ui.batch.drop.there",  # one file has a sentence of its own
    "ui.status.queue_several",
}  # fmt: skip


def test_english_sentences_are_right_for_one() -> None:
    """Where a count may be one, it stands behind its word: "Turns: 1", and never "1 turns"."""
    sentences = catalogue(Language.ENGLISH)
    assert {code for code, sentence in sentences.items() if COUNTED.search(sentence)} == SEVERAL


def test_a_token_has_one_name_in_chinese() -> None:
    """It is a word of the trade, but not two."""
    assert not [
        code for code, sentence in catalogue(Language.CHINESE).items() if re.search(r"(个 ?|\d ?|} )token", sentence)
    ]


def test_a_thing_has_one_name_in_chinese() -> None:
    """Words that read as something else, or as a second thing, are in no sentence: a site is no website or substation, a turn
    no record (which is the page's name), a second look no repetition.
    """
    wrong = re.compile("本站|站点|管理员|复读|工单|(一|几|}) ?条(记录|提问)|第 {turn} 条")
    assert not [code for code, sentence in catalogue(Language.CHINESE).items() if wrong.search(sentence)]


@pytest.mark.parametrize("language", Language)
def test_sentences_of_the_page_say_which_computer_they_mean(language: Language) -> None:
    """Behind a reverse proxy "this computer" would be the reader's; each such sentence of the page has one for that reader."""
    here = re.compile("[Tt]his computer|本机|这台电脑")
    sentences = catalogue(language)
    wanting = {
        code for code, sentence in sentences.items()
        if code.startswith("ui.") and here.search(sentence) and f"{code}_elsewhere" not in sentences
    } - {
        "ui.records.backup_what",  # a command, typed where the app runs
        "ui.settings.machine",  # beside the model: the machine of the app
        "ui.checkup.lead",
        "ui.demo.real_model",
    }  # fmt: skip
    assert not wanting
    for code, sentence in sentences.items():
        if code.endswith("_elsewhere"):
            assert not here.search(sentence) and code.removesuffix("_elsewhere") in sentences, code
