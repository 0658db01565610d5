"""The object every door holds: reading it from several threads, waiting, cancelling, and ending once."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.chat import Answer, FinishReason

WAIT_S = 60.0


def a_job() -> AnswerJob:
    return AnswerJob(owner="a", turn_id=1, conversation_id=2)


def an_answer(text: str) -> Answer:
    return Answer(text, FinishReason.STOP)


def test_every_reader_gets_the_whole_answer_whenever_it_comes() -> None:
    """Readers from before the first word, from the middle and from after the end all read the same."""
    job = a_job()
    started = threading.Barrier(3)

    def read_early() -> str:
        started.wait(WAIT_S)
        return "".join(job)

    with ThreadPoolExecutor(4) as readers:
        early: list[Future[str]] = [readers.submit(read_early) for _ in range(2)]
        started.wait(WAIT_S)
        job.begin_reading()
        job.add("The meter ")
        middle = readers.submit(lambda: "".join(job))
        for piece in ("", "reads ", "0042", "7."):
            job.add(piece)
        job.finish(an_answer(job.text), JobState.DONE)
        assert [each.result(WAIT_S) for each in (*early, middle)] == ["The meter reads 00427."] * 3
    assert list(job) == ["The meter reads 00427."]


def test_a_reader_gets_text_as_it_is_made() -> None:
    """A piece reaches a reader before the next one exists."""
    job = a_job()
    job.begin_reading()
    reading = iter(job)
    for piece in ("one ", "two ", "three"):
        job.add(piece)
        assert next(reading) == piece
    job.finish(an_answer("one two three"), JobState.DONE)
    assert list(reading) == []


def test_an_attempt_with_smaller_pictures_is_read_from_its_first_character() -> None:
    """Text that is made anew is not mistaken for the rest of the text before it, be it shorter or longer."""
    job = a_job()
    job.begin_reading()
    reading = iter(job)
    job.add("It looks like")
    assert next(reading) == "It looks like"
    job.begin_reading()
    assert (job.text, job.attempts) == ("", 2)
    job.add("A valve")
    assert next(reading) == "A valve"
    job.finish(an_answer("A valve"), JobState.DONE)
    assert list(reading) == []


def test_progress_shows_one_moment() -> None:
    """State, position, reading, tokens and rate are told as they are, step by step."""
    job = a_job()
    job.position_of = lambda: 3
    assert (job.progress().state, job.progress().position) == (JobState.QUEUED, 3)
    job.begin_reading()
    job.read_to(0.5)
    job.read_to(0.25)
    progress = job.progress()
    assert (progress.state, progress.position, progress.read_fraction) == (JobState.READING, None, 0.5)
    assert progress.tokens_per_s is None
    job.add("a")
    job.add("b")
    job.add(" rest", is_token=False)
    progress = job.progress()
    assert (progress.state, progress.text, progress.tokens) == (JobState.ANSWERING, "ab rest", 2)
    assert progress.tokens_per_s is not None
    assert progress.tokens_per_s > 0
    job.finish(an_answer("ab rest"), JobState.DONE)
    assert job.progress().state.is_over


def test_reading_starts_again_at_nothing_with_a_new_attempt() -> None:
    """The fraction never falls within an attempt, and begins at 0 with the next."""
    job = a_job()
    job.begin_reading()
    job.read_to(7.0)
    assert job.progress().read_fraction == 1.0
    job.begin_reading()
    assert job.progress().read_fraction == 0.0


def test_only_the_first_end_counts() -> None:
    """A stop that comes together with the last word changes nothing that a reader has already seen."""
    job = a_job()
    assert job.finish(an_answer("first"), JobState.DONE)
    assert not job.finish(Answer("second", FinishReason.STOPPED), JobState.STOPPED)
    assert job.answer == an_answer("first")
    assert (job.state, job.text) == (JobState.DONE, "first")


def test_waiting_ends_with_the_answer_or_with_the_time() -> None:
    """`wait` returns None when the time is up first, the answer as soon as there is one."""
    job = a_job()
    assert job.wait(0.01) is None
    with ThreadPoolExecutor(1) as waiter:
        waiting = waiter.submit(job.wait, WAIT_S)
        job.finish(an_answer("done"), JobState.DONE)
        assert waiting.result(WAIT_S) == an_answer("done")
    assert job.wait(0) == an_answer("done")


def test_cancelling_tells_both_the_queue_and_the_engine() -> None:
    """The event is there for whoever answers, the callback for whoever holds the place in the queue."""
    job = a_job()
    calls: list[bool] = []
    job.on_cancel = lambda: calls.append(job.is_cancelled)
    assert not job.is_cancelled
    job.cancel()
    assert calls == [True]
    assert job.is_cancelled
