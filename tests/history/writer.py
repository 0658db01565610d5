"""A program that keeps turns until it is killed, and says on its output what was acknowledged."""

from __future__ import annotations

import sys
from pathlib import Path

from qwen_vl_app.chat import Answer, Detail, FinishReason, Question, SeenSize, Size, StagedPicture, TurnState
from qwen_vl_app.history import HistoryStore


def main(folder: str, run: str) -> None:
    """Write `kept ID NUMBER` after a question was kept, and `done ID NUMBER` after its answer was."""
    store = HistoryStore(Path(folder))
    store.open(port=8511)
    say("open")
    conversation: int | None = None
    number = 0
    while True:
        text = f"{run}.{number}"
        data = text.encode() * 1000
        seen = SeenSize(Size(28, 28), 1, Detail.FAST)
        picture = StagedPicture(text, text, text, "PNG", Size(9, 9), seen, data, data + b"v", "image/png", b"t", b"s")
        turn = store.begin_turn("owner", Question(text, (picture,), conversation), title=run)
        conversation = turn.conversation_id
        say(f"kept {turn.id} {text} {turn.pictures[0].id}")
        store.mark_running(turn.id)
        store.keep_partial(turn.id, f"partly {text}")
        store.finish_turn(turn.id, Answer(text * 100, FinishReason.STOP), state=TurnState.DONE)
        say(f"done {turn.id} {text} {turn.pictures[0].id}")
        number += 1


def say(line: str) -> None:
    """Write one line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
