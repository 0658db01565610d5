"""Device, precision and threads are chosen with a reason, and every code has its sentence in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from qwen_vl_app.engine.local import hardware
from qwen_vl_app.errors import ModelError, Reason
from qwen_vl_app.texts import Language, catalogue, placeholders, render
from tests.engine.harness import Pair

CPU = torch.device("cpu")
SOURCE = Path(__file__).resolve().parents[2] / "qwen_vl_app" / "engine"


@pytest.mark.parametrize(
    ("wanted", "parameters", "has_bf16", "memory", "name", "code"),
    [
        ("auto", 4_000_000, True, 2**40, "fp32", "engine.choice.dtype.small"),
        ("auto", 3_000_000_000, True, 2**40, "bf16", "engine.choice.dtype.cpu_bf16"),
        ("auto", 3_000_000_000, False, 2**40, "fp32", "engine.choice.dtype.cpu_fp32"),
        ("auto", 3_000_000_000, False, 2**33, "bf16", "engine.choice.dtype.cpu_memory"),
        ("fp32", 3_000_000_000, True, 2**30, "fp32", "engine.choice.dtype.wanted"),
    ],
)
def test_precision_on_a_processor(
    monkeypatch: pytest.MonkeyPatch, wanted: str, parameters: int, has_bf16: bool, memory: int, name: str, code: str
) -> None:
    """Half precision only where the processor computes it, or where nothing else fits."""
    monkeypatch.setattr(hardware, "has_fast_bf16_cpu", lambda: has_bf16)
    choice = hardware.choose_precision(wanted, CPU, parameters=parameters, memory_bytes=memory)
    assert (choice.name, choice.reason.code) == (name, code)


def test_memory_stays_within_the_cgroup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's limit counts, its page cache does not; "max" is no limit."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    unlimited = hardware.free_bytes(CPU)
    assert unlimited > 0
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert hardware.free_bytes(CPU) > 1000
    (tmp_path / "memory.max").write_text("1000\n")
    assert hardware.free_bytes(CPU) == 500
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200\n")
    assert hardware.free_bytes(CPU) == 700


def test_threads_follow_cores_and_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wish is taken as it is; else the physical cores, within the container's share."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    assert hardware.choose_threads(7) == 7
    assert hardware.choose_threads(0, parameters=3_600_000) == 1
    assert hardware.choose_threads(7, parameters=3_600_000) == 7
    cores = hardware.choose_threads(0)
    assert cores >= 1
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert hardware.choose_threads(0) == 1


def test_a_card_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for CUDA without it is an error in a sentence, and auto takes the processor and says why."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"engine\.device\.no_cuda"):
        hardware.choose_device("cuda")
    assert hardware.choose_device("auto").reason.code == "engine.choice.device.cpu"


def test_every_code_has_a_sentence_in_both_languages() -> None:
    """Codes in the source stand in the catalogues, and both languages use the same facts."""
    codes: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for found in re.findall(r'"(engine\.[a-z0-9_.{}]+)"', file.read_text(encoding="utf-8")):
            ways = ("flash_attn", "varlen", "batched_windows") if "{name}" in found else ("",)
            codes.update(found.replace("{name}", way) for way in ways)
    english, chinese = catalogue(Language.ENGLISH), catalogue(Language.CHINESE)
    ours = {code for code in english if code.startswith("engine.")}
    assert codes == ours
    assert all(placeholders(english[code]) == placeholders(chinese[code]) for code in codes)


def test_the_choices_of_a_loaded_engine_are_sentences(pair: Pair) -> None:
    """Everything that was chosen can be read by a person, with no fact missing."""
    status = pair.engine.status
    assert status.plan is not None
    for reason in (*status.choices, *status.plan.reasons):
        for language in Language:
            sentence = render(reason, language)
            assert "{" not in sentence and sentence != reason.code


def test_a_card_that_is_found_and_does_not_compute_is_left_for_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old for this torch, it has a name and memory and fails with its first sum; one that is full computes."""
    errors: list[Exception] = []

    def ones(*given: object, **named: object) -> object:
        raise errors[-1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *given: "GTX 1080")
    monkeypatch.setattr(torch, "ones", ones)
    errors.append(RuntimeError("CUDA error: no kernel image is available for execution on the device"))
    found = hardware.choose_device("auto")
    assert found.device.type == "cpu" and found.reason == Reason("engine.choice.device.cuda_too_old", name="GTX 1080")
    assert hardware.choose_device("cuda").device.type == "cuda"
    errors.append(torch.OutOfMemoryError("CUDA out of memory"))
    assert hardware.choose_device("auto").device.type == "cuda"
