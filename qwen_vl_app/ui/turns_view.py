"""Many turns as one element of the page: HTML that stays where it is while the page around it is drawn anew.

Knows what the browser's part (`frontend/turns.js`) is told. Does not know how a turn looks: `turn_html` and `quiet_answer`
make the HTML, and escape everything that a stranger wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen_vl_app.ui.browser_part import browser_part

_WHOLE = ' class="qvl-turn"'


@dataclass(frozen=True, slots=True)
class TurnPiece:
    """One turn, or a part of one. What stands under a `key` is drawn anew only where its HTML has changed."""

    key: str
    html: str
    is_whole: bool = False
    """True for a turn with all that belongs to it: out of sight it need not be laid out."""


def show_turns(pieces: Sequence[TurnPiece], *, key: str) -> None:
    """Show pieces one below the other; nothing where there are none."""
    if pieces:
        told = [[piece.key, f"<div{_WHOLE if piece.is_whole else ''}>{piece.html}</div>"] for piece in pieces]
        browser_part("turns")(key=key, data={"turns": told})
