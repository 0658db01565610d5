"""Which program on this machine holds a connection, so that two of them without keys are two.

Knows the system's table of connections, as far as the system shows it. Does not know keys or requests. What it finds decides
whose turn it is and whose share is used up, never who may see what.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict

import psutil

KNOWN_S = 5.0
"""How long an answer is good: a port may later be another program's."""
LOOKS = 3
"""How often a connection is looked for: a table that changes while it is read can lack one that stands."""
MOST_KNOWN = 1024
_known: OrderedDict[tuple[str, int], tuple[float, int | None]] = OrderedDict()
_lock = threading.Lock()


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
    now = time.monotonic()
    with _lock:
        seen_at, process = _known.get((host, port), (-KNOWN_S, None))
    if now - seen_at < KNOWN_S:
        return process
    for _ in range(LOOKS):
        is_listed, process = _look_up(host, port)
        if is_listed:
            break
    else:
        return None
    with _lock:
        _known[host, port] = (now, process)
        _known.move_to_end((host, port))
        while len(_known) > MOST_KNOWN:
            _known.popitem(last=False)
    return process


def _look_up(host: str, port: int) -> tuple[bool, int | None]:
    """Return whether the system lists the connection, and whose it is where it tells."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # a system that shows it only to its administrator
        return True, None
    except (psutil.Error, OSError, RuntimeError):
        return False, None
    for each in connections:
        if each.laddr and tuple(each.laddr[:2]) == (host, port):
            return True, each.pid or None  # Windows gives 0 for a connection whose owner it does not tell
    return False, None
