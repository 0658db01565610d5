"""Model folders as doors look after them: which there are, whether every byte is the recorded one, and recording them.

Knows names and folders. Does not know what a model says, nor load one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwen_vl_app.config import Settings
from qwen_vl_app.engine.folders import ModelFolder, choose_model, inspect_folder, list_models, path_of
from qwen_vl_app.engine.manifest import Manifest, read_manifest, record_manifest, verify_manifest
from qwen_vl_app.errors import AppError, ModelFolderError, Reason, UsageError

Progress = Callable[[str, int, int], None]
"""Called with the model's name, the bytes read so far, and all there are."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What checking or recording a folder came to. Without `problem`, `manifest` is what it was checked against, if any."""

    model: str
    manifest: Manifest | None = None
    problem: Reason | None = None


def has_manifest(folder: ModelFolder) -> bool:
    """Return whether a folder has a manifest, readable or not."""
    try:
        return read_manifest(folder.path) is not None
    except ModelFolderError:
        return True


def find_models(settings: Settings, wanted: str) -> tuple[ModelFolder, ...]:
    """Return the folder of that name or path, all of them for an empty one. Raises ModelFolderError for a name unknown."""
    known = list_models(settings.models_dir)
    if not wanted:
        return known
    path = path_of(wanted)
    for folder in known:
        if folder.name.lower() == wanted.lower():
            return (folder,)
    if path.is_dir():
        return (inspect_folder(path.resolve()),)
    choose_model(known, 0, wanted=wanted)  # which says what is near
    raise ModelFolderError("engine.model.not_found", model=path.name)


def verify(folder: ModelFolder, *, on_progress: Progress = lambda name, read, total: None) -> Inspection:
    """Look at a folder's contents, then read every byte and compare with its manifest, where it has one. Never raises."""
    if folder.problem is not None:
        return Inspection(folder.name, problem=folder.problem)
    try:
        manifest = read_manifest(folder.path)
        if manifest is not None:
            verify_manifest(
                folder.path, manifest, on_progress=_counting(folder.name, manifest.total_bytes, on_progress)
            )
    except AppError as error:
        return Inspection(folder.name, problem=error.reason)
    return Inspection(folder.name, manifest)


def record(
    folder: ModelFolder, *, is_again: bool = False, on_progress: Progress = lambda name, read, total: None
) -> Inspection:
    """Write a folder's manifest. Refused for a folder that is damaged, or that has one unless `is_again`. Never raises."""
    if folder.problem is not None:
        return Inspection(folder.name, problem=folder.problem)
    try:
        if has_manifest(folder) and not is_again:
            raise UsageError("cli.models.has_manifest")
        total = sum(file.stat().st_size for file in folder.path.rglob("*") if file.is_file())
        return Inspection(
            folder.name, record_manifest(folder.path, on_progress=_counting(folder.name, total, on_progress))
        )
    except AppError as error:
        return Inspection(folder.name, problem=error.reason)


def _counting(name: str, total: int, on_progress: Progress) -> Callable[[int], None]:
    done = 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        on_progress(name, done, total)

    return count
