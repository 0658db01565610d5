"""The benchmark measures every arm on the same weights and reports what was asked for."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from qwen_vl_app.chat import Size
from qwen_vl_app.engine.folders import inspect_folder
from qwen_vl_app.engine.local import bench, bench_arms, bench_models, hardware
from qwen_vl_app.engine.local.bench_arms import ARMS, Arm, Work, measure_arm
from qwen_vl_app.engine.local.bench_quality import compared, is_right
from qwen_vl_app.errors import ModelFolderError, Reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of a shape so small that a test can wait for it."""
    made = tmp_path_factory.mktemp("bench") / "random-tiny"
    bench_models.make_model("tiny", made)
    return made


@pytest.mark.parametrize(
    ("shape", "model_type", "parameters"),
    [
        ("7b", "qwen2_5_vl", 8_292_166_656),
        ("3b", "qwen2_5_vl", 3_754_622_976),
        ("2b", "qwen3_vl", 2_127_532_032),
        ("qwen3-4b", "qwen3_vl", 4_437_815_808),
        ("qwen3-8b", "qwen3_vl", 8_767_123_696),
    ],
)
def test_a_shape_is_the_published_one(shape: str, model_type: str, parameters: int) -> None:
    """To the last parameter, in the family that people have it in, with the heads and windows that decide which kernels run."""
    config = bench_models.config_of(shape)
    tensors = bench_models.tensors_of(config, shape)
    assert config.model_type == model_type
    assert sum(map(math.prod, tensors.values())) == parameters
    attention = {name.split("self_attn.")[1] for name in tensors if "layers.0.self_attn." in name}
    own = {"q_proj.bias", "k_proj.bias", "v_proj.bias"}, {"q_norm.weight", "k_norm.weight"}
    has, lacks = own if model_type == "qwen2_5_vl" else own[::-1]
    assert has <= attention and not lacks & attention
    sections = [16, 24, 24] if model_type == "qwen2_5_vl" else [24, 20, 20]
    assert config.text_config.rope_parameters["mrope_section"] == sections
    assert config.vision_config.num_heads == 16


