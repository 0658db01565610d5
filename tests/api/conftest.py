"""The HTTP doors on a real loopback port, in front of a real assistant whose engine answers from a script."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from qwen_vl_app.api.guard import GuardMiddleware
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.api.slashes import SlashMiddleware
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.fake import FakeEngine, PiecesThen, Reply
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from tests.hub_parts import WAIT_S, wait_until

PAGE = "<!doctype html><title>the page</title>"


@dataclass
class Served:
    """A running server, its engine, and a client for it."""

    url: str
    engine: FakeEngine
    assistant: Assistant
    client: httpx.Client

    def chat(self, **more: object) -> httpx.Response:
        """Ask by plain HTTP."""
        body: dict[str, object] = {"model": "fake", "messages": [{"role": "user", "content": "What is this?"}]}
        return self.client.post("/v1/chat/completions", json=body | more)


Serve = Callable[..., Served]


async def page(_: Request) -> HTMLResponse:
    """Stand behind the doors, as Streamlit does."""
    return HTMLResponse(PAGE)


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """Serve an app on a free port of its own; the port is bound before the server starts, so nobody can take it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(WAIT_S)
        listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that serves the doors with some replies and settings, and the page behind them."""
    closing = ExitStack()

    def make(
        replies: Iterable[Reply | PiecesThen] = (),
        *,
        engine: FakeEngine | None = None,
        is_loaded: bool = True,
        **settings: object,
    ) -> Served:
        engine = engine or FakeEngine(replies)
        site = Settings(data_dir=tmp_path / "data", **settings)  # type: ignore[arg-type]
        assistant = Assistant(
            engine=engine,
            decoder=PictureDecoder(max_bytes=2**24, max_pixels=10_000_000, timeout_s=60.0),
            history=HistoryStore(site.data_dir),
            settings=site,
        )
        assistant.open()
        closing.callback(assistant.close)
        if is_loaded:
            assistant.wait_until_loaded(WAIT_S)
        app = Starlette(routes=[*make_routes(lambda: assistant), Route("/{rest:path}", page)])
        app.add_middleware(SlashMiddleware)
        app.add_middleware(GuardMiddleware, policy="default-src 'none'")
        url = closing.enter_context(running(app))
        client = closing.enter_context(httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False))
        return Served(url, engine, assistant, client)

    with closing:
        yield make


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small picture."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def data_uri(png: bytes) -> str:
    """The small picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
