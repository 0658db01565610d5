"""Training runs on a batched pass of its own; it must be the library's model and nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from scripts.demo_model import forward
from scripts.demo_model.checkpoint import FIRST, WIDE, Shape, grown, new_model
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.drawn_lessons import pair_lesson, wide_lesson
from scripts.demo_model.later_lessons import later_lesson
from scripts.demo_model.lessons import ALONE, Lesson, pack, sequence_of
from scripts.demo_model.losses import passed
from scripts.demo_model.phrases import LANGUAGES
from scripts.demo_model.wide_questions import about


def lesson(kind: str) -> Lesson:
    rng = generator(Split.EXAMINATION, 11, 0)
    if kind == "two pictures":
        return pair_lesson(rng, 9, 7)
    if kind == "after others":
        return later_lesson(rng, 9, 7, seen=(9, 7), surfaces=0.3, most_pictures=2)
    drawn = wide_lesson(rng, 9, 7)
    return Lesson(drawn.pictures, drawn.conversations, tuple((about(rng, language),) for language in LANGUAGES))


@pytest.mark.parametrize("kind", ["one picture", "two pictures", "after others"])
@pytest.mark.parametrize("shape", [FIRST, WIDE])
def test_packed_logits_are_those_of_the_library(kind: str, shape: Shape) -> None:
    """Each packed conversation has the logits that the library gives it alone."""
    model = new_model(5, shape).eval()
    one = lesson(kind)
    batch, made = pack([one]), sequence_of(one)
    with torch.inference_mode():
        outputs = passed(model, batch)
        mine = forward.words(model, outputs.states[0])
    processor = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=10**6)
    pictures = processor(images=[p.image for p in one.pictures], return_tensors="pt")
    segments = torch.tensor(made.segments)
    for number in sorted(set(made.segments) - {0}):
        inside = (segments == number) if number >= ALONE else (segments == 0) | (segments == number)
        ids = torch.tensor(made.tokens)[inside][None]
        seen = {} if number >= ALONE else {**pictures, "mm_token_type_ids": (ids == model.config.image_token_id).long()}
        with torch.inference_mode():
            theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids), **seen).logits[0]
        torch.testing.assert_close(mine[inside], theirs, atol=2e-4, rtol=1e-3)


def test_a_grown_model_says_the_same() -> None:
    """Growing adds room without changing a single answer."""
    small = new_model(6, FIRST).eval()
    large = grown(small.state_dict(), 7).eval()
    batch = pack([lesson("one picture")])
    with torch.inference_mode():
        before, after = passed(small, batch), passed(large, batch)
    torch.testing.assert_close(before.states, after.states, atol=1e-5, rtol=1e-5)
