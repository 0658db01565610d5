"""Turns are kept as they were asked and answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.chat import (
    Answer,
    Box,
    FinishReason,
    ParsedAnswer,
    Question,
    Region,
    Rendition,
    SamplingParams,
    Size,
    StagedPicture,
    Table,
    Timing,
    TurnState,
    Usage,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"
FULL_ANSWER = Answer(
    text="温度是 42 °C 🙂\x00 and more",
    finish_reason=FinishReason.STOP,
    parsed=ParsedAnswer(
        data={"temperature": 42.5, "unit": None, "tags": ["a", True, {"deep": []}], "序列号": "A-1"},
        has_data=True,
        regions=(Region(Box(0.1, 1 / 3, 0.30000000000000004, 1.0), "gauge", 1), Region(Box(0.5, 0.5, 0.5, 0.5))),
        tables=(Table(("name", "value"), (("a", "1"), ("b", ""))), Table((), ())),
        notes=(Reason("answers.trailing_comma", count=2),),
    ),
    usage=Usage(1200, 768, 400, 55),
    timing=Timing(queued_s=0.25, first_token_s=1.5, total_s=3.75),
    model="demo@abc123",
    notes=(Reason("engine.smaller_picture", from_tokens=768, to_tokens=320), Reason("engine.plain")),
)


def test_a_question_comes_back_as_it_was_asked(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Text, sampling and both pictures of a queued turn are what was given, in order."""
    sampling = SamplingParams(max_new_tokens=7, temperature=0.7, top_p=0.9, top_k=20, seed=5, stop=("END", "。"))
    first, second = picture("one"), picture("two", name="第二张.heic")
    before = datetime.now(UTC) - timedelta(seconds=1)

    turn = store.begin_turn(
        OWNER,
        Question("What is it?", (first, second), sampling=sampling, schema='{"b":{}}', is_schema_exact=True),
        title="Panel",
    )

    assert (turn.schema, turn.is_schema_exact) == ('{"b":{}}', True)
    assert turn == store.turn(OWNER, turn.id)
    assert (turn.state, turn.question, turn.sampling) == (TurnState.QUEUED, "What is it?", sampling)
    assert (turn.answer, turn.finished_at) == (None, None)
    assert before < turn.asked_at <= datetime.now(UTC)
    assert turn.asked_at.tzinfo is UTC
    assert [kept.name for kept in turn.pictures] == ["panel.jpg", "第二张.heic"]
    kept = turn.pictures[0]
    assert (kept.picture_id, kept.format, kept.size, kept.seen) == (
        first.picture_id,
        "JPEG",
        Size(4032, 3024),
        first.seen,
    )
    assert (kept.view_mime, kept.page, kept.page_count) == ("image/jpeg", 1, 3)
    assert kept.notes == first.notes != ()


