"""What the history's tests share: a store of their own in an empty folder, and pictures made of nothing but bytes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwen_vl_app.chat import Detail, SeenSize, Size, StagedPicture
from qwen_vl_app.errors import Reason
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"


def picture_of(content: str, *, name: str = "panel.jpg") -> StagedPicture:
    """A staged picture whose renditions are distinct bytes derived from `content`."""
    seen = SeenSize(Size(56, 84), 6, Detail.FAST)
    return StagedPicture(
        staged_id=f"staged-{content}",
        picture_id=hashlib.sha256(content.encode()).hexdigest(),
        name=name,
        format="JPEG",
        size=Size(4032, 3024),
        seen=seen,
        upload=f"upload of {content}".encode() * 20,
        view=f"view of {content}".encode() * 10,
        view_mime="image/jpeg",
        thumbnail=f"thumbnail of {content}".encode(),
        seen_png=f"seen form of {content}".encode() * 5,
        page=1,
        page_count=3,
        notes=(Reason("imaging.turned", degrees=90),),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that does not exist yet, with a name that needs care in addresses."""
    mark = "" if sys.platform == "win32" else "?"  # which Windows forbids in a name
    return tmp_path / f"data 100% #1 {mark}历史"


@pytest.fixture
def open_store(folder: Path) -> Iterator[Callable[[], HistoryStore]]:
    """Opens stores on the test's folder, and closes those that the test left open."""
    opened: list[HistoryStore] = []

    def open_one() -> HistoryStore:
        store = HistoryStore(folder)
        store.open()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], HistoryStore]) -> HistoryStore:
    """An open store in a fresh folder."""
    return open_store()


@pytest.fixture
def picture() -> Callable[..., StagedPicture]:
    """Makes staged pictures."""
    return picture_of


@pytest.fixture
def folder_files(folder: Path) -> Callable[[], set[str]]:
    """Lists the names of the picture files in the folder."""

    def names() -> set[str]:
        return {file.name for file in (folder / "pictures").rglob("*") if file.is_file()}

    return names
