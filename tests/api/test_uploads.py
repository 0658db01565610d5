"""The composer's routes: staging, editing, and the walls between browsers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Scope

from qwen_vl_app.api import bodies
from qwen_vl_app.api.clips import clip_routes
from qwen_vl_app.api.dropped import dropped_routes
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.uploads import BODIES_AT_ONCE, body_of, upload_routes
from qwen_vl_app.api.views import view_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.chat import Question, Table
from qwen_vl_app.config import Settings
from qwen_vl_app.corrections import CorrectedTable, table_text
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.texts import Language, t
from tests.hub_parts import WAIT_S
from tests.ui.fakes import document, fake_decoder, png

ANN, BOB = "a" * 32, "b" * 32


@pytest.fixture
def said() -> str:
    """What the engine answers."""
    return "An answer."


@pytest.fixture
def assistant(tmp_path: Path, said: str) -> Iterator[Assistant]:
    """An assistant over a scripted engine, with a small limit for files."""
    made = Assistant(
        engine=FakeEngine([said]),
        decoder=fake_decoder(),
        history=HistoryStore(tmp_path / "data"),
        settings=Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models", max_upload_mb=1),
    )
    with made:
        made.wait_until_loaded(WAIT_S)
        yield made


def _browser(assistant: Assistant, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=upload_routes(lambda: assistant)), cookies=cookies)


def test_a_file_becomes_a_chip_with_what_the_model_will_see(assistant: Assistant) -> None:
    """The reply names format, size and seen size, with a thumbnail; the picture waits for its owner."""
    said = _browser(assistant).post("/app/uploads?name=lamp.png&lang=en", content=png(width=560, height=280)).json()
    assert said["name"] == "lamp.png"
    assert said["lines"][0] == "PNG · 560 × 280"
    assert said["lines"][1].startswith("seen ")
    assert said["lines"][1].endswith("about 2.0 s")  # as the engine predicts it
    assert said["thumbnail"].startswith("data:image/jpeg;base64,")
    assert assistant.staging.get(ANN, said["id"]).size.width == 560


def test_a_bad_file_is_one_sentence_in_the_readers_language(assistant: Assistant) -> None:
    """A refusal is told, not an error status that a browser cries out about."""
    said = _browser(assistant).post("/app/uploads?name=a.png&lang=zh", content=b"nothing")
    assert said.status_code == 200
    assert said.json().keys() == {"problem"}
    assert any("\u4e00" <= letter <= "\u9fff" for letter in said.json()["problem"])


def test_a_body_over_the_limit_is_refused_also_where_no_length_is_told(assistant: Assistant) -> None:
    """Neither an announced nor a streamed body passes the limit."""
    browser = _browser(assistant)
    for content in (b"x" * (2**20 + 1), iter([b"x" * 2**19] * 3)):
        assert "limit is 1 MB" in browser.post("/app/uploads?name=a.png&lang=en", content=content).json()["problem"]


def test_a_picture_is_turned_cropped_and_paged(assistant: Assistant) -> None:
    """Each edit gives a new picture in the old one's place; one more page comes beside it."""
    browser = _browser(assistant)
    chip = browser.post("/app/uploads?name=a.png", content=png(width=200, height=100)).json()
    turned = browser.post(f"/app/uploads/{chip['id']}", json={"turn": 1}).json()
    assert (turned["width"], turned["height"]) == (100, 200)
    cut = browser.post(f"/app/uploads/{turned['id']}", json={"crop": [0, 0, 0.5, 0.25]}).json()
    assert (cut["width"], cut["height"]) == (50, 50)
    assert browser.get(f"/app/uploads?ids={chip['id']},{turned['id']},{cut['id']}").json() == [cut]
    paper = browser.post("/app/uploads?name=p.pdf", content=document(3)).json()
    beside = browser.post(f"/app/uploads/{paper['id']}", json={"page": 1, "keep": True}).json()
    assert [each["page"] for each in browser.get(f"/app/uploads?ids={paper['id']},{beside['id']}").json()] == [0, 1]


def test_a_document_begins_at_the_first_page_that_can_be_read(assistant: Assistant) -> None:
    """It says how many before it cannot, and all its pages can be turned to; where none can be read it is refused."""
    browser = _browser(assistant)
    paper = browser.post("/app/uploads?name=p.pdf&lang=en", content=document(4, bad=2)).json()
    assert (paper["page"], paper["pages"]) == (2, 4)
    assert any("the 2 before it cannot" in note for note in paper["notes"])
    assert "damaged" in browser.post(f"/app/uploads/{paper['id']}?lang=en", json={"page": 0}).json()["problem"]
    after = browser.post(f"/app/uploads/{paper['id']}?lang=en", json={"page": 3}).json()
    assert (after["page"], after["notes"]) == (3, [])
    assert "damaged" in browser.post("/app/uploads?name=p.pdf&lang=en", content=document(2, bad=2)).json()["problem"]
    assert "notes" in browser.post("/app/uploads?name=p.pdf&lang=en", content=document(2)).json()


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "{", '{"crop": [1]}', '{"crop": [0, 0, NaN, 1]}', '{"page": "x"}', '{"turn": Infinity}'),
        *('{"page": 1e999}', '{"page": -1e999}', '{"turn": NaN}', '{"crop": [1e999, 0, 1, 1]}', "[" * 4000),
        '{"a":' * 700 + "1" + "}" * 700,
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(assistant: Assistant, body: str) -> None:
    """Whatever a stranger's script sends is a sentence, and the picture stays."""
    browser = _browser(assistant)
    chip = browser.post("/app/uploads?name=a.png", content=png()).json()
    assert "problem" in browser.post(f"/app/uploads/{chip['id']}", content=body).json()
    assert len(browser.get(f"/app/uploads?ids={chip['id']}").json()) == 1


