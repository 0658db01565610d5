"""The proof: markers are put into everything that can be put in, by every way in and out; erased, they are nowhere.

Text, title, file name, EXIF and pixels; the composer's route, the page, the API, folder runs with drops and exports, private
conversations, archives and backups that are handed over, failures. Data folder, logs and temporary folder are read whole.
"""

from __future__ import annotations

import base64
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.conversation_exports import CONVERSATIONS, conversation_export_routes
from qwen_vl_app.api.dropped import dropped_routes
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.records_doors import BACKUP, EVERYTHING, records_routes
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.api.run_exports import RUNS, run_export_routes
from qwen_vl_app.api.uploads import upload_routes
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns, ExportKind, RunErasing
from qwen_vl_app.chat import Question
from qwen_vl_app.cli import main
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.engine.fake import Reply
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.logs import keep_words_out, write_to
from qwen_vl_app.records import find_traces
from qwen_vl_app.ui.pictures import forget_pictures
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import an_assistant, replace_settings
from tests.ui.conftest import ask as ask_on_page
from tests.ui.conftest import finish, page_of

OWNER = "0123456789abcdef0123456789abcdef"
WORDS = "Zqx-Canary-7741"
"""In questions, answers, titles, file names and EXIF."""
CHINESE = "金丝雀七七四一号"
WAIT_S = 60.0


def a_photo(number: int) -> bytes:
    """A JPEG whose EXIF holds the marker and whose pixels nobody else has."""
    photo = Image.effect_noise((320 + 28 * number, 240), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = f"{WORDS} in the description"
    stream = io.BytesIO()
    photo.save(stream, "JPEG", exif=exif, quality=90)
    return stream.getvalue()


def reply_to(request: GenerationRequest) -> Reply:
    text = request.messages[-1].text
    if "break" in text:
        return RuntimeError(f"{WORDS} broke")
    return f'{WORDS} {CHINESE}\n```json\n[{{"bbox_2d": [10, 10, 60, 60], "label": "{WORDS}"}}]\n```'


class Site:
    """A whole app but for the model: hub, runs, doors, log, with a temporary folder of its own."""

    def __init__(self, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data, self.temporary, self.photos = (tmp_path / name for name in ("data", "temporary", "photos"))
        for folder in (self.temporary, self.photos):
            folder.mkdir()
        for name in ("TMPDIR", "TEMP", "TMP"):
            monkeypatch.setenv(name, str(self.temporary))
        monkeypatch.setattr(tempfile, "tempdir", str(self.temporary))
        stack.callback(keep_words_out())
        stack.callback(write_to(self.data / "logs"))
        logging.getLogger("qwen_vl_app").setLevel(logging.DEBUG)
        self.engine = AnsweringEngine(reply_to)
        self.assistant = stack.enter_context(
            Assistant(
                engine=self.engine,
                decoder=PictureDecoder(max_bytes=2**24, max_pixels=10_000_000, timeout_s=30.0),
                history=HistoryStore(self.data),
                settings=replace_settings(data_dir=self.data),
            )
        )
        self.assistant.wait_until_loaded(WAIT_S)
        stack.callback(forget_pictures)
        self.runs = BatchRuns(self.assistant, poll_s=0.05)
        stack.callback(self.runs.close)
        routes = [
            *make_routes(lambda: self.assistant),
            *upload_routes(lambda: self.assistant),
            *records_routes(lambda: self.assistant),
            *dropped_routes(lambda: self.assistant, lambda: self.runs),
            *run_export_routes(lambda: self.assistant, lambda: self.runs),
            *conversation_export_routes(lambda: self.assistant),
        ]
        self.browser = TestClient(Starlette(routes=routes), cookies={PROFILE_COOKIE: OWNER})

    def ask(self, text: str, *, owner: str = OWNER, **how: object) -> int:
        """Upload a photo as the composer does, ask about it, and return the conversation."""
        reply = self.browser.post(f"/app/uploads?name={WORDS}.jpg", content=a_photo(len(self.engine.requests)))
        picture = self.assistant.staging.get(OWNER, reply.json()["id"])
        job = self.assistant.ask(Question(text, (picture,)), owner=owner, **how)  # type: ignore[arg-type]
        assert job.wait(WAIT_S) is not None
        assert job.conversation_id is not None
        return job.conversation_id

    def traces(self, marker: str) -> set[str]:
        found = find_traces([self.data, self.temporary], marker)
        assert found.unread == 0
        return {str(file.relative_to(self.data.parent)) for file in found.files}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, monkeypatch)


def use(site: Site) -> None:
    """Put the markers in, by every way there is."""
    conversation = site.ask(f"What is {WORDS}? {CHINESE}")
    site.ask(f"break {WORDS}")
    site.ask(f"Private {WORDS}?", is_private=True)
    site.assistant.rename(OWNER, conversation, f"{WORDS} title")
    (turn, *_) = site.assistant.turns(OWNER, conversation)
    again = site.assistant.records.question_of(OWNER, turn.id, text=f"{WORDS} otherwise?")
    assert site.assistant.ask(again, owner=OWNER, beside=turn.id).wait(WAIT_S)
    site.assistant.records.correct(OWNER, turn.id, f"{WORDS} corrected")
    assert site.assistant.records.search(OWNER, WORDS).hits
    # Left in the composer, and refused by it.
    site.browser.post(f"/app/uploads?name={WORDS}.jpg", content=a_photo(50))
    site.browser.post(f"/app/uploads?name={WORDS}.jpg", content=f"no picture {WORDS}".encode())
    # Programs.
    uri = f"data:image/jpeg;base64,{base64.b64encode(a_photo(51)).decode()}"
    content = [{"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": uri}}]
    for text in (WORDS, f"break {WORDS}"):
        site.browser.post(
            "/v1/chat/completions",
            json={
                "model": "fake",
                "messages": [{"role": "user", "content": [*content, {"type": "text", "text": text}]}],
            },
        )
    # Runs over a folder and over dropped pictures, taken away in every form.
    (site.photos / f"{WORDS}.jpg").write_bytes(a_photo(52))
    site.browser.post(f"/app/drops/{'1' * 32}?name={WORDS}.jpg", content=a_photo(53))
    for folder in (site.photos, site.runs.dropped.folder(OWNER, "1" * 32)):
        run_id = site.runs.start(BatchPlan(folder, (f"{WORDS}?", f"break {WORDS}"), owner=OWNER))
        assert site.runs.wait(run_id, WAIT_S)
        for kind in ExportKind:
            assert site.browser.get(f"{RUNS}/{run_id}/{kind.value}").content
    # Taken away and brought in.
    taken = [site.browser.get(f"{CONVERSATIONS}/{conversation}/{kind}") for kind in ("zip", "pdf", "json")]
    assert [reply.status_code for reply in taken] == [200, 200, 200]
    site.assistant.records.import_archive(io.BytesIO(taken[0].content), owner=OWNER)
    for door in (EVERYTHING, BACKUP):
        assert site.browser.get(door).status_code == 200
    # The page of somebody at this machine's own terminal.
    page = ask_on_page(page_of(site.assistant), f"{WORDS} on the page?", **{f"{WORDS}__jpg": a_photo(54)})
    assert not finish(site.assistant, page).exception


