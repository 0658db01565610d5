"""Nothing but loopback can be reached, by whichever way code tries, and every refusal is counted."""

from __future__ import annotations

import _socket
import asyncio
import json
import os
import pickle
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from qwen_vl_app import offline
from qwen_vl_app.config import ROOT
from qwen_vl_app.errors import OfflineError
from qwen_vl_app.texts import Language, render
from tests.owners import skip_where_owners_are_not_told

OUTSIDE = ("192.0.2.1", 9)  # an address that documentation may use and nobody has
OUTSIDE_V6 = ("2001:db8::1", 9, 0, 0)


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _attempt_connect() -> None:
    with socket.socket() as outside:
        outside.connect(OUTSIDE)


def _attempt_connect_ex() -> None:
    with socket.socket() as outside:
        outside.connect_ex(OUTSIDE)


def _attempt_beneath_the_wrapper() -> None:
    with socket.socket() as outside:
        _socket.socket.connect(outside, OUTSIDE)


def _attempt_udp_own_address() -> None:
    with _udp() as outside:
        outside.connect(("8.8.8.8", 80))


def _attempt_sendto() -> None:
    with _udp() as outside:
        outside.sendto(b"x", OUTSIDE)


def _attempt_sendto_with_flags() -> None:
    with _udp() as outside:
        outside.sendto(b"x", 0, OUTSIDE)


def _attempt_sendmsg() -> None:
    with _udp() as outside:
        outside.sendmsg([b"x"], [], 0, OUTSIDE)


def _attempt_v6() -> None:
    with socket.socket(socket.AF_INET6) as outside:
        outside.connect(OUTSIDE_V6)


def _attempt_name() -> None:
    with socket.socket() as outside:
        outside.connect(("somewhere.example", 80))


def _attempt_asyncio() -> None:
    asyncio.run(asyncio.wait_for(asyncio.open_connection(*OUTSIDE), timeout=5))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "connect": _attempt_connect,
    "connect_ex": _attempt_connect_ex,
    "the C method itself": _attempt_beneath_the_wrapper,
    "UDP, to learn the own address": _attempt_udp_own_address,
    "sendto": _attempt_sendto,
    "sendto with flags": _attempt_sendto_with_flags,
    **({"sendmsg": _attempt_sendmsg} if hasattr(socket.socket, "sendmsg") else {}),
    "IPv6": _attempt_v6,
    "a name": _attempt_name,
    "asyncio": _attempt_asyncio,
    "create_connection": lambda: socket.create_connection(OUTSIDE, timeout=5),
    "getaddrinfo": lambda: socket.getaddrinfo("somewhere.example", 80),
    "gethostbyname": lambda: socket.gethostbyname("somewhere.example"),
    "gethostbyaddr": lambda: socket.gethostbyaddr("192.0.2.1"),
    "getnameinfo": lambda: socket.getnameinfo(OUTSIDE, 0),
}


@pytest.mark.parametrize("way", ATTEMPTS)
def test_every_way_out_is_refused_and_counted(way: str) -> None:
    """Each attempt raises an OfflineError and raises the count by one."""
    before = offline.refused()
    with pytest.raises(OfflineError) as caught:
        ATTEMPTS[way]()
    assert caught.value.code == "offline.refused"
    assert isinstance(caught.value, OSError)
    assert offline.refused() == before + 1
    assert offline.refused_targets()[-1] == caught.value.facts["target"]


_ON_WINDOWS = """
import socket, types

class Missing:
    def __get__(self, *_):
        raise AttributeError("sendmsg")

socket.socket.sendmsg = Missing()
assert not hasattr(socket.socket, "sendmsg")
from qwen_vl_app import offline
offline.go_offline()

class Proactor:
    def connect(self, connection, address):
        return address
    def sendto(self, connection, data, flags=0, addr=None):
        return data, flags, addr

offline.guard_proactor(Proactor)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
    home, outside = ("127.0.0.1", 9), ("192.0.2.1", 9)
    loop = Proactor()
    assert loop.connect(own, home) == home
    assert loop.sendto(own, b"x", addr=home) == (b"x", 0, home) == loop.sendto(own, b"x", 0, home)
    for way in (
        lambda: own.sendto(b"x", outside),
        lambda: loop.connect(own, outside),
        lambda: loop.sendto(own, b"x", addr=outside),
        lambda: loop.sendto(own, b"x", 0, outside),
    ):
        try:
            way()
        except offline.RefusedConnectionError:
            continue
        raise SystemExit("nothing was refused")
assert offline.refused() == 4
"""