@pytest.mark.parametrize("number", ["0", "9" * 18, "9" * 19, "9" * 30, "9" * 5000])
def test_a_number_that_nothing_has_is_a_sentence_however_long(assistant: Assistant, number: str) -> None:
    """Turns and pictures have numbers in addresses, and anybody can write any."""
    made = (upload_routes, view_routes, clip_routes)
    browser = TestClient(
        Starlette(routes=[each for routes in made for each in routes(lambda: assistant)]), cookies={PROFILE_COOKIE: ANN}
    )
    for path in (
        *(f"/app/pictures/{number}/view", f"/app/pictures/{number}/cut?box=0,0,1,1&size=10,10"),
        *(f"/app/answers/{number}", f"/app/clips/{number}", f"/app/samples/{number}"),
        *(f"/app/pages/{number}/0", f"/app/pages/1/{number}"),
    ):
        reply = browser.get(path, headers={"sec-fetch-dest": "iframe"})
        assert (reply.status_code, bool(reply.text)) == (404, True), path


def test_another_browser_sees_edits_and_removes_nothing(assistant: Assistant) -> None:
    """Ids are no keys: the profile is."""
    chip = _browser(assistant).post("/app/uploads?name=a.png", content=png()).json()
    other = _browser(assistant, BOB)
    assert other.get(f"/app/uploads/{chip['id']}/view").status_code == 404
    assert "problem" in other.post(f"/app/uploads/{chip['id']}", json={"turn": 1}).json()
    other.delete(f"/app/uploads/{chip['id']}")
    assert _browser(assistant).get(f"/app/uploads/{chip['id']}/view").content == png()
    assert "problem" in _browser(assistant, None).post("/app/uploads?name=a.png", content=png()).json()


def test_an_answer_is_copied_by_its_owner_alone(assistant: Assistant) -> None:
    """The words of an answer are told to the browser that asked."""
    job = assistant.ask(Question("What?"), owner=ANN)
    job.wait(WAIT_S)
    assert _browser(assistant).get(f"/app/answers/{job.turn_id}").text == "An answer."
    assert _browser(assistant, BOB).get(f"/app/answers/{job.turn_id}").status_code == 404


@pytest.mark.parametrize("said", ["Read:\n\n| Tag | Bar |\n|---|---|\n| P-1 | 15 |"])
def test_a_corrected_table_is_copied_with_the_answer(assistant: Assistant) -> None:
    """Who copies an answer that a person put right has what they wrote, below what the model had read."""
    job = assistant.ask(Question("Read the table."), owner=ANN)
    assert job.wait(WAIT_S) is not None and job.turn_id is not None
    model = Table(("Tag", "Bar"), (("P-1", "15"),))
    right = CorrectedTable(Table(model.columns, (("P-1", "1,5"),)), (0,))
    assistant.records.correct(ANN, job.turn_id, table_text(0, right, model=model, language=Language.ENGLISH))
    copied = _browser(assistant).get(f"/app/answers/{job.turn_id}?lang=zh").text
    before, told, after = copied.partition("人工更正表格 1。")
    assert told and "| 15 |" in before and "1,5 |" in after


def test_a_large_picture_is_offered_in_parts_with_what_that_costs(assistant: Assistant) -> None:
    """The chip says that the model sees it smaller; chosen, it says how many parts and how long; small ones offer nothing."""
    browser = _browser(assistant)
    large = png(width=4000, height=2000)
    chip = browser.post("/app/uploads?name=a.png&lang=en", content=large).json()
    (_offer,) = [note for note in chip["notes"] if "in parts" in note]
    edited = browser.post(f"/app/uploads/{chip['id']}?lang=en", json={"detail": "parts"}).json()
    assert "parts" in edited["lines"][1]
    assert not [note for note in edited["notes"] if "in parts" in note]
    assert chip["among"] == {"lines": chip["lines"], "notes": []}  # beside others it is seen whole whatever is chosen
    assert "seen whole beside others" in edited["among"]["lines"][1] and " min " not in edited["among"]["lines"][1]
    assert assistant.staging.get(ANN, edited["id"]).in_parts
    assert " min " in edited["lines"][1] and " min " not in chip["lines"][1]
    back = browser.post(f"/app/uploads/{edited['id']}?lang=en", json={"detail": "fast"}).json()
    assert not assistant.staging.get(ANN, back["id"]).in_parts
    small = browser.post("/app/uploads?name=b.png&lang=en", content=png(width=100, height=80)).json()
    assert not [note for note in small["notes"] if "in parts" in note]


