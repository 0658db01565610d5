"""Erasing reaches forms: values, crops, pictures, decisions and the truth cases that came from them, of one owner or a period."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms import FORMS_NAME, FillPlan, FormDesk, form_erasing
from qwen_vl_app.forms.cabinet import WRITTEN_WITHIN_S
from qwen_vl_app.forms.erasing import FILLED_NAME, FORM_FILE
from qwen_vl_app.forms.filled import dump_form
from qwen_vl_app.records import find_traces
from tests.forms.parts import TEMPLATE, PlateModel, form_assistant
from tests.hub_parts import WAIT_S
from tests.ui.fakes import png

OTHER = "another-browser"
MARKER = "ZQX-CANARY-1"


@pytest.fixture
def assistant(tmp_path: Path) -> Iterator[Assistant]:
    model = PlateModel({"Serial": MARKER, "Load": "50", "Note": None})
    with form_assistant(tmp_path, model) as opened:
        opened.wait_until_loaded(WAIT_S)
        yield opened


@pytest.fixture
def desk(assistant: Assistant) -> FormDesk:
    return FormDesk(assistant)


def filled(desk: FormDesk, assistant: Assistant, width: int, *, owner: str = LOCAL_OWNER, ago_days: int = 0) -> str:
    """The id of a form that was filled then, reviewed and taken into the truth set."""
    picture = assistant.stage(png(width=width, height=140), f"{MARKER}.png")
    form = desk.fill(FillPlan(TEMPLATE), picture).form
    then = datetime.now(UTC) - timedelta(days=ago_days)
    changed = replace(form, owner=owner, filled_at=then)
    desk._filled.put(form.form_id, FORM_FILE, dump_form(changed).encode("ascii"))
    for key, value in (("serial", MARKER), ("load", "70"), ("note", MARKER)):
        desk.correct(form.form_id, key, value, who="Ann")
    return form.form_id


def test_everything_of_an_owner_goes(desk: FormDesk, assistant: Assistant) -> None:
    """Others' forms stay; what was known of it in memory goes as well."""
    mine, theirs = filled(desk, assistant, 280), filled(desk, assistant, 308, owner=OTHER)
    assert len(desk.acceptance.cases()) == 2
    receipt = assistant.records.erase_everything(LOCAL_OWNER)
    assert receipt.is_complete
    assert receipt.forms == 1
    assert receipt.files >= 6
    with pytest.raises(FormError, match=r"forms\.unknown"):
        desk.judged(mine)
    assert [each.form.form_id for each in desk.list()] == [theirs]
    assert [case.case_id for case in desk.acceptance.cases()] == [theirs]
    assert assistant.records.erase_site().forms == 1
    folder = assistant.settings.data_dir
    assert find_traces([folder], MARKER).files == ()


def test_a_period_takes_what_was_filled_in_it(desk: FormDesk, assistant: Assistant) -> None:
    """And nothing before or after."""
    old, young = filled(desk, assistant, 280, ago_days=3), filled(desk, assistant, 308)
    now = datetime.now(UTC)
    assert (
        assistant.records.erase_period(LOCAL_OWNER, since=now - timedelta(days=2), until=now - timedelta(days=1)).forms
        == 0
    )
    receipt = assistant.records.erase_period(LOCAL_OWNER, since=now - timedelta(days=4), until=now - timedelta(days=2))
    assert receipt.forms == 1
    assert [each.form.form_id for each in desk.list()] == [young]
    assert old != young


def test_what_a_kill_left_behind_goes_and_damaged_forms_go_with_everybodys(
    desk: FormDesk, assistant: Assistant
) -> None:
    """Nobody knows whose a damaged form is; half a drawer is no form, and is swept."""
    form_id = filled(desk, assistant, 280)
    folder = assistant.settings.data_dir / FORMS_NAME / FILLED_NAME
    (folder / form_id / FORM_FILE).write_text("{")
    left = folder / ".erasing-left"
    left.mkdir()
    half = folder / ".half.part"
    half.mkdir()
    (half / "upload").write_bytes(b"a picture")
    erasing = form_erasing(folder.parent)
    assert erasing.erase(LOCAL_OWNER, since=None, until=None).forms == 0
    assert not erasing.settle()  # a command may be writing it
    then = half.stat().st_mtime - WRITTEN_WITHIN_S - 60
    os.utime(half, (then, then))
    assert erasing.settle()
    assert not left.exists()
    assert not half.exists()
    assert (folder / form_id).is_dir()
    assert erasing.erase(None, since=None, until=None).forms == 1
    assert not (folder / form_id).exists()
