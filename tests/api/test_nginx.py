"""Behind a site's name: the shipped nginx file, in a real nginx on loopback, in front of the real doors."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import DefaultHttpxClient, OpenAI
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.api.guard import PROFILE_COOKIE, GuardMiddleware
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.chat import Question
from qwen_vl_app.config import ROOT, Settings, load_settings
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import SettingsError
from tests.api.conftest import PAGE, Serve, page, running
from tests.hub_parts import WAIT_S, wait_until
from tests.serving import free_port

NGINX, OPENSSL = shutil.which("nginx") or "/usr/sbin/nginx", shutil.which("openssl")
KEY = "0123456789abcdef"
NAME = "localhost"
"""The public name: one that resolves here without asking anybody."""

needs_nginx = pytest.mark.skipif(
    not Path(NGINX).exists() or OPENSSL is None, reason="nginx and openssl are not on this machine"
)


@dataclass
class Site:
    """A running nginx in front of the doors."""

    url: str
    port: int
    engine: FakeEngine
    client: httpx.Client
    owners: list[str]
    trust: ssl.SSLContext


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(f"{socket.headers['host']} {socket.headers['origin']}")
    await socket.close()


@pytest.fixture
def site(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The shipped file with this test's ports, certificate and password, and nothing else changed."""
    port = free_port()
    origin = f"https://{NAME}:{port}"
    gate = threading.Semaphore(0)
    engine = FakeEngine([["first ", "second"]], gate=gate)
    served = serve(engine=engine, api_keys=(KEY,), public_origins=(origin,))
    owners: list[str] = []
    ask = served.assistant.ask

    def ask_and_note(question: Question, **more: Any) -> AnswerJob:
        owners.append(more["owner"])
        return ask(question, **more)

    monkeypatch.setattr(served.assistant, "ask", ask_and_note)
    routes = [*make_routes(lambda: served.assistant), WebSocketRoute("/socket", _echo), Route("/{rest:path}", page)]
    app = Starlette(routes=routes)
    app.add_middleware(GuardMiddleware, policy="default-src 'none'", public_origins=(origin,))
    with running(app) as inner:
        _write_site(tmp_path, port=port, inner=inner.removeprefix("http://"))
        process = subprocess.Popen(
            [NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.PIPE
        )
        try:
            trust = ssl.create_default_context(cafile=str(tmp_path / "qwen-vl.crt"))
            with httpx.Client(base_url=origin, verify=trust, timeout=WAIT_S, trust_env=False) as client:
                wait_until(lambda: _answers(port) or process.poll() is not None)
                assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
                yield Site(origin, port, engine, client, owners, trust)
                gate.release(10)
        finally:
            process.terminate()
            process.wait(WAIT_S)


def test_nothing_that_the_app_takes_is_too_large_for_the_shipped_file() -> None:
    """A clip on the page may be larger than what a program sends; nginx would refuse it with a page of its own."""
    conf = (ROOT / "docs" / "nginx" / "qwen-vl.conf").read_text(encoding="utf-8")
    limits = re.findall(r"client_max_body_size (\d+)m;", conf)
    settings = Settings()
    assert [int(limit) for limit in limits] == [
        settings.api_max_body_mb,
        max(settings.max_upload_mb, settings.max_clip_mb),
    ]
    assert conf.index("location / {") < conf.rindex("client_max_body_size")


@needs_nginx
def test_programs_come_in_with_their_key_and_streams_are_not_held_back(site: Site) -> None:
    """The real client streams through nginx: the first piece is there while the model works on the second."""
    assert site.client.get("/v1/models").status_code == 401
    client = OpenAI(
        base_url=f"{site.url}/v1", api_key=KEY, max_retries=0, http_client=DefaultHttpxClient(verify=site.trust)
    )
    assert client.models.list().data[0].id == "fake"
    stream = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "?"}], stream=True)
    gate = site.engine._gate
    assert gate is not None
    gate.release()
    chunks = iter(stream)
    assert next(chunks).choices[0].delta.content == "first "
    gate.release()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "second"
    assert site.owners == [f"api:{hashlib.sha256(KEY.encode()).hexdigest()[:12]}"]


@needs_nginx
def test_people_show_a_password_and_get_a_secure_cookie(site: Site) -> None:
    """The page is behind nginx's password; its cookie never travels unencrypted."""
    assert site.client.get("/").status_code == 401
    response = site.client.get("/", auth=("anna", "secret"))
    assert (response.status_code, response.text) == (200, PAGE)
    cookie = response.headers["set-cookie"]
    assert cookie.startswith(PROFILE_COOKIE)
    assert "Secure" in cookie


