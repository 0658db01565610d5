"""Behind `--no-egress` the system itself knows no way out, and the page is reached all the same."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import no_egress
from tests.serving import free_port

APP = """
import http.server, json, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with socket.socket() as outside:
                outside.settimeout(5)
                outside.connect(("192.0.2.1", 80))
            told = "connected"
        except OSError as error:
            told = str(error.errno)
        with open("/proc/net/route") as routes:
            told += f" {len(routes.readlines()) - 1} routes, length {len(self.path)}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(told.encode() + b"." * 300000)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def _ask(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_an_app_without_a_way_out_is_reached_from_this_machine(tmp_path: Path) -> None:
    """It answers at its port; what it connects to outside is unreachable at once, since there is no route at all."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    port = free_port()
    script = Path(no_egress.__file__)
    with subprocess.Popen(
        [sys.executable, str(script), str(port), "--", sys.executable, str(tmp_path / "app.py"), str(port)],
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            told, deadline = "", time.monotonic() + 120
            while not told and time.monotonic() < deadline and running.poll() is None:
                try:
                    told = _ask(port, "/" + "x" * 5000)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.1)
            if running.poll() == no_egress.NOT_ALLOWED:
                pytest.skip("this system lets no user make a network of its own")
            assert told.startswith("101 0 routes, length 5001"), told[:80]
            assert len(told) > 300000
        finally:
            running.terminate()
            running.wait(60)
    with pytest.raises(OSError):
        _ask(port, "/")


def test_a_system_that_allows_no_network_of_one_s_own_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never started without what was asked for."""

    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(no_egress, "enter_empty_network", refuse)
    monkeypatch.setattr(sys, "platform", "linux")
    assert no_egress.main([str(free_port()), "--", "app"]) == no_egress.NOT_ALLOWED
    assert "user namespaces" in capsys.readouterr().err


def test_an_app_that_dies_of_a_signal_dies_of_it_here_too(tmp_path: Path) -> None:
    """So that whoever started it sees a crash for a crash."""
    script = Path(no_egress.__file__)
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    ended = subprocess.run(
        [sys.executable, str(script), str(free_port()), "--", sys.executable, "-c", code],
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert ended.returncode in (-11, no_egress.NOT_ALLOWED)


WAITS = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)"


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_an_ended_connection_is_let_go_of_and_one_that_is_open_holds_no_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends no more still gets an answer; and the app that ends is not kept by a browser that stays."""
    servers: list[asyncio.Server] = []
    start_server = asyncio.start_server

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()  # until the end, which half a connection passes on
        writer.write(b"heard " + asked)
        writer.close()

    async def listen(*arguments: object, **named: object) -> asyncio.Server:
        servers.append(await start_server(*arguments, **named))  # type: ignore[arg-type]
        return servers[-1]

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"me")
        writer.write_eof()
        told = await reader.read()
        writer.close()
        return told

    async def stay(port: int) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"no line, and no end")
        await asyncio.sleep(0.2)
        assert not reader.at_eof()
        return writer

    async def play() -> None:
        app = await start_server(answer, "127.0.0.1", 0)
        inner = int(app.sockets[0].getsockname()[1])
        outside = socket.create_server(("127.0.0.1", 0))
        outer = int(outside.getsockname()[1])
        end = tmp_path / "end"
        serving = asyncio.create_task(no_egress._serve(outside, inner, [sys.executable, "-c", WAITS, str(end)]))
        assert await asyncio.gather(*(ask(outer) for _ in range(20))) == [b"heard me"] * 20
        deadline = time.monotonic() + 60
        while _held(servers[0]) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert _held(servers[0]) == 0
        staying = await stay(outer)
        assert _held(servers[0]) == 1
        end.touch()
        assert await asyncio.wait_for(serving, 60) == 0
        staying.close()
        app.close()

    async def play_to_the_end() -> None:
        try:
            await asyncio.wait_for(play(), 60)
        finally:
            (tmp_path / "end").touch()  # or the loop waits for the app for good

    monkeypatch.setattr(asyncio, "start_server", listen)
    asyncio.run(play_to_the_end())


def _held(server: asyncio.Server) -> int:
    """Return how many connections a server holds open. Python tells it to nobody, and waits for it since 3.12.1."""
    clients = getattr(server, "_clients", None)  # since 3.13
    return int(getattr(server, "_active_count", 0)) if clients is None else len(clients)


@pytest.mark.parametrize("words", [[], ["port", "--", "app"], ["8501", "app", "--port"], ["8501", "--"]])
def test_words_that_are_no_port_and_command_are_told_what_it_takes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line in place of a traceback."""
    assert no_egress.main(words) == 2
    assert capsys.readouterr().err == "python scripts/no_egress.py PORT -- COMMAND, on Linux\n"
