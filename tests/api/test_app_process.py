"""The real app in a process of its own: page and doors on one port, with the real clients of OpenAI and Ollama."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import ollama
import pytest
from openai import OpenAI
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import Question
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.texts import Language, t
from tests.hub_parts import WAIT_S
from tests.serving import free_port, serving

LONG = "LONG, please"
"""What the served engine answers slowly, with twenty thousand words."""


@pytest.fixture(scope="module")
def app_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app keeps what it keeps, and `log` is what it printed."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def app_url(app_folder: Path) -> Iterator[str]:
    """The app as people start it, but for the engine."""
    history = HistoryStore(app_folder / "data")
    history.open()
    for owner, title in ((LOCAL_OWNER, OF_THE_COMMAND_LINE), (ANN, OF_ANN)):
        history.begin_turn(owner, Question(title), title=title)
    history.close()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.ui.served_app", str(port), str(app_folder)]
    with serving(command, log=app_folder / "log", is_ready=lambda: _is_ready(url)):
        yield url


OF_THE_COMMAND_LINE, OF_ANN = "asked-in-the-terminal", "asked-by-ann"
ANN = "a" * 32


def _is_ready(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/api/ps", trust_env=False, timeout=10.0).json()["models"])
    except (httpx.TransportError, ValueError):
        return False


def test_one_port_has_the_page_and_the_doors(app_url: str) -> None:
    """The page is at the root, the doors answer in JSON, and what is under their roofs is never the page."""
    page = httpx.get(app_url, trust_env=False, timeout=WAIT_S)
    assert page.headers["content-type"].startswith("text/html")
    unknown = httpx.get(f"{app_url}/v1/nothing", trust_env=False, timeout=WAIT_S)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "api.unknown_address")
    doubled = httpx.get(f"{app_url}//v1/models", trust_env=False, timeout=WAIT_S)
    assert doubled.json() == httpx.get(f"{app_url}/v1/models", trust_env=False, timeout=WAIT_S).json()
    assert httpx.post(app_url + "/v1/models", trust_env=False, timeout=WAIT_S).status_code == 405
    assert httpx.get(f"{app_url}/docs", trust_env=False, timeout=WAIT_S).status_code == 200


def test_the_openai_client_asks_and_streams(app_url: str, data_uri: str) -> None:
    """A picture is asked about, whole and as a stream."""
    client = OpenAI(base_url=f"{app_url}/v1", api_key="none needed", max_retries=0)
    content = [{"type": "image_url", "image_url": {"url": data_uri}}, {"type": "text", "text": "Where is the lamp?"}]
    ask = {"model": client.models.list().data[0].id, "messages": [{"role": "user", "content": content}]}
    whole = client.chat.completions.create(**ask)  # type: ignore[call-overload]
    assert "bbox_2d" in whole.choices[0].message.content
    stream = client.chat.completions.create(**ask, stream=True)  # type: ignore[call-overload]
    assert "bbox_2d" in "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_the_ollama_client_asks_and_streams(app_url: str, png: bytes) -> None:
    """The same through Ollama's client."""
    client = ollama.Client(host=app_url, trust_env=False, timeout=WAIT_S)
    model = client.list().models[0].model or ""
    assert "bbox_2d" in (client.generate(model, "Where?", images=[png]).response or "")
    lines = client.chat(model, [{"role": "user", "content": "Where?", "images": [png]}], stream=True)
    assert "bbox_2d" in "".join(line.message.content or "" for line in lines)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}], "stream": True}),
        ("/api/generate", {"prompt": LONG}),
    ],
)
def test_streams_pass_the_apps_own_compression_at_once_and_leaving_frees_the_model(
    app_url: str, path: str, body: dict[str, object]
) -> None:
    """Words come as they are made, not when a compressor has enough of them; who leaves does not keep the model."""
    with httpx.Client(base_url=app_url, trust_env=False, timeout=WAIT_S) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        headers = {"accept-encoding": "gzip, deflate"}
        with client.stream("POST", path, json=body | {"model": model}, headers=headers) as stream:
            assert stream.headers.get("content-encoding", "identity") == "identity"
            # The patience between two pieces is a minute, and the whole answer takes six.
            assert any("word3" in line for line in stream.iter_lines())
        # The next answer comes within a minute, which it could not if the long one were still going on.
        whole = client.post(
            "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "?"}]}
        )
        assert whole.status_code == 200


