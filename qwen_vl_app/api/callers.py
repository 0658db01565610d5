"""Which program on this machine holds a connection, so that two of them without keys are two.

Knows the system's table of connections, as far as the system shows it. Does not know keys or requests. What it finds decides
whose turn it is and whose share is used up, never who may see what.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping

import psutil

KNOWN_S = 5.0
"""How long an answer is good: a port may later be another program's."""
LOOKS = 3
"""How often a connection is looked for: a table that changes while it is read can lack one that stands."""
MOST_KNOWN = 4096
_known: OrderedDict[tuple[str, int], tuple[float, int | None]] = OrderedDict()
_lock = threading.Lock()
_reading = threading.Lock()
"""One reads the table at a time, for all who ask meanwhile: hundreds of connections at once would keep every thread busy."""


def program_behind(host: str, port: int) -> int | None:
    """Return the process id of the program whose connection comes from this address; None where nobody can tell.

    Takes some milliseconds, once every `KNOWN_S` for a connection; not for an event loop. What was not found is looked
    for again with the next request.
    """
    try:
        if not ipaddress.ip_address(host).is_loopback:
            return None
    except ValueError:
        return None
    at = (host, port)
    is_known, process = _recall(at)
    if is_known:
        return process
    with _reading:
        is_known, process = _recall(at)  # whoever read the table meanwhile has seen this connection as well
        for _ in range(0 if is_known else LOOKS):
            began = time.monotonic()
            table = _table(at)
            _remember(table, began)
            if at in table:
                return table[at]
    return process


def _recall(at: tuple[str, int]) -> tuple[bool, int | None]:
    """Return whether it is known whose a connection is, or that nobody can tell, and whose."""
    with _lock:
        seen_at, process = _known.get(at, (-KNOWN_S, None))
    return time.monotonic() - seen_at < KNOWN_S, process


def _remember(table: Mapping[tuple[str, int], int | None], began: float) -> None:
    with _lock:
        for at, process in table.items():
            _known[at] = (began, process)
            _known.move_to_end(at)
        while len(_known) > MOST_KNOWN:
            _known.popitem(last=False)


def _table(asked: tuple[str, int]) -> dict[tuple[str, int], int | None]:
    """Return whose the connections are that the system lists, the one that is asked about last."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # a system that shows it only to its administrator
        return {asked: None}
    except (psutil.Error, OSError, RuntimeError):
        return {}
    # Windows gives 0 for a connection whose owner it does not tell. What has ended has no owner, and its port may be taken again.
    found = {
        (str(each.laddr[0]), int(each.laddr[1])): each.pid or None
        for each in connections
        if each.laddr and (each.pid or each.status == psutil.CONN_ESTABLISHED)
    }
    if asked in found:
        found[asked] = found.pop(asked)
    return found
