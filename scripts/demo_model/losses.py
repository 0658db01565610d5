"""What a training step is graded by: the answer, and beside it what visual tokens say, where they stand and where the model looks.

It knows a batch and a model's own pass; not the steps, the optimisers or the files of a run, which `train.py` knows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from scripts.demo_model import forward, relative_forward
from scripts.demo_model.checkpoint import VISUAL_RMS
from scripts.demo_model.drawing import CELL
from scripts.demo_model.forward import AnyModel
from scripts.demo_model.lessons import BOX_UNIT, IGNORE, Batch, token
from scripts.demo_model.stages import Stage

PLACES = 64
"""Most visual tokens across or down of a picture seen in training."""
BOX_BINS = PLACES * CELL // BOX_UNIT + 1
"""Steps of a box's edge, in units of `lessons.BOX_UNIT` pixels; the last is the far side of the longest picture."""


class TrainingHeads(nn.Module):
    """Heads that say what a visual token is and where: used in training only, dropped on saving."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, 32)
        self.second = nn.Linear(width, width)
        self.box = nn.Linear(width, 4 * BOX_BINS)
        self.row = nn.Linear(width, PLACES)
        self.column = nn.Linear(width, PLACES)
        self.order = nn.Linear(width, 16)
        self.differs = nn.Linear(width, 2)


def vision_losses(model: AnyModel, heads: TrainingHeads, visual: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of the visual tokens alone: what they say, how large they are, and what they belong to."""
    logits = forward.visual_words(model, visual).float().flatten(0, 1)
    characters = batch.characters.flatten()
    rms = visual.float().pow(2).mean(-1).sqrt()
    classes = heads.classes(forward.unit(visual)).float().flatten(0, 1)
    right = logits.argmax(-1) == characters
    blank = characters == token("<|vision_pad|>")
    glyph = (characters != IGNORE) & ~blank
    seconds = batch.seconds.flatten()
    beside = forward.words(model, heads.second(forward.unit(visual))).float().flatten(0, 1)
    is_second = (seconds != IGNORE) & (seconds != token("<|vision_pad|>"))
    return {
        "align": F.cross_entropy(logits, characters, ignore_index=IGNORE),
        "second": F.cross_entropy(beside, seconds, ignore_index=IGNORE),
        "seconds right": ((beside.argmax(-1) == seconds) & is_second).sum() / is_second.sum().clamp(min=1),
        "rms": ((rms - VISUAL_RMS) ** 2).mean(),
        "classes": F.cross_entropy(classes, batch.classes.flatten()),
        "glyphs right": (right & glyph).sum() / glyph.sum().clamp(min=1),
    }


