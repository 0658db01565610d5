"""Which files of which models were hashed and found right, so that a start need not read 16 GB again for nothing.

Knows a small file of its own beside the app's data, and files' lengths and times. A file that is longer, shorter or younger
than when it was hashed is hashed again. Does not know what a manifest promises beyond that.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from qwen_vl_app.engine.manifest import MANIFEST_NAME, Progress, hash_file, read_manifest, verify_manifest
from qwen_vl_app.own_files import make_folder, write_new

log = logging.getLogger(__name__)

MEMORY_NAME = "verified-models.json"


def verify_changed(folder: Path, memory: Path | None, *, on_progress: Progress = lambda read: None) -> bool:
    """Check a folder against its manifest, hashing what was not hashed before in its present state; False without a manifest.

    `memory` is the file that says what was; None hashes everything. Raises ModelFolderError.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    mark = hash_file(folder / MANIFEST_NAME)
    known = _read(memory).get(str(folder.resolve()), {})
    states = {name: _state(folder / name, mark) for name in manifest.files}
    skip = frozenset(name for name, state in states.items() if state and known.get(name) == state)
    verify_manifest(folder, manifest, skip=skip, on_progress=on_progress)
    if memory is not None and len(skip) < len(states):
        _remember(memory, str(folder.resolve()), {name: _state(folder / name, mark) for name in manifest.files})
    return True


def _state(file: Path, mark: str) -> str:
    try:
        found = file.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {mark[:32]}"


def _read(memory: Path | None) -> dict[str, dict[str, str]]:
    if memory is None:
        return {}
    try:
        value = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: states for name, states in value.items() if isinstance(states, dict)}


def _remember(memory: Path, folder: str, states: dict[str, str]) -> None:
    try:
        make_folder(memory.parent)
        draft = memory.with_suffix(".draft")
        write_new(draft, json.dumps({**_read(memory), folder: states}, indent=1).encode())
        draft.replace(memory)
    except OSError:  # then it is hashed again next time, which costs seconds and no truth
        log.info("what was verified could not be kept", exc_info=True)
