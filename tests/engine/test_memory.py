"""The plan of sizes follows memory and the folder's own limits; sizes follow the published rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as published

from qwen_vl_app.chat import Detail, Size
from qwen_vl_app.engine.families import FAMILIES, Shape, shape_of, smart_resize
from qwen_vl_app.engine.local.memory import (
    Budget,
    PixelLimits,
    chunk_graph_bytes,
    chunk_tokens,
    make_plan,
    read_limits,
    slab_tokens,
)
from qwen_vl_app.errors import ImageShapeError, ModelFolderError

GIB = 2**30
SEVEN_B = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
    "vision_config": {"depth": 32, "hidden_size": 1280},
}  # fmt: skip
LIMITS = PixelLimits(3136, 12845056)


def budget(free: float, *, is_cpu: bool = False, parameters: int = 8_000_000_000) -> Budget:
    """Return a budget with so many GiB free beside the weights."""
    return Budget(int(free * GIB), GIB, 2, 2048, is_cpu, parameters)


def seven_b() -> Shape:
    """Return the published 7B's shape."""
    return shape_of(SEVEN_B)


def test_a_token_costs_what_was_measured() -> None:
    """The figures for a 7B in bf16."""
    shape = seven_b()
    assert shape.kv_bytes_per_token(2) == 57344
    assert shape.feature_bytes_per_token(2) == 7168
    assert shape.vision_bytes_per_token(2) == pytest.approx(205_000, rel=0.01)
    assert shape.prefill_bytes_per_token(2) == pytest.approx(131_000, rel=0.01)


def test_with_room_every_rung_is_there() -> None:
    """On a large card the presets stand as they are."""
    plan = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, budget(60))
    assert [rung.detail for rung in plan.rungs] == list(Detail)
    assert [rung.max_tokens for rung in plan.rungs] == [564, 768, 1280, 2560, 5120]
    assert plan.default is Detail.BALANCED
    assert plan.context_tokens == 65536


def test_a_prompt_is_read_in_pieces_that_memory_allows() -> None:
    """A whole chunk where there is room, fewer tokens where it is tight, and never fewer than are worth a pass."""
    shape = seven_b()
    assert chunk_tokens(shape, 2, 8 * GIB, most=2048) == 2048
    tight = chunk_tokens(shape, 2, GIB, most=2048)
    assert 128 <= tight < 2048 and tight % 128 == 0
    assert tight * shape.prefill_bytes_per_token(2) <= 0.2 * GIB
    assert chunk_tokens(shape, 2, 0, most=2048) == 128
    assert chunk_tokens(shape, 2, 0, most=16) == 16


def test_fixed_memory_for_steps_comes_out_of_what_there_is() -> None:
    """With room, whole everyday conversations; with several answers, less for each; with little, none at all."""
    shape = seven_b()
    for free, answers, expected in (
        (60, 1, 8192),
        (60, 4, 8192),
        (8, 1, 8192),
        (8, 4, 4864),
        (2, 1, 2560),
        (1.2, 1, None),
    ):
        roomy = replace(budget(free), answers=answers)
        plan = make_plan(FAMILIES["qwen2_5_vl"], shape, LIMITS, roomy)
        assert slab_tokens(shape, roomy, plan) == expected


def test_captured_reading_takes_little_or_nothing() -> None:
    """Some hundred megabytes for a 7B, and none where that would be felt."""
    shape = seven_b()
    held = chunk_graph_bytes(shape, budget(8), 8192)
    assert held is not None and 50 * 2**20 < held < 200 * 2**20
    assert held <= 0.05 * budget(8).usable_bytes
    assert chunk_graph_bytes(shape, budget(1.2), 1024) is None


def test_each_of_several_answers_can_have_its_context() -> None:
    """Four at a time may each take a quarter of what one alone could."""
    plans = [
        make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, replace(budget(5), answers=answers)) for answers in (1, 4)
    ]
    assert plans[1].context_tokens == plans[0].context_tokens // 4


@given(free=st.floats(0, 80), answers=st.integers(1, 8))
def test_what_runs_may_have_was_promised_to_nobody(free: float, answers: int) -> None:
    """With everybody's contexts full and the largest picture in the vision tower, there is room for a run's answers."""
    shape, roomy = seven_b(), replace(budget(free), answers=answers)
    plan = make_plan(FAMILIES["qwen2_5_vl"], shape, LIMITS, roomy)
    kv_bytes = shape.kv_bytes_per_token(roomy.dtype_bytes)
    taken = answers * plan.context_tokens * kv_bytes
    taken += plan.rungs[-1].max_tokens * shape.vision_bytes_per_token(roomy.dtype_bytes)
    taken += roomy.chunk_tokens * shape.prefill_bytes_per_token(roomy.dtype_bytes)
    assert plan.spare_tokens == 0 or taken + plan.spare_tokens * kv_bytes <= roomy.usable_bytes


