"""No log ever holds a question, an answer, a title or a file name, however much is logged and whatever fails."""

from __future__ import annotations

import io
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qwen_vl_app.chat import Answer, FinishReason, Question, StagedPicture, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"
CANARY = "Canary-Zq9"


def test_a_canary_is_in_no_log(
    open_store: Callable[[], HistoryStore], folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """With every logger at its loudest, through use, a full disk, a busy database and tracebacks of what went wrong."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    former = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("sqlalchemy").setLevel(logging.DEBUG)
    try:
        store = open_store()
        turn = store.begin_turn(OWNER, Question(CANARY, (picture(CANARY, name=f"{CANARY}.jpg"),)), title=CANARY)
        store.keep_partial(turn.id, CANARY)
        with closing(sqlite3.connect(folder / "history.db", isolation_level=None)) as other:
            store.finish_turn(turn.id, Answer(CANARY, FinishReason.STOP), state=TurnState.DONE)
            assert store.search(OWNER, CANARY).hits
            other.execute("DROP TABLE turns")
            with pytest.raises(HistoryError) as failed:
                store.begin_turn(OWNER, Question(CANARY, (picture(f"{CANARY}2", name=CANARY),)), title=CANARY)
        logging.getLogger("app").error("failed", exc_info=failed.value)
        store.pin(OWNER, turn.conversation_id)
        with pytest.raises(HistoryError) as failed:
            store.erase_everything(OWNER)
        logging.getLogger("app").error("failed", exc_info=failed.value)
    finally:
        root.removeHandler(handler)
        root.setLevel(former)
    log = written.getvalue()
    assert "HistoryError" in log  # what went wrong is there; what it was about is not
    assert CANARY.lower() not in log.lower()
