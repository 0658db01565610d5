"""Downloads of forms: those that a browser is shown, in every form, and one sentence where there is no file."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.form_exports import FORMS, form_export_routes
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.forms import FillPlan, desk_of
from tests.forms.parts import TEMPLATE, PlateModel, form_assistant
from tests.hub_parts import WAIT_S
from tests.ui.fakes import png

ANN, BOB = "a" * 32, "b" * 32


@pytest.fixture
def assistant(tmp_path: Path) -> Iterator[Assistant]:
    with form_assistant(tmp_path, PlateModel()) as made:
        made.wait_until_loaded(WAIT_S)
        for name, width, owner in (("ann.png", 280, ANN), ("bob.png", 308, BOB), ("site.png", 336, LOCAL_OWNER)):
            desk_of(made).fill(FillPlan(TEMPLATE, owner=owner), made.stage(png(width=width, height=140), name))
        yield made


def browser(assistant: Assistant, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=form_export_routes(lambda: assistant)), cookies=cookies)


def test_every_form_is_a_whole_file_of_what_the_page_shows(assistant: Assistant, tmp_path: Path) -> None:
    """A browser's own forms and the site's, of nobody else's; and nothing of it stays here."""
    for kind, begin in {"csv": b"\xef\xbb\xbf", "xlsx": b"PK", "json": b"{", "pdf": b"%PDF"}.items():
        reply = browser(assistant).get(f"{FORMS}/{kind}")
        assert reply.status_code == 200 and reply.content.startswith(begin)
        assert reply.headers["content-disposition"] == f'attachment; filename="forms.{kind}"'
        assert reply.headers["cache-control"] == "no-store"
    told = browser(assistant).get(f"{FORMS}/json").text
    assert len(json.loads(told)["forms"]) == 2
    assert "ann.png" in told and "site.png" in told and "bob.png" not in told
    assert not list(tmp_path.rglob("being-made-*"))


def test_where_there_is_no_file_a_sentence_says_why(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that nobody knows, no such form, a full disk."""
    assert browser(assistant, None).get(f"{FORMS}/csv").status_code == 409
    assert browser(assistant).get(f"{FORMS}/exe").status_code == 409

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qwen_vl_app.scratch.make_folder", full)
    assert "Make room" in browser(assistant).get(f"{FORMS}/csv?lang=en").text
    told = browser(assistant).get(f"{FORMS}/csv?lang=zh")
    assert told.status_code == 409 and "空间" in told.text
