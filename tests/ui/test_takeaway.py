"""What a person takes away of a conversation: whole files, with pictures, and nothing that was written for this."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from qwen_vl_app import takeaway
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.chat import Conversation, Question, Table
from qwen_vl_app.corrections import CorrectedTable, table_text
from qwen_vl_app.takeaway import Taker, as_json, write_json, write_pdf, write_zip
from qwen_vl_app.texts import Language
from tests.hub_parts import WAIT_S
from tests.ui.conftest import MakeAssistant
from tests.ui.fakes import png

BOXES = '```json\n[{"bbox_2d": [56, 28, 168, 84], "label": "lamp"}, {"bbox_2d": [0, 0, 28, 28], "label": "门"}]\n```'


@pytest.fixture(params=[False, True], ids=["kept", "private"])
def taken(request: pytest.FixtureRequest, make_assistant: MakeAssistant) -> tuple[Taker, Conversation]:
    """A conversation of two pictures, a follow-up and an answer that failed."""
    assistant: Assistant = make_assistant(BOXES, "It is red.\n" * 120, RuntimeError("broken"))
    pictures = (
        assistant.stage(png(width=560, height=280), "panel.png"),
        assistant.stage(png(width=280, height=560), "门.png"),
    )
    job = assistant.ask(Question("Where are the lamps?", pictures), is_private=request.param)
    assert job.wait(WAIT_S) is not None
    for text in ("And what 颜色?", "Why?"):
        follow = assistant.ask(Question(text, conversation_id=job.conversation_id))
        assert follow.wait(WAIT_S) is not None
    assert job.conversation_id is not None
    taker = Taker(assistant, LOCAL_OWNER, Language.CHINESE)
    return taker, assistant.conversation(LOCAL_OWNER, job.conversation_id)


def zip_of(taker: Taker, conversation: Conversation) -> io.BytesIO:
    """The archive, in memory."""
    target = io.BytesIO()
    write_zip(taker, conversation, target)
    return target


def pdf_of(taker: Taker, conversation: Conversation) -> bytes:
    """The report, in memory."""
    target = io.BytesIO()
    write_pdf(taker, conversation, target)
    return target.getvalue()


def test_a_zip_has_the_text_and_the_pictures(taken: tuple[Taker, Conversation]) -> None:
    """Whose Markdown shows them; it can be brought in again."""
    taker, conversation = taken
    archive = zipfile.ZipFile(zip_of(taker, conversation))
    (text,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("conversation.md"))
    assert "Where are the lamps?" in text
    assert text.count("](pictures/") == 2
    assert taker.assistant.records.import_archive(zip_of(taker, conversation), owner="another")


def test_a_report_shows_every_photo_with_what_was_found_on_it(taken: tuple[Taker, Conversation]) -> None:
    """Wide enough to read the numbers; long answers go on overleaf."""
    taker, conversation = taken
    document = pdfium.PdfDocument(pdf_of(taker, conversation))
    assert len(document) >= 4
    first = document[0].render(scale=1).to_pil().convert("RGB")
    colours = {pixel for _, pixel in first.getcolors(2**24) or ()}
    assert any(abs(red - 230) < 30 and abs(green - 159) < 40 and blue < 60 for red, green, blue in colours), "no box"
    document.close()


def test_json_has_places_in_pixels_of_the_original(taken: tuple[Taker, Conversation]) -> None:
    """For programs."""
    taker, conversation = taken
    told = json.loads(as_json(conversation, taker.assistant.turns(LOCAL_OWNER, conversation.id)))
    assert [place["label"] for place in told["turns"][0]["answer"]["places"]] == ["lamp", "门"]
    assert [picture["name"] for picture in told["turns"][0]["pictures"]] == ["panel.png", "门.png"]
    assert told["turns"][2]["answer"]["finish_reason"] == "failed"


def test_json_has_the_places_of_a_follow_up(make_assistant: MakeAssistant) -> None:
    """They lie on the pictures before it, which each place names."""
    assistant = make_assistant("A panel.", BOXES)
    picture = assistant.stage(png(width=560, height=280), "panel.png")
    job = assistant.ask(Question("What is it?", (picture,)))
    assert job.wait(WAIT_S) is not None
    assert job.conversation_id is not None
    assert assistant.ask(Question("Where are the lamps?", conversation_id=job.conversation_id)).wait(WAIT_S)
    conversation = assistant.conversation(LOCAL_OWNER, job.conversation_id)
    told = json.loads(as_json(conversation, assistant.turns(LOCAL_OWNER, conversation.id)))
    lamp, _ = told["turns"][1]["answer"]["places"]
    assert lamp["picture_id"] == told["turns"][0]["pictures"][0]["picture_id"]
    seen = picture.seen.size
    assert lamp["box_px"] == [
        round(56 / seen.width * 560),
        round(28 / seen.height * 280),
        round(168 / seen.width * 560),
        round(84 / seen.height * 280),
    ]


@pytest.mark.parametrize("said", ["| Tag | Bar |\n|---|---|\n| P-1 | 15 |", '[{"Tag": "P-1", "Bar": "15"}]'])
def test_a_corrected_table_is_taken_away_as_it_stands(make_assistant: MakeAssistant, said: str) -> None:
    """The report has what a person put right in the place of what was misread; the JSON has it beside the model's text."""
    assistant = make_assistant(said)
    job = assistant.ask(Question("Read the table."))
    assert job.wait(WAIT_S) is not None
    assert job.turn_id is not None and job.conversation_id is not None
    model = Table(("Tag", "Bar"), (("P-1", "15"),))
    right = CorrectedTable(Table(model.columns, (("P-1", "1.5"),)), (0,))
    assistant.records.correct(LOCAL_OWNER, job.turn_id, table_text(0, right, model=model, language=Language.ENGLISH))
    taker = Taker(assistant, LOCAL_OWNER, Language.ENGLISH)
    turns = taker.turns(assistant.conversation(LOCAL_OWNER, job.conversation_id))
    (entry,) = takeaway._entries(taker, turns)
    lines = "\n".join(entry.lines)
    assert "P-1 | 1.5" in lines and "15" not in lines and "corrected by a person" in lines
    told = json.loads(as_json(assistant.conversation(LOCAL_OWNER, job.conversation_id), turns))
    assert told["turns"][0]["answer"]["tables"] == [{"columns": ["Tag", "Bar"], "rows": [["P-1", "1.5"]]}]


