"""Files that are named on the command line: read within their limit, and none is a trap."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from qwen_vl_app.cli.files import read_file
from qwen_vl_app.errors import UsageError


class TestFiles:
    """Reading what a path leads to."""

    def refused(self, path: Path | str, *, max_bytes: int = 1000) -> str:
        with pytest.raises(UsageError) as refusal:
            read_file(str(path), max_bytes=max_bytes)
        return refusal.value.code

    def test_up_to_the_limit_and_not_a_byte_more(self, tmp_path: Path) -> None:
        """The limit itself is allowed."""
        file = tmp_path / "a"
        file.write_bytes(b"x" * 1000)
        assert read_file(str(file), max_bytes=1000) == b"x" * 1000
        assert self.refused(file, max_bytes=999) == "file.too_large"

    def test_a_huge_file_is_refused_by_its_size(self, tmp_path: Path) -> None:
        """A terabyte that takes no room on the disk takes none in memory either."""
        file = tmp_path / "huge"
        with file.open("wb") as stream:
            stream.truncate(2**40)
        assert self.refused(file) == "file.too_large"

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no device files here")
    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
    def test_devices_are_refused(self, device: str) -> None:
        """They have no end."""
        assert self.refused(device) == "file.not_regular"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
    def test_a_pipe_is_refused_at_once(self, tmp_path: Path) -> None:
        """Nobody waits for a writer that never comes."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        assert self.refused(pipe) == "file.not_regular"

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")
    def test_a_socket_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither does anybody talk to it."""
        monkeypatch.chdir(tmp_path)  # its path may not be long
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
            assert self.refused("s") == "file.not_regular"

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
    def test_files_that_claim_to_be_empty_are_read_within_the_limit(self) -> None:
        """Under /proc a file is longer than it says."""
        assert self.refused("/proc/self/maps", max_bytes=10) == "file.too_large"
        assert read_file("/proc/self/maps", max_bytes=10_000_000)

    @pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this account may read everything")
    def test_a_forbidden_file_says_so(self, tmp_path: Path) -> None:
        """It is there, but not for this account."""
        file = tmp_path / "secret"
        file.write_bytes(b"x")
        file.chmod(0)
        assert self.refused(file) == "file.forbidden"
        tmp_path.chmod(0)
        try:
            assert self.refused(file) == "file.forbidden"
        finally:
            tmp_path.chmod(0o700)

    def test_strange_words_are_refused_like_missing_files(self, tmp_path: Path) -> None:
        """A NUL, a name without end, a loop of links, a file in place of a folder."""
        assert self.refused("a\0b") == "file.unreadable"
        assert self.refused("x" * 5000) in ("file.unreadable", "file.missing")  # Windows: there is no such file
        file = tmp_path / "file"
        file.write_bytes(b"x")
        assert self.refused(file / "within") in ("file.unreadable", "file.missing")
        if hasattr(os, "symlink") and sys.platform != "win32":
            (tmp_path / "loop").symlink_to(tmp_path / "loop")
            assert self.refused(tmp_path / "loop") == "file.unreadable"

    def test_a_link_to_a_picture_is_the_picture(self, tmp_path: Path) -> None:
        """Links lead somewhere."""
        if sys.platform == "win32":
            pytest.skip("links need rights there")
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "link").symlink_to("file")
        assert read_file(str(tmp_path / "link"), max_bytes=10) == b"x"
