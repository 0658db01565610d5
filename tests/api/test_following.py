"""Following an answer from an event loop: woken by every change, alive while nothing comes, honest when it begins anew."""

from __future__ import annotations

import asyncio
import threading

import pytest

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.api.following import BeganAnewError, News, follow, follow_quietly
from qwen_vl_app.chat import Answer, FinishReason, ScoredToken

WAIT_S = 60.0


def a_job() -> AnswerJob:
    return AnswerJob(owner="x", turn_id=None, conversation_id=None)


def end(job: AnswerJob) -> None:
    job.finish(Answer(job.text, FinishReason.STOP), JobState.DONE)


async def next_news(all_news: object) -> News:
    return await asyncio.wait_for(anext(all_news), WAIT_S)  # type: ignore[call-overload]


def test_text_wakes_the_loop_and_nothing_is_said_twice() -> None:
    """Another thread writes; each piece arrives once, and the end is the end."""

    async def scene() -> list[str]:
        job = a_job()
        all_news = follow(job)
        assert (await next_news(all_news)).progress is not None
        said = []
        for piece in ("one ", "two "):
            threading.Thread(target=job.add, args=(piece,)).start()
            said.append((await next_news(all_news)).text)
        threading.Thread(target=end, args=(job,)).start()
        said += [news.text async for news in all_news]
        return said

    assert asyncio.run(scene()) == ["one ", "two "]


def test_silence_is_broken_by_signs_of_life() -> None:
    """While nothing comes, the place in the queue is told again and again."""

    async def scene() -> list[int | None]:
        job = a_job()
        job.position_of = iter((3, 2, 1)).__next__
        all_news = follow(job, heartbeat_s=0.01)
        places = [(await next_news(all_news)).progress for _ in range(3)]
        await all_news.aclose()
        return [None if each is None else each.position for each in places]

    assert asyncio.run(scene()) == [3, 2, 1]


def test_text_that_went_out_cannot_be_taken_back() -> None:
    """Beginning anew after the first word is told; before it, nobody need know."""

    async def scene() -> str:
        job = a_job()
        job.begin_reading()
        job.add("", token=ScoredToken("", -1.0))  # a token inside a character: nothing has gone out yet
        all_news = follow(job)
        await next_news(all_news)
        assert (await next_news(all_news)).tokens
        job.begin_reading()
        job.add("said")
        assert (await next_news(all_news)).text == "said"
        job.begin_reading()
        with pytest.raises(BeganAnewError):
            await next_news(all_news)
        job.add("anew")
        end(job)
        return "".join([news.text async for news in follow_quietly(job)]) or job.text

    assert asyncio.run(scene()) == "anew"


def test_who_leaves_is_called_no_more() -> None:
    """A follower that closes takes its watcher along, and a loop that is gone harms no job."""
    job = a_job()

    async def scene() -> None:
        all_news = follow(job)
        await next_news(all_news)
        await all_news.aclose()
        assert not job._watchers
        await next_news(follow(job))

    asyncio.run(scene())
    job.add("nobody listens")
    assert job.text == "nobody listens"
