"""A marker is found wherever and however it is written down, and a short one is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_vl_app.chat import Question, StagedPicture
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, proof
from qwen_vl_app.history.search_index import cut_into_words

OWNER = "a-browser"


def test_a_marker_is_found_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case, in UTF-8 and UTF-16, escaped, in a name, and over the border of two pieces that are read."""
    marker = "Zürich-发票"
    contents = {
        "utf8": marker.upper().encode(),
        "utf16": marker.encode("utf-16-le"),
        "big": marker.encode("utf-16-be"),
        "json": marker.encode("ascii", "backslashreplace"),
        "index": cut_into_words(marker).encode(),
        "not": b"zurich",
        "none": b"",
    }
    (tmp_path / "below").mkdir()
    for name, content in contents.items():
        (tmp_path / "below" / name).write_bytes(b"x" * 7 + content + b"y" * 7)
    (tmp_path / f"{marker}.txt").write_bytes(b"")
    expected = (*(f"below/{name}" for name in ("big", "index", "json", "utf16", "utf8")), f"{marker}.txt")
    assert sorted(HistoryStore.find_traces(tmp_path, marker)) == sorted(expected)
    for size in (1, 5, 8):
        monkeypatch.setattr(proof, "_PIECE_BYTES", size)
        assert sorted(HistoryStore.find_traces(tmp_path, marker)) == sorted(expected)


def test_a_site_can_see_for_itself(store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]) -> None:
    """Before erasing the files are named, afterwards there are none."""
    store.begin_turn(OWNER, Question("Marker-发票-7", (picture("x"),)), title="t")
    assert HistoryStore.find_traces(folder, "marker-发票-7") == ("history.db-wal",)
    store.erase_everything(OWNER)
    assert HistoryStore.find_traces(folder, "marker-发票-7") == ()


def test_a_folder_that_may_not_be_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what is in it: it is no proof that nothing was found."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "kept").write_text("Marker-7")
    really = os.scandir

    def scandir(place: os.PathLike[str]) -> object:
        if Path(place) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        return really(place)

    unread: list[Path] = []
    with monkeypatch.context() as looking:  # and not when the test's own files are cleared away
        looking.setattr(os, "scandir", scandir)
        assert HistoryStore.find_traces(tmp_path, "Marker-7", on_unread=unread.append) == ()
        assert unread == [closed]
        with pytest.raises(HistoryError, match=r"history\.read_only"):
            HistoryStore.find_traces(tmp_path, "Marker-7")


def test_a_short_marker_is_refused(folder: Path) -> None:
    """It would be found by chance."""
    with pytest.raises(HistoryError, match=r"history\.marker_too_short"):
        HistoryStore.find_traces(folder, " abc ")