def test_the_main_shape_is_the_published_7b() -> None:
    """What the card's figures stand for: 28 heads that share 4, and a tower of windows with heads of 80."""
    config = bench_models.config_of("7b")
    text, tower = config.text_config, config.vision_config
    assert (text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads) == (28, 28, 4)
    assert (text.hidden_size, text.intermediate_size, text.vocab_size) == (3584, 18944, 152064)
    assert (tower.hidden_size // tower.num_heads, tower.window_size, tower.patch_size) == (80, 112, 14)
    assert list(tower.fullatt_block_indexes) == [7, 15, 23, 31] and tower.depth == 32
    assert not config.tie_word_embeddings and bench_models.config_of("3b").tie_word_embeddings


@pytest.mark.parametrize("shape", ["tiny", "qwen3-tiny"])
def test_a_random_model_is_a_whole_folder(shape: str, tmp_path: Path) -> None:
    """The folder loads like a published one of its family, and no tensor is left empty or endless."""
    bench_models.make_model(shape, tmp_path / shape)
    known = inspect_folder(tmp_path / shape)
    assert known.problem is None and known.family is not None
    assert known.family.model_type == bench_models.SHAPES[shape].model_type
    assert known.dtype == "bf16"
    with safe_open(known.weight_files[0], framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dict
            tensor = tensors.get_tensor(name).float()
            assert tensor.isfinite().all()
            if "norm" not in name and "ln_q" not in name:
                assert 0 < tensor.abs().mean() < 0.1, name


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.parametrize(("shape", "side"), [("tiny", 28), ("qwen3-tiny", 32)])
def test_every_arm_gives_every_figure(
    arm: Arm, shape: str, side: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each arm makes exactly the tokens asked for and tells seconds and bytes for each size, in both families."""
    made = folder.with_name(f"random-{shape}")
    if not made.exists():
        bench_models.make_model(shape, made)
    found = measure_arm(Work(arm, made, (Size(2 * side, 2 * side), Size(3 * side, 2 * side)), 4, 1, 1, 0))
    assert "Loading weights" not in capsys.readouterr().err  # the library's own bar
    assert set(found["sizes"]) == {f"{2 * side}x{2 * side}", f"{3 * side}x{2 * side}"}
    for figures in found["sizes"].values():
        for name in ("first_token_s", "decode_tokens_per_s", "follow_up_first_token_s", "mixed_s", "gb_per_s"):
            assert figures[name] > 0, name
    assert found["load_s"] > 0
    assert found["peak_bytes"] > 50_000_000
    assert ("loop_share" in found["sizes"][f"{2 * side}x{2 * side}"]) is not found["arm"]["is_stock"]


def test_a_report_is_complete_and_is_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds go forwards and backwards over the arms, the best counts, and gains are told against the right arm."""
    order: list[str] = []

    def in_child(work: object, given: object) -> object:
        if not isinstance(given, Work):
            return 20.0
        order.append(given.arm.name)
        pace = len(order)
        figures = {
            "first_token_s": 1.0 * pace, "decode_tokens_per_s": 10.0 * pace, "follow_up_first_token_s": 0.1 * pace,
            "mixed_s": 3.0, "gb_per_s": 2.0, **({} if given.arm.is_stock else {"loop_share": 0.04}),
        }  # fmt: skip
        arm = {"name": given.arm.name, "precision": given.arm.precision, "is_stock": given.arm.is_stock}
        return {"arm": arm, "load_s": 1.0, "peak_bytes": 5, "sizes": {"64x64": figures}}

    monkeypatch.setattr(bench, "in_child", in_child)
    told: list[Reason] = []
    report = bench.run_bench(model=folder, sizes=(Size(64, 64),), tokens=4, rounds=2, on_progress=told.append)
    names = [arm.name for arm in ARMS]
    assert order == names + names[::-1]
    assert len(told) == 12
    assert json.loads(json.dumps(report)) == report
    first = report["arms"][0]["sizes"]["64x64"]
    assert set(bench.FIGURES) <= set(first)
    assert first["first_token_s"] == 1.0 and first["decode_tokens_per_s"] == 120.0
    assert first["share_of_limit"] == pytest.approx(0.1)
    gains = bench.ratios(report)["64x64"]
    assert gains["first_token_sooner"] == pytest.approx(1 / 6)
    assert gains["decode_faster"] == pytest.approx(70 / 120)
    assert gains["follow_up_sooner"] == pytest.approx(10)


def test_quality_is_counted_against_full_precision() -> None:
    """Answers with boxes count as the same or not and never as right; JSON is compared by what it says."""
    data = {"data": {"TAG": "P-1"}}
    assert is_right(data, '{ "TAG": "P-1" }') and not is_right(data, '{"TAG": "P-2"}') and not is_right(data, "TAG P-1")
    assert is_right({"lines": ["A 1", "B 2"]}, "A 1\nB 2\n") and not is_right({"text": "7"}, "8")
    assert is_right({"boxes": []}, "[]") is None
    full = [
        {"text": text, "logprob": -0.1, "is_right": mark} for text, mark in (("a", True), ("b", False), ("c", None))
    ]
    less = [
        {"text": text, "logprob": -0.3, "is_right": mark} for text, mark in (("a", True), ("x", False), ("c", None))
    ]
    told = compared({"fp32": full, "int8": less})
    assert [(one["same"], one["asked"], one["right"], one["marked"]) for one in told] == [(3, 3, 1, 2), (2, 3, 1, 2)]
    assert told[1]["likelihood_off"] == pytest.approx(0.2)


def test_the_demo_model_is_examined_beside_the_speed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every precision is asked the same held-out questions, and in full precision it knows most of the answers."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setattr(bench, "QUALITY_PICTURES", 1)
    monkeypatch.setattr(bench, "ARMS", ())
    monkeypatch.setattr(bench, "in_child", lambda work, given: work(given) if given != 1 else 20.0)
    report = bench.run_bench(
        model=folder,
        sizes=(Size(64, 64),),
        rounds=1,
        threads=1,
        quality=(root / "models" / "demo", root / "tests" / "data" / "demo"),
    )
    assert [graded["precision"] for graded in report["quality"]][:2] == ["fp32", "bf16"]
    full = report["quality"][0]
    assert full["same"] == full["asked"] > 2
    assert full["right"] >= full["marked"] / 2


def test_a_faster_repeat_counts_for_rates_and_for_seconds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best repeat is the one with the higher rate and the shorter time."""
    once = iter(
        [{"first_token_s": 3.0, "decode_tokens_per_s": 5.0}, {"first_token_s": 2.0, "decode_tokens_per_s": 9.0}]
    )
    monkeypatch.setattr(bench_arms, "_once", lambda *given, **named: next(once))
    found = measure_arm(Work(ARMS[3], folder, (Size(56, 56),), 4, 2, 1, 0))["sizes"]["56x56"]
    assert (found["first_token_s"], found["decode_tokens_per_s"]) == (2.0, 9.0)


def test_what_does_not_fit_is_left_out_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short of memory, arms are left out instead of swapping."""
    monkeypatch.setattr(bench, "in_child", lambda work, given: 20.0)
    monkeypatch.setattr(hardware, "free_bytes", lambda device: 0)
    report = bench.run_bench(model=folder, sizes=(Size(64, 64),), tokens=4, rounds=1)
    assert report["arms"] == [] and len(report["left_out"]) == len(ARMS)
    ends = bench.run_bench(model=folder, sizes=(Size(64, 64),), tokens=4, rounds=1, chosen="ends")
    assert ends["left_out"] == sorted((ARMS[0].name, ARMS[-1].name))
    assert bench.ratios(report) == {}


def test_with_a_time_to_end_the_ends_come_first_and_one_that_breaks_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement that is paid for by the minute gives what it can; a compiler's minutes come last."""
    order: list[str] = []

    def in_child(work: object, given: object, *, limit_s: float) -> object:
        assert 0 < limit_s <= 3600
        if not isinstance(given, Work):
            return 20.0
        order.append(given.arm.name)
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(bench, "in_child", in_child)
    monkeypatch.setattr(bench, "ARMS", bench_arms.CARD_ARMS[:1] + bench_arms.CARD_ARMS[5:])
    sizes = (Size(64, 64),)
    report = bench.run_bench(model=folder, sizes=sizes, tokens=4, rounds=1, ends_at=time.monotonic() + 3600)
    assert order == ["stock bf16", "+ fp8 products, captured", "+ captured steps", "+ compiled steps"]
    assert set(report["failed"]) == set(order) and "device-side" in report["failed"]["stock bf16"]
    assert report["arms"] == report["left_out"] == []
    monkeypatch.setattr(bench, "in_child", lambda work, given, *, limit_s: 20.0)
    late = bench.run_bench(model=folder, sizes=sizes, tokens=4, rounds=1, ends_at=time.monotonic() - 1)
    assert set(late["left_out"]) == set(order) and not late["failed"]


def test_a_child_that_hangs_is_ended() -> None:
    """Coming back at all shows it: a process that still slept would be waited for on the way out."""
    with pytest.raises(TimeoutError, match="not done after 1 s"):
        bench.in_child(time.sleep, 3600, limit_s=1)


def test_a_shape_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A misspelt shape and a damaged folder are errors in our words."""
    with pytest.raises(ModelFolderError, match=r"engine\.bench\.no_shape"):
        bench.run_bench(shape="13b")
    with pytest.raises(ModelFolderError):
        bench.run_bench(model=tmp_path / "none")


def test_what_a_killed_benchmark_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next one; what belongs to a living process, or to nobody known, stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    dead, living, strange = (
        tmp_path / f"qwen-vl-bench-{name}" for name in (f"{ended.pid}-abc", f"{os.getpid()}-abc", "abc")
    )
    for folder in (dead, living, strange):
        (folder / "random-tiny").mkdir(parents=True)
    assert bench.sweep_leftovers() == 1
    assert not dead.exists() and living.exists() and strange.exists()
