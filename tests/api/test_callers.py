"""Two programs without keys are two callers: neither uses up the other's share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest

from qwen_vl_app.api import callers
from qwen_vl_app.api.callers import program_behind
from qwen_vl_app.engine.fake import FakeEngine
from tests.api.conftest import Serve
from tests.hub_parts import wait_until
from tests.owners import skip_where_owners_are_not_told

ASK = """
import httpx, sys
reply = httpx.post(sys.argv[1] + "/api/generate", json={"model": "fake", "prompt": "?", "stream": False}, timeout=60, trust_env=False)
print(reply.status_code)
"""


def _row(address: tuple[str, int], process: int | None) -> SimpleNamespace:
    return SimpleNamespace(laddr=address, pid=process, status=psutil.CONN_ESTABLISHED)


def test_a_connection_is_its_programs() -> None:
    """Found by its own end of the connection; an address elsewhere is nobody's here."""
    assert program_behind("192.0.2.7", 4711) is None
    assert program_behind("testclient", 50000) is None
    skip_where_owners_are_not_told()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert program_behind(*client.getsockname()) == os.getpid()
        assert program_behind(*client.getsockname()) == os.getpid()


def test_a_connection_without_an_owner_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows says 0 where it does not tell, and Linux nothing: neither is a program of its own."""
    for owner in (0, None):
        told = _row(("127.0.0.1", 4712), owner)
        monkeypatch.setattr(psutil, "net_connections", lambda kind, told=told: [told])
        callers._known.clear()
        assert program_behind("127.0.0.1", 4712) is None
    callers._known.clear()


def test_a_connection_that_the_table_lacks_at_first_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's table changes while it is read: one that stands can be missing once, and reading can fail."""
    told = _row(("127.0.0.1", 4713), 4711)
    tables: list[list[SimpleNamespace] | Exception] = [[], RuntimeError("torn"), [told]]

    def listed(kind: str) -> list[SimpleNamespace]:
        table = tables.pop(0)
        if isinstance(table, Exception):
            raise table
        return table

    monkeypatch.setattr(psutil, "net_connections", listed)
    callers._known.clear()
    assert program_behind("127.0.0.1", 4713) == 4711
    assert program_behind("127.0.0.1", 4713) == 4711  # known: the table is not asked again
    callers._known.clear()


def test_a_connection_that_nobody_lists_is_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not found is not held for the answer; what the system keeps to itself is."""
    table: list[SimpleNamespace] = []
    monkeypatch.setattr(psutil, "net_connections", lambda kind: table)
    callers._known.clear()
    assert program_behind("127.0.0.1", 4714) is None
    table.append(_row(("127.0.0.1", 4714), 4711))
    assert program_behind("127.0.0.1", 4714) == 4711

    def closed(kind: str) -> None:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil, "net_connections", closed)
    assert program_behind("127.0.0.1", 4714) == 4711
    assert program_behind("127.0.0.1", 4715) is None
    assert callers._known["127.0.0.1", 4715][1] is None
    callers._known.clear()


def test_many_connections_at_once_need_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would read the whole system's table; a burst of them would leave no thread to anybody else."""
    looks: list[str] = []
    begun = threading.Event()

    def listed(kind: str) -> list[SimpleNamespace]:
        looks.append(kind)
        begun.wait(10)
        return [_row(("127.0.0.1", 5000 + at), 4711 if at % 2 else None) for at in range(30)]

    monkeypatch.setattr(psutil, "net_connections", listed)
    callers._known.clear()
    with ThreadPoolExecutor(30) as threads:
        asked = [threads.submit(program_behind, "127.0.0.1", 5000 + at) for at in range(30)]
        begun.set()
        assert [each.result(10) for each in asked] == [None, 4711] * 15
    assert len(looks) == 1
    callers._known.clear()


def test_what_is_known_is_forgotten_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store of answers has an end."""
    told = _row(("127.0.0.1", 1), 4711)
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [told])
    callers._known.clear()
    for port in range(callers.MOST_KNOWN + 5):
        callers._known["127.0.0.1", port] = (-1e9, 1)
    program_behind("127.0.0.1", 1)
    assert len(callers._known) <= callers.MOST_KNOWN
    callers._known.clear()


def test_one_program_does_not_use_up_anothers_share(serve: Serve) -> None:
    """This one has all it may have waiting; the other's question still finds its place, and is answered."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine(["a", "b", "c"], gate=gate), queue_limit_per_owner=1)
    statuses: list[int] = []

    def ask() -> None:
        body = {"model": "fake", "prompt": "?", "stream": False}
        statuses.append(served.client.post("/api/generate", json=body).status_code)

    first, second = threading.Thread(target=ask), threading.Thread(target=ask)
    first.start()
    wait_until(lambda: served.assistant.status.is_busy)
    second.start()
    wait_until(lambda: served.assistant.status.waiting == 1)
    ask()
    assert statuses == [429]
    with subprocess.Popen([sys.executable, "-c", ASK, served.url], stdout=subprocess.PIPE, text=True) as other:
        wait_until(lambda: served.assistant.status.waiting == 2)
        gate.release(10)
        assert other.communicate(timeout=60)[0].strip() == "200"
    first.join(60)
    second.join(60)
    assert sorted(statuses) == [200, 200, 429]
