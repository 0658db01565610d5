"""A picture seen larger keeps its truth: every character where its ink is, every box around its thing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from qwen_vl_app.chat import Detail
from qwen_vl_app.engine.families import FAMILIES
from qwen_vl_app.engine.local.memory import PixelLimits, read_image_settings, read_limits
from scripts.demo_model import cell_plates, panels, scenes
from scripts.demo_model.checkpoint import new_model
from scripts.demo_model.curriculum import PICTURES_PER_SHARE, RUNGS, SIZE_SHARES, Split, generator, make_lessons
from scripts.demo_model.drawing import CELL, Box, Cell, Picture
from scripts.demo_model.examination import skill_papers
from scripts.demo_model.export import write_folder
from scripts.demo_model.lessons import pack
from scripts.demo_model.magnified import magnified, seen_grid
from scripts.demo_model.questions import corner_of


def drawn(number: int, scale: float) -> Picture:
    rng = generator(Split.EXAMINATION, 11, number)
    match number % 4:
        case 0:
            return panels.draw_panel(rng, scale=scale)
        case 1:
            return scenes.draw_scene(rng, scale=scale)
        case 2:
            return cell_plates.draw_cell_panel(rng, 10, 6, scale=scale, angle=2.0, chinese=number % 8 == 2)
        case _:
            return cell_plates.draw_cell_table(rng, 10, 6, scale=scale)


@pytest.mark.parametrize("number", range(16))
@pytest.mark.parametrize("grid", [(14, 9), (20, 12), (12, 7)], ids=["detail", "document", "between"])
def test_the_truth_moves_with_the_picture(number: int, grid: tuple[int, int]) -> None:
    """No two characters share a token, those of one word follow each other, and boxes cover the same part of the picture."""
    before = drawn(number, 2.0)
    after = magnified(generator(Split.EXAMINATION, 12, number), before, *grid)
    assert (after.columns, after.lines) == grid
    cells = [glyph.cell for glyph in after.glyphs]
    assert len(set(cells)) == len(cells)
    for row, was in zip(after.rows, before.rows, strict=True):
        assert (row.label, row.value) == (was.label, was.value)
        columns = [cell.column for cell in (*row.label_cells, *row.value_cells)]
        assert columns == sorted(set(columns))
        assert len(row.value_cells) == len(row.value)
    boxes = {(thing.kind, thing.colour) for thing in after.things}
    assert boxes == {(thing.kind, thing.colour) for thing in before.things}
    wide, high = after.image.width / before.image.width, after.image.height / before.image.height
    old = sorted((t.box.left * wide, t.box.top * high) for t in before.things)
    new = sorted((t.box.left, t.box.top) for t in after.things)
    assert all(math.dist(a, b) <= CELL / 4 for a, b in zip(old, new, strict=True))
    corners = [corner_of(thing) for thing in after.things]
    assert len(set(corners)) == len(corners)


def test_a_sliver_of_a_thing_does_not_stand_for_it() -> None:
    """A thing is counted and listed by a token that shows enough of it, whichever way its edge was rounded."""
    rounded_up, rounded_down = Box(28, 56, 70, 98), Box(21, 49, 70, 91)
    assert rounded_up.first_cell == rounded_down.first_cell == Cell(2, 1)
    assert Box(0, 0, 63, 91).last_cell == Box(0, 0, 56, 84).last_cell == Cell(2, 1)
    assert Box(14, 14, 42, 42).first_cell == Cell(0, 0)


@pytest.mark.parametrize("name", SIZE_SHARES)
def test_sizes_are_shared_out_in_full(name: str) -> None:
    """No share is negative, and some pictures are of a size between two rungs."""
    chances = SIZE_SHARES[name].chances()
    assert math.isclose(sum(chances), 1.0) and all(chance > 0 for chance in chances)


def test_a_character_is_said_by_the_token_on_its_upper_left_quarter() -> None:
    """At twice the size each of four tokens would do; that one holds it wherever its plate is shifted to."""
    plain = panels.draw_panel(generator(Split.EXAMINATION, 3, 1), texts=(("TEMP", "42"),), worn=False, scale=2.0)
    large = magnified(generator(Split.EXAMINATION, 3, 2), plain, 20, 12)
    for small, big in zip(plain.glyphs, large.glyphs, strict=True):
        assert (big.cell.row, big.cell.column) == (2 * small.cell.row, 2 * small.cell.column)


@pytest.mark.parametrize(("columns", "lines"), [(10, 6), (8, 8), (21, 3), (7, 9)])
@pytest.mark.parametrize("most", RUNGS)
def test_a_rung_holds_what_a_large_file_is_seen_with(columns: int, lines: int, most: int) -> None:
    """Never more tokens than the rung has, never fewer either way than before, and nearly the same shape."""
    across, down = seen_grid(columns, lines, most)
    assert columns <= across and lines <= down and across * down <= most
    assert 0.75 < (across / down) / (columns / lines) < 1.35


@pytest.mark.parametrize("kind", ["scales", "scales letters", "sizes", "parts", "parts letters"])
def test_lessons_of_several_sizes_can_be_packed(kind: str) -> None:
    """All pictures of a share have one grid; the larger it is, the fewer there are."""
    grids = set()
    for number in range(6):
        lessons = make_lessons(kind, 5, number * PICTURES_PER_SHARE)
        batch = pack(lessons)
        assert batch.patches.shape[1] == 4 * batch.lines * batch.columns
        assert len(lessons) <= PICTURES_PER_SHARE and batch.lines * batch.columns <= RUNGS[-1]
        grids.add((batch.columns, batch.lines))
    assert len(grids) > 1


def test_papers_for_the_higher_rungs_come_as_large_files() -> None:
    """They are the papers of the usual size in all but their files' size, which no rung has to blow up."""
    for paper in skill_papers(7, 6, is_large=True):
        if paper.file:
            assert paper.picture.large.width >= 2 * paper.picture.image.width


def test_an_exported_folder_names_its_rungs(tmp_path: Path) -> None:
    """The app offers them; other programs see pictures with the usual size."""
    write_folder(new_model(1), tmp_path, rungs=RUNGS)
    limits = read_limits(read_image_settings(tmp_path), FAMILIES["qwen2_5_vl"], model="m")
    assert limits == PixelLimits(
        43008, 50960, {Detail.BALANCED: 50960, Detail.DETAIL: 130 * CELL**2, Detail.DOCUMENT: 260 * CELL**2}
    )
    assert np.prod(seen_grid(10, 6, 260)) == 240
