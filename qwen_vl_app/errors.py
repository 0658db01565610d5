"""The one tree of errors, and reasons for choices. Both are codes and facts; the sentences live in `texts/`.

An error is raised typed where it is noticed, third-party exceptions are translated at the island's shore with `from`,
and each door maps the tree to its own language in one table. No sentence is written here, and no stranger's exception
text is ever shown to a user.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Fact: TypeAlias = str | int | float | bool | None
"""What an error or a reason may say about itself: shown to people, so never a path, a secret or a stranger's message."""


class Reason:
    """Why something is as it is: a code and its facts. Equal when both are equal."""

    __slots__ = ("code", "facts")

    code: str
    facts: Mapping[str, Fact]

    def __init__(self, code: str, /, **facts: Fact) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "facts", MappingProxyType(dict(facts)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Reason does not change: {name}")

    def __reduce__(self) -> tuple[object, tuple[str, dict[str, Fact]]]:
        return _reason_from, (self.code, dict(self.facts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reason) and (self.code, self.facts) == (other.code, other.facts)

    def __hash__(self) -> int:
        return hash((self.code, tuple(sorted(self.facts))))

    def __repr__(self) -> str:
        told = "".join(f", {name}={value!r}" for name, value in self.facts.items())
        return f"Reason({self.code!r}{told})"


def _reason_from(code: str, facts: dict[str, Fact]) -> Reason:
    return Reason(code, **facts)


class AppError(Exception):
    """The root. `code` names the sentence in the catalogues, `facts` fill it in."""

    code: str
    facts: Mapping[str, Fact]

    def __init__(self, code: str, /, **facts: Fact) -> None:
        super().__init__(code)
        self.code = code
        self.facts = MappingProxyType(dict(facts))

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.facts.items())
        return f"{self.code} ({told})" if told else self.code

    def __reduce__(self) -> tuple[object, tuple[type[AppError], str, dict[str, Fact]]]:
        return _error_from, (type(self), self.code, dict(self.facts))

    @property
    def reason(self) -> Reason:
        """The same code and facts as a value that can be kept and shown."""
        return Reason(self.code, **self.facts)


def _error_from(kind: type[AppError], code: str, facts: dict[str, Fact]) -> AppError:
    return kind(code, **facts)


class SettingsError(AppError):
    """Raised by `config`: a setting is unknown or has an impossible value. The user corrects the file or the variable."""


class UsageError(AppError):
    """Raised by a door or the hub: what was asked for cannot be meant. The user asks differently."""


class PictureError(AppError):
    """Raised by `imaging`: this file cannot be used as a picture. The user takes another file; the others stay."""


class UnreadableImageError(PictureError):
    """The bytes are no picture of a known format, or are damaged."""


class ImageTooLargeError(PictureError):
    """The file or its pixels are over the limit. The user makes it smaller."""


class ImageShapeError(PictureError):
    """The picture is far too long and thin for the model. The user crops it."""


class ModelError(AppError):
    """Raised by the engine: the trouble lies with the model or its folder."""


class ModelFolderError(ModelError):
    """The folder is missing, damaged, of an unknown family, or lacks weights. The user copies it again."""


class ModelNotLoadedError(ModelError):
    """The model is not ready. The user waits, or looks at the status page."""


class InferenceError(AppError):
    """Raised by the engine while it works on one question. The next question works."""


class PromptTooLongError(InferenceError):
    """Question, pictures and conversation are over the context. The user begins anew or takes smaller pictures."""


class OutOfMemoryError(InferenceError):
    """The device had no memory left, and the engine has already cleaned up. The hub tries one rung lower, once."""


class QueueFullError(AppError):
    """Raised by `jobs`: too many questions wait. The user tries again in a moment."""


class HistoryError(AppError):
    """Raised by `history`: something could not be kept or read. The answer stays on the screen."""


class BatchError(AppError):
    """Raised by `batch`: a run of a folder cannot begin, go on or be read. What was answered stays in its journal."""


class FormError(AppError):
    """Raised by `forms`: a template cannot be meant, or a form cannot be filled, kept or read. What was kept stays."""


class OfflineError(AppError):
    """Raised by `offline`: code tried to open a connection to the outside. It was refused."""


def let_frames_go(error: BaseException) -> None:
    """Empty the frames that an error keeps, and those of the errors behind it: their variables may hold a whole model.

    What its traceback says stays; frames that still run keep what they have.
    """
    known: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in known:
            continue
        known.add(id(each))
        traceback.clear_frames(each.__traceback__)
        waiting += [each.__cause__, each.__context__]
