"""What is measured at load, and what is predicted and planned from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from qwen_vl_app.chat import Detail, FinishReason, Message
from qwen_vl_app.engine.base import Prediction
from qwen_vl_app.engine.families import FAMILIES as KNOWN
from qwen_vl_app.engine.families import shape_of
from qwen_vl_app.engine.local.device_clock import Clock
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.memory import (
    LEAST_SLAB_TOKENS,
    PixelLimits,
    make_plan,
    predict_bytes,
    with_default_by_time,
)
from qwen_vl_app.engine.local.slab import SlabSize, StaticStepper
from qwen_vl_app.engine.local.speed import Speed, measure
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds
from qwen_vl_app.errors import ModelNotLoadedError
from tests.engine.harness import FAMILIES, Pair, ask
from tests.engine.test_memory import LIMITS, SEVEN_B, budget, seven_b

SPEED = Speed(picture_tokens=64, encode_s=1.0, prompt_tokens=80, prefill_s=2.0, token_s=0.5)


def test_a_loaded_model_knows_its_speed(pair: Pair) -> None:
    """Every figure is there and positive, and a question's seconds are predicted from them."""
    figures = pair.engine.status.figures
    assert set(figures) == {"vision_s_per_token", "prefill_tokens_per_s", "decode_tokens_per_s"}
    assert all(figure > 0 for figure in figures.values())
    small, large = pair.engine.predict((16,)), pair.engine.predict((64, 64), text_tokens=100)
    assert small.first_token_s is not None and large.first_token_s is not None
    assert 0 < small.first_token_s < large.first_token_s
    assert 0 < small.memory_bytes < large.memory_bytes


def test_a_loaded_model_knows_what_several_answers_in_one_step_gain(pair: Pair) -> None:
    """Measured for each number beside one, on a processor without anything being set; and nothing of it stays seated."""
    gains = pair.engine.status.gains
    assert list(gains) == [1, 2, 4, 8]
    assert gains[1] == 1.0 and all(gain > 0 for gain in gains.values())
    parts = pair.engine._parts
    assert parts is not None and not parts.rounds._seated
    assert pair.engine.status.plan is not None and pair.engine.status.plan.spare_tokens > 0


def test_measuring_leaves_nothing_behind(models_dir: Path) -> None:
    """After loading nothing is held, so that the first question finds an empty engine."""
    engine = LocalEngine(models_dir, model="qwen3_vl", device="cpu", precision="fp32", threads=1)
    with pytest.raises(ModelNotLoadedError):
        engine.predict((1,))
    engine.prepare()
    assert engine.predict((1,)).first_token_s is None
    engine.load()
    parts = engine._parts
    assert parts is not None
    assert parts.features.nbytes == parts.prefixes.nbytes == 0
    assert any(reason.code == "engine.plan.default_by_time" for reason in engine.status.plan.reasons)  # type: ignore[union-attr]
    assert isinstance(engine.predict((1,)), Prediction)


def test_seconds_grow_faster_than_tokens() -> None:
    """Four times the picture takes more than four times as long, and a second picture as long as the first."""
    shape = seven_b()
    one = SPEED.first_token_s(shape, (64,), text_tokens=16)
    assert one == pytest.approx(1.0 + 2.0)
    four = SPEED.first_token_s(shape, (256,), text_tokens=64)
    assert four > 4 * one
    two = SPEED.first_token_s(shape, (64, 64), text_tokens=16)
    assert one + 1.0 < two < 2 * one + 0.5


