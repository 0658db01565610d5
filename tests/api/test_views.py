"""The routes behind answers to look at: whose pictures and pages go out, how, and under which policy."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.page_walls import walled_in
from qwen_vl_app.api.views import view_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Question
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.samples import load_samples
from tests.hub_parts import WAIT_S
from tests.ui.fakes import fake_decoder

ANN, BOB = "a" * 32, "b" * 32
PAGE = '```html\n<h1>Hi</h1><script>x()</script><img src="https://outside.example/a.png">\n```\n\n```python\nx\n```'
IN_A_FRAME = {"sec-fetch-dest": "iframe"}


@pytest.fixture
def assistant(tmp_path: Path) -> Iterator[Assistant]:
    """An assistant whose one turn has a picture and a page."""
    made = Assistant(
        engine=FakeEngine([PAGE]),
        decoder=fake_decoder(),
        history=HistoryStore(tmp_path / "data"),
        settings=Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models"),
    )
    image = Image.new("RGB", (200, 100), (10, 20, 30))
    image.paste((200, 0, 0), (50, 20, 150, 80))
    data = io.BytesIO()
    image.save(data, "PNG")
    with made:
        made.wait_until_loaded(WAIT_S)
        picture = made.stage(data.getvalue(), "a.png")
        assert made.ask(Question("page", (picture,)), owner=ANN).wait(WAIT_S) is not None
        yield made


def browser(assistant: Assistant, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=view_routes(lambda: assistant)), cookies=cookies)


def test_a_part_goes_to_its_owner_alone(assistant: Assistant) -> None:
    """Strangers, browsers without a profile and pictures that are not there get a sentence."""
    for profile, picture in ((BOB, 1), (None, 1), (ANN, 9)):
        refused = browser(assistant, profile).get(f"/app/pictures/{picture}/cut?box=0,0,1,1&size=200,100")
        assert (refused.status_code, refused.headers["content-type"]) == (404, "text/plain; charset=utf-8")


def test_a_part_is_cut_out_to_the_pixel(assistant: Assistant) -> None:
    """The file has the box's pixels and says where it comes from; what cannot be a box is refused."""
    reply = browser(assistant).get("/app/pictures/1/cut?box=50,20,150,80&size=200,100&name=a.png")
    assert Image.open(io.BytesIO(reply.content)).convert("RGB").getcolors() == [(6000, (200, 0, 0))]
    assert reply.headers["content-disposition"] == "attachment; filename*=utf-8''a-50-20-150-80.png"
    for box in ("0,0,0,0", "0,0,201,1", "-1,0,5,5", "a,b,c,d", "1,2,3", "", "5,5,1,1"):
        assert browser(assistant).get(f"/app/pictures/1/cut?box={box}&size=200,100").status_code == 404


def test_a_samples_picture_is_a_picture_and_no_other_file(assistant: Assistant) -> None:
    """It comes as what its name says; a number that is none gets one sentence, and so does who is no browser."""
    folder = assistant.settings.models_dir / "demo" / "samples"
    folder.mkdir(parents=True)
    for name in ("one.png", "two.html"):
        (folder / name).write_bytes(b"data")
    entries = [{"file": name, "title": {"en": "x"}, "question": {"en": "y"}} for name in ("one.png", "two.html")]
    (folder / "samples.json").write_text(json.dumps(entries), encoding="utf-8")
    assistant.samples = lambda: load_samples(folder.parent)  # type: ignore[method-assign]
    client = browser(assistant)
    kinds = [client.get(f"/app/samples/{number}").headers["content-type"] for number in (0, 1)]
    assert kinds == ["image/png", "application/octet-stream"]
    assert client.get("/app/samples/2").status_code == 404
    assert browser(assistant, None).get("/app/samples/0").status_code == 404


def test_a_page_runs_nothing_and_loads_nothing(assistant: Assistant) -> None:
    """Scripts need a second click; nothing of it comes from anywhere in either case."""
    still = browser(assistant).get("/app/pages/1/0", headers=IN_A_FRAME)
    policy = still.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "outside.example" not in still.text.replace("data:,outside.example", "")
    running = browser(assistant).get("/app/pages/1/0?scripts=1", headers=IN_A_FRAME).headers["content-security-policy"]
    assert running.startswith("sandbox allow-scripts; script-src 'unsafe-inline'; require-trusted-types-for")
    assert "allow-same-origin" not in policy + running and "connect-src" not in policy + running


@pytest.mark.parametrize("path", ["1/1", "1/2", "1/7", "2/0"])
def test_only_pages_of_ones_own_answers_are_shown(assistant: Assistant, path: str) -> None:
    """Other code, other numbers and other turns are no pages; another browser has none of it."""
    assert browser(assistant).get(f"/app/pages/{path}", headers=IN_A_FRAME).status_code == 404
    assert browser(assistant, BOB).get("/app/pages/1/0", headers=IN_A_FRAME).status_code == 404


def test_a_page_is_not_shown_alone(assistant: Assistant) -> None:
    """In a tab of its own a link could lead away: there it is refused."""
    for headers in ({}, {"sec-fetch-dest": "document"}):
        reply = browser(assistant).get("/app/pages/1/0", headers=headers)
        assert reply.status_code == 404 and "<h1>" not in reply.text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ('<img src="https://a.example/x.png">', '<img src="data:,a.example/x.png">'),
        ("<img src=//a.example/x>", "<img src=data:,a.example/x>"),
        ('<a href="\\\\a.example" target=_self>', '<a href="data:,a.example" data-target=_self>'),
        ("<style>p{background:url(http://a.example)}</style>", "<style>p{background:url(data:,a.example)}</style>"),
        ('<link rel="preconnect" href="//a.example">', '<x-link rel="preconnect" href="data:,a.example">'),
        ("<lin<link>k>", "<lin<x-link>k>"),
        ('<meta http-equiv="refresh" content="0;https://a.example">', '<x-meta http-equiv="refresh" content="0;data:,a.example">'),
        ("<p>see https://a.example</p>", "<p>see https://a.example</p>"),
        ('<img src="data:image/png;base64,//8A+//9">', '<img src="data:image/png;base64,//8A+//9">'),
    ],
)  # fmt: skip
def test_no_tag_names_another_machine(source: str, shown: str) -> None:
    """Addresses in tags and styles are gone; words on the page and pictures inside it stay."""
    assert walled_in(source, runs=False).endswith(f'<base target="_blank">{shown}')
