"""Pictures of an open turn can be seen smaller than they were asked about, and nothing else of them changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from qwen_vl_app.chat import (
    Answer,
    Detail,
    FinishReason,
    Question,
    Rendition,
    SeenSize,
    Size,
    StagedPicture,
    TurnState,
)
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"
SMALL = SeenSize(Size(28, 28), 1, Detail.LOW_MEMORY)


def smaller(picture: StagedPicture) -> StagedPicture:
    """The picture staged again at the lowest rung."""
    return replace(picture, staged_id="again", picture_id=f"small-{picture.picture_id}", seen=SMALL, seen_png=b"small")


def test_a_picture_is_seen_smaller(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Seen size, picture id and seen pixels are new, for the picture that changed alone; ids and renditions stay."""
    first, second = picture("one"), picture("two")
    turn = store.begin_turn(OWNER, Question("?", (first, second)), title="t")
    store.mark_running(turn.id)

    store.replace_seen(turn.id, (first, smaller(second)))

    kept = store.turn(OWNER, turn.id).pictures
    assert kept[0] == turn.pictures[0]
    assert kept[1] == replace(turn.pictures[1], picture_id=smaller(second).picture_id, seen=SMALL)
    assert store.picture_bytes(OWNER, kept[1].id, Rendition.SEEN).data == b"small"
    for form, data in ((Rendition.UPLOAD, second.upload), (Rendition.VIEW, second.view)):
        assert store.picture_bytes(OWNER, kept[1].id, form).data == data
    assert store.picture_bytes(OWNER, kept[0].id, Rendition.SEEN).data == first.seen_png


def test_the_former_seen_file_goes_with_its_last_user(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """Another turn that saw the picture at its former size keeps the file; nobody else leaves none behind."""
    earlier = store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    turn = store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    store.replace_seen(turn.id, (smaller(picture("x")),))
    assert len(folder_files()) == 5
    assert store.picture_bytes(OWNER, earlier.pictures[0].id, Rendition.SEEN).data == picture("x").seen_png
    store.replace_seen(earlier.id, (smaller(picture("x")),))
    assert len(folder_files()) == 4


def test_a_finished_turn_keeps_what_it_saw(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """After the end, for a turn that never was, and for the wrong number of pictures nothing changes on the disk."""
    turn = store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    files = folder_files()
    with pytest.raises(ValueError, match="zip"):
        store.replace_seen(turn.id, (smaller(picture("x")), smaller(picture("x"))))
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        store.replace_seen(99, (smaller(picture("x")),))
    finished = store.finish_turn(turn.id, Answer("yes", FinishReason.STOP), state=TurnState.DONE)
    with pytest.raises(HistoryError, match=r"history\.turn_finished"):
        store.replace_seen(turn.id, (smaller(picture("x")),))
    assert store.turn(OWNER, turn.id) == finished
    assert folder_files() == files
