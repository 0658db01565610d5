"""In a real browser: widgets work under the guard, nothing is asked of anybody outside, and foreign pages stay out."""

from __future__ import annotations

import base64
import http.client
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from qwen_vl_app.config import ROOT
from qwen_vl_app.offline import is_loopback
from tests.chromium import WAIT_MS, chromium
from tests.serving import free_port, serving

pytestmark = pytest.mark.browser

APP = """
from pathlib import Path
import streamlit as st
from qwen_vl_app.api.guard import make_middleware
from qwen_vl_app.offline import go_offline

go_offline()
app = st.App(Path(__file__).resolve().parent / "page.py", middleware=make_middleware())
"""
PAGE = """
import pandas as pd
import streamlit as st
from PIL import Image
from qwen_vl_app.offline import refused

st.set_page_config(page_title="guard", page_icon="🔎")
st.title("Widgets")
st.text(f"profile {st.context.cookies.get('qvl_profile', 'none')}")
st.image(Image.new("RGB", (40, 30), "teal"), caption="teal")
st.markdown("**bold** $x^2$ 中文")
if "tracker" in st.query_params:
    st.markdown("![seen](https://outside.example/tracker.png)")
st.dataframe(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
st.data_editor(pd.DataFrame({"a": [1, 2]}))
st.json({"key": [1, {"deep": None}]})
st.code("print('hello')", language="python")
st.download_button("Take away", b"taken", file_name="taken.txt")
st.slider("Slide", 0, 10)
st.selectbox("Choose", ["one", "two"])
st.line_chart(pd.DataFrame({"v": [1, 3, 2]}))
with st.expander("More"):
    st.write("inside the expander")
with st.popover("Pop"):
    st.write("inside the popover")

@st.dialog("A dialog")
def talk():
    st.write("inside the dialog")

if st.button("Open dialog"):
    talk()
up = st.file_uploader("Upload")
if up:
    st.text(f"uploaded {len(up.getvalue())} bytes")
said = st.chat_input("Say", accept_file="multiple")
if said:
    st.text(f"said {said.text} with {len(said.files)} files")
st.text(f"refused {refused()} connections")
"""
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication",
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A small app behind the guard, started as the real one is. Yields its port."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "app.py").write_text(APP, encoding="utf-8")
    (folder / "page.py").write_text(PAGE, encoding="utf-8")
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    number = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(number)]
    log = folder / "log.txt"
    with serving(
        command, log=log, is_ready=lambda: _status(number) == 200, cwd=folder, environment={"HOME": str(folder)}
    ):
        yield number