@needs_nginx
@pytest.mark.parametrize("path", ["/v1/models", "/"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost", "https://localhost", "null"])
def test_other_sites_are_kept_out_here_too(site: Site, path: str, origin: str) -> None:
    """Only the public address itself is the page's own origin; its name on another port or scheme is not."""
    headers = {"origin": origin, "authorization": f"Bearer {KEY}"}
    auth = ("anna", "secret") if path == "/" else None
    assert site.client.get(path, headers=headers, auth=auth).status_code == 403
    own = {"origin": site.url, "authorization": f"Bearer {KEY}"}
    assert site.client.get(path, headers=own, auth=auth).status_code == 200


@needs_nginx
def test_the_pages_socket_passes_and_sees_loopback(site: Site) -> None:
    """A WebSocket of the public origin is let through, and what is behind sees an address of its own; others are refused."""
    good = _socket_reply(site, site.url)
    assert b"101 Switching Protocols" in good
    assert re.search(rb"127\.0\.0\.1:\d+ http://127\.0\.0\.1:\d+", good)
    assert b"403" in _socket_reply(site, "https://evil.example").partition(b"\r\n")[0]


def test_a_public_address_without_a_key_is_refused_by_the_settings() -> None:
    """Nobody publishes the doors by accident without a lock."""
    with pytest.raises(SettingsError) as refused:
        load_settings({"public_origins": ["https://vision.site.example"]}, file=Path("none"), environment={})
    assert refused.value.facts["key"] == "--public-origins"
    for wrong in ("vision.site.example", "https://vision.site.example/", "https://*.site.example", "ftp://a"):
        with pytest.raises(SettingsError):
            load_settings({"api_keys": [KEY], "public_origins": [wrong]}, file=Path("none"), environment={})
    good = load_settings(
        {"api_keys": [KEY], "public_origins": ["https://Vision.Site.example"]}, file=Path("none"), environment={}
    )
    assert good.public_origins == ("https://vision.site.example",)


def test_keys_are_long_and_come_from_the_environment_as_a_list() -> None:
    """Two keys in one variable; a short one is refused, and none is printed with the settings."""
    settings = load_settings(file=Path("none"), environment={"QWEN_VL_API_KEYS": f"{KEY}, fedcba9876543210"})
    assert settings.api_keys == (KEY, "fedcba9876543210")
    assert KEY not in repr(settings)
    with pytest.raises(SettingsError):
        load_settings({"api_keys": ["short"]}, file=Path("none"), environment={})
    assert Settings().api_keys == ()


def _write_site(folder: Path, *, port: int, inner: str) -> None:
    text = (ROOT / "docs" / "nginx" / "qwen-vl.conf").read_text(encoding="utf-8")
    for shipped, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:8501", f"server {inner}"),
        ("server_name vision.site.example", f"server_name {NAME}"),
        ("/etc/nginx/", f"{folder}/"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "site.conf").write_text(text, encoding="utf-8")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    account = "user root;\n" if os.geteuid() == 0 else ""  # who may read the test's folder
    (folder / "nginx.conf").write_text(
        f"{account}daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nworker_processes 1;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}include {folder}/site.conf;\n}}\n",
        encoding="utf-8",
    )
    digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    (folder / "qwen-vl.users").write_text(f"anna:{{SHA}}{digest}\n", encoding="utf-8")
    subprocess.run(
        [
            str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
            "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(folder / "qwen-vl.key"), "-out", str(folder / "qwen-vl.crt"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


def _socket_reply(site: Site, origin: str) -> bytes:
    """Open a WebSocket by hand and return what came back."""
    credentials = base64.b64encode(b"anna:secret").decode()
    request = (
        f"GET /socket HTTP/1.1\r\nHost: {NAME}:{site.port}\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Basic {credentials}\r\n\r\n"
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=WAIT_S) as plain,
        context.wrap_socket(plain) as secure,
    ):
        secure.sendall(request.encode())
        got = b""
        # Until the frame that closes the socket, or the end of the refusal's head.
        while not re.search(rb"101 .*\r\n\r\n.*\x88|403 .*\r\n\r\n", got, re.DOTALL) and (piece := secure.recv(4096)):
            got += piece
        return got


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