def test_a_kept_picture_is_shown_to_its_owner_and_left_in_no_store(assistant: Assistant) -> None:
    """Each rendition but the upload comes by its number, to the browser that asked; erased, it is gone everywhere."""
    picture = assistant.stage(png(width=560, height=280), "lamp.png")
    job = assistant.ask(Question("What?", (picture,)), owner=ANN)
    job.wait(WAIT_S)
    assert job.turn_id is not None
    number = assistant.turn(ANN, job.turn_id).pictures[0].id
    for rendition in ("view", "seen", "thumbnail"):
        reply = _browser(assistant).get(f"/app/pictures/{number}/{rendition}")
        assert reply.headers["content-type"] in ("image/png", "image/jpeg")
        assert reply.headers["cache-control"] == "no-store"
        assert _browser(assistant, BOB).get(f"/app/pictures/{number}/{rendition}").status_code == 404
    assert _browser(assistant).get(f"/app/pictures/{number}/upload").status_code == 404
    assert _browser(assistant).get(f"/app/pictures/{number}/../view").status_code == 404
    assert job.conversation_id is not None
    assistant.delete(ANN, job.conversation_id)
    assert _browser(assistant).get(f"/app/pictures/{number}/view").status_code == 404


async def _sent(app: ASGIApp, path: str, profile: str, *, body: bytes, length: int, done: asyncio.Event) -> str:
    """Send what there is of a body and hold the connection; return the reply's text."""
    name, _, query = path.partition("?")
    headers = {"host": "127.0.0.1:8501", "cookie": f"{PROFILE_COOKIE}={profile}", "content-length": str(length)}
    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": name, "raw_path": name.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8501),
    }  # fmt: skip
    waiting, told = [{"type": "http.request", "body": body, "more_body": len(body) < length}], bytearray()

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.extend(message.get("body", b""))

    await app(scope, receive, send)
    return told.decode()


@pytest.mark.parametrize("path", ["/app/uploads?name=a.png", f"/app/drops/{'1' * 32}?name=a.png"])
def test_uploads_that_come_to_a_halt_stop_nobody_elses_and_end(
    path: str, assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another browser's file is taken meanwhile, one's own when the halted ones have been given up; nothing stays held."""
    runs = BatchRuns(assistant)
    app = Starlette(routes=[*upload_routes(lambda: assistant), *dropped_routes(lambda: assistant, lambda: runs)])
    file = png(width=280, height=140)

    async def try_it() -> tuple[str, list[str], str]:
        done = asyncio.Event()

        def send(profile: str, body: bytes, length: int) -> asyncio.Task[str]:
            return asyncio.create_task(_sent(app, path, profile, body=body, length=length, done=done))

        halted = [send(ANN, b"x", 1000) for _ in range(BODIES_AT_ONCE)]
        await asyncio.sleep(0.2)
        loop = asyncio.get_running_loop()
        clock = loop.time
        of_bob, of_ann = send(BOB, file, len(file)), send(ANN, file, len(file))
        taken = await asyncio.wait_for(of_bob, WAIT_S)
        assert not any(each.done() for each in halted)
        monkeypatch.setattr(loop, "time", lambda: clock() + bodies.READ_TIMEOUT_S)  # however long the other took
        given_up = await asyncio.wait_for(asyncio.gather(*halted), WAIT_S)
        return taken, given_up, await asyncio.wait_for(of_ann, WAIT_S)

    taken, given_up, of_ann = asyncio.run(try_it())
    assert "problem" not in json.loads(taken) and "problem" not in json.loads(of_ann)
    assert {json.loads(each)["problem"] for each in given_up} == {t("api.body_too_slow", Language.ENGLISH)}
    assert bodies.HELD._total == 0
    runs.close()


def test_a_body_may_be_slow_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file comes on at a slow line's rate for as long as it takes; a byte now and then is no sending."""
    monkeypatch.setattr(bodies, "READ_TIMEOUT_S", 0.3)

    async def read(pieces: int, size: int) -> int:
        left = [b"x" * size] * pieces
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now_s)

        async def receive() -> Message:
            nonlocal now_s
            now_s += 0.1
            await asyncio.sleep(0)
            return {"type": "http.request", "body": left.pop() if left else b"", "more_body": bool(left)}

        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        try:
            return len(await body_of(request, limit=2**20))
        finally:
            bodies.HELD.give_back(request.scope)

    assert asyncio.run(read(10, 4096)) == 10 * 4096  # a second and more
    with pytest.raises(UsageError, match="too_slow"):
        asyncio.run(read(10, 1))
    assert bodies.HELD._total == 0