class Slow:
    """A model on a device that does what it is told later: a picture's token takes 1 ms, one read 0.5 ms, one made 20 ms.

    The first call of anything takes three seconds more, as kernels that are brought to a card do.
    """

    layers, most_rows = 0, 1

    def __init__(self, *, room: int = 10**6) -> None:
        self.now, self.queued = 0.0, 0.0
        self.room = room
        self.pictures: list[int] = []
        self.begun: set[str] = set()
        self.seats = 0

    def told(self, what: str, seconds: float) -> None:
        """Be told work, which nobody waits for yet."""
        self.queued += seconds + (0 if what in self.begun else 3.0)
        self.begun.add(what)

    def wait(self) -> None:
        """Do all of it."""
        self.now, self.queued = self.now + self.queued, 0.0

    def build(self, messages: Any) -> Any:
        """A prompt of a picture and twenty words."""
        size = messages[0].images[0].size
        tokens = size.pixels // 28**2
        return SimpleNamespace(picture_tokens=tokens, token_ids=range(tokens + 20))

    def positions(self, prompt: Any) -> torch.Tensor:
        """Of its tokens."""
        return torch.arange(len(prompt.token_ids)).expand(3, -1)

    def encode(self, image: Any, *, should_stop: Any) -> None:
        """Encode a picture."""
        tokens = image.size.pixels // 28**2
        if tokens > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.pictures.append(tokens)
        self.told("encode", tokens / 1000)

    def prefill(self, prompt: Any, *_: Any, should_stop: Any) -> Any:
        """Read a prompt."""
        self.told("prefill", len(prompt.token_ids) / 2000)
        yield SimpleNamespace(logits=torch.zeros(4))

    def join(self, cache: Any, position: int) -> None:
        """Begin an answer."""
        self.seats += 1

    def say(self, seat: None, token: int) -> None:
        """Go on."""

    def hear(self, seat: None) -> torch.Tensor:
        """Make a token."""
        self.told("hear", 0.02)
        return torch.zeros(4)

    def leave(self, seat: None) -> None:
        """End an answer."""
        self.seats -= 1


def measured(slow: Any, *, is_card: bool) -> Speed:
    """Measure it by a clock that waits on a card, as torch's has to."""
    wait = slow.wait if is_card else lambda: None
    clock = Clock(is_card=is_card, wait=wait, now=lambda: slow.now)
    return measure(slow, slow, slow, slow, factor=28, clock=clock)[0]


def test_on_a_card_each_part_is_timed_to_its_end_on_a_picture_that_fills_it() -> None:
    """The tower's work is not the prompt's, the first round never counts, and a real picture's size is measured."""
    slow = Slow()
    speed = measured(slow, is_card=True)
    assert (speed.picture_tokens, speed.prompt_tokens) == (961, 981) and slow.pictures == [961, 961]
    assert speed.encode_s == pytest.approx(0.961) and speed.prefill_s == pytest.approx(981 / 2000)
    assert speed.token_s == pytest.approx(0.02)
    assert slow.seats == 0


def test_on_a_card_without_room_a_small_picture_is_measured() -> None:
    """Loading does not fail over a measurement; what does not fit at all is still told."""
    slow = Slow(room=100)
    assert measured(slow, is_card=True).picture_tokens == 64 and slow.pictures == [64, 64] and slow.seats == 0
    with pytest.raises(torch.OutOfMemoryError):
        measured(Slow(room=10), is_card=True)


def test_on_a_processor_a_first_round_that_was_work_counts() -> None:
    """Nobody waits for a second one there; a short one was warming up, and the small picture is enough."""

    class Processor(Slow):
        def told(self, what: str, seconds: float) -> None:
            super().told(what, seconds)
            self.wait()

    slow = Processor()
    speed = measured(slow, is_card=False)
    assert slow.pictures == [64] and speed.encode_s == pytest.approx(3.064)
    quick = Processor()
    quick.begun = {"encode", "prefill", "hear"}
    assert measured(quick, is_card=False).encode_s == pytest.approx(0.064) and quick.pictures == [64, 64]


def test_a_card_s_measurement_runs_with_captured_steps(pair: Pair) -> None:
    """The prompt fits into the least slab there can be, so that it is captured steps whose tokens are timed, of several rows too."""
    parts = pair.engine._parts
    assert parts is not None
    static = StaticStepper(parts.decoder.text, parts.model.device, SlabSize(2, LEAST_SLAB_TOKENS))
    rounds = Rounds((static, GrowingStepper(parts.decoder.text, parts.model.device)))
    entered: list[int] = []
    inner = static.enter

    def enter(seat: Any) -> bool:
        entered.append(seat.length)
        return inner(seat)

    static.enter = enter  # type: ignore[method-assign]
    speed, gains = measure(
        parts.prompts, parts.encoder, parts.decoder, rounds, factor=pair.factor, clock=Clock(is_card=True)
    )
    assert speed.picture_tokens == 961 and list(gains) == [1, 2]
    assert entered[:2] == [speed.prompt_tokens] * 2 and max(entered[2:]) <= 128
    assert not rounds._seated and not static._seats


