"""HTML of finished turns, kept in this process: opening a conversation again need not write the same thirty turns anew.

Knows what a turn was when its HTML was made, and gives it back for the very same turn alone. Does not know how it is made.
Private turns have no place here, and an erasure lets go of everything.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST = 1_000
"""A thousand turns of two to three kilobytes."""
_lock = threading.Lock()
_kept: OrderedDict[Hashable, tuple[object, str]] = OrderedDict()


def html_of(key: Hashable, said: object, make: Callable[[], str]) -> str:
    """Return the HTML under a key where it was made of something equal to `said`; else make it."""
    with _lock:
        kept = _kept.get(key)
    if kept is not None and kept[0] == said:
        return kept[1]
    html = make()
    with _lock:
        _kept[key] = (said, html)
        _kept.move_to_end(key)
        while len(_kept) > MOST:
            _kept.popitem(last=False)
    return html


def forget_html() -> None:
    """Let go of everything: something was erased for good."""
    with _lock:
        _kept.clear()
