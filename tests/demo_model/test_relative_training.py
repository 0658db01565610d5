"""The second family is trained on a pass and on lessons of its own: the library's model, and boxes in thousandths."""

from __future__ import annotations

import json

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from scripts.demo_model import forward, relative
from scripts.demo_model.checkpoint import new_relative_model
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.families import RELATIVE
from scripts.demo_model.lessons import pack, sequence_of
from scripts.demo_model.losses import passed
from scripts.demo_model.scoring import Reply, is_honest

STAGE = "all sizes"


def test_packed_logits_are_those_of_the_library() -> None:
    """Each packed question has the logits that the library gives it alone, deepstack and all."""
    model = new_relative_model(5).eval()
    for merger in model.model.visual.deepstack_merger_list:
        torch.nn.init.normal_(merger.linear_fc2.weight, std=0.05)
    one = relative.make_lesson(STAGE, generator(Split.EXAMINATION, 12, 0))
    batch, made = pack([one]), sequence_of(one)
    with torch.inference_mode():
        outputs = passed(model, batch)
        mine = forward.words(model, outputs.states[0])
    processor = Qwen2VLImageProcessorPil(
        patch_size=RELATIVE.patch,
        min_pixels=64 * 64,
        max_pixels=10**6,
        image_mean=list(RELATIVE.mean),
        image_std=list(RELATIVE.deviation),
    )
    seen = processor(images=list(one.images), return_tensors="pt")
    assert seen["image_grid_thw"].tolist() == [[1, 2 * batch.lines, 2 * batch.columns]]
    segments = torch.tensor(made.segments)
    for number in sorted(set(made.segments) - {0}):
        inside = (segments == 0) | (segments == number)
        ids = torch.tensor(made.tokens)[inside][None]
        kinds = (ids == model.config.image_token_id).long()
        with torch.inference_mode():
            theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, **seen).logits
        torch.testing.assert_close(mine[inside], theirs[0], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("index", range(6))
def test_boxes_of_lessons_are_thousandths_of_the_picture(index: int) -> None:
    """Every box that is taught is its thing's or its row's, on a grid of 1000, whatever the picture's shape."""
    lesson = relative.make_lesson(STAGE, generator(Split.EXAMINATION, 13, index))
    picture = lesson.pictures[0]
    width, height = picture.image.size
    truth = [thing.box for thing in picture.things] + [row.box for row in picture.rows]
    wanted = {
        tuple(round(1000 * v / side) for v, side in zip(box, (width, height, width, height), strict=True))
        for box in truth
    }
    found = 0
    for (exchange,) in lesson.conversations:
        assert "".join(exchange.answer[s.start : s.end] for s in exchange.spans) == exchange.answer
        if "bbox_2d" in exchange.answer:
            entries = json.loads(exchange.answer.removeprefix("```json").removesuffix("```"))
            found += len(entries)
            assert {tuple(entry["bbox_2d"]) for entry in entries} <= wanted
    assert found


def test_a_lesson_is_seen_at_32_pixels_to_a_cell() -> None:
    """The picture that the model gets has the size that the processor's limits give it."""
    lesson = relative.make_lesson("letters", generator(Split.EXAMINATION, 14, 0))
    assert [image.size for image in lesson.images] == [relative.SEEN] == [(320, 192)]


@pytest.mark.parametrize("index", range(24))
def test_what_is_missing_is_taught_as_missing(index: int) -> None:
    """An asked field that the plate has not is null or a sentence, things that are not there are an empty list or none."""
    paper = relative.skill_papers(15, index + 1)[index]
    picture = paper.picture
    values = {row.label: row.value for row in picture.rows}
    assert (index % 8 == 7) is picture.is_outside
    for exchange in paper.exchanges:
        if exchange.skill == "json":
            told = json.loads(exchange.answer)
            assert told and all(value == values.get(label) for label, value in told.items())
        elif exchange.skill == "field" and exchange.subject not in values:
            assert is_honest(Reply(exchange.answer))
        elif exchange.skill == "count" and not picture.is_outside:
            found = [t for t in picture.things if exchange.subject in ("", t.kind)]
            assert int(exchange.answer) in (len(found), 0)
        written = relative.in_thousandths(exchange, picture)
        assert "".join(written.answer[s.start : s.end] for s in written.spans) == written.answer


def test_a_stage_goes_on_from_another_run() -> None:
    """What is not there is the last stage, whose lessons are drawn by its name."""
    stage = relative.RELATIVE_STAGES[-1].name
    skills = {e.skill for part in relative.make_lessons(stage, 3, 0) for one in part for (e,) in one.conversations}
    assert {"json", "detect_kind", "count"} <= skills
