"""An answer that goes round and round: noticed by its tokens, so that it can be ended.

Knows token ids and which of them break a line. Does not know what they mean. Only exact repetition counts: the rows of a
table, the entries of a list and the boxes of a JSON answer differ in a number or a word, and however many they are, they
are never taken for a loop. Even equal lines may be true ("OK" in forty rows), so that lines may come round more often
than words within a line.
"""

from __future__ import annotations

from collections.abc import Callable

LONGEST_PERIOD = 160
"""Tokens of the longest piece whose repetition is noticed: a long paragraph."""
WORDS_TOKENS, WORDS_TIMES = 384, 4
LINES_TOKENS, LINES_TIMES = 768, 8
"""A loop is a piece that came so many times and makes so many tokens in all; more is asked of whole lines."""


class LoopGuard:
    """Watches one answer, a token at a time. `breaks_line` says whether a token holds a line break."""

    def __init__(self, breaks_line: Callable[[int], bool]) -> None:
        self._breaks_line = breaks_line
        self._tokens: list[int] = []
        self._runs = [0] * (LONGEST_PERIOD + 1)

    def add(self, token: int) -> bool:
        """Take the next token; return whether the answer now does nothing but repeat its end."""
        tokens, runs = self._tokens, self._runs
        length = len(tokens)
        # For each period: how many of the last tokens equal those one period before.
        for period in range(1, min(LONGEST_PERIOD, length) + 1):
            runs[period] = runs[period] + 1 if tokens[length - period] == token else 0
        tokens.append(token)
        for period in range(1, min(LONGEST_PERIOD, length) + 1):
            repeated = runs[period] + period
            if repeated >= max(WORDS_TOKENS, period * WORDS_TIMES):
                if not any(map(self._breaks_line, tokens[-period:])):
                    return True
                if repeated >= max(LINES_TOKENS, period * LINES_TIMES):
                    return True
        return False
