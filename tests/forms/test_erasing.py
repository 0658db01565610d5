"""Erasing reaches forms: values, crops, pictures, decisions and the truth cases that came from them, of one owner or a period."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms import FORMS_NAME, FillPlan, FormDesk, form_erasing
from qwen_vl_app.forms import cabinet as cabinet_module
from qwen_vl_app.forms.cabinet import WRITTEN_WITHIN_S, Cabinet
from qwen_vl_app.forms.erasing import FILLED_NAME, FORM_FILE, TRUTH_NAME
from qwen_vl_app.forms.filled import dump_form
from qwen_vl_app.forms.truth import CASE_NAME, TruthCase
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


def test_a_case_whose_form_was_deleted_goes_with_its_owner(desk: FormDesk, assistant: Assistant) -> None:
    """It holds the picture and its values: it is gone with the day that it is of, and with everything of its owner."""
    old, mine, theirs = (
        filled(desk, assistant, 280, ago_days=3),
        filled(desk, assistant, 308),
        filled(desk, assistant, 336, owner=OTHER),
    )
    for form_id in (old, mine, theirs):
        desk.delete(form_id)
    assert len(desk.acceptance.cases()) == 3
    now = datetime.now(UTC)
    assistant.records.erase_period(LOCAL_OWNER, since=now - timedelta(days=4), until=now - timedelta(days=2))
    assert {case.case_id for case in desk.acceptance.cases()} == {mine, theirs}
    receipt = assistant.records.erase_everything(LOCAL_OWNER)
    assert receipt.is_complete
    assert receipt.files == 2
    assert [case.case_id for case in desk.acceptance.cases()] == [theirs]
    assistant.records.erase_everything(OTHER)
    assert find_traces([assistant.settings.data_dir], MARKER).files == ()


def test_erasing_one_owners_forms_leaves_the_sites_accepted_model(desk: FormDesk, assistant: Assistant) -> None:
    """Only what results say of the erased cases goes; a case that is taken out of the set goes from them as well."""
    theirs, other, third = (
        filled(desk, assistant, 280, owner=OTHER),
        filled(desk, assistant, 308),
        filled(desk, assistant, 336),
    )
    desk.acceptance.activate(desk.acceptance.run())
    active = desk.acceptance.active()
    assistant.records.erase_everything(OTHER)
    assert desk.acceptance.active() == active and active is not None
    report = desk.acceptance.report()
    assert report is not None and {each.case_id for each in report.fields} == {other, third} - {theirs}
    desk.acceptance.remove(third)
    report = desk.acceptance.report()
    assert report is not None and {each.case_id for each in report.fields} == {other}
    assistant.records.erase_everything(LOCAL_OWNER)
    assert desk.acceptance.report() is None


def test_a_form_that_is_held_open_holds_back_no_other_and_goes_later(
    desk: FormDesk, assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows does while another program reads a crop; the receipt is complete only then."""
    held, free = sorted((filled(desk, assistant, 280), filled(desk, assistant, 308)))
    really = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == held:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(self, target)

    with monkeypatch.context() as holding:
        holding.setattr(Path, "rename", rename)
        receipt = assistant.records.erase_everything(LOCAL_OWNER)
        assert not receipt.is_complete
        assert [each.form.form_id for each in desk.list()] == [held] != [free]
    assert assistant.records.settle()
    assert desk.list() == () and desk.acceptance.cases() == ()
    assert assistant.records.receipts(LOCAL_OWNER)[0].is_complete
    assert find_traces([assistant.settings.data_dir], MARKER).files == ()


def test_what_is_erased_while_the_truth_set_runs_is_in_no_report(desk: FormDesk, assistant: Assistant) -> None:
    """The report of that run names only what is still there."""
    theirs, other = filled(desk, assistant, 280, owner=OTHER), filled(desk, assistant, 308)
    erased: list[str] = []

    def erase(_number: int, case: TruthCase) -> None:
        if not erased:
            erased.append(case.case_id)
            assistant.records.erase_everything(OTHER)

    report = desk.acceptance.run(on_case=erase)
    assert theirs != other and {each.case_id for each in report.fields} == {other}
    kept = desk.acceptance.report(report.configuration)
    assert kept is not None and {each.case_id for each in kept.fields} == {other}


def test_a_case_of_before_has_no_day_and_goes_with_everything(desk: FormDesk, assistant: Assistant) -> None:
    """Cases that an earlier version kept do not say when their form was filled."""
    form_id = filled(desk, assistant, 280)
    case_file = assistant.settings.data_dir / FORMS_NAME / TRUTH_NAME / form_id / CASE_NAME
    told = json.loads(case_file.read_bytes())
    del told["filled_at"]
    case_file.write_text(json.dumps(told))
    desk.delete(form_id)
    now = datetime.now(UTC)
    assistant.records.erase_period(LOCAL_OWNER, since=now - timedelta(days=1), until=now + timedelta(days=1))
    assert len(desk.acceptance.cases()) == 1
    assistant.records.erase_everything(LOCAL_OWNER)
    assert desk.acceptance.cases() == ()


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
    made = half.stat().st_mtime
    os.utime(half, (made + 3600, made + 3600))
    assert not erasing.settle()  # a command may be writing it
    os.utime(half, (made - WRITTEN_WITHIN_S - 60, made - WRITTEN_WITHIN_S - 60))
    assert erasing.settle()
    assert not left.exists()
    assert not half.exists()
    assert (folder / form_id).is_dir()
    assert erasing.erase(None, since=None, until=None).forms == 1
    assert not (folder / form_id).exists()


def test_a_form_half_made_by_a_kill_is_swept_or_made_anew(tmp_path: Path) -> None:
    """It holds a picture and goes with the next erasure; a run that is resumed makes the same form again."""
    cabinet = Cabinet(tmp_path)
    for name in ("one", "two"):
        left = tmp_path / f".{name}.part"
        left.mkdir()
        (left / "upload").write_bytes(b"a picture")
        then = left.stat().st_mtime - WRITTEN_WITHIN_S - 60
        os.utime(left, (then, then))
    cabinet.add("one", {"form.json": b"{}"})
    assert cabinet.names("one") == ("form.json",)
    assert cabinet.sweep()
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_a_form_that_is_being_made_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may erase something else at that moment."""
    cabinet = Cabinet(tmp_path)
    really = cabinet_module._write

    def write(path: Path, data: bytes) -> None:
        really(path, data)
        assert cabinet.sweep()

    monkeypatch.setattr(cabinet_module, "_write", write)
    cabinet.add("one", {"form.json": b"{}", "upload": b"a picture"})
    assert cabinet.names("one") == ("form.json", "upload")
