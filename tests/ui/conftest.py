"""Pages over a real assistant: real queue, real history, a scripted engine, a decoder without a process."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Browser
from streamlit.testing.v1 import AppTest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.history import HistoryStore, Keeping, KeepingMode
from qwen_vl_app.ui.acts import act as act_of
from qwen_vl_app.ui.composer import hear
from qwen_vl_app.ui.desk import Desk
from qwen_vl_app.ui.holdings import Told
from qwen_vl_app.ui.pictures import forget_pictures
from qwen_vl_app.ui.sending import ask as ask_of
from qwen_vl_app.ui.visit import Visit
from tests.chromium import chromium
from tests.hub_parts import WAIT_S, wait_until_let_go
from tests.serving import answers, free_port, serving
from tests.ui.browsing import CAMERA, FLAGS
from tests.ui.fakes import fake_decoder, png
from tests.ui.served_app import fill

MakeAssistant = Callable[..., Assistant]
LONG_OWNER, LONG_CONVERSATION, LONG_TURNS = "7" * 32, 1, 36


@pytest.fixture
def make_assistant(tmp_path: Path) -> Iterator[MakeAssistant]:
    """Build assistants over a scripted engine, opened, and closed after the test; `waits=False` leaves it loading."""
    opened: list[Assistant] = []

    def make(*replies: Any, engine: FakeEngine | None = None, waits: bool = True, **settings: Any) -> Assistant:
        site = Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models", **settings)
        assistant = Assistant(
            engine=engine or FakeEngine(replies),
            decoder=fake_decoder(),
            history=HistoryStore(site.data_dir, keeping=Keeping(KeepingMode(site.keep), days=site.keep_days)),
            settings=site,
        )
        assistant.open()
        opened.append(assistant)
        if waits:
            assistant.wait_until_loaded(WAIT_S)
        return assistant

    yield make
    for assistant in opened:
        assistant.close()
    forget_pictures()


@pytest.fixture
def gate() -> threading.Semaphore:
    """A gate for the scripted engine: one piece of text passes for each release."""
    return threading.Semaphore(0)


def page_of(
    assistant: Assistant,
    *,
    locale: str = "en-US",
    conversation: int | None = None,
    address: Mapping[str, str] | None = None,
) -> AppTest:
    """Return the page, run once, as a browser of that locale opens it at that address."""
    page = AppTest.from_function(_script, args=(assistant, []), default_timeout=WAIT_S)
    page.context = {"locale": locale, "timezone": "UTC"}
    if conversation is not None:
        page.query_params["c"] = str(conversation)
    for name, said in (address or {}).items():
        page.query_params[name] = said
    return page.run()


def address_of(page: AppTest) -> dict[str, str]:
    """Return the query that the browser's part of the page would write into the address."""
    query = page.session_state["page_state"].address
    assert query == "" or query.startswith("?")
    return dict(parse_qsl(query[1:]))


def _script(
    assistant: object, sent: object
) -> None:  # copied into a module of its own, which knows no name of this one
    from qwen_vl_app.ui.chat_page import show_chat_page, visit_of

    visit = visit_of(assistant, owner="local")  # type: ignore[arg-type]
    while sent:  # what the browser's part of the page would send, at the moment of its callback
        sent.pop()(visit)  # type: ignore[attr-defined]
    show_chat_page(visit)


def ask(page: AppTest, text: str, **files: bytes) -> AppTest:
    """Stage files as the upload route does, and send; a file's keyword is its name with `__` for the dot."""
    assistant, _ = _handed(page)
    staged = [assistant.stage(data, name.replace("__", ".")) for name, data in files.items()]
    for picture in staged:
        assistant.staging.put("local", picture)
    return send(page, text, *(picture.staged_id for picture in staged))


def send(page: AppTest, text: str, *staged_ids: str) -> AppTest:
    """Send a text with pictures that are staged already."""
    _handed(page)[1].append(lambda visit: ask_of(visit, text=text, staged_ids=staged_ids))
    return page.run()


def click(page: AppTest, act: str, **facts: object) -> AppTest:
    """Click a button of the page's own HTML, or of the list of conversations."""
    _handed(page)[1].append(lambda visit: act_of(visit, {"act": act, **facts}))
    return page.run()


def tell(page: AppTest, *said: Told) -> AppTest:
    """Let the composer tell something, as its callback hears it."""
    _handed(page)[1].append(lambda visit: hear(visit, said))
    return page.run()


def twice(act: Callable[..., object]) -> Callable[..., None]:
    """Return what two clicks do that arrive before the page shows anything of the first."""

    def clicked(*args: object, **more: object) -> None:
        for _ in range(2):
            act(*args, **more)

    return clicked


def search(page: AppTest, text: str) -> AppTest:
    """Type into the side bar's search."""
    _handed(page)[1].append(lambda visit: setattr(visit.state, "search", text))
    return page.run()


