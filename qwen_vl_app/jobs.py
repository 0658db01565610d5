"""The queue in front of the one model: fair between owners, with positions, expected waits and limits.

Knows owners, priorities and resumable work; does not know what a piece of work computes. One thread, the inference
thread, runs everything: first the preparation (loading the model), then one job after the other, a step at a time, or a
few in turns where the model gains from several answers under way. Jobs for which nobody waits may be more at a time than
those of people, and then rest while anybody does wait. Where the model is a server that answers several at once, there are
as many threads as it shall be asked at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest

from qwen_vl_app.errors import QueueFullError

log = logging.getLogger(__name__)

Work = Callable[[], Generator[object, None, None]]
"""Something that, when called, is a generator of steps. It reports and catches its own failures."""


Pastime = Callable[[Callable[[], bool]], bool]
"""A piece of work for idle moments: given what tells it to give way, it does a little, and says whether there is more."""

RECENT_JOBS = 20
"""How many of the last jobs say how long the next ones will take."""


class Priority(IntEnum):
    """Who waits for an answer. A lower number goes first; owners take turns among their equals."""

    PAGE = 0
    """A person, before the page or a terminal."""
    API = 1
    """A program."""
    BATCH = 2
    """Nobody, until tomorrow morning."""


@dataclass(frozen=True, slots=True)
class BatchShare:
    """What jobs of the lowest priority may have on one thread: so many at a time, of so much `cost` together.

    With `rests` they do not take the turns of others: they stand still, half-way where it must be, while anything of a
    higher priority is under way. One that is too costly for the room runs in a turn like everybody's, and is waited for.
    """

    turns: int
    room: int | None = None
    rests: bool = False

    def can_rest(self, ticket: Ticket) -> bool:
        """True where a job takes nobody's turn."""
        return self.rests and ticket.is_batch and (self.room is None or ticket.cost <= self.room)


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A place in the queue. Compared by identity. `has_to_end` says that its job waits for nothing but its end."""

    owner: str
    work: Work
    priority: Priority
    group: object = None
    is_alone: bool = False
    cost: int = 0
    has_to_end: Callable[[], bool] = lambda: False

    @property
    def is_batch(self) -> bool:
        """True where nobody waits for it."""
        return self.priority is Priority.BATCH


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Room for a job that is about to come. Compared by identity."""

    owner: str
    is_batch: bool


