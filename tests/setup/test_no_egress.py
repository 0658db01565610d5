"""Behind `--no-egress` the system itself knows no way out, and the page is reached all the same."""

from __future__ import annotations

import http.client
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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
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