def pixels_of(folder: Path) -> set[bytes]:
    """A piece from the middle of every kept picture: uploads with EXIF, views, seen pictures, thumbnails."""
    files = [file for part in ("pictures", "batches") for file in (folder / part).rglob("*") if file.is_file()]
    contents = [file.read_bytes() for file in files if file.suffix != ".json" and file.stat().st_size > 512]
    return {content[len(content) // 2 :][:48] for content in contents}


def test_what_was_erased_is_nowhere(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything of the owner's; the audit file is whole, and the command that a site can run itself agrees."""
    use(site)
    pixels = pixels_of(site.data)
    assert len(pixels) >= 10
    for marker in (WORDS, WORDS.upper(), CHINESE):
        assert site.traces(marker), "the search would have found it"
    assert not any(file.startswith("data/logs") for file in site.traces(WORDS)), "not even before"
    assert site.assistant.records.erase_everything(LOCAL_OWNER).turns == 1
    receipt = site.assistant.records.erase_everything(OWNER)
    assert receipt.is_complete
    assert receipt.runs == 2
    assert receipt.pictures >= 4
    for marker in (WORDS, CHINESE):
        assert site.traces(marker) == set()
    contents = b"".join(file.read_bytes() for file in site.data.rglob("*") if file.is_file())
    assert not [piece for piece in pixels if piece in contents]
    assert site.engine.forgotten > 0
    assert site.assistant.records.verify().is_sound
    assert len(list(site.photos.iterdir())) == 1, "a folder of one's own is never touched"
    assert main(["history", "prove-erased", WORDS, CHINESE, "--data-dir", str(site.data)]) == 0
    capsys.readouterr()


def test_what_a_kill_leaves_behind_is_nowhere_after_the_next_start(tmp_path: Path) -> None:
    """Files that were being handed over, runs that were being erased: nothing waits to be found, receipt or not."""
    data = tmp_path / "data"
    for folder in (data / "scratch" / "being-made-x", data / "batches" / "erasing-x"):
        folder.mkdir(parents=True)
        (folder / "file").write_text(WORDS)
    history = HistoryStore(data)
    history.erase_also("batches", RunErasing(data / "batches"))
    with an_assistant(AnsweringEngine(reply_to), data, history=history):
        assert find_traces([data], WORDS).files == ()