@given(free=st.floats(0, 80), is_cpu=st.booleans(), least=st.integers(1, 2_000_000), more=st.integers(0, 10_000_000))
def test_any_plan_is_a_plan(free: float, is_cpu: bool, least: int, more: int) -> None:
    """Rungs ascend without equals, stay within the folder's limits, and hold the default."""
    limits = PixelLimits(least, least + more)
    plan = make_plan(FAMILIES["qwen3_vl"], seven_b(), limits, budget(free, is_cpu=is_cpu))
    areas = [rung.max_pixels for rung in plan.rungs]
    assert areas == sorted(set(areas))
    assert all(limits.min_pixels <= area <= limits.max_pixels for area in areas)
    assert plan.default in [rung.detail for rung in plan.rungs]
    assert plan.context_tokens >= 2048


def test_little_memory_lowers_the_top() -> None:
    """Short of memory, the upper rungs fall together and the plan says so."""
    plan = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, budget(2.0))
    assert plan.rungs[-1].max_tokens < 2560
    assert any(reason.code in ("engine.plan.memory", "engine.plan.tight") for reason in plan.reasons)


def test_a_folder_of_one_size_has_one_rung_that_is_not_called_low() -> None:
    """A model trained on one size keeps it at every detail."""
    plan = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), PixelLimits(43008, 50960), budget(8, parameters=4_000_000))
    assert [(rung.detail, rung.max_pixels) for rung in plan.rungs] == [(Detail.BALANCED, 50960)]
    assert {plan.rung(detail).max_pixels for detail in Detail} == {50960}


def test_a_folder_may_name_rungs_of_its_own() -> None:
    """A model that was trained on a few sizes offers those, also beyond what other programs see pictures with."""
    named = {
        "min_pixels": 43008,
        "max_pixels": 50960,
        "rungs": {"document": 203840, "balanced": 50960, "detail": 101920},
    }
    limits = read_limits(named, FAMILIES["qwen2_5_vl"], model="m")
    plan = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), limits, budget(8, parameters=4_000_000))
    found = [(rung.detail, rung.max_pixels, rung.max_tokens) for rung in plan.rungs]
    assert found == [
        (Detail.BALANCED, 50960, 65),
        (Detail.DETAIL, 101920, 130),
        (Detail.DOCUMENT, 203840, 260),
    ]
    assert plan.default is Detail.BALANCED
    assert plan.rung(Detail.FAST).detail is Detail.BALANCED
    assert any(reason.code == "engine.plan.folder_limit" for reason in plan.reasons)


@pytest.mark.parametrize(
    "rungs",
    [{"huge": 60000}, {"balanced": 100}, {"balanced": 90000, "detail": 60000}, {"detail": "x"}, ["detail"], 7],
    ids=["name", "too-small", "falling", "no-number", "list", "number"],
)
def test_rungs_that_cannot_be_are_a_bad_file(rungs: object) -> None:
    """An unknown name, an area below the least one, or areas that do not ascend, are told of and not guessed at."""
    with pytest.raises(ModelFolderError):
        read_limits({"min_pixels": 43008, "max_pixels": 50960, "rungs": rungs}, FAMILIES["qwen2_5_vl"], model="m")


def test_a_processor_takes_smaller_pictures_by_default() -> None:
    """On a CPU a large model begins lower, with its reason."""
    small = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, budget(60, is_cpu=True, parameters=10_000_000))
    middle = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, budget(60, is_cpu=True, parameters=3_000_000_000))
    large = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, budget(60, is_cpu=True))
    assert [plan.default for plan in (small, middle, large)] == [Detail.BALANCED, Detail.FAST, Detail.LOW_MEMORY]
    wanted = make_plan(FAMILIES["qwen2_5_vl"], seven_b(), LIMITS, budget(60, is_cpu=True), wanted="document")
    assert wanted.default is Detail.DOCUMENT


def test_limits_are_read_in_both_spellings() -> None:
    """`min_pixels` of older folders and `size` of newer ones mean the same."""
    family = FAMILIES["qwen2_5_vl"]
    new = {"size": {"shortest_edge": 3136, "longest_edge": 50960}}
    old = {"min_pixels": 3136, "max_pixels": 50960, "size": {"shortest_edge": 1, "longest_edge": 2}}
    assert read_limits(new, family, model="m") == read_limits(old, family, model="m") == PixelLimits(3136, 50960)
    for bad in ({"min_pixels": 9, "max_pixels": 3}, {"patch_size": 16}, {"min_pixels": "x"}, {"size": [1]}):
        with pytest.raises(ModelFolderError):
            read_limits(bad, family, model="m")


@given(
    width=st.integers(1, 6000), height=st.integers(1, 6000), factor=st.sampled_from([28, 32]),
    least=st.integers(1, 100_000), more=st.integers(0, 3_000_000),
)  # fmt: skip
def test_sizes_are_the_published_ones(width: int, height: int, factor: int, least: int, more: int) -> None:
    """Every size equals the library's; what it refuses, we refuse."""
    try:
        expected = published(height, width, factor, least, least + more)
    except ValueError:
        with pytest.raises(ImageShapeError):
            smart_resize(Size(width, height), factor, min_pixels=least, max_pixels=least + more)
        return
    seen = smart_resize(Size(width, height), factor, min_pixels=least, max_pixels=least + more)
    assert (seen.height, seen.width) == expected
