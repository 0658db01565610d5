"""The tokens that the model chose for its earlier answers, by conversation and text.

A text can be cut into tokens in several ways, and the tokenizer's is not always the model's. Taking the model's own keeps
a held conversation usable; where an answer is not known, its text is simply encoded again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from qwen_vl_app.engine.local.tokens import TextTokens

MOST_ANSWERS = 512


class AnswerIds:
    """Remembers the last answers' tokens."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, str], tuple[int, ...]] = OrderedDict()

    def remember(self, key: str | None, tokens: TextTokens, ids: Sequence[int]) -> None:
        """Keep an answer of the conversation `key`; None is no conversation, and nothing is kept."""
        text = tokens.decode(ids)
        # Half a character at the end was not shown, so nobody can come back with this text.
        if key is None or not ids or text.endswith("\ufffd"):
            return
        self._held[key, text] = tuple(ids)
        self._held.move_to_end((key, text))
        if len(self._held) > MOST_ANSWERS:
            self._held.popitem(last=False)

    def recall(self, key: str | None, text: str) -> tuple[int, ...] | None:
        """Return the tokens of an earlier answer with exactly this text."""
        return None if key is None else self._held.get((key, text))