def _status(port: int, *, method: str = "GET", path: str = "/_stcore/health", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.fixture(scope="module")
def running_chromium() -> Iterator[Callable[[], Browser]]:
    """Chromium, told to leave the network alone by itself."""
    with chromium(FLAGS) as running:
        yield running


@pytest.fixture
def browser(running_chromium: Callable[[], Browser]) -> Browser:
    """A Chromium that runs, whatever the test before did to it."""
    return running_chromium()


@dataclass
class Watch:
    """What a page asked for and complained about."""

    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def outside(self) -> set[str]:
        """Every host that is not loopback."""
        return {host for host in self.hosts if not is_loopback(host)}


def _watched(context: BrowserContext) -> tuple[Page, Watch]:
    page, watch = context.new_page(), Watch()

    def note(url: str) -> None:
        host = urlsplit(url).hostname
        if host:
            watch.hosts.add(host)

    def complain(kind: str, text: str) -> None:
        if kind == "error" or "Policy" in text:
            watch.complaints.append(text)

    page.on("request", lambda request: note(request.url))
    page.on("websocket", lambda connection: note(connection.url))
    page.on("console", lambda said: complain(said.type, said.text))
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    return page, watch


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of the test's own."""
    fresh = browser.new_context(locale="en-GB")
    fresh.set_default_timeout(WAIT_MS)
    yield fresh
    fresh.close()


def test_widgets_work_and_nothing_leaves_loopback(port: int, context: BrowserContext) -> None:
    """Every common widget works without one complaint, and without asking anybody else for anything."""
    page, watch = _watched(context)
    page.goto(f"http://127.0.0.1:{port}/")
    expect(page.get_by_text("refused 0 connections")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first.locator("canvas").first).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").locator("canvas,svg").first).to_be_visible()
    assert page.get_by_test_id("stImage").locator("img").evaluate("async i => (await i.decode(), i.naturalWidth)") == 40
    page.get_by_text("Pop", exact=True).click()
    expect(page.get_by_text("inside the popover")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Open dialog").click()
    expect(page.get_by_text("inside the dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("inside the dialog")).to_be_hidden()
    with page.expect_download() as download:
        page.get_by_role("button", name="Take away").click()
    assert Path(download.value.path()).read_bytes() == b"taken"
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(
        {"name": "a.bin", "mimeType": "application/octet-stream", "buffer": b"12345"}
    )
    expect(page.get_by_text("uploaded 5 bytes")).to_be_visible()
    chat = page.get_by_test_id("stChatInput")
    chat.locator("input[type=file]").set_input_files({"name": "b.txt", "mimeType": "text/plain", "buffer": b"1"})
    expect(chat.get_by_text("b.txt")).to_be_visible()
    chat.locator("textarea").fill("hello")
    chat.locator("textarea").press("Enter")
    expect(page.get_by_text("said hello with 1 files")).to_be_visible()
    assert watch.complaints == []
    assert watch.outside() == set()


def test_a_picture_that_the_text_names_is_not_fetched(port: int, context: BrowserContext) -> None:
    """An address that a model writes into Markdown stays an address: the policy blocks it before it is sent."""
    page, watch = _watched(context)
    answered: list[str] = []
    page.on("response", lambda response: answered.append(response.url))
    with page.expect_event("console", lambda said: "outside.example" in said.text):
        page.goto(f"http://127.0.0.1:{port}/?tracker=1")
    expect(page.get_by_text("refused 0 connections")).to_be_visible()
    assert all("Content Security Policy" in text for text in watch.complaints)
    assert not any("outside.example" in url for url in answered)


def test_a_browser_keeps_its_profile_where_no_script_can_read_it(port: int, context: BrowserContext) -> None:
    """Two visits of one browser are one profile, which the server reads and the page's scripts do not."""
    page, _ = _watched(context)
    page.goto(f"http://127.0.0.1:{port}/")
    told = page.get_by_text("profile ").inner_text()
    assert len(told.removeprefix("profile ")) == 32
    assert "qvl_profile" not in str(page.evaluate("document.cookie"))
    page.reload()
    expect(page.get_by_text(told)).to_be_visible()


def test_a_link_from_another_site_keeps_the_profile(port: int, context: BrowserContext) -> None:
    """Coming from another site, the person still finds the same history."""
    page, _ = _watched(context)
    page.goto(f"http://127.0.0.1:{port}/")
    told = page.get_by_text("profile ").inner_text()
    page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(content_type="text/html", body=f"<a href='http://127.0.0.1:{port}/'>go</a>"),
    )  # answered by the test itself; nothing is asked of anybody
    page.goto("http://elsewhere.example/")
    page.get_by_text("go").click()
    expect(page.get_by_text(told)).to_be_visible()


def test_foreign_hosts_and_origins_get_no_answer(port: int) -> None:
    """DNS rebinding and other sites' requests end at the door."""
    own = f"127.0.0.1:{port}"
    assert _status(port, Host=own) == 200
    assert _status(port, Host=f"rebound.example:{port}") == 403
    assert _status(port, Host=own, Origin="http://evil.example") == 403
    assert _status(port, Host=own, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403


def _handshake(port: int, *, host: str | None = None, origin: str | None = None, site: str | None = None) -> int:
    headers = {
        "Host": host or f"127.0.0.1:{port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
        "Sec-WebSocket-Protocol": "streamlit",
    } | {name: value for name, value in (("Origin", origin), ("Sec-Fetch-Site", site)) if value}
    return _status(port, path="/_stcore/stream", **headers)


def test_a_foreign_websocket_is_refused_and_nobody_is_asked_about_it(port: int, context: BrowserContext) -> None:
    """Streamlit would look its outside address up for a foreign Origin; the guard ends the matter before."""
    assert _handshake(port, origin=f"http://127.0.0.1:{port}") == 101
    assert _handshake(port, origin="http://evil.example") == 403
    assert _handshake(port, origin="http://127.0.0.1:1") == 403
    assert _handshake(port, site="cross-site") == 403
    assert _handshake(port, host=f"rebound.example:{port}", origin=f"http://rebound.example:{port}") == 403
    page, _ = _watched(context)
    page.goto(f"http://127.0.0.1:{port}/")
    expect(page.get_by_text("refused 0 connections")).to_be_visible()


def test_another_sites_page_can_neither_connect_nor_read(port: int, context: BrowserContext) -> None:
    """From a page of another origin in the same browser, WebSocket, fetch and frame all fail."""
    page, _ = _watched(context)
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body="<p>evil</p>"))
    page.goto("http://elsewhere.example/")
    outcome = page.evaluate(
        """async (port) => ({
            socket: await new Promise(done => {
                const s = new WebSocket(`ws://127.0.0.1:${port}/_stcore/stream`, ["streamlit"]);
                s.onopen = () => done("open"); s.onerror = () => done("refused"); }),
            read: await fetch(`http://127.0.0.1:${port}/_stcore/health`).then(() => "read", () => "refused"),
            picture: await new Promise(done => { const i = new Image(); i.onload = () => done("shown");
                i.onerror = () => done("refused"); i.src = `http://127.0.0.1:${port}/favicon.png`; }),
        })""",
        port,
    )
    assert outcome == {"socket": "refused", "read": "refused", "picture": "refused"}