def test_a_corrected_value_beside_a_box_is_what_is_taken_away(make_assistant: MakeAssistant) -> None:
    """The box stays; what the model misread stands nowhere but in its own text."""
    assistant = make_assistant('[{"bbox_2d": [28, 0, 56, 28], "label": "Tag", "value": "15"}]')
    job = assistant.ask(Question("Where?", (assistant.stage(png(width=560, height=280), "a.png"),)))
    assert job.wait(WAIT_S) is not None and job.turn_id is not None and job.conversation_id is not None
    model = Table(("label", "value"), (("Tag", "15"),))
    right = CorrectedTable(Table(model.columns, (("Tag", "1.5"),)), (0,))
    assistant.records.correct(LOCAL_OWNER, job.turn_id, table_text(0, right, model=model, language=Language.ENGLISH))
    taker = Taker(assistant, LOCAL_OWNER, Language.ENGLISH)
    turns = taker.turns(assistant.conversation(LOCAL_OWNER, job.conversation_id))
    told = json.loads(as_json(assistant.conversation(LOCAL_OWNER, job.conversation_id), turns))["turns"][0]["answer"]
    assert told["tables"] == [{"columns": ["label", "value"], "rows": [["Tag", "1.5"]]}]
    assert told["data"] is None and [place["label"] for place in told["places"]] == ["Tag"]


def test_nothing_is_written_for_it(
    taken: tuple[Taker, Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither into the temporary folder nor anywhere else: it is made in memory."""
    taker, conversation = taken
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    before = sorted(tmp_path.rglob("*"))
    pdf_of(taker, conversation)
    write_json(taker, conversation, io.BytesIO())
    assert sorted(tmp_path.rglob("*")) == before
