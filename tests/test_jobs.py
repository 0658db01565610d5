"""The queue in front of the model: turns between owners, positions, limits, withdrawal, mistakes and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

import pytest

from qwen_vl_app.errors import QueueFullError
from qwen_vl_app.jobs import BatchShare, JobQueue, Priority, Ticket

WAIT_S = 60.0


class Bench:
    """A queue whose jobs write down their names, behind a first job that a test can hold."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.done: list[str] = []
        self.changed = threading.Condition()

    def work(self, name: str) -> Callable[[], Generator[object, None, None]]:
        def steps() -> Generator[object, None, None]:
            yield None
            with self.changed:
                self.done.append(name)
                self.changed.notify_all()

        return steps

    def submit(self, owner: str, name: str) -> Ticket:
        return self.queue.submit(owner, self.work(name))

    def hold(self, owner: str) -> threading.Event:
        """Let a job of `owner` run until the event is set; return once it runs."""
        running, release = threading.Event(), threading.Event()

        def steps() -> Generator[object, None, None]:
            running.set()
            assert release.wait(WAIT_S)
            yield None

        self.queue.submit(owner, steps)
        assert running.wait(WAIT_S)
        return release

    def wait_for(self, count: int) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.done) >= count, WAIT_S), self.done
            return list(self.done)


