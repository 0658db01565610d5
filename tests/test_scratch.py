"""Files that are made to be handed over: gone afterwards, whatever happens, and reached by every erasure."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.scratch import SCRATCH_NAME, Scratch
from tests.hub_parts import an_assistant

OWNER = "a-browser"


def test_a_folder_goes_with_what_is_in_it(tmp_path: Path) -> None:
    """After an error, too; nothing is made before it is needed."""
    scratch = Scratch(tmp_path / SCRATCH_NAME)
    assert scratch.sweep()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="broken"), scratch.directory(OWNER) as made:
        (made / "report.pdf").write_bytes(b"words")
        raise ValueError("broken")
    assert list((tmp_path / SCRATCH_NAME).iterdir()) == []


def test_what_a_kill_left_goes_and_what_is_being_made_stays(tmp_path: Path) -> None:
    """Nothing of anybody else's is touched; erasing takes what is being made as well."""
    folder = tmp_path / SCRATCH_NAME
    scratch = Scratch(folder)
    for name in ("being-made-left", "somebody-elses"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_bytes(b"words")
    with scratch.directory(OWNER) as made:
        assert scratch.sweep()
        assert made.is_dir()
        assert {entry.name for entry in folder.iterdir()} == {made.name, "somebody-elses"}
        assert scratch.empty("another-browser")
        assert made.is_dir()
        assert scratch.empty(OWNER)
        assert not made.exists()
    with scratch.directory(OWNER) as made:
        assert scratch.empty(None)
        assert not made.exists()


def test_the_next_start_and_an_erasure_find_it(tmp_path: Path) -> None:
    """In the data folder, where nothing is forgotten."""
    left = tmp_path / "data" / SCRATCH_NAME / "being-made-left"
    left.mkdir(parents=True)
    with an_assistant(FakeEngine(), tmp_path / "data") as assistant:
        assert not left.exists()
        with assistant.scratch.directory(OWNER) as made:
            assistant.records.erase_everything("another-browser")
            assert made.is_dir()
            assistant.records.erase_everything(OWNER)
            assert not made.exists()
        with assistant.scratch.directory(OWNER) as made:
            assistant.records.erase_site()
            assert not made.exists()
