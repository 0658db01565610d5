"""The proof of staying offline: what counts as clean, what the report says, and one real run where there is no network at all."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from qwen_vl_app.cli import main, page_driver, prove_offline
from qwen_vl_app.cli.page_driver import PageRecord
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.prove_offline import Proof, Watch, hash_shipped, look, report_of
from qwen_vl_app.config import ROOT
from qwen_vl_app.doctor import find_browser
from qwen_vl_app.texts import Language
from tests.owners import skip_where_owners_are_not_told

POLICY = "default-src 'none'; script-src 'self'"


def a_proof(**changes: Any) -> Proof:
    """A proof with nothing wrong in it."""
    clean = Proof(
        made_at="2026-11-21T12:00:00+00:00",
        version="1",
        system="Linux",
        python="3.11",
        torch="2.13.0",
        model="demo",
        watch=Watch(looks=9, listening={"127.0.0.1:8501"}, processes=2),
        guard={"guarding": True, "refused": 0, "targets": [], "beyond_loopback": []},
        page=PageRecord("chromium", requests=40, policy=POLICY, answer="VOLT | 400", forbidden_fetch="refused"),
        page_problem="",
        has_browser=True,
        shipped={"": "f" * 64, "app.py": "0" * 64},
        kit="",
    )
    return replace(clean, **changes)


def test_a_proof_is_clean_only_where_everything_is() -> None:
    """Each thing by itself is enough to refuse the verdict."""
    assert a_proof().is_clean
    assert a_proof(page=None, has_browser=False, page_problem="no browser").is_clean
    page = PageRecord("chromium", requests=40, policy=POLICY, forbidden_fetch="refused")
    soiled: tuple[dict[str, Any], ...] = (
        {"guard": {"guarding": True, "refused": 1, "targets": ["example.org:443"]}},
        {"guard": {"guarding": False, "refused": 0}},
        {"guard": {"guarding": True, "refused": 0, "beyond_loopback": ["0.0.0.0:1"]}},
        {"guard": {}},
        {"watch": Watch(looks=9, listening={"0.0.0.0:8501"})},
        {"watch": Watch(looks=9, listening={"127.0.0.1:1"}, outside={"203.0.113.9:443"})},
        {"watch": Watch()},
        {"page": replace(page, outside=["https://fonts.example/x"])},
        {"page": replace(page, forbidden_fetch="sent")},
        {"page": replace(page, policy="")},
        {"page": None, "page_problem": "the page did not become ready"},
    )
    for changes in soiled:
        assert not a_proof(**changes).is_clean, changes


@pytest.mark.parametrize("language", Language)
def test_the_report_says_what_was_found_and_what_it_does_not_say(language: Language) -> None:
    """Whole sentences, every figure, room for a signature; strangers' signs do not break its table."""
    text = report_of(a_proof(), language)
    assert "{" not in text
    for figure in ("127.0.0.1:8501", "chromium", "0" * 64, "f" * 64, "VOLT &#124; 400", POLICY):
        assert figure in text
    assert "____" in text
    failed = report_of(a_proof(page=None, page_problem="the page did not become ready"), language)
    assert "did not become ready" in failed


def test_every_byte_of_the_app_counts(tmp_path: Path) -> None:
    """Another file, another byte or another name is another hash; line ends are not."""
    (tmp_path / "qwen_vl_app").mkdir()
    (tmp_path / "app.py").write_bytes(b"a\nb\n")
    first = hash_shipped(tmp_path)
    assert set(first) == {"", "app.py"}
    (tmp_path / "app.py").write_bytes(b"a\r\nb\r\n")
    assert hash_shipped(tmp_path) == first
    (tmp_path / "qwen_vl_app" / "new.py").write_bytes(b"")
    assert hash_shipped(tmp_path)[""] != first[""]
    assert "qwen_vl_app/__init__.py" in hash_shipped(ROOT)


