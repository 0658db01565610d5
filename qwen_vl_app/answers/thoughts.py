"""What a model thought aloud before its answer: drafts of data and places, which the answer itself may take back.

Knows where thoughts end. Does not know what they are about.
"""

from __future__ import annotations

import re

_BEGIN, _END = "<think>", "</think>"
_SIGN = re.compile(r"[^\n]")


def without_thoughts(text: str) -> str:
    """Return the text with blanks in the place of thoughts, so that everything else stays where it is.

    They may begin without a mark: the models that think get theirs with the question. Who never came to the end of them
    has answered nothing.
    """
    thoughts, end, _ = text.partition(_END)
    if not end and not text.lstrip().startswith(_BEGIN):
        return text
    length = len(thoughts) + len(end)
    return _SIGN.sub(" ", text[:length]) + text[length:]