def test_the_guard_stands_where_a_system_lacks_a_call_and_has_an_event_loop_of_its_own() -> None:
    """Windows has no sendmsg, and its event loop connects and sends without the socket module."""
    told = subprocess.run([sys.executable, "-c", _ON_WINDOWS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_a_library_takes_the_refusal_for_a_machine_without_network() -> None:
    """urllib reports it as its own network error, with ours as the reason."""
    with pytest.raises(urllib.error.URLError) as caught:
        urllib.request.urlopen("http://192.0.2.1:9/", timeout=5)
    assert isinstance(caught.value.reason, OfflineError)


def test_a_refusal_is_a_sentence_in_both_languages_and_survives_pickling() -> None:
    """The error renders with its target, and comes back from another process as it was."""
    error = offline.RefusedConnectionError("offline.refused", target="192.0.2.1:9")
    assert all("192.0.2.1:9" in render(error, language) for language in Language)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, dict(again.facts)) == (type(error), error.code, dict(error.facts))


@pytest.mark.parametrize(
    ("family", "address", "bound"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "localhost", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "::"),
    ],
)
def test_loopback_is_reached(family: socket.AddressFamily, address: str, bound: str) -> None:
    """A connection to this machine's own loopback passes, in every spelling."""
    before = offline.refused()
    with socket.socket(family) as server, socket.socket(family) as client:
        if address == "::ffff:127.0.0.1":  # Windows keeps the two families apart unless it is asked not to
            for end in (server, client):
                end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            server.bind((bound, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        server.listen(1)
        client.connect((address, server.getsockname()[1]))
        if hasattr(client, "sendmsg"):  # not on Windows
            client.sendmsg([b"hello"])
        else:
            client.sendall(b"hello")
        accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"
    assert offline.refused() == before


def test_local_plumbing_works() -> None:
    """Socket pairs, an event loop, a bind to any free port and a look-up of localhost are left alone."""
    before = offline.refused()
    left, right = socket.socketpair()
    with left, right, socket.socket() as probe:
        left.sendall(b"x")
        assert right.recv(1) == b"x"
        probe.bind(("0.0.0.0", 0))
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
    assert socket.getaddrinfo("localhost", 80)
    assert socket.getaddrinfo(None, 80, flags=socket.AI_PASSIVE)
    assert offline.refused() == before


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("[::1]", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("2130706433", False),
        ("169.254.169.254", False),
    ],
)
def test_what_counts_as_loopback(host: str, expected: bool) -> None:
    """Only addresses that stay on this machine, and the few names that always mean them."""
    assert offline.is_loopback(host) is expected


def test_a_socket_that_listens_to_everybody_is_named() -> None:
    """The doctor's question is answered by name for a wide socket, and by nothing for one on loopback."""
    skip_where_owners_are_not_told()
    with socket.socket() as wide, socket.socket() as narrow:
        wide.bind(("0.0.0.0", 0))
        narrow.bind(("127.0.0.1", 0))
        wide.listen(1)
        narrow.listen(1)
        found = offline.listening_beyond_loopback()
        assert offline.listens_at(narrow.getsockname()[1])
        assert not offline.listens_at(1)
        assert f"0.0.0.0:{wide.getsockname()[1]}" in found
        assert not any(str(narrow.getsockname()[1]) in entry for entry in found)


def _in_a_new_process(code: str) -> dict[str, object]:
    environment = {key: value for key, value in os.environ.items() if key not in offline.SWITCHES}
    environment["NO_PROXY"] = "intranet.example"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(ran.stdout)
    assert isinstance(answer, dict)
    return answer


def test_importing_does_nothing_and_a_second_call_is_free() -> None:
    """The environment and sockets change with the first call of go_offline, and never again."""
    told = _in_a_new_process("""
import json, os, socket
before, connect = dict(os.environ), socket.socket.connect
from qwen_vl_app import offline
untouched = before == dict(os.environ) and connect is socket.socket.connect and not offline.is_guarding()
offline.go_offline(); guarded = socket.socket.connect
offline.go_offline()
print(json.dumps({"untouched": untouched, "once": guarded is socket.socket.connect and guarded is not connect,
    "switches": all(os.environ[k] == v for k, v in offline.SWITCHES.items()), "no_proxy": os.environ["NO_PROXY"]}))
""")
    assert told == {
        "untouched": True,
        "once": True,
        "switches": True,
        "no_proxy": "intranet.example,127.0.0.1,localhost,::1",
    }


def test_a_name_is_refused_before_anybody_is_asked_about_it() -> None:
    """connect() with a name ends before Python's own code, which would look the name up, has begun."""
    told = _in_a_new_process("""
import json, socket, sys
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event) if event.startswith("socket.") else None)
from qwen_vl_app import offline
offline.go_offline()
outside = socket.socket()
seen.clear()
for attempt in (outside.connect, outside.connect_ex, outside.bind):
    try:
        attempt(("somewhere.example", 80))
    except offline.OfflineError:
        pass
print(json.dumps({"seen": seen, "refused": offline.refused()}))
""")
    assert told == {"seen": [], "refused": 3}
