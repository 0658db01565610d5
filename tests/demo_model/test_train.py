"""What a run takes over from an earlier one, and what a stage of vision alone may move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scripts.demo_model.checkpoint import new_model
from scripts.demo_model.curriculum import RUNGS
from scripts.demo_model.drawing import CELL
from scripts.demo_model.drawn_lessons import random_grid
from scripts.demo_model.export import write_folder
from scripts.demo_model.lessons import BOX_UNIT
from scripts.demo_model.losses import BOX_BINS, PLACES, TrainingHeads
from scripts.demo_model.magnified import seen_grid
from scripts.demo_model.part_lessons import random_part
from scripts.demo_model.stages import SCALE_STAGES, SKILL_STAGES
from scripts.demo_model.train import HEADS_FIRST, Run


def test_vision_alone_keeps_the_words(tmp_path: Path) -> None:
    """What visual tokens say has to come to the words; the words and the language layers stay where they are."""
    run = Run(tmp_path, 1)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    figures = run.train_step(replace(SCALE_STAGES[0], alone=1.0))
    assert "answer" not in figures and figures["align"] > 0
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all("visual" in name for name in moved)


def test_a_wider_head_begins_with_what_the_narrower_one_knew(tmp_path: Path) -> None:
    """The bins of each edge keep their places, and those beyond begin anew."""
    run = Run(tmp_path, 1)
    known = {name: torch.full_like(value, 7.0) for name, value in run.heads.state_dict().items()}
    width = known["box.weight"].shape[1]
    known["box.weight"], known["box.bias"] = torch.full((4 * 96, width), 7.0), torch.full((4 * 96,), 7.0)
    known["row.weight"], known["row.bias"] = torch.full((32, width), 7.0), torch.full((32,), 7.0)
    torch.save({"heads": known}, tmp_path / "earlier.pt")
    run.keep_heads(tmp_path / "earlier.pt")
    edges = run.heads.box.bias.view(4, BOX_BINS)
    assert bool((edges[:, :96] == 7.0).all()) and not bool((edges[:, 96:] == 7.0).any())
    assert bool((run.heads.row.weight[:32] == 7.0).all()) and not bool((run.heads.row.weight[32:] == 7.0).any())
    assert bool((run.heads.classes.weight == 7.0).all())


def test_the_longest_picture_of_any_lesson_has_places_for_its_last_edge() -> None:
    """A head without a place for it would end the run, hours after it began: parts of plates may be thirteen to one."""
    longest = 0
    for number in range(4000):
        rng = np.random.default_rng(number)
        part = random_part(rng, RUNGS[0])
        longest = max(longest, *part.seen, *seen_grid(*random_grid(rng, known=0.3), RUNGS[1]))
    assert 45 <= longest < PLACES
    heads, sides = TrainingHeads(8), torch.tensor([[longest * CELL // BOX_UNIT] * 4])
    assert bool((sides < heads.box.out_features // 4).all())


def test_new_heads_learn_alone_at_first(tmp_path: Path) -> None:
    """An exported folder has no training heads: those of a run grown from it learn what it knows before they move it."""
    write_folder(new_model(1), tmp_path / "shipped", dtype=torch.float32)
    run = Run(tmp_path, 1, grow_from=tmp_path / "shipped")
    heads = {name: value.clone() for name, value in run.heads.state_dict().items()}
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert "answer" in run.train_step(SCALE_STAGES[0])
    after = run.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(run.heads.box.weight, heads["box.weight"])
    run.step = HEADS_FIRST
    assert "answer" not in run.train_step(SCALE_STAGES[0])
    assert any(not torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_processes_that_draw_draw_the_same_steps(tmp_path: Path) -> None:
    """A card waits for drawing, so that others draw ahead for it: the very lessons that a step draws for itself."""
    stage = replace(SCALE_STAGES[0], alone=0.0, letters=0.5)
    alone, helped = Run(tmp_path, 3), Run(tmp_path, 3, drawers=1)
    try:
        for _ in range(3):
            (letters, mine), (others_letters, others) = alone.drawn_next(stage), helped.drawn_next(stage)
            assert letters == others_letters and len(mine) == len(others)
            for one, other in zip(mine, others, strict=True):
                assert torch.equal(one.patches, other.patches) and torch.equal(one.tokens, other.tokens)
    finally:
        helped.close()


def test_a_step_goes_where_the_run_is(tmp_path: Path) -> None:
    """Everything of a lesson lies on the run's device; nothing of it stays behind."""
    batch = Run(tmp_path, 1).drawn_next(SCALE_STAGES[0])[1][0]
    moved = batch.to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) >= 15 and all(value.device.type == "meta" for value in tensors)
    assert (moved.lines, moved.columns) == (batch.lines, batch.columns)


def test_the_share_of_vision_alone_falls() -> None:
    """All of it at the beginning, then a share that ends at nothing."""
    stage = SCALE_STAGES[0]
    shares = [stage.letters_share(progress) for progress in (0.0, 0.29, 0.31, 0.6, 1.0)]
    assert shares[:2] == [1.0, 1.0] and sorted(shares, reverse=True) == shares and shares[-1] == 0.0
    assert SKILL_STAGES[0].letters_share(0.0) == SKILL_STAGES[0].letters
