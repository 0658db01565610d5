"""Private conversations: they live in this process's memory, and go when they are ended, left or forgotten.

Knows that nothing of them may reach a disk, how much they may hold, and when they end. Does not know pages or tabs: who
shows one says when it was left. What ends is erased as anything else is: what runs in it is stopped first, and then the
model lets go of it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from qwen_vl_app.chat import ErasureReceipt, Question, Turn
from qwen_vl_app.errors import HistoryError, Reason, UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.staging import bytes_of

log = logging.getLogger(__name__)

PRIVATE_FROM = 1 << 44
"""Ids of private conversations, turns and pictures begin here, those of every other history far below."""
_BEGINNINGS = 1 << 42
BYTES_PER_OWNER = 512 * 2**20
BYTES_IN_ALL = 2 * 2**30
"""Of pictures: words weigh little beside them."""
LIFETIME_S = 2 * 3600.0
"""How long one stays that nobody looks at."""
WATCHED_LIFETIME_S = 24 * 3600.0
"""How long one stays in a tab that is open and untouched."""
GRACE_S = 60.0
"""How long one stays that was left: a page that is only reloaded comes back at once."""
LOOK_EVERY_S = 5.0

Halt: TypeAlias = Callable[[str, Collection[int] | None], None]
LetGo: TypeAlias = Callable[[], tuple[Reason, ...]]


def is_private(number: int | None) -> bool:
    """Tell whether the id of a conversation, a turn or a picture is one of a private conversation."""
    return number is not None and number >= PRIVATE_FROM


@dataclass(slots=True)
class _Held:
    owner: str
    ends_at: float
    byte_count: int = 0
    is_left: bool = False
    viewers: int = 0


class PrivateConversations:
    """Every owner's private conversations. Any thread; made without touching anything, `close` lets all of them go."""

    def __init__(
        self,
        *,
        may_begin: bool = True,
        halt: Halt = lambda _owner, _conversations: None,
        let_go: LetGo = tuple,
        is_busy: Callable[[str, int], bool] = lambda _owner, _conversation: False,
        bytes_per_owner: int = BYTES_PER_OWNER,
        bytes_in_all: int = BYTES_IN_ALL,
        lifetime_s: float = LIFETIME_S,
        watched_lifetime_s: float = WATCHED_LIFETIME_S,
        grace_s: float = GRACE_S,
        look_every_s: float = LOOK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare. `halt` stops what runs in conversations of an owner, `let_go` makes the model forget."""
        self.may_begin = may_begin
        """False where a site keeps everything as records."""
        self._halt = halt
        self._let_go = let_go
        self._is_busy = is_busy
        self._bytes_per_owner = bytes_per_owner
        self._bytes_in_all = bytes_in_all
        self._lifetime_s = lifetime_s
        self._watched_lifetime_s = watched_lifetime_s
        self._grace_s = grace_s
        self._look_every_s = look_every_s
        self._clock = clock
        # Another beginning at every start: an old address leads nowhere, not to somebody's newer conversation.
        self._history = HistoryStore(None, first_id=PRIVATE_FROM + secrets.randbelow(_BEGINNINGS))
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}
        self._is_open = self._is_closed = False
        self._ended = threading.Event()
        self._looking: threading.Thread | None = None

    @property
    def history(self) -> HistoryStore:
        """Return where they are, ready to be read. Raises HistoryError."""
        with self._lock:
            if not self._is_open and not self._is_closed:
                self._history.open()
                self._is_open = True
        return self._history

    def begin_turn(self, owner: str, question: Question, *, title: str, beside: int | None = None) -> Turn:
        """Take a question in, as the first of a new private conversation or in the one it continues.

        Raises UsageError where the site allows none or they hold too much already, HistoryError.
        """
        if not self.may_begin:
            raise UsageError("private.site_keeps_records")
        count = sum(bytes_of(picture) for picture in question.pictures)
        with self._lock:
            everybody = sum(each.byte_count for each in self._held.values())
            own = sum(each.byte_count for each in self._held.values() if each.owner == owner)
        if own + count > self._bytes_per_owner or everybody + count > self._bytes_in_all:
            raise UsageError("private.too_much", limit=self._bytes_per_owner)
        turn = self.history.begin_turn(owner, question, title=title, beside=beside)
        with self._lock:
            held = self._held.setdefault(turn.conversation_id, _Held(owner, 0.0))
            held.byte_count += count
            self._stay(held)
            if self._looking is None and not self._is_closed:
                self._looking = threading.Thread(target=self._look_now_and_then, name="private", daemon=True)
                self._looking.start()
        return turn

    def touch(self, owner: str, conversation_id: int) -> None:
        """Tell that somebody looks at one: it stays. Does nothing where it is not this owner's, or gone."""
        with self._lock:
            if (held := self._own(owner, conversation_id)) is not None:
                self._stay(held)

    def enter(self, owner: str, conversation_id: int) -> None:
        """Tell that one is open in a tab, which will say when it leaves: until then it stays longer."""
        with self._lock:
            if (held := self._own(owner, conversation_id)) is not None:
                held.viewers += 1
                self._stay(held)

    def leave(self, owner: str, conversation_id: int) -> None:
        """Tell that a tab was closed: after the last one it ends in a minute, unless it is looked at before."""
        with self._lock:
            held = self._own(owner, conversation_id)
            if held is None:
                return
            held.viewers = max(held.viewers - 1, 0)
            if not held.viewers:
                held.ends_at, held.is_left = self._clock() + self._grace_s, True

    def _own(self, owner: str, conversation_id: int) -> _Held | None:
        held = self._held.get(conversation_id)
        return held if held is not None and held.owner == owner else None

    def _stay(self, held: _Held) -> None:
        stays_s = self._watched_lifetime_s if held.viewers else self._lifetime_s
        held.ends_at, held.is_left = self._clock() + stays_s, False

    def end(self, owner: str, conversation_id: int) -> ErasureReceipt:
        """Let one go for good; the receipt says what no app can promise. Raises HistoryError where it is not this owner's."""
        self.history.conversation(owner, conversation_id)
        return self._end(owner, conversation_id)

    def end_all(self, owner: str) -> None:
        """Let all of an owner's go."""
        for number in self._of(owner):
            self._end_unless_gone(owner, number)

    def erase_period(self, owner: str, *, since: datetime, until: datetime) -> None:
        """Erase what an owner asked privately from `since` on and before `until`."""
        if own := self._of(owner):
            self._halt(owner, own)
            self.history.erase_period(owner, since=since, until=until)
            self._let_go()

    def _of(self, owner: str) -> tuple[int, ...]:
        with self._lock:
            return tuple(number for number, held in self._held.items() if held.owner == owner)

    def _end(self, owner: str, conversation_id: int) -> ErasureReceipt:
        self._halt(owner, (conversation_id,))
        receipt = self.history.erase_conversation(owner, conversation_id)
        with self._lock:
            self._held.pop(conversation_id, None)
        self._halt(owner, (conversation_id,))  # what was asked in between
        return replace(receipt, caveats=(*receipt.caveats, *self._let_go()))

    def _end_unless_gone(self, owner: str, conversation_id: int) -> None:
        try:
            self._end(owner, conversation_id)
        except HistoryError as error:
            if error.code != "history.not_found":
                raise
            with self._lock:  # somebody else has just ended it, or erased its turns one by one
                self._held.pop(conversation_id, None)

    def close(self) -> None:
        """Let go of all of them, and take none any more."""
        with self._lock:
            self._is_closed = True
            looking, is_open = self._looking, self._is_open
            self._held.clear()
        self._ended.set()
        if looking is not None:
            looking.join(10.0)
        if is_open:
            self._history.close()

    def sweep(self) -> int:
        """End those whose time is up, and return how many. One that is still answering stays, unless it was left."""
        now = self._clock()
        with self._lock:
            due = [(number, held) for number, held in self._held.items() if held.ends_at <= now]
        ended = 0
        for number, held in due:
            if not held.is_left and self._is_busy(held.owner, number):
                self.touch(held.owner, number)
                continue
            with self._lock:
                if held.ends_at > now:  # somebody came back
                    continue
            self._end_unless_gone(held.owner, number)
            ended += 1
        return ended

    def _look_now_and_then(self) -> None:
        while not self._ended.wait(self._look_every_s):
            try:
                self.sweep()
            except HistoryError as error:  # the memory's own database: the next look tries again
                log.warning("a private conversation could not be ended: %s", error.code)