class JobQueue:
    """Runs jobs on its own thread, one at a time: by priority, and among equals taking owners in turn.

    `limit` bounds the waiting jobs of everybody, `limit_per_owner` those of one owner, whatever their priorities; jobs of
    the lowest priority keep nobody else out and have the first limit to themselves. With
    more than one lane, so many jobs run at a time, each on a thread of its own. With more than one turn, each thread has
    so many jobs under way and runs a step of each in turn. `batch_share` is asked before every step, by default the same
    turns as everybody's.
    """

    def __init__(
        self,
        *,
        limit: int,
        limit_per_owner: int,
        lanes: int = 1,
        turns: int = 1,
        batch_share: Callable[[], BatchShare] | None = None,
    ) -> None:
        self._limit = limit
        self._limit_per_owner = limit_per_owner
        self._waiting: dict[Priority, OrderedDict[str, deque[Ticket]]] = {each: OrderedDict() for each in Priority}
        self._lanes = lanes
        self._turns = turns
        self._batch_share = batch_share or (lambda: BatchShare(turns))
        self._places: list[Place] = []
        self._running: dict[Ticket, float] = {}
        """What runs, and since when."""
        self._durations_s: deque[float] = deque(maxlen=RECENT_JOBS)
        self._changed = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._prepared = threading.Event()
        self._asides: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._pastime: Pastime | None = None

    def start(self, prepare: Callable[[], None] | None = None) -> None:
        """Start the threads; `prepare` runs on the first of them before any job. It must not raise."""
        with self._changed:
            if self._threads or self._closed:
                return
            for lane in range(self._lanes):
                arguments = (prepare,) if lane == 0 else ()
                run = self._run_first if lane == 0 else self._run
                name = "inference" if lane == 0 else f"inference {lane + 1}"
                self._threads.append(threading.Thread(target=run, args=arguments, name=name, daemon=True))
            for thread in self._threads:
                thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Take nothing more, drop what waits, let the step that runs end."""
        with self._changed:
            self._closed = True
            for owners in self._waiting.values():
                owners.clear()
            self._changed.notify_all()
            threads = list(self._threads)
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0.0))

    def submit(
        self,
        owner: str,
        work: Work,
        *,
        priority: Priority = Priority.PAGE,
        group: object = None,
        is_alone: bool = False,
        cost: int = 0,
        has_to_end: Callable[[], bool] = lambda: False,
        place: Place | None = None,
    ) -> Ticket:
        """Queue work for an owner, in the `place` that was reserved for it. Raises QueueFullError.

        Where several run at a time, two of one `group` never do: the second is about what the first ends with. One that
        `is_alone` begins when nothing runs, and nothing begins beside it. `cost` counts against the room of `BatchShare`;
        a job that rests goes on once it `has_to_end`.
        """
        with self._changed:
            if place is not None and place in self._places and not self._closed:
                self._places.remove(place)
            else:
                self._refuse_where_full(owner, is_batch=priority is Priority.BATCH)
            equals = self._waiting[priority]
            is_newcomer = owner not in equals
            ticket = Ticket(owner, work, priority, group, is_alone, cost, has_to_end)
            equals.setdefault(owner, deque()).append(ticket)
            for running in self._running if is_newcomer else ():
                if running.owner in equals and running.owner != owner:
                    equals.move_to_end(running.owner)  # who is being served has had their turn
            self._changed.notify_all()
            return ticket

    def reserve(self, owner: str, *, priority: Priority = Priority.PAGE) -> Place:
        """Keep room for a job of an owner's until it is submitted, or `leave`. Raises QueueFullError."""
        place = Place(owner, priority is Priority.BATCH)
        with self._changed:
            self._refuse_where_full(owner, is_batch=place.is_batch)
            self._places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give room back that nobody needs; where it was taken, or left before, nothing happens."""
        with self._changed:
            if place in self._places:
                self._places.remove(place)

    def _refuse_where_full(self, owner: str, *, is_batch: bool) -> None:
        """Raise QueueFullError where there is no room for one more; with the lock."""
        if self._closed:
            raise QueueFullError("queue.closed")
        waiting = self.waiting - self.waiting_in_line if is_batch else self.waiting_in_line
        waiting += sum(place.is_batch is is_batch for place in self._places)
        if waiting >= self._limit:
            raise QueueFullError("queue.full", waiting=waiting)
        owned = sum(len(owners.get(owner, ())) for owners in self._waiting.values())
        owned += sum(place.owner == owner for place in self._places)
        if owned >= self._limit_per_owner and not is_batch:
            raise QueueFullError("queue.full_for_you", waiting=owned)

    def aside(self, action: Callable[[], None]) -> threading.Event:
        """Have something short done on the queue's thread, before its next step; return an event set once it is over.

        A queue that runs no more does nothing. The action must not raise.
        """
        done = threading.Event()
        with self._changed:
            if self._closed or not self._threads:
                done.set()
            else:
                self._asides.append((action, done))
                self._changed.notify_all()
        return done

    def pass_time_with(self, pastime: Pastime | None) -> None:
        """Do this, a piece at a time, whenever nothing waits or runs; another takes its place, None ends it.

        It is no job: nobody's position, wait or limit knows of it. For a queue of one lane. The piece that is under way is told
        to give way as soon as there is anything else to do. It must not raise.
        """
        with self._changed:
            self._pastime = pastime
            self._changed.notify_all()

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting job out again; False when it is running or over."""
        with self._changed:
            equals = self._waiting[ticket.priority]
            own = equals.get(ticket.owner)
            if own is None or ticket not in own:
                return False
            own.remove(ticket)
            if not own:
                del equals[ticket.owner]
            return True

    def position(self, ticket: Ticket) -> int | None:
        """How many jobs come before this one, those that run included; None when it is not waiting.

        What would rest meanwhile comes before nobody.
        """
        with self._changed:
            for before, waiting in enumerate(self._in_order()):
                if waiting is ticket:
                    return before + (len(self._running) if ticket.is_batch else len(self._in_the_way()))
            return None

    def expected_wait_s(self, before: int | None = None) -> float | None:
        """Return how long `before` jobs, by default all those before a question asked now, will take; None while there is
        nothing to judge by.

        The last jobs took so long on average; what those that run have already taken is not waited for again.
        """
        with self._changed:
            if not self._durations_s:
                return None
            in_the_way = self._in_the_way()
            if before is None:
                before = self.waiting_in_line + len(in_the_way)
            now, mean_s = time.monotonic(), sum(self._durations_s) / len(self._durations_s)
            taken_s = sum(min(now - self._running[ticket], mean_s) for ticket in in_the_way)
            return max(before * mean_s - taken_s, 0.0) / (self._lanes * self._turns)

    def _in_the_way(self) -> Collection[Ticket]:
        """Return the running jobs that a person's question has to wait for. Called with the lock held."""
        share = self._batch_share()
        return [ticket for ticket in self._running if not share.can_rest(ticket)]

    def _in_order(self) -> Iterator[Ticket]:
        for owners in self._waiting.values():
            for turn in zip_longest(*owners.values()):
                yield from (each for each in turn if each is not None)

    @property
    def waiting(self) -> int:
        """How many jobs wait, the running one not included."""
        with self._changed:
            return sum(len(own) for owners in self._waiting.values() for own in owners.values())

    @property
    def waiting_in_line(self) -> int:
        """How many of them somebody waits for."""
        with self._changed:
            return sum(not ticket.is_batch for ticket in self._in_order())

    @property
    def is_busy(self) -> bool:
        """True while a job runs."""
        return bool(self._running)

    @property
    def running(self) -> int:
        """How many jobs are under way at this moment."""
        return len(self._running)

    def _run_first(self, prepare: Callable[[], None] | None) -> None:
        try:
            if prepare is not None:
                prepare()
        finally:
            self._prepared.set()
        self._run()

    def _run(self) -> None:
        self._prepared.wait()
        under_way: deque[tuple[Ticket, Generator[object, None, None]]] = deque()
        while self._take_up(under_way):
            at = self._next_turn([ticket for ticket, _ in under_way])
            ticket, steps = under_way[at]
            del under_way[at]
            if self._advance(ticket, steps):
                under_way.append((ticket, steps))
            self._do_asides()
        for ticket, steps in under_way:
            self._end(ticket, steps)
        self._do_asides()

    def _take_up(self, under_way: deque[tuple[Ticket, Generator[object, None, None]]]) -> bool:
        """Begin jobs until there are enough under way; False once the queue is closed."""
        while not self._closed:
            ticket = self._next([ticket for ticket, _ in under_way])
            if ticket is None:
                break
            under_way.append((ticket, _steps(ticket)))
        return not self._closed

    def _next_turn(self, under_way: Collection[Ticket]) -> int:
        """Return the place of the first job that does not rest."""
        share = self._batch_share()
        if all(ticket.is_batch for ticket in under_way):
            return 0
        return next(at for at, ticket in enumerate(under_way) if not share.can_rest(ticket) or ticket.has_to_end())

    def _advance(self, ticket: Ticket, steps: Generator[object, None, None]) -> bool:
        """Run one step of a job; False where it was the last."""
        try:
            next(steps)
        except StopIteration:
            self._end(ticket, steps)
            return False
        except Exception:  # the thread that owns the model must outlive any mistake in a job
            log.exception("a job let an error escape")
            self._end(ticket, steps)
            return False
        return True

    def _end(self, ticket: Ticket, steps: Generator[object, None, None]) -> None:
        try:
            steps.close()
        except Exception:  # as above
            log.exception("a job let an error escape")
        with self._changed:
            duration_s = time.monotonic() - self._running.pop(ticket)
            if not self._batch_share().can_rest(ticket):  # nobody ever waits for one of those
                self._durations_s.append(duration_s)
            self._changed.notify_all()

    def _do_asides(self) -> None:
        while True:
            with self._changed:
                if not self._asides:
                    return
                action, done = self._asides.popleft()
            try:
                action()
            except Exception:  # as with jobs: the thread must outlive it
                log.exception("an aside let an error escape")
            finally:
                done.set()

    def _next(self, under_way: Collection[Ticket]) -> Ticket | None:
        """Take the next job beside those under way on this thread, waiting for one where there are none; None where there
        is none, or no more.
        """
        while True:
            self._do_asides()
            with self._changed:
                while not (under_way or self._first_free(under_way) or self._asides or self._closed or self._is_idle()):
                    self._changed.wait()
                if self._closed:
                    return None
                if self._asides:
                    continue
                ticket = self._first_free(under_way)
                if ticket is not None:
                    return self._take(ticket)
                if under_way:
                    return None
                pastime = self._pastime
            if pastime is not None:
                self._pass_time(pastime)

    def _is_idle(self) -> bool:
        """Return whether there is time to pass, and something to pass it with. Called with the lock held."""
        return self._pastime is not None and not self._running

    def _pass_time(self, pastime: Pastime) -> None:
        has_more = False
        try:
            has_more = pastime(self._is_wanted)
        except Exception:  # as with jobs: the thread must outlive it
            log.exception("a pastime let an error escape")
        with self._changed:
            if not has_more and self._pastime is pastime:
                self._pastime = None

    def _is_wanted(self) -> bool:
        """Return whether there is anything to do but to pass the time."""
        with self._changed:
            return self._closed or bool(self._asides) or self._first_free(()) is not None

    def _first_free(self, under_way: Collection[Ticket]) -> Ticket | None:
        """Return the first in line that may begin now. Called with the lock held."""
        if any(running.is_alone for running in self._running):
            return None
        share = self._batch_share()
        busy = {running.group for running in self._running}
        for ticket in self._in_order():
            if ticket.is_alone:
                return None if self._running else ticket
            if self._has_turn(ticket, under_way, share) and (ticket.group is None or ticket.group not in busy):
                return ticket
        return None

    def _has_turn(self, ticket: Ticket, under_way: Collection[Ticket], share: BatchShare) -> bool:
        batch = [each for each in under_way if each.is_batch]
        if not share.can_rest(ticket):
            is_within = not ticket.is_batch or len(batch) < max(share.turns, 1)
            return is_within and sum(not share.can_rest(each) for each in under_way) < self._turns
        resting_cost = sum(each.cost for each in batch if share.can_rest(each))
        has_room = share.room is None or resting_cost + ticket.cost <= share.room
        return len(batch) == len(under_way) and len(batch) < max(share.turns, 1) and has_room

    def _take(self, ticket: Ticket) -> Ticket:
        """Take a job out of the line. Called with the lock held."""
        equals = self._waiting[ticket.priority]
        own = equals.pop(ticket.owner)
        own.remove(ticket)
        if own:
            equals[ticket.owner] = own  # to the end: the next owner comes first
        self._running[ticket] = time.monotonic()
        return ticket


def _steps(ticket: Ticket) -> Generator[object, None, None]:
    # Only the first step calls the work, so that one that fails at once fails like one that fails later.
    yield from ticket.work()
