"""Text to token ids and back. A user's text is always text: control tokens come only from the prompt's own frame.

Knows a `tokenizer.json` of byte-level BPE. Does not know templates or models.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from qwen_vl_app.errors import ModelFolderError

_PIECE_CHARS = 2**16
_MOST_BY_CUTTING = 32
"""Tokens that there may be more of because a text was cut, in a word for instance."""


class TextTokens:
    """Encodes text without control tokens, and gives each token's bytes.

    `specials` maps the control tokens' names to their ids, for those who build the frame of a prompt.
    """

    def __init__(self, file: Path, *, model: str) -> None:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            added = document.pop("added_tokens", None) or []
            # Without its added tokens the tokenizer cannot make a control token of `<|im_end|>` that somebody typed.
            self._plain = Tokenizer.from_str(json.dumps({**document, "added_tokens": []}))
            self.specials: dict[str, int] = {str(entry["content"]): int(entry["id"]) for entry in added}
            hidden = {int(entry["id"]) for entry in added if entry.get("special", False)}
            vocabulary: dict[str, int] = document["model"]["vocab"]
            is_byte_level = "ByteLevel" in json.dumps(document.get("decoder"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFolderError("engine.folder.bad_file", model=model, file=file.name) from error
        except Exception as error:  # tokenizers raises bare Exception for a document it does not like
            raise ModelFolderError("engine.folder.bad_file", model=model, file=file.name) from error
        if not is_byte_level:
            raise ModelFolderError("engine.folder.foreign_tokenizer", model=model)
        size = max([*vocabulary.values(), *self.specials.values()], default=-1) + 1
        self._bytes: list[bytes] = [b""] * size
        for text, token in vocabulary.items():
            self._bytes[token] = bytes(_BYTE_OF[char] for char in text if char in _BYTE_OF)
        for text, token in self.specials.items():
            self._bytes[token] = b"" if token in hidden else text.encode()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; what looks like a control token in it is taken as the characters it is."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def least_count(self, text: str, *, enough: int) -> tuple[int, int]:
        """Return how many tokens a text has at least and how many of its characters were read, no more than shows `enough`.

        To encode a text of megabytes takes minutes and gigabytes; that it is too long is known from its beginning.
        """
        count = read = 0
        while read < len(text) and count < enough:
            piece = len(self.encode(text[read : read + _PIECE_CHARS]))
            count += max(0, piece - _MOST_BY_CUTTING)
            read += _PIECE_CHARS
        return count, min(read, len(text))

    def bytes_of(self, token: int) -> bytes:
        """Return what a token adds to the answer; nothing for control tokens and for the padding of the vocabulary."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of some tokens, with U+FFFD where they break a character."""
        return b"".join(self.bytes_of(token) for token in tokens).decode("utf-8", errors="replace")


def _byte_alphabet() -> dict[str, int]:
    # Byte-level BPE writes each byte as a printable character: those that are printable as themselves, the others from
    # U+0100 upwards in order.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return alphabet


_BYTE_OF = _byte_alphabet()


class AnswerText:
    """Turns tokens into text as they come: whole characters only, and nothing that may be the start of a stop string."""

    def __init__(self, tokens: TextTokens, stop: Iterable[str] = ()) -> None:
        self._tokens = tokens
        self._stop = tuple(entry for entry in stop if entry)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.is_stopped = False
        """True once a stop string came; it and what follows it is not part of the answer."""

    def add(self, token: int) -> str:
        """Return the new text that this token completes, often none."""
        self._held += self._decoder.decode(self._tokens.bytes_of(token))
        cut = min((at for at in (self._held.find(entry) for entry in self._stop) if at >= 0), default=-1)
        if cut >= 0:
            self.is_stopped = True
            text, self._held = self._held[:cut], ""
            return text
        safe = len(self._held) - self._waiting()
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def finish(self) -> str:
        """Return what was held back. The bytes of a character that was never completed are dropped."""
        text, self._held = ("" if self.is_stopped else self._held), ""
        return text

    def _waiting(self) -> int:
        longest = 0
        for entry in self._stop:
            for length in range(min(len(entry) - 1, len(self._held)), longest, -1):
                if self._held.endswith(entry[:length]):
                    longest = length
                    break
        return longest
