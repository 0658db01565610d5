"""The folder of a run: it is never left, never written to, and nothing in it is a trap."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qwen_vl_app.batch.source import FoundFile, SourceFolder, reading_order
from qwen_vl_app.batch.watch import Watch
from qwen_vl_app.errors import BatchError, UsageError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links, pipes and names")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def names(folder: Path, *, is_recursive: bool = True) -> list[str]:
    return [file.name for file in SourceFolder(folder).find(is_recursive=is_recursive).files]


def test_pictures_come_in_the_order_people_read(photos: Path) -> None:
    """Nine stands before ten; other files and hidden ones are no pictures."""
    (photos / "below").mkdir()
    for name in ("photo 10.JPG", "photo 9.jpg", "notes.txt", ".hidden.jpg", "~$open.png", "below/a.png"):
        (photos / name).write_bytes(b"x")
    assert names(photos, is_recursive=False) == ["photo 9.jpg", "photo 10.JPG"]
    assert names(photos) == ["below/a.png", "photo 9.jpg", "photo 10.JPG"]


def test_any_two_names_can_be_ordered() -> None:
    """Digits beside letters, folders beside files of one name."""
    found = ["a", "a/b", "1", "a1", "1a", "a/1", "", "10", "9", "é", "图10", "图9"]
    assert len(sorted(found, key=reading_order)) == len(found)
    assert sorted(["图10", "图9"], key=reading_order) == ["图9", "图10"]


@posix
def test_links_are_passed_over_and_said(photos: Path, tmp_path: Path) -> None:
    """A link to a file or a folder may lead out, so none is followed, not even one that stays inside."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.png").write_bytes(b"other")
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    (photos / "folder").symlink_to(tmp_path / "elsewhere")
    (photos / "loop").symlink_to(photos)
    listing = SourceFolder(photos).find(is_recursive=True)
    assert listing.files == ()
    assert [(name, reason.code) for name, reason in listing.passed_over] == [
        (name, "batch.file.link") for name in ("folder", "link.png", "loop")
    ]


@posix
def test_a_pipe_named_like_a_picture_is_not_waited_for(photos: Path) -> None:
    """Opening it for reading would wait until somebody writes."""
    os.mkfifo(photos / "pipe.png")
    source = SourceFolder(photos)
    assert [reason.code for _, reason in source.find(is_recursive=False).passed_over] == ["batch.file.not_regular"]
    with pytest.raises(BatchError, match="not_regular"):
        source.read("pipe.png", max_bytes=100)


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/hostname", "", ".", "a/..", "./../x"])
def test_a_name_that_leads_out_is_never_opened(photos: Path, name: str) -> None:
    """Names come from a journal too, which somebody may have edited."""
    (photos.parent / "secret.png").write_bytes(b"secret")
    (photos / "a").mkdir()
    with pytest.raises(BatchError, match=r"batch\.file\.outside"):
        SourceFolder(photos).read(name, max_bytes=100)


@posix
def test_a_folder_that_became_a_link_since_is_not_followed(photos: Path, tmp_path: Path) -> None:
    """The look and the reading are two moments; what is put in between them leads nowhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"secret")
    (photos / "below").mkdir()
    (photos / "below" / "a.png").write_bytes(b"mine")
    source = SourceFolder(photos)
    assert source.read("below/a.png", max_bytes=100)[1] == b"mine"
    (photos / "below" / "a.png").unlink()
    (photos / "below").rmdir()
    (photos / "below").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BatchError, match=r"batch\.file\.link"):
        source.read("below/a.png", max_bytes=100)


@posix
def test_names_that_are_no_text_are_read(photos: Path) -> None:
    """Bytes of another encoding, line breaks and quotes are names like others."""
    for name in (b"caf\xe9.jpg", b"two\nlines.jpg", b'"quoted".jpg', "图.jpg".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(photos), name))).write_bytes(name)  # noqa: PTH118
    source = SourceFolder(photos)
    found = source.find(is_recursive=False).files
    assert {source.read(file.name, max_bytes=99)[1] for file in found} == {os.fsencode(file.name) for file in found}
    assert len(found) == 4


def test_files_that_are_too_large_gone_or_growing_are_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own reason; a file that is written while it is read is never half a picture."""
    file = photos / "a.png"
    file.write_bytes(b"x" * 100)
    source = SourceFolder(photos)
    with pytest.raises(BatchError, match="too_large"):
        source.read("a.png", max_bytes=99)
    with pytest.raises(BatchError, match="gone"):
        source.read("b.png", max_bytes=99)
    real = os.read

    def growing(descriptor: int, length: int) -> bytes:
        piece = real(descriptor, length)
        with file.open("ab") as more:
            more.write(b"y")
        return piece

    monkeypatch.setattr("qwen_vl_app.batch.source.os.read", growing)
    with pytest.raises(BatchError, match="changing"):
        source.read("a.png", max_bytes=1000)


def test_a_folder_that_is_none_is_refused(photos: Path) -> None:
    """A missing folder and a file have their own sentences; a folder that vanishes later is another matter."""
    (photos / "a.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="missing"):
        SourceFolder(photos / "nowhere")
    with pytest.raises(UsageError, match="not_a_folder"):
        SourceFolder(photos / "a.png")
    source = SourceFolder(photos)
    (photos / "a.png").unlink()
    photos.rmdir()
    with pytest.raises(BatchError, match="gone"):
        source.find(is_recursive=True)


def test_a_watched_file_is_complete_when_two_looks_agree() -> None:
    """One that still grows, has just come, or is empty is not taken yet."""
    watch = Watch()
    small, grown = FoundFile("a.png", 10, 1), FoundFile("a.png", 20, 2)
    empty = FoundFile("b.png", 0, 1)
    assert watch.settled([small, empty]) == []
    assert watch.settled([grown, empty]) == []
    assert watch.settled([grown, empty]) == [grown]
    assert watch.settled([FoundFile("a.png", 20, 3)]) == []