def test_a_windowed_tower_is_nearly_linear() -> None:
    """A tower whose layers look through windows costs less for a large picture than one that always sees all of it."""
    windowed = shape_of(
        {**SEVEN_B, "vision_config": {"depth": 32, "hidden_size": 1280, "fullatt_block_indexes": [7, 15]}}
    )
    assert windowed.vision_work(4096) < seven_b().vision_work(4096)


@pytest.mark.parametrize(
    ("slowness", "expected"),
    [(0.001, Detail.BALANCED), (0.1, Detail.FAST), (0.12, Detail.LOW_MEMORY), (100.0, Detail.LOW_MEMORY)],
)
def test_the_default_size_follows_the_measured_time(slowness: float, expected: Detail) -> None:
    """On a processor the everyday size is the largest whose first word comes within the limit; the reason says so."""
    plan = make_plan(KNOWN["qwen2_5_vl"], seven_b(), LIMITS, budget(60, is_cpu=True))
    shape = seven_b()
    slow = Speed(64, slowness * 6.4, 80, slowness * 8, slowness)
    timed = with_default_by_time(plan, lambda tokens: slow.first_token_s(shape, (tokens,), text_tokens=32))
    assert timed.default is expected
    codes = [reason.code for reason in timed.reasons]
    assert codes[-1] == ("engine.plan.default_slow" if slowness > 1 else "engine.plan.default_by_time")
    assert "engine.plan.default_cpu" not in codes
    assert timed.rungs == plan.rungs


def test_a_wanted_size_is_not_overruled(models_dir: Path) -> None:
    """A size from the settings stays, whatever was measured."""
    engine = LocalEngine(models_dir, model="qwen3_vl", device="cpu", precision="fp32", threads=1, detail="document")
    engine.load()
    plan = engine.status.plan
    assert plan is not None
    assert any(reason.code == "engine.plan.default_wanted" for reason in plan.reasons)


def test_memory_is_the_pass_and_what_stays() -> None:
    """Only the largest picture's pass or the longest chunk's counts, but every token's features, keys and values do."""
    shape, room = seven_b(), budget(60)
    encode, chunk, kept = 204_800, shape.prefill_bytes_per_token(2), 57_344 + 7_168
    assert predict_bytes(shape, room, (1280,), text_tokens=0) == 1280 * (encode + kept)
    assert predict_bytes(shape, room, (600, 1280), text_tokens=0) == 1280 * encode + 1880 * kept
    assert predict_bytes(shape, room, (), text_tokens=3000) == 2048 * chunk + 3000 * 57_344


def test_one_size_is_its_own_default() -> None:
    """A model of one size keeps it."""
    plan = make_plan(KNOWN["qwen2_5_vl"], seven_b(), PixelLimits(43008, 50960), budget(8, is_cpu=True))
    assert with_default_by_time(plan, lambda tokens: 999.0).default is plan.default


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loop_ends_an_answer(models_dir: Path, family: str) -> None:
    """A model that says one thing for ever is stopped, and says that it was."""
    engine = LocalEngine(models_dir, model=family, device="cpu", precision="fp32", threads=1)
    engine.load()
    parts = engine._parts
    assert parts is not None
    plain = parts.tokens.encode("a")[0]
    same = torch.zeros(1, 448)
    same[0, plain] = 9.0
    parts.decoder._text.logits = lambda hidden: same  # type: ignore[method-assign]
    said = ask(engine, Message("user", "What is it?"), max_new_tokens=2000)
    assert said.finish.finish_reason is FinishReason.REPETITION
    assert set(said.text) == {"a"}
    assert len(said.ids) < 500
