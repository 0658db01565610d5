"""No network: switches that tell libraries so, and a guard that refuses every connection but loopback.

Knows addresses and environment names. Does not know who wanted to connect or what for, and does not see sockets that
native code opens without Python's `socket` module: the switches silence the libraries known to have any.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from qwen_vl_app.errors import OfflineError

SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_XET": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
}
"""What the environment says after `go_offline()`, whatever it said before."""
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
REMEMBERED_TARGETS = 8


class RefusedConnectionError(OfflineError, OSError):
    """An outside connection was refused. Also an OSError, so that libraries take it for a machine without network."""


class _Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_guarding = False
        self.count = 0
        self.targets: deque[str] = deque(maxlen=REMEMBERED_TARGETS)


_TALLY = _Tally()


def go_offline() -> None:
    """Set the switches and put the guard into this process, for good. Call before heavy imports; a second call is free.

    Two layers. Wrappers on `socket.socket` look first, because `connect(("name", port))` would ask a name server before
    any audit event is raised. An audit hook beneath sees whatever reaches the C functions by another way, and cannot be
    taken out again.
    """
    os.environ.update(SWITCHES)
    for name in ("NO_PROXY", "no_proxy"):
        listed = [entry for entry in os.environ.get(name, "").split(",") if entry]
        missing = [entry for entry in ("127.0.0.1", "localhost", "::1") if entry not in listed]
        os.environ[name] = ",".join(listed + missing)
    with _TALLY.lock:
        if _TALLY.is_guarding:
            return
        _TALLY.is_guarding = True
    for name, address_of in _ADDRESS_OF_CALL.items():
        if not hasattr(socket.socket, name):  # Windows has no sendmsg
            continue
        setattr(socket.socket, name, _guarded(getattr(socket.socket, name), address_of))
    _guard_windows_event_loop()
    sys.addaudithook(_audit)


def is_guarding() -> bool:
    """Return whether `go_offline()` has run in this process."""
    return _TALLY.is_guarding


def refused() -> int:
    """Return how many outside connections and look-ups were refused since the start."""
    return _TALLY.count


def refused_targets() -> tuple[str, ...]:
    """Return the last few refused targets as `host:port`, oldest first."""
    with _TALLY.lock:
        return tuple(_TALLY.targets)


def is_loopback(host: str) -> bool:
    """Return whether `host`, an address or a name, is this machine's loopback. Never asks a name server."""
    host = host.strip("[]").rstrip(".").lower()
    if host in LOOPBACK_NAMES:
        return True
    address = _literal(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def listening_beyond_loopback() -> tuple[str, ...]:
    """Return `host:port` of every socket of this process that listens to more than loopback; empty is as it should be."""
    return tuple(f"{ip}:{port}" for ip, port in _listening() if not is_loopback(ip))


def listens_at(port: int) -> bool:
    """Return whether a socket of this process listens at a port; True where the system does not tell."""
    import psutil  # noqa: PLC0415 - as below

    try:
        return any(bound == port for _, bound in _listening())
    except (psutil.Error, OSError):
        return True


def _listening() -> tuple[tuple[str, int], ...]:
    import psutil  # noqa: PLC0415 - the guard itself must not wait for it

    entries = psutil.Process().net_connections(kind="tcp")
    return tuple((entry.laddr.ip, entry.laddr.port) for entry in entries if entry.status == psutil.CONN_LISTEN)


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _refuse(target: str) -> None:
    with _TALLY.lock:
        _TALLY.count += 1
        _TALLY.targets.append(target)
    raise RefusedConnectionError("offline.refused", target=target)


def _text(host: object) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)


def _check_target(connection: Any, address: object) -> None:
    """Refuse an address beyond loopback. None means a socket that is connected already, which was checked then."""
    if address is None or connection.family == getattr(socket, "AF_UNIX", None):
        return
    is_internet = connection.family in (socket.AF_INET, socket.AF_INET6)
    if not (is_internet and isinstance(address, tuple) and len(address) >= 2):
        _refuse(f"family {int(connection.family)}")
        return
    if not is_loopback(_text(address[0])):
        _refuse(f"{_text(address[0])}:{address[1]}")


def _check_own_name(_connection: Any, address: object) -> None:
    """Refuse to bind to a name that a name server would have to explain. Which address is bound is checked elsewhere."""
    if isinstance(address, tuple) and address and isinstance(address[0], str | bytes | bytearray):
        _check_lookup(address[0])


def _check_lookup(host: object, *_: object) -> None:
    if host is None:
        return
    name = _text(host)
    if name in ("", "<any>", "<broadcast>") or _literal(name.strip("[]")) is not None or is_loopback(name):
        return
    _refuse(name)


def _check_reverse_lookup(host: object, *_: object) -> None:
    if not is_loopback(_text(host)):
        _refuse(_text(host))


def _check_service_lookup(address: object, *_: object) -> None:
    _check_reverse_lookup(address[0] if isinstance(address, tuple) and address else address)


_CHECK_OF_EVENT: dict[str, Callable[..., None]] = {
    "socket.connect": _check_target,
    "socket.sendto": _check_target,
    "socket.sendmsg": _check_target,
    "socket.getaddrinfo": _check_lookup,
    "socket.gethostbyname": _check_lookup,
    "socket.gethostbyaddr": _check_reverse_lookup,
    "socket.getnameinfo": _check_service_lookup,
}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    check = _CHECK_OF_EVENT.get(event)
    if check is not None:
        check(*arguments)


def _first(*arguments: Any) -> Any:
    return arguments[0] if arguments else None


def _last(*arguments: Any) -> Any:
    return arguments[-1] if len(arguments) > 1 else None


def _fourth(*arguments: Any) -> Any:
    return arguments[3] if len(arguments) > 3 else None


_ADDRESS_OF_CALL: dict[str, Callable[..., Any]] = {
    "connect": _first,
    "connect_ex": _first,
    "sendto": _last,
    "sendmsg": _fourth,
    "bind": _first,
}


def _guarded(call: Callable[..., Any], address_of: Callable[..., Any]) -> Callable[..., Any]:
    check = _check_own_name if call.__name__ == "bind" else _check_target

    def guarded(connection: socket.socket, *arguments: Any) -> Any:
        check(connection, address_of(*arguments))
        return call(connection, *arguments)

    guarded.__name__ = call.__name__
    return guarded


def _guard_windows_event_loop() -> None:
    """Check what the Windows event loop connects by itself: it calls the system without the socket module."""
    if sys.platform == "win32":
        from asyncio import windows_events  # noqa: PLC0415 - exists on Windows alone

        guard_proactor(windows_events.IocpProactor)


def guard_proactor(proactor: Any) -> None:
    """Let a class that connects and sends for the Windows event loop look at the address first."""
    connect, sendto = proactor.connect, proactor.sendto

    def guarded_connect(self: Any, connection: socket.socket, address: Any) -> Any:
        _check_target(connection, address)
        return connect(self, connection, address)

    def guarded_sendto(self: Any, connection: socket.socket, data: Any, flags: int = 0, addr: Any = None) -> Any:
        _check_target(connection, addr)
        return sendto(self, connection, data, flags, addr)

    proactor.connect, proactor.sendto = guarded_connect, guarded_sendto