def assert_set(event: threading.Event) -> None:
    assert event.wait(WAIT_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    queue = JobQueue(limit=6, limit_per_owner=4)
    queue.start()
    yield Bench(queue)
    queue.close()


def test_jobs_of_one_owner_run_in_the_order_they_came(bench: Bench) -> None:
    """First come, first served, for somebody alone."""
    release = bench.hold("a")
    for name in ("1", "2", "3"):
        bench.submit("a", name)
    release.set()
    assert bench.wait_for(3) == ["1", "2", "3"]


def test_owners_take_turns(bench: Bench) -> None:
    """Three questions of one owner do not go before the first of another."""
    release = bench.hold("x")
    for owner, name in (("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")):
        bench.submit(owner, name)
    release.set()
    assert bench.wait_for(5) == ["a1", "b1", "a2", "b2", "a3"]


def test_a_newcomer_is_next_after_the_one_being_served(bench: Bench) -> None:
    """Who is being served has had their turn: a newcomer waits for that one job, not for the next of the same owner."""
    release = bench.hold("a")
    bench.submit("a", "a2")
    bench.submit("a", "a3")
    newcomer = bench.submit("b", "b1")
    assert bench.queue.position(newcomer) == 1
    release.set()
    assert bench.wait_for(3) == ["b1", "a2", "a3"]


def test_newcomers_cannot_push_the_served_owner_back_for_ever(bench: Bench) -> None:
    """Newcomers come before the served owner's next job once, not round after round."""
    release = bench.hold("a")
    bench.submit("a", "a2")
    bench.submit("b", "b1")
    bench.submit("b", "b2")
    bench.submit("c", "c1")
    release.set()
    assert bench.wait_for(4) == ["b1", "c1", "a2", "b2"]


def test_a_position_tells_the_order_that_comes_true(bench: Bench) -> None:
    """A position counts the running job and whoever is served before, and is gone once the job runs or is over."""
    release = bench.hold("x")
    tickets = {name: bench.submit(name[0], name) for name in ("a1", "a2", "b1", "c1")}
    promised = sorted(tickets, key=lambda name: bench.queue.position(tickets[name]) or 0)
    assert [bench.queue.position(tickets[name]) for name in promised] == [1, 2, 3, 4]
    release.set()
    assert bench.wait_for(4) == promised
    assert [bench.queue.position(ticket) for ticket in tickets.values()] == [None] * 4


def test_before_the_model_is_there_the_first_job_has_nobody_before_it() -> None:
    """While the preparation runs, jobs wait; the first one's position is 0."""
    queue, loaded = JobQueue(limit=3, limit_per_owner=3), threading.Event()
    bench = Bench(queue)
    queue.start(lambda: assert_set(loaded))
    ticket = bench.submit("a", "1")
    assert queue.position(ticket) == 0
    assert not queue.is_busy
    loaded.set()
    assert bench.wait_for(1) == ["1"]
    queue.close()


def test_a_withdrawn_job_never_runs(bench: Bench) -> None:
    """What waits can be taken out, once; the others move up."""
    release = bench.hold("x")
    first, second = bench.submit("a", "1"), bench.submit("b", "2")
    assert bench.queue.withdraw(first)
    assert not bench.queue.withdraw(first)
    assert bench.queue.position(first) is None
    assert bench.queue.position(second) == 1
    release.set()
    assert bench.wait_for(1) == ["2"]
    assert not bench.queue.withdraw(second)


def test_the_queue_is_full_for_one_before_it_is_full_for_all(bench: Bench) -> None:
    """Each limit refuses with its own code and its own count, and a withdrawn job makes room again."""
    release = bench.hold("x")
    own = [bench.submit("a", str(number)) for number in range(4)]
    with pytest.raises(QueueFullError) as refused:
        bench.submit("a", "one too many")
    assert (refused.value.code, dict(refused.value.facts)) == ("queue.full_for_you", {"waiting": 4})
    bench.submit("b", "b1")
    bench.submit("c", "c1")
    with pytest.raises(QueueFullError) as refused:
        bench.submit("d", "d1")
    assert (refused.value.code, dict(refused.value.facts)) == ("queue.full", {"waiting": 6})
    assert bench.queue.withdraw(own[0])
    bench.submit("d", "d1")
    assert bench.queue.waiting == 6
    release.set()


def test_a_reserved_place_counts_until_it_is_taken_or_left(bench: Bench) -> None:
    """Nobody else gets it, whoever comes first; what comes for it is let in, and what was left is free."""
    release = bench.hold("x")
    places = [bench.queue.reserve("a") for _ in range(4)]
    with pytest.raises(QueueFullError) as refused:
        bench.submit("a", "one too many")
    assert (refused.value.code, dict(refused.value.facts)) == ("queue.full_for_you", {"waiting": 4})
    others = [bench.queue.reserve(owner) for owner in ("b", "c")]
    with pytest.raises(QueueFullError) as refused:
        bench.queue.reserve("d")
    assert (refused.value.code, dict(refused.value.facts)) == ("queue.full", {"waiting": 6})
    assert bench.queue.waiting == 0
    bench.queue.submit("b", bench.work("b1"), place=others[0])
    bench.queue.leave(others[0])  # as everybody does in the end, whether or not it was taken
    with pytest.raises(QueueFullError):
        bench.submit("d", "d1")
    bench.queue.leave(places[0])
    bench.submit("d", "d1")
    with pytest.raises(QueueFullError):  # a place is for one
        bench.queue.submit("b", bench.work("b2"), place=others[0])
    release.set()
    assert bench.wait_for(2) == ["b1", "d1"]


def test_a_place_is_worth_nothing_once_the_queue_is_closed(bench: Bench) -> None:
    """What comes for it is told that the app ends."""
    place = bench.queue.reserve("a")
    bench.queue.close()
    with pytest.raises(QueueFullError) as refused:
        bench.queue.submit("a", bench.work("a1"), place=place)
    assert refused.value.code == "queue.closed"


def test_a_job_that_raises_does_not_stop_the_next(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in a job, at its start or between two steps, is logged; the thread goes on."""

    def breaks_at_once() -> Generator[object, None, None]:
        raise ValueError("at once")

    def breaks_later() -> Generator[object, None, None]:
        yield None
        raise ValueError("later")

    bench.queue.submit("a", breaks_at_once)
    bench.queue.submit("a", breaks_later)
    bench.submit("a", "fine")
    assert bench.wait_for(1) == ["fine"]
    assert caplog.text.count("a job let an error escape") == 2


def test_closing_ends_the_running_job_between_two_steps_and_drops_the_rest() -> None:
    """After `close` the running job's generator is closed, what waited never runs, and nothing more is taken."""
    queue = JobQueue(limit=3, limit_per_owner=3)
    bench = Bench(queue)
    queue.start()
    running, closed = threading.Event(), threading.Event()

    def endless() -> Generator[object, None, None]:
        try:
            while True:
                running.set()
                yield None
        finally:
            closed.set()

    queue.submit("a", endless)
    assert running.wait(WAIT_S)
    waiting = bench.submit("a", "never")
    queue.close()
    assert closed.is_set()
    assert bench.done == []
    assert queue.position(waiting) is None
    with pytest.raises(QueueFullError) as refused:
        bench.submit("a", "late")
    assert refused.value.code == "queue.closed"


def test_closing_before_starting_and_twice_is_harmless() -> None:
    """A queue may be closed without ever having run, and again; starting it then does nothing."""
    queue = JobQueue(limit=1, limit_per_owner=1)
    queue.close()
    queue.close()
    queue.start(lambda: pytest.fail("a closed queue prepared something"))
    assert not queue.is_busy


def test_a_person_goes_before_a_program_and_a_program_before_the_night(bench: Bench) -> None:
    """Priority comes first, whoever came first; owners take turns among their equals only."""
    release = bench.hold("x")
    for owner, name, priority in (
        ("folder", "batch", Priority.BATCH),
        ("script", "api 1", Priority.API),
        ("script", "api 2", Priority.API),
        ("other", "api 3", Priority.API),
        ("anna", "page", Priority.PAGE),
    ):
        bench.queue.submit(owner, bench.work(name), priority=priority)
    release.set()
    assert bench.wait_for(5) == ["page", "api 1", "api 3", "api 2", "batch"]


def test_positions_tell_the_order_in_which_they_will_run(bench: Bench) -> None:
    """A person who comes last is next, and everybody else's place says so."""
    release = bench.hold("x")
    batch = bench.queue.submit("folder", bench.work("batch"), priority=Priority.BATCH)
    api = bench.queue.submit("script", bench.work("api"), priority=Priority.API)
    page = bench.queue.submit("anna", bench.work("page"))
    assert [bench.queue.position(ticket) for ticket in (page, api, batch)] == [1, 2, 3]
    assert bench.queue.withdraw(api)
    assert [bench.queue.position(ticket) for ticket in (page, api, batch)] == [1, None, 2]
    release.set()
    assert bench.wait_for(2) == ["page", "batch"]


def test_an_owners_limit_counts_whatever_their_priorities(bench: Bench) -> None:
    """Nobody gets more places by asking through several doors."""
    release = bench.hold("x")
    for priority in (Priority.PAGE, Priority.API, Priority.API, Priority.BATCH):
        bench.queue.submit("a", bench.work("."), priority=priority)
    with pytest.raises(QueueFullError) as refused:
        bench.queue.submit("a", bench.work("."))
    assert refused.value.code == "queue.full_for_you"
    release.set()


def test_the_expected_wait_is_that_of_the_last_jobs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said before there is something to judge by; then a job counts as long as the last ones took."""
    now = [100.0]
    monkeypatch.setattr("qwen_vl_app.jobs.time.monotonic", lambda: now[0])
    assert bench.queue.expected_wait_s() is None
    for duration_s in (2.0, 4.0):
        release = bench.hold("a")
        now[0] += duration_s
        release.set()
        bench.submit("a", "after")  # takes no time, and is over only when the one before it is
        bench.wait_for(1 if duration_s == 2.0 else 2)
    # The jobs took 2, 0, 4 and 0 seconds; the last may not have been counted yet when it reported.
    wait_s = bench.queue.expected_wait_s(3)
    assert wait_s is not None
    assert wait_s in (pytest.approx(3 * 1.5), pytest.approx(3 * 2.0))


def test_lanes_run_as_many_jobs_at_a_time_and_no_more() -> None:
    """Where the model is a server, several are asked at once; who comes then waits, by the same rules."""
    queue = JobQueue(limit=6, limit_per_owner=4, lanes=2)
    prepared: list[str] = []
    queue.start(lambda: prepared.append(threading.current_thread().name))
    bench = Bench(queue)
    first, second = bench.hold("a"), bench.hold("b")
    third = bench.submit("c", "third")
    assert prepared == ["inference"]
    assert queue.position(third) == 2
    assert bench.done == []
    second.set()
    assert bench.wait_for(1) == ["third"], "the first still runs"
    first.set()
    queue.close()
    assert not queue.is_busy


def test_no_lane_begins_before_the_preparation_is_over() -> None:
    """A job that is asked while the model loads waits, however many lanes there are."""
    queue = JobQueue(limit=6, limit_per_owner=4, lanes=3)
    loaded = threading.Event()
    queue.start(lambda: assert_is(loaded.wait(WAIT_S)))
    bench = Bench(queue)
    bench.submit("a", "1")
    assert bench.done == []
    assert queue.waiting == 1
    loaded.set()
    assert bench.wait_for(1) == ["1"]
    queue.close()


def assert_is(truth: bool) -> None:
    assert truth


class TestTurns:
    def test_jobs_under_way_run_a_step_each_in_turn_on_one_thread(self) -> None:
        """Three at a time, a fourth once one of them is over, and a mistake in one ends only that one."""
        queue = JobQueue(limit=6, limit_per_owner=6, turns=3)
        told: list[tuple[str, str]] = []
        over = threading.Event()

        def steps(name: str, count: int) -> Callable[[], Generator[object, None, None]]:
            def run() -> Generator[object, None, None]:
                for _ in range(count):
                    told.append((name, threading.current_thread().name))
                    yield None
                if name == "b":
                    raise ValueError("a mistake")
                if name == "d":
                    over.set()

            return run

        for name, count in (("a", 4), ("b", 2), ("c", 4), ("d", 4)):
            queue.submit(name, steps(name, count))
        queue.start()
        assert_set(over)
        queue.close()
        assert "".join(name for name, _ in told) == "abcabcacadcddd"
        assert {thread for _, thread in told} == {"inference"}
        assert not queue.is_busy

    def test_a_job_that_comes_later_joins_those_under_way(self) -> None:
        """Whoever comes does not wait for the answer that runs to end."""
        queue = JobQueue(limit=6, limit_per_owner=6, turns=2)
        running, joined = threading.Event(), threading.Event()

        def endless() -> Generator[object, None, None]:
            while not joined.is_set():
                running.set()
                yield None

        def newcomer() -> Generator[object, None, None]:
            joined.set()
            yield None

        queue.submit("a", endless)
        queue.start()
        assert_set(running)
        queue.submit("b", newcomer)
        assert_set(joined)
        queue.close()

    def test_two_questions_of_one_conversation_never_run_at_a_time(self) -> None:
        """The second waits for the first one's end, while others go before it; then it is its turn."""
        queue = JobQueue(limit=6, limit_per_owner=6, turns=3)
        told: list[str] = []
        over = threading.Event()

        def steps(name: str, count: int) -> Callable[[], Generator[object, None, None]]:
            def run() -> Generator[object, None, None]:
                for _ in range(count):
                    told.append(name)
                    yield None
                if name == "b":
                    over.set()

            return run

        queue.submit("x", steps("a", 3), group=1)
        queue.submit("x", steps("b", 2), group=1)
        queue.submit("x", steps("c", 3), group=2)
        queue.start()
        assert_set(over)
        queue.close()
        assert "".join(told).rindex("a") < "".join(told).index("b")
        assert "".join(told).index("c") < "".join(told).rindex("a")

    def test_one_that_is_alone_waits_for_all_and_holds_all(self) -> None:
        """Changing the model begins when no answer is under way, and no answer begins beside it."""
        queue = JobQueue(limit=6, limit_per_owner=6, turns=3)
        told: list[str] = []
        over = threading.Event()

        def steps(name: str, count: int) -> Callable[[], Generator[object, None, None]]:
            def run() -> Generator[object, None, None]:
                for _ in range(count):
                    told.append(name)
                    yield None
                if name == "d":
                    over.set()

            return run

        queue.submit("x", steps("a", 3))
        queue.submit("y", steps("b", 4))
        queue.submit("z", steps("c", 3), is_alone=True)
        queue.submit("w", steps("d", 2))
        queue.start()
        assert_set(over)
        queue.close()
        assert "".join(told) == "abababbcccdd"

    def test_closing_ends_all_that_are_under_way(self) -> None:
        """Every generator is closed between two of its steps."""
        queue = JobQueue(limit=6, limit_per_owner=6, turns=2)
        running, closed = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

        def endless(number: int) -> Callable[[], Generator[object, None, None]]:
            def run() -> Generator[object, None, None]:
                try:
                    while True:
                        running[number].set()
                        yield None
                finally:
                    closed[number].set()

            return run

        for number in range(2):
            queue.submit(str(number), endless(number))
        queue.start()
        for event in running:
            assert_set(event)
        queue.close()
        assert all(event.is_set() for event in closed)
        assert not queue.is_busy


class TestAsides:
    def test_something_short_is_done_between_two_steps_of_a_job(self, bench: Bench) -> None:
        """On the queue's own thread, without waiting for the job's end."""
        threads: list[str] = []
        release, running = threading.Event(), threading.Event()

        def steps() -> Generator[object, None, None]:
            running.set()
            while not release.wait(0.001):
                yield None

        bench.queue.submit("a", steps)
        assert_set(running)
        assert_set(bench.queue.aside(lambda: threads.append(threading.current_thread().name)))
        release.set()
        assert threads == ["inference"]

    def test_an_idle_queue_does_it_at_once_and_survives_its_mistake(self, bench: Bench) -> None:
        """Whoever waits is released, and the next job runs."""
        bench.submit("a", "one")
        bench.wait_for(1)

        def wrong() -> None:
            raise ValueError("a mistake")

        assert_set(bench.queue.aside(wrong))
        bench.submit("a", "two")
        assert bench.wait_for(2) == ["one", "two"]

    def test_a_queue_that_runs_no_more_keeps_nobody_waiting(self, bench: Bench) -> None:
        """Nothing is done, and the event is set."""
        done: list[int] = []
        bench.queue.close()
        assert bench.queue.aside(lambda: done.append(1)).is_set()
        assert done == []


def test_idle_moments_are_passed_with_a_pastime_and_every_job_comes_before_it(bench: Bench) -> None:
    """A piece is told to give way as soon as a job waits, and the next piece comes after the job."""
    pieces: list[str] = []
    started, over = threading.Event(), threading.Event()

    def pastime(should_give_way: Callable[[], bool]) -> bool:
        started.set()
        waited = threading.Event()
        if not pieces:
            for _ in range(int(WAIT_S / 0.005)):
                if should_give_way():
                    break
                waited.wait(0.005)
        with bench.changed:
            pieces.append(f"after {len(bench.done)}")
        if len(pieces) == 3:
            over.set()
        return len(pieces) < 3

    bench.queue.pass_time_with(pastime)
    assert_set(started)
    assert not bench.queue.is_busy
    assert bench.queue.waiting == 0
    bench.submit("a", "1")
    assert_set(over)
    assert pieces == ["after 0", "after 1", "after 1"]
    bench.submit("a", "2")
    assert bench.wait_for(2) == ["1", "2"]
    assert len(pieces) == 3, "one that is over is not called again"


def test_a_pastime_that_breaks_is_over_and_jobs_go_on(bench: Bench) -> None:
    """The thread that owns the model outlives it."""
    called = threading.Event()

    def pastime(_: Callable[[], bool]) -> bool:
        called.set()
        raise RuntimeError("a mistake")

    bench.queue.pass_time_with(pastime)
    assert_set(called)
    bench.submit("a", "1")
    assert bench.wait_for(1) == ["1"]


def test_a_pastime_may_be_ended_and_never_holds_up_the_end(bench: Bench) -> None:
    """None takes it away; closing tells the piece that is under way to give way."""
    calls = threading.Semaphore(0)

    def pastime(should_give_way: Callable[[], bool]) -> bool:
        calls.release()
        waited = threading.Event()
        while not should_give_way():
            waited.wait(0.005)
        return True

    bench.queue.pass_time_with(pastime)
    assert calls.acquire(timeout=WAIT_S)
    bench.queue.pass_time_with(None)
    bench.submit("a", "1")
    assert bench.wait_for(1) == ["1"]
    assert_set(bench.queue.aside(lambda: None))
    assert not calls.acquire(blocking=False), "it was ended"
    bench.queue.pass_time_with(pastime)
    assert calls.acquire(timeout=WAIT_S)
    bench.queue.close(WAIT_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "inference"]


class TestBatchShare:
    """Jobs for which nobody waits: more at a time, within their room, and at rest while anybody waits."""

    def queue(self, *, turns: int = 3, room: int | None = 30, rests: bool = True) -> JobQueue:
        share = BatchShare(turns, room, rests)
        return JobQueue(limit=6, limit_per_owner=6, batch_share=lambda: share)

    def test_as_many_run_in_turns_as_the_share_says(self) -> None:
        """Though a person's questions run one at a time."""
        queue, told, over = self.queue(), Told(), threading.Event()
        for name in "abcd":
            queue.submit(name, told.steps(name, 3, over if name == "d" else None), priority=Priority.BATCH, cost=10)
        queue.start()
        assert_set(over)
        queue.close()
        assert told.names == "abcabcabcddd"

    def test_their_costs_together_stay_within_the_room(self) -> None:
        """Two of fifteen fit into thirty; what alone is too much runs alone."""
        queue, told, over = self.queue(), Told(), threading.Event()
        for name, cost in (("a", 15), ("b", 15), ("c", 15), ("d", 99)):
            queue.submit(name, told.steps(name, 2, over if name == "d" else None), priority=Priority.BATCH, cost=cost)
        queue.start()
        assert_set(over)
        queue.close()
        assert told.names.replace("d", "") == "ababcc"
        assert told.names.count("d") == 2

    def test_they_rest_while_somebody_waits_and_count_in_nobodys_line(self) -> None:
        """A person's answer begins within a step and is made without them; then they go on where they were."""
        queue, told, over = self.queue(), Told(), threading.Event()
        waits, asked = threading.Event(), threading.Event()

        def slow() -> Generator[object, None, None]:
            told.add("a")
            waits.set()
            assert asked.wait(WAIT_S)
            yield None
            told.add("a")
            yield None
            over.set()

        queue.submit("run", slow, priority=Priority.BATCH, cost=10)
        queue.start()
        assert_set(waits)
        person = queue.submit("p", told.steps("p", 4))
        program = queue.submit("q", told.steps("q", 2), priority=Priority.API)
        assert (queue.position(person), queue.position(program)) == (0, 1)
        asked.set()
        assert_set(over)
        queue.close()
        assert told.names == "appppqqa"

    def test_one_at_rest_that_has_to_end_ends(self) -> None:
        """Somebody stops the run while an answer to a person is being made: the run does not wait for it."""
        queue, told = self.queue(), Told()
        begun, ended, cancelled = threading.Event(), threading.Event(), threading.Event()

        def stoppable() -> Generator[object, None, None]:
            begun.set()
            while not cancelled.is_set():
                yield None
            ended.set()

        def person() -> Generator[object, None, None]:
            while not ended.is_set():
                told.add("p")
                cancelled.set()
                yield None

        queue.submit("run", stoppable, priority=Priority.BATCH, has_to_end=cancelled.is_set)
        queue.start()
        assert_set(begun)
        queue.submit("p", person)
        assert_set(ended)
        queue.close()
        assert told.names

    def test_one_that_is_too_costly_to_rest_is_waited_for(self) -> None:
        """There is no memory for a person's answer beside it."""
        queue, told, over = self.queue(room=5), Told(), threading.Event()
        running, release = threading.Event(), threading.Event()

        def heavy() -> Generator[object, None, None]:
            running.set()
            assert release.wait(WAIT_S)
            for _ in range(3):
                told.add("h")
                yield None

        queue.submit("run", heavy, priority=Priority.BATCH, cost=10)
        queue.start()
        assert_set(running)
        person = queue.submit("p", told.steps("p", 2, over))
        assert queue.position(person) == 1
        release.set()
        assert_set(over)
        queue.close()
        assert told.names == "hhhpp"

    def test_a_full_share_keeps_nobody_out(self) -> None:
        """However many of them wait, a person finds a place, and the other way round."""
        queue = JobQueue(limit=2, limit_per_owner=2)
        work = Told().steps("x", 1)
        for _ in range(2):
            queue.submit("run", work, priority=Priority.BATCH)
        with pytest.raises(QueueFullError):
            queue.submit("run", work, priority=Priority.BATCH)
        queue.submit("p", work)
        queue.submit("p", work)
        with pytest.raises(QueueFullError):
            queue.submit("q", work)
        assert (queue.waiting, queue.waiting_in_line) == (4, 2)


class Told:
    """Which job ran a step, in order."""

    def __init__(self) -> None:
        self._names: list[str] = []

    @property
    def names(self) -> str:
        return "".join(self._names)

    def add(self, name: str) -> None:
        self._names.append(name)

    def steps(
        self, name: str, count: int, over: threading.Event | None = None
    ) -> Callable[[], Generator[object, None, None]]:
        def run() -> Generator[object, None, None]:
            for _ in range(count):
                self.add(name)
                yield None
            if over is not None:
                over.set()

        return run