def test_sockets_are_seen_from_outside_of_the_process() -> None:
    """A listener beyond loopback is noted, also that of a child, and also one for datagrams."""
    skip_where_owners_are_not_told()
    code = (
        "import socket; s = socket.create_server(('0.0.0.0', 0)); u = socket.socket(type=socket.SOCK_DGRAM);"
        "u.bind(('0.0.0.0', 0)); print(s.getsockname()[1], u.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        ports = child.stdout.readline().split()
        watch = Watch()
        look(psutil.Process(), watch)
        child.communicate("\n")
    assert {f"0.0.0.0:{port}" for port in ports} <= watch.listening
    assert watch.processes >= 2
    assert not Watch().looks


RUN = """
import sys
from scripts.no_egress import enter_empty_network
try:
    enter_empty_network()
except OSError:
    sys.exit(71)
from qwen_vl_app.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.browser
@pytest.mark.flaky(reruns=1)  # as all that drives Chromium, see `tests/conftest.py`
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
@pytest.mark.timeout(600)
def test_the_app_answers_and_is_proved_clean_where_there_is_no_network_at_all(tmp_path: Path) -> None:
    """The whole of it in a network namespace without a route: app, page, question, answer, report."""
    is_driven = find_browser(is_drivable=True) is not None and os.geteuid() == 0
    flags = ["--json", "--out", str(tmp_path / "report.md"), "--model", "demo", "--timeout", "240", "--language", "en"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "prove-offline", *flags, *([] if is_driven else ["--no-browser"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=560,
        check=False,
    )
    if done.returncode == 71:
        pytest.skip("this system lets no user make a network of its own")
    told = json.loads(done.stdout)
    assert told["is_clean"], told
    assert done.returncode == 0
    assert told["watch"]["outside"] == []
    if is_driven:
        assert "VOLT 400" in " ".join(told["page"]["answer"].split())
        assert told["page"]["outside"] == []
    assert "127.0.0.1:" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_what_keeps_a_proof_from_being_is_told_to_programs_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json every end has one object on stdout."""

    def never(*_: object, **__: object) -> Proof:
        raise TimeoutError

    remote = {"QWEN_VL_REMOTE_ADDRESS": "http://127.0.0.1:9/v1"}
    for prove, environment, out, code in (
        (never, remote, "report.md", "prove.remote"),
        (never, {}, "report.md", "prove.not_started"),
        (lambda *_, **__: a_proof(), {}, "none/report.md", "prove.not_written"),
    ):
        monkeypatch.setattr(prove_offline, "_prove", prove)
        parts = Parts(settings_file=tmp_path / "config.toml", environment=environment)
        assert main(["prove-offline", "--json", "--out", str(tmp_path / out)], parts=parts) == 1
        told, err = capsys.readouterr()
        assert json.loads(told)["error"]["code"] == code
        assert json.loads(told)["error"]["message"] in err


class Keyed(http.server.BaseHTTPRequestHandler):
    """An app of a site with keys."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers.get("Authorization") == "Bearer " + "k" * 16 else 401)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "demo"}]}')

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def test_a_site_with_keys_is_asked_for_its_model_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report names the model there, too; without its key it would be waited for in vain."""
    monkeypatch.setattr(prove_offline, "START_TIMEOUT_S", 5.0)
    with http.server.HTTPServer(("127.0.0.1", 0), Keyed) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            assert prove_offline._wait_for_model(server.server_port, key="k" * 16) == "demo"
            monkeypatch.setattr(prove_offline, "START_TIMEOUT_S", 0.2)
            assert prove_offline._wait_for_model(server.server_port) == ""
        finally:
            server.shutdown()


def test_a_page_that_is_not_there_is_said_and_not_waited_for(tmp_path: Path) -> None:
    """A browser that ends at once is a sentence in the report."""
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    fake.chmod(0o755)
    if sys.platform == "win32":
        pytest.skip("a script is no program there")
    with socket.socket() as nobody, pytest.raises(page_driver.BrowserError, match="did not start"):
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        page_driver.ask_in_page(fake, address, picture=None, question="?", timeout_s=5)
