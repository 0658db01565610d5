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

KNOWN_S = 60.0
"""How long an answer is good: a port may later be another program's."""
MOST_KNOWN = 1024
_known: OrderedDict[tuple[str, int], tuple[float, int | None]] = OrderedDict()
_lock = threading.Lock()


def program_behind(host: str, port: int) -> int | None:
    """Return the process id of the program whose connection comes from this address; None where nobody can tell.

    Takes some milliseconds, once a minute for a connection; not for an event loop.
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
    process = _look_up(host, port)
    with _lock:
        _known[host, port] = (now, process)
        _known.move_to_end((host, port))
        while len(_known) > MOST_KNOWN:
            _known.popitem(last=False)
    return process


def _look_up(host: str, port: int) -> int | None:
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError, RuntimeError):  # a system that shows it to nobody, or only to its administrator
        return None
    owner = next((each.pid for each in connections if each.laddr and tuple(each.laddr[:2]) == (host, port)), None)
    return owner or None  # Windows gives 0 for a connection whose owner it does not tell