def _page_of(app_url: str, cookie: str) -> bytes:
    """What the server sends for one drawing of the page to whoever opens its WebSocket, as a browser does."""
    first, drawn = BackMsg(), b""
    first.rerun_script.query_string = "lang=en"
    headers = {"Cookie": cookie} if cookie else {}
    address = app_url.replace("http", "ws", 1) + "/_stcore/stream"
    with connect(address, additional_headers=headers, subprotocols=[Subprotocol("streamlit")], max_size=None) as page:
        page.send(first.SerializeToString())
        while True:
            said = page.recv(timeout=WAIT_S)
            assert isinstance(said, bytes)
            drawn += said
            if ForwardMsg.FromString(said).WhichOneof("type") == "script_finished":
                return drawn


@pytest.mark.parametrize("cookie", ["", f"{PROFILE_COOKIE}=zz", f"{PROFILE_COOKIE}={'A' * 32}", f"other={ANN}"])
def test_whoever_brings_no_profile_sees_nobodys_records_and_what_to_do(app_url: str, cookie: str) -> None:
    """Not those of the command line either, which are nobody's browser's; and the page does not merely stay empty."""
    drawn = _page_of(app_url, cookie)
    assert OF_THE_COMMAND_LINE.encode() not in drawn
    assert OF_ANN.encode() not in drawn
    assert t("guard.no_cookie", Language.ENGLISH).encode() in drawn


def test_a_profile_sees_its_own_records_alone(app_url: str) -> None:
    """Also one that is new."""
    of_ann = _page_of(app_url, f"{PROFILE_COOKIE}={ANN}")
    assert OF_ANN.encode() in of_ann
    assert OF_THE_COMMAND_LINE.encode() not in of_ann
    of_bob = _page_of(app_url, f"{PROFILE_COOKIE}={'b' * 32}")
    assert OF_ANN.encode() not in of_bob and OF_THE_COMMAND_LINE.encode() not in of_bob


def test_nothing_that_anybody_said_is_in_its_output_or_its_log(app_url: str, app_folder: Path, png: bytes) -> None:
    """Questions, answers, file names and keys of bodies, through doors that take them and doors that refuse them."""
    canary = "Canary-Zq9"
    with httpx.Client(base_url=app_url, trust_env=False, timeout=WAIT_S) as browser:
        browser.get("/")  # which gives it a profile
        for content in (png, f"no picture {canary}".encode()):
            assert browser.post(f"/app/uploads?name={canary}.png", content=content).status_code == 200
            assert browser.post(f"/app/drops/{'1' * 32}?name={canary}.png", content=content).status_code == 200
        model = browser.get("/v1/models").json()["data"][0]["id"]
        for body in (
            {"model": model, "messages": [{"role": "user", "content": canary}]},
            {"model": canary, "messages": [{"role": "user", "content": canary}]},
            {"model": model, "messages": [{"role": canary, "content": [{canary: canary}]}], canary: canary},
        ):
            browser.post("/v1/chat/completions", json=body)
        browser.post("/v1/chat/completions", content=f'{{"{canary}'.encode())
        browser.get(f"/app/{canary}")
        browser.get(f"/{canary}?{canary}={canary}")
    told = b"".join(file.read_bytes() for file in [app_folder / "log", *(app_folder / "data" / "logs").iterdir()])
    assert b"http://127.0.0.1" in told, "what it printed was looked at"
    assert canary.lower().encode() not in told.lower()
    if os.name == "posix":  # Windows has no modes
        found = [app_folder / "data", *(app_folder / "data").rglob("*")]
        assert not [path for path in found if path.stat().st_mode & 0o077], "open to other accounts"