def close_picture(page: AppTest) -> AppTest:
    """Close the picture that is worked on, as the button below it does."""
    _handed(page)[1].append(lambda visit: Desk(visit).close())
    return page.run()


def dismiss(page: AppTest) -> AppTest:
    """Close the dialog as its cross does, or Escape."""
    states = page._tree.get_widget_states()
    (dialog,) = page.get("dialog")
    states.widgets.add(id=dialog.proto.id, trigger_value=True)
    return page._run(states)


def correct_cells(page: AppTest, rows: Mapping[int, Mapping[str, str]]) -> AppTest:
    """Write into cells of the table that is open to be corrected; the page hears of them with its next run, as here."""
    states = page._tree.get_widget_states()
    (grid,) = [each for each in page.dataframe if "edit-" in each.proto.id]
    done = {"edited_rows": rows, "added_rows": [], "deleted_rows": []}
    states.widgets.add(id=grid.proto.id, string_value=json.dumps(done))
    return page._run(states)


def _handed(page: AppTest) -> tuple[Assistant, list[Callable[[Visit], object]]]:
    assert page.args is not None
    return page.args[0], page.args[1]


def composer_of(page: AppTest) -> dict[str, Any]:
    """Return what the browser's part of the composer was told."""
    return _told(page, "visual_assistant_composer")


def list_of(page: AppTest) -> dict[str, Any]:
    """Return what the list of conversations was told."""
    return _told(page, "visual_assistant_list")


def titles_of(page: AppTest) -> list[str]:
    """Return the titles in the list of conversations, from the top."""
    return [row["title"] for group in list_of(page)["groups"] for row in group["rows"]]


def html_on(page: AppTest) -> str:
    """Return all HTML of the page: its own pieces, and what turns are made of."""
    pieces = [str(element.proto.body) for element in page.get("html")]
    for element in page.get("bidi_component"):
        if element.proto.component_name == "visual_assistant_turns":
            pieces += [html for _, html in json.loads(element.proto.json)["turns"]]
    return "".join(pieces)


def _told(page: AppTest, component: str) -> dict[str, Any]:
    element = next(each for each in page.get("bidi_component") if each.proto.component_name == component)
    told: dict[str, Any] = json.loads(element.proto.json)
    return told


def finish(assistant: Assistant, page: AppTest) -> AppTest:
    """Wait for every answer of the open conversation and run the page once more."""
    for job in assistant.running("local", int(address_of(page)["c"])):
        assert job.wait(WAIT_S) is not None
        wait_until_let_go(assistant, job)
    return page.run()


def run_until(page: AppTest, is_there: Callable[[AppTest], object]) -> AppTest:
    """Run the page again until something is there; fail after a minute."""
    deadline = time.monotonic() + WAIT_S
    while not is_there(page):
        assert time.monotonic() < deadline, words_on(page)
        page.run()
    return page


def words_on(page: AppTest) -> str:
    """Return everything the page says, as one text."""
    kinds = (page.markdown, page.caption, page.text, page.warning, page.info, page.title, page.code, page.error)
    said = [str(element.value) for kind in kinds for element in kind]
    said.append(unescape(re.sub(r"<[^>]+>", " ", html_on(page))))
    return "\n".join(said + [button.label for button in page.button])


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the served app writes what it has to say."""
    return tmp_path_factory.mktemp("served") / "log"


@pytest.fixture(scope="session")
def address(server_log: Path) -> Iterator[str]:
    """Serve the app over a scripted engine, once for all browser tests; yield its address.

    `LONG_OWNER` has a conversation there already, of which the page shows a part at first.
    """
    assert fill(server_log.parent, LONG_OWNER, turns=LONG_TURNS, data=png(width=560, height=280)) == LONG_CONVERSATION
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    script = Path(__file__).with_name("served_app.py")
    command = [sys.executable, str(script), str(port), str(server_log.parent)]
    with serving(command, log=server_log, is_ready=lambda: answers(url)):
        yield url


@pytest.fixture(scope="session")
def demo_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the app as people start it, over the demo model, once for all tests that need a model; yield its address."""
    folder = tmp_path_factory.mktemp("demo")
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    environment = {"QWEN_VL_DATA_DIR": str(folder / "data"), "QWEN_VL_MODEL": "demo", "QWEN_VL_PORT": str(port)}
    command = [sys.executable, str(ROOT / "app.py")]
    with serving(command, log=folder / "log", is_ready=lambda: answers(url), environment=environment):
        yield url


@pytest.fixture(scope="module")
def running_chromium() -> Iterator[Callable[[], Browser]]:
    """Start the machine's own Chromium."""
    with chromium([*FLAGS, *CAMERA]) as running:
        yield running


@pytest.fixture
def browser(running_chromium: Callable[[], Browser]) -> Browser:
    """A Chromium that runs, whatever the test before did to it."""
    return running_chromium()
