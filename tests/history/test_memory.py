"""A history in memory does what one on disk does, and nothing of it is ever on the disk."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwen_vl_app.chat import Answer, FinishReason, Question, Rendition, StagedPicture, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HistoryStore]:
    """A store in memory; the current folder is empty, and has to stay so."""
    monkeypatch.chdir(tmp_path)
    store = HistoryStore(None)
    store.open()
    yield store
    store.close()
    assert list(tmp_path.rglob("*")) == []


def test_a_private_conversation_goes_its_way(memory: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """It is asked, answered, continued, branched, found, cached, renamed, taken away and erased."""
    first = memory.begin_turn(OWNER, Question("发票", (picture("x"),)), title="t")
    memory.mark_running(first.id)
    memory.keep_partial(first.id, "par")
    memory.replace_seen(first.id, (picture("y"),))
    done = memory.finish_turn(first.id, Answer("yes", FinishReason.STOP), state=TurnState.DONE)
    assert memory.answer_cache.keep(OWNER, "k", done.id)
    assert memory.answer_cache.find(OWNER, "k") is not None
    where = first.conversation_id
    second = memory.begin_turn(OWNER, Question("b", conversation_id=where), title="")
    memory.begin_turn(OWNER, Question("c"), title="", beside=second.id)
    memory.switch_branch(OWNER, second.id)
    assert [turn.question for turn in memory.turns(OWNER, where)] == ["发票", "b"]
    assert memory.picture_bytes(OWNER, done.pictures[0].id, Rendition.SEEN).data == picture("y").seen_png
    assert [hit.turn_id for hit in memory.search(OWNER, "发票").hits] == [first.id]
    memory.rename(OWNER, where, "u")
    target = io.BytesIO()
    assert memory.export(target, owner=OWNER) == 1
    assert memory.conversations("b-browser") == ()
    receipt = memory.erase_everything(OWNER)
    assert (receipt.is_complete, receipt.turns, receipt.files, receipt.caveats) == (True, 3, 4, ())
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        memory.picture_bytes(OWNER, done.pictures[0].id, Rendition.SEEN)


def test_its_ids_are_nobody_elses(memory: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """They begin far above those of a history on disk."""
    turn = memory.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    assert min(turn.id, turn.conversation_id, turn.pictures[0].id) > 1 << 40


def test_closing_forgets_everything(memory: HistoryStore) -> None:
    """Opened again, it is empty; and there is nothing to back up or to check."""
    memory.begin_turn(OWNER, Question("?"), title="t")
    memory.close()
    with pytest.raises(HistoryError, match=r"history\.closed"):
        memory.conversations(OWNER)
    memory.open()
    assert memory.conversations(OWNER) == ()
    for call in (lambda: memory.backup(Path("x.zip")), memory.verify_audit):
        with pytest.raises(HistoryError, match=r"history\.nothing_kept"):
            call()


def test_threads_share_it(memory: HistoryStore) -> None:
    """Several threads writing and reading at once lose nothing."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                turn = memory.begin_turn(f"o{number}", Question(f"{step}"), title="t")
                memory.finish_turn(turn.id, Answer("yes", FinishReason.STOP), state=TurnState.DONE)
                assert len(memory.conversations(f"o{number}")) == step + 1
        except BaseException as error:  # collected for the main thread, which fails the test with it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