def place_losses(heads: TrainingHeads, early: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return how well the first layer's states at the visual tokens know their row, their column and their thing's box.

    Vision has relative positions only, so this is the first place where a cell can know where it is.
    """
    cells = batch.lines * batch.columns
    look = forward.unit(early[batch.tokens == token("<|image_pad|>")])
    number = torch.arange(cells).repeat(len(look) // cells)
    boxes = heads.box(look).float().view(-1, BOX_BINS)
    wanted = batch.boxes.flatten()
    has_box = wanted != IGNORE
    orders = batch.orders.flatten()
    ordered = heads.order(look).float()
    return {
        "order": F.cross_entropy(ordered, orders, ignore_index=IGNORE)
        if (orders != IGNORE).any()
        else ordered.sum() * 0,
        "place": F.cross_entropy(heads.row(look).float(), number // batch.columns)
        + F.cross_entropy(heads.column(look).float(), number % batch.columns),
        "boxes": F.cross_entropy(boxes, wanted, ignore_index=IGNORE) if has_box.any() else boxes.sum() * 0,
        "edges right": ((boxes.argmax(-1) == wanted) & has_box).sum() / has_box.sum().clamp(min=1),
    }


def text_losses(model: AnyModel, heads: TrainingHeads, outputs: forward.Outputs, batch: Batch) -> dict[str, Tensor]:
    """Return the loss of the answers and of guided attention, with the share of right tokens."""
    asked = batch.targets != IGNORE
    logits = forward.words(model, outputs.states[asked]).float()
    targets, weights = batch.targets[asked], batch.weights[asked]
    each = F.cross_entropy(logits, targets, reduction="none")
    looked = {}
    for name, where in (
        ("guides", batch.guides),
        ("matches", batch.matches),
        ("hops", batch.hops),
        ("late", batch.late),
    ):
        guided = where >= 0
        found = outputs.guided[name][guided].gather(1, where[guided][:, None])
        looked[name] = -found.mean() if guided.any() else outputs.guided[name].sum() * 0
    sequence, at, place = batch.tallies.unbind(-1)
    counted = outputs.guided["tallies"]
    shares = batch.tally_shares
    # Cross-entropy less the entropy of the wanted shares: nothing when the head looks as it should.
    looked["tallies"] = (
        (shares * (shares.log() - counted[sequence, at, place])).sum() / shares.sum()
        if len(shares)
        else counted.sum() * 0
    )
    sequence, at, is_other = batch.differing.unbind(-1)
    told = heads.differs(forward.unit(outputs.later[sequence, at])).float()
    right = logits.argmax(-1) == targets
    copied, decided = weights >= 1.0, weights < 1.0
    return {
        "answer": (each * weights).sum() / weights.sum(),
        "guide": looked["guides"],
        "match": looked["matches"],
        "hop": looked["hops"],
        "late": looked["late"],
        "tally": looked["tallies"],
        "differ": F.cross_entropy(told, is_other) if len(is_other) else told.sum() * 0,
        "copied right": right[copied].float().mean(),
        "form right": right[decided].float().mean(),
    }


def seen_by(model: AnyModel, batch: Batch) -> Tensor:
    """Return the visual tokens (P, cells, D) of a batch's pictures alone."""
    if isinstance(model, Qwen3VLForConditionalGeneration):
        return relative_forward.vision(
            model, batch.patches, lines=batch.lines, columns=batch.columns, is_deep=False
        ).visual
    return forward.vision(model, batch.patches, lines=batch.lines, columns=batch.columns)


def passed(model: AnyModel, batch: Batch) -> forward.Outputs:
    """Run a batch through the family's own pass."""
    run = relative_forward.run if isinstance(model, Qwen3VLForConditionalGeneration) else forward.run
    return run(
        model,
        tokens=batch.tokens,
        positions=batch.positions,
        allowed=batch.allowed,
        patches=batch.patches,
        lines=batch.lines,
        columns=batch.columns,
    )


def step_losses(
    model: AnyModel, heads: TrainingHeads, batch: Batch, stage: Stage, *, letters: bool
) -> dict[str, Tensor]:
    """Return every part of a step's loss, and under "loss" their weighted sum."""
    with torch.autocast(batch.tokens.device.type, dtype=torch.bfloat16):
        if letters:
            parts = vision_losses(model, heads, seen_by(model, batch), batch)
            total = stage.align * (parts["align"] + parts["second"])
        else:
            outputs = passed(model, batch)
            parts = vision_losses(model, heads, outputs.visual, batch) | text_losses(model, heads, outputs, batch)
            parts |= place_losses(heads, outputs.early, batch)
            total = parts["answer"] + stage.align * (parts["align"] + parts["second"]) + stage.guide * parts["guide"]
            total = total + stage.guide * (parts["match"] + 0.5 * parts["hop"] + parts["late"] + 0.5 * parts["tally"])
            total = total + 0.2 * parts["classes"] + 0.15 * parts["boxes"] + 0.1 * parts["place"]
            total = total + 0.1 * parts["order"] + 0.15 * parts["differ"]
        total = total + 1.0 * parts["rms"]
    return {"loss": total} | parts