def test_every_rendition_is_handed_out(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """The four forms of a picture come back byte for byte, each with its type."""
    staged = picture("one")
    kept = store.begin_turn(OWNER, Question("?", (staged,)), title="t").pictures[0]

    found = {form: store.picture_bytes(OWNER, kept.id, form) for form in Rendition}

    assert {form: (bytes_.data, bytes_.mime) for form, bytes_ in found.items()} == {
        Rendition.UPLOAD: (staged.upload, "image/jpeg"),
        Rendition.VIEW: (staged.view, "image/jpeg"),
        Rendition.SEEN: (staged.seen_png, "image/png"),
        Rendition.THUMBNAIL: (staged.thumbnail, "image/jpeg"),
    }


def test_an_answer_comes_back_whole(store: HistoryStore, open_store: Callable[[], HistoryStore]) -> None:
    """Structure, usage, timing, notes: what a finished turn held is what another start of the app reads."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    store.mark_running(turn.id)
    assert store.turn(OWNER, turn.id).state is TurnState.RUNNING

    finished = store.finish_turn(turn.id, FULL_ANSWER, state=TurnState.DONE)
    store.close()

    assert finished.answer == FULL_ANSWER
    assert finished.state is TurnState.DONE
    assert finished.finished_at is not None
    assert open_store().turn(OWNER, turn.id) == finished


def test_a_failed_turn_keeps_its_reason(store: HistoryStore) -> None:
    """An answer that an error ended keeps its words and why."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    answer = Answer("It re", FinishReason.FAILED, error=Reason("engine.out_of_memory", needed=12, part=0.5, known=None))

    assert store.finish_turn(turn.id, answer, state=TurnState.FAILED).answer == answer
    assert store.turn(OWNER, turn.id).state is TurnState.FAILED


def test_partial_text_shows_as_cut_short(store: HistoryStore) -> None:
    """While a turn runs, what has been said so far can be read; nothing said is no answer."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    store.mark_running(turn.id)
    assert store.turn(OWNER, turn.id).answer is None
    store.keep_partial(turn.id, "It re")
    store.keep_partial(turn.id, "It reads 4")
    assert store.turn(OWNER, turn.id).answer == Answer("It reads 4", FinishReason.STOPPED)


def test_late_calls_do_not_touch_a_finished_turn(store: HistoryStore) -> None:
    """Partial text and state that arrive after the end change nothing, and a second end is refused."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    finished = store.finish_turn(turn.id, FULL_ANSWER, state=TurnState.DONE)
    store.keep_partial(turn.id, "half")
    store.mark_running(turn.id)
    with pytest.raises(HistoryError) as refused:
        store.finish_turn(turn.id, Answer("other", FinishReason.STOPPED), state=TurnState.STOPPED)
    assert refused.value.code == "history.turn_finished"
    assert store.turn(OWNER, turn.id) == finished


def test_a_turn_cannot_finish_as_open(store: HistoryStore) -> None:
    """Queued and running are no ends."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    with pytest.raises(ValueError, match="running"):
        store.finish_turn(turn.id, FULL_ANSWER, state=TurnState.RUNNING)


def test_open_turns_are_interrupted_at_the_next_start(
    store: HistoryStore, open_store: Callable[[], HistoryStore]
) -> None:
    """What was queued or running when the app ended says so, with the words it had; finished turns stay as they are."""
    queued = store.begin_turn(OWNER, Question("q"), title="t")
    running = store.begin_turn(OWNER, Question("r"), title="t")
    done = store.begin_turn(OWNER, Question("d"), title="t")
    store.mark_running(running.id)
    store.keep_partial(running.id, "so far")
    kept = store.finish_turn(done.id, FULL_ANSWER, state=TurnState.DONE)
    store.close()

    again = open_store()

    assert again.turn(OWNER, queued.id).state is TurnState.INTERRUPTED
    assert again.turn(OWNER, queued.id).answer is None
    cut = again.turn(OWNER, running.id)
    assert cut.state is TurnState.INTERRUPTED
    assert cut.answer == Answer("so far", FinishReason.FAILED, error=Reason("history.interrupted"))
    assert again.turn(OWNER, done.id) == kept
    with pytest.raises(HistoryError):
        again.finish_turn(running.id, FULL_ANSWER, state=TurnState.DONE)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "C:\\Windows\\system32\\con",
        "n" * 300 + ".jpg",
        "a\x00b\r\n\t\x1b[31m.png",
        "invoice\u202egpj.exe",
        "😀‍👩‍🚀.webp",
        "",
        "'; DROP TABLE turns; --",
    ],
)
def test_odd_names_and_texts_are_only_text(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture], name: str
) -> None:
    """Names that look like paths, orders or control characters come back as they were and lead to no other file."""
    turn = store.begin_turn(OWNER, Question(name, (picture("x", name=name),)), title=name)
    kept = store.turn(OWNER, turn.id)
    assert (kept.question, kept.pictures[0].name) == (name, name)
    assert store.conversation(OWNER, turn.conversation_id).title == name
    assert all(len(file.name) == 64 for file in (folder / "pictures").rglob("*") if file.is_file())


def test_unpaired_surrogates_are_replaced(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Text that UTF-8 cannot hold is kept with a replacement character, wherever it stands."""
    odd, mended = "a\udce9b\ud83d", "a\ufffdb\ufffd"
    turn = store.begin_turn(OWNER, Question(odd, (picture("x", name=odd),)), title=odd)
    answer = Answer(odd, FinishReason.STOP, ParsedAnswer(data={odd: [odd]}, has_data=True), notes=(Reason("x", y=odd),))
    store.keep_partial(turn.id, odd)
    finished = store.finish_turn(turn.id, answer, state=TurnState.DONE)
    assert (finished.question, finished.pictures[0].name) == (mended, mended)
    assert finished.answer is not None
    assert (finished.answer.text, finished.answer.parsed.data) == (mended, {mended: [mended]})
    assert finished.answer.notes == (Reason("x", y=mended),)


def test_long_texts_are_kept(store: HistoryStore) -> None:
    """Five million characters go in and out."""
    long = "长文本 and more " * 400_000
    turn = store.begin_turn(OWNER, Question(long), title="t")
    kept = store.finish_turn(turn.id, Answer(long, FinishReason.LENGTH), state=TurnState.DONE)
    assert kept.question == long
    assert kept.answer is not None
    assert kept.answer.text == long


def test_structure_that_json_cannot_carry_costs_only_itself(store: HistoryStore) -> None:
    """Data nested without reason is left out with a note; text and regions stay."""
    data: list[object] = []
    for _ in range(100_000):
        data = [data]
    region = Region(Box(0, 0, 1, 1), "all")
    parsed = ParsedAnswer(data=data, has_data=True, regions=(region,))  # type: ignore[arg-type]
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    kept = store.finish_turn(turn.id, Answer("[[[", FinishReason.LENGTH, parsed), state=TurnState.DONE).answer
    assert kept is not None
    assert (kept.text, kept.parsed.has_data, kept.parsed.regions) == ("[[[", False, (region,))
    assert kept.parsed.notes == (Reason("history.structure_not_kept"),)


def test_threads_may_all_write_and_read(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Eight threads asking, answering, listing and deleting at once lose nothing and disturb nobody."""
    failures: list[BaseException] = []
    started = threading.Barrier(8)

    def work(number: int) -> None:
        try:
            owner = f"owner-{number % 2}"
            started.wait(timeout=60)
            for step in range(6):
                turn = store.begin_turn(owner, Question(f"{number}.{step}", (picture("shared"),)), title="t")
                store.mark_running(turn.id)
                store.keep_partial(turn.id, "part")
                store.finish_turn(turn.id, Answer(f"{number}.{step}", FinishReason.STOP), state=TurnState.DONE)
                assert store.picture_bytes(owner, turn.pictures[0].id, Rendition.VIEW).data
                store.conversations(owner)
                if step % 3 == 2:
                    store.delete_conversation(owner, turn.conversation_id)
        except BaseException as error:  # collected for the main thread, which fails the test with it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert failures == []
    for owner in ("owner-0", "owner-1"):
        heads = store.conversations(owner, limit=100)
        assert len(heads) == 4 * 4
        for head in heads:
            (turn,) = store.turns(owner, head.id)
            assert turn.answer is not None
            assert turn.answer.text == turn.question
            assert store.picture_bytes(owner, turn.pictures[0].id, Rendition.UPLOAD).data == picture("shared").upload
