"""Lessons are drawn alike everywhere, and the truth they carry fits the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest

from scripts.demo_model import cell_plates, outside, panels, scenes, surfaces, wide_questions
from scripts.demo_model.curriculum import Split, generator, random_grid
from scripts.demo_model.drawing import Box, Picture
from scripts.demo_model.examination import papers
from scripts.demo_model.questions import about_panel, about_scene


def draw(number: int) -> Picture:
    rng = generator(Split.EXAMINATION, 7, number)
    columns, lines = random_grid(rng)
    match number % 6:
        case 0:
            return panels.draw_panel(rng)
        case 1:
            return scenes.draw_scene(rng, scale=2.0)
        case 2:
            return cell_plates.draw_cell_panel(rng, columns, lines, angle=2.0, chinese=number % 4 == 0)
        case 3:
            return cell_plates.draw_cell_table(rng, 10, 6)
        case 4:
            return surfaces.draw_surface(rng, columns, lines)
        case _:
            return outside.draw_outside(rng, columns, lines)


@pytest.mark.parametrize("number", range(12))
def test_the_same_seed_draws_the_same_picture(number: int) -> None:
    """A picture depends on its seed and index alone."""
    first, second = draw(number), draw(number)
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert (first.rows, first.things, first.glyphs, first.written) == (
        second.rows,
        second.things,
        second.glyphs,
        second.written,
    )


def test_splits_share_no_picture() -> None:
    """Training and examination draw different pictures from equal numbers."""
    one = panels.draw_panel(generator(Split.TRAINING, 1, 5))
    other = panels.draw_panel(generator(Split.EXAMINATION, 1, 5))
    assert [r.value for r in one.rows] != [r.value for r in other.rows]


@pytest.mark.parametrize("number", range(60))
def test_boxes_and_cells_lie_inside_the_picture(number: int) -> None:
    """Every box has an area and lies inside; every character has a cell of the picture."""
    picture = draw(number)
    width, height = picture.image.size
    boxes: list[Box] = (
        [r.box for r in picture.rows] + [t.box for t in picture.things] + [w.box for w in picture.written]
    )
    for box in boxes:
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.top < box.bottom <= height
    for row in picture.rows:
        assert len(row.label_cells) == len(row.label)
        assert len(row.value_cells) == len(row.value)
    for glyph in picture.glyphs:
        assert 0 <= glyph.cell.row < picture.lines
        assert 0 <= glyph.cell.column < picture.columns


@pytest.mark.parametrize("number", range(30))
def test_every_answer_is_covered_by_its_spans(number: int) -> None:
    """Spans follow one another without gap from the first to the last character of an answer."""
    rng = generator(Split.EXAMINATION, 8, number)
    asked = about_panel(rng, panels.draw_panel(rng)) + about_scene(rng, scenes.draw_scene(rng))
    plate = cell_plates.draw_cell_panel(rng, 10, 6, chinese=number % 2 == 0)
    asked += [e for talk in wide_questions.about_plate(rng, plate) for e in talk]
    for exchange in asked:
        ends = [span.end for span in exchange.spans]
        assert [span.start for span in exchange.spans] == [0, *ends[:-1]]
        assert ends[-1] == len(exchange.answer)


def test_examination_files_open_at_their_size() -> None:
    """A paper's file is the picture that its truth belongs to, at its seen size or larger in the same shape."""
    from PIL import Image

    for paper in papers(3, 8):
        opened = Image.open(io.BytesIO(paper.file))
        assert opened.size == paper.picture.large.size
        assert abs(opened.width / opened.height - 280 / 168) < 0.02
