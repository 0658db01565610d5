"""What may lie in a model's folder: numbers, words and pictures. Never a program, a pickle, or half a file.

Knows file names and configs. Does not open weights. Nothing of what is refused here would be run anyway; but a folder that
brings such things is not the published model, and somebody should look at it before it is trusted with answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from qwen_vl_app.errors import ModelFolderError

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"})
PROGRAMS = frozenset(
    {".py", ".pyc", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".exe", ".com", ".msi", ".bat", ".cmd", ".ps1", ".vbs"}
    | {".sh", ".js", ".mjs", ".wasm", ".jar", ".class", ".desktop", ".lnk", ".scr"}
)
UNFINISHED = frozenset({".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".filepart"})
LEFT_BY_SYSTEMS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
"""What Windows puts into folders that somebody looks at, as others do under names with a dot. No part of a model."""
CONFIGS = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer_config.json", "video_preprocessor_config.json", "adapter_config.json"),
)
MAX_CONFIG_BYTES = 64_000_000


def check_contents(folder: Path) -> None:
    """Raise ModelFolderError for the first thing that has no place in a model's folder."""
    for file in files_of(folder):
        suffix, name = file.suffix.lower(), file.relative_to(folder).as_posix()
        if not file.is_file():  # a link to nothing, or a pipe, which nobody who reads it comes back from
            raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=name)
        if suffix in UNFINISHED:
            raise ModelFolderError("engine.folder.unfinished", model=folder.name, file=name)
        if suffix in PICKLES:
            raise ModelFolderError("engine.folder.pickle", model=folder.name, file=name)
        if suffix in PROGRAMS:
            raise ModelFolderError("engine.folder.program", model=folder.name, file=name)
    for name in CONFIGS:
        if _names_code(folder / name):
            raise ModelFolderError("engine.folder.auto_map", model=folder.name, file=name)


def files_of(folder: Path) -> Iterator[Path]:
    """Give every file of a model's folder by name, but for what hides behind a dot: a download's own notes, a repository.

    Links to folders are not followed: nothing of a model lies behind one, and one may lead back to where it stands.
    """
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name.lower() in LEFT_BY_SYSTEMS:
            continue
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink():
            yield from files_of(entry)


def _names_code(file: Path) -> bool:
    """Return whether a config tells a library to load code from the folder. A config that cannot be read is judged elsewhere."""
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            return False
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return _holds_code(value)


def _holds_code(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_holds_code, value))
    if not isinstance(value, dict):
        return False
    return bool(value.get("auto_map") or value.get("custom_pipelines")) or any(map(_holds_code, value.values()))
