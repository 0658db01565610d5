"""A manifest says what a model's bytes have to be; whatever differs is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_vl_app.chat import EngineState
from qwen_vl_app.engine import verified
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.manifest import MANIFEST_NAME, read_manifest, record_manifest, verify_manifest
from qwen_vl_app.engine.verified import verify_changed
from qwen_vl_app.errors import ModelFolderError


@pytest.fixture
def whole(models_dir: Path, tmp_path: Path) -> Path:
    """A copy of a tiny model with its manifest."""
    folder = Path(shutil.copytree(models_dir / "qwen2_5_vl", tmp_path / "models" / "tiny"))
    record_manifest(folder)
    return folder


def flip(file: Path) -> None:
    """Change one bit in the middle of a file, and neither its length nor its times."""
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    import os

    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def problem_of(folder: Path) -> tuple[str, str]:
    """Return the code and the file that checking a folder names."""
    manifest = read_manifest(folder)
    assert manifest is not None
    with pytest.raises(ModelFolderError) as caught:
        verify_manifest(folder, manifest)
    return caught.value.code, str(caught.value.facts["file"])


def test_a_whole_folder_passes_and_every_byte_counts(whole: Path) -> None:
    """Read in full, with its progress told."""
    manifest = read_manifest(whole)
    assert manifest is not None
    assert set(manifest.files) == {file.name for file in whole.iterdir()} - {MANIFEST_NAME}
    read: list[int] = []
    verify_manifest(whole, manifest, on_progress=read.append)
    assert (
        sum(read) == manifest.total_bytes == sum(f.stat().st_size for f in whole.iterdir() if f.name != MANIFEST_NAME)
    )


@pytest.mark.parametrize(
    ("damage", "code", "file"),
    [
        (lambda folder: flip(folder / "model.safetensors"), "engine.manifest.changed", "model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{}"), "engine.manifest.changed", "config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "engine.manifest.missing", "tokenizer.json"),
        (lambda folder: (folder / "more.json").write_text("{}"), "engine.manifest.unlisted", "more.json"),
    ],
)
def test_whatever_differs_is_named(whole: Path, damage: Callable[[Path], None], code: str, file: str) -> None:
    """Changed, missing, or added."""
    damage(whole)
    assert problem_of(whole) == (code, file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2}',
        json.dumps({"format": 1, "recorded_at": "", "files": {"../up": {"bytes": 1, "sha256": "0" * 64}}}),
        json.dumps({"format": 1, "recorded_at": "", "files": {"a": {"bytes": 1, "sha256": "short"}}}),
    ],
)
def test_a_damaged_manifest_is_an_error_and_not_an_absence(whole: Path, text: str) -> None:
    """Half a manifest must not let a folder pass unchecked."""
    (whole / MANIFEST_NAME).write_text(text)
    with pytest.raises(ModelFolderError) as caught:
        read_manifest(whole)
    assert caught.value.code == "engine.manifest.damaged"


def test_a_model_is_checked_when_it_is_loaded_and_hashed_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start trusts what has neither changed its length nor its time; a changed file is hashed again."""
    memory = tmp_path / "data" / "verified.json"
    hashed: list[str] = []
    whole_check = verify_manifest

    def listen(folder: Path, manifest: object, *, skip: frozenset[str], **further: object) -> None:
        hashed.append(f"{len(skip)} skipped")
        whole_check(folder, manifest, skip=skip, **further)  # type: ignore[arg-type]

    monkeypatch.setattr(verified, "verify_manifest", listen)
    assert verify_changed(whole, memory)
    assert verify_changed(whole, memory)
    count = len(list(whole.iterdir())) - 1
    assert hashed == ["0 skipped", f"{count} skipped"]
    memory.write_text("{")
    assert verify_changed(whole, memory)
    config = whole / "config.json"
    config.write_bytes(config.read_bytes().replace(b"{", b"[", 1))
    with pytest.raises(ModelFolderError):
        verify_changed(whole, memory)
    (whole / MANIFEST_NAME).unlink()
    assert not verify_changed(whole, memory)


def test_a_flipped_byte_does_not_load(whole: Path, tmp_path: Path) -> None:
    """The weights would load without a word; the manifest knows better, and says so."""
    engine = LocalEngine(whole.parent, model="tiny", device="cpu", verified=tmp_path / "verified.json")
    engine.load()
    assert "engine.choice.verified" in [choice.code for choice in engine.status.choices]
    engine.close()
    flip(whole / "model.safetensors")
    (tmp_path / "verified.json").unlink()
    engine = LocalEngine(whole.parent, model="tiny", device="cpu", verified=tmp_path / "verified.json")
    with pytest.raises(ModelFolderError) as caught:
        engine.load()
    assert caught.value.code == "engine.manifest.changed"
    assert engine.status.state is EngineState.FAILED
