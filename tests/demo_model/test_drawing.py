"""Lessons are drawn alike everywhere, and the truth they carry fits the picture."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from scripts.demo_model import cell_plates, outside, panels, scenes, surfaces, wide_questions
from scripts.demo_model.curriculum import LONGEST, Split, generator, make_lessons
from scripts.demo_model.drawing import CELL, Box, Cell, Picture
from scripts.demo_model.drawn_lessons import random_grid, shortened, wide_lesson
from scripts.demo_model.examination import papers
from scripts.demo_model.lessons import length
from scripts.demo_model.questions import about_panel, about_scene
from scripts.demo_model.sheets import Places, Sheet, free_places


def draw(number: int) -> Picture:
    rng = generator(Split.EXAMINATION, 7, number)
    columns, lines = random_grid(rng)
    match number % 8:
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
        case 5:
            places = free_places(rng, 12, 8, widest=40)
            return cell_plates.draw_cell_panel(rng, 12, 8, places=places, angle=-3.0, chinese=number % 16 == 5)
        case 6:
            return cell_plates.draw_cell_table(rng, 12, 8, places=free_places(rng, 12, 8, widest=40))
        case _:
            return outside.draw_outside(rng, columns, lines, held_out=number % 16 == 7)


@pytest.mark.parametrize("number", range(16))
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


@pytest.mark.parametrize("angle", [-4.0, 0.0, 4.0])
def test_the_truth_turns_with_the_sheet(angle: float) -> None:
    """A mark on a turned sheet is found in the visual token that is said to hold it, and its box lies around it."""
    for x, y in ((40.0, 30.0), (246.0, 30.0), (40.0, 124.0), (246.0, 124.0)):
        sheet = Sheet(np.random.default_rng(1), 10, 6, scale=2.0, plate=(250, 250, 250), angle=angle, stretch=0.8)
        sheet.draw.rectangle(
            [(x - 4) * sheet.scale_x, (y - 4) * 2, (x + 4) * sheet.scale_x, (y + 4) * 2], fill=(0, 0, 0)
        )
        image, _ = sheet.finish(worn=False)
        dark = np.argwhere(np.asarray(image.convert("L")) < 60)
        row, column = dark.mean(axis=0)
        assert sheet.cell_at(x, y)[:2] == (row // 28, column // 28)
        box = sheet.box_around(x - 10, y - 10, x + 10, y + 10)
        assert box.left < dark[:, 1].min() <= dark[:, 1].max() < box.right
        assert box.top < dark[:, 0].min() <= dark[:, 0].max() < box.bottom


@pytest.mark.parametrize("number", range(20))
def test_no_two_characters_share_a_visual_token(number: int) -> None:
    """Wherever the places are, each is in a token of its own."""
    rng = generator(Split.EXAMINATION, 9, number)
    columns, lines = random_grid(rng, tokens=(60, 110), known=0.2)
    places = free_places(rng, columns, lines, widest=40.0)
    assert places.columns >= 6
    picture = cell_plates.draw_cell_letters(rng, columns, lines, alphabet="A", places=places)
    cells = [glyph.cell for glyph in picture.glyphs]
    assert len(cells) - len(set(cells)) <= (
        0 if places.across > 28.5 else 2
    )  # a turned sheet brings them a little closer
    assert Places(10, 6).centre(cells[0]._replace(row=1, column=2)) == (70.0, 42.0)


@pytest.mark.parametrize("number", range(20))
def test_a_slight_turn_leaves_every_character_in_its_token(number: int) -> None:
    """In every shape: the wider a plate, the less it is turned."""
    rng = generator(Split.EXAMINATION, 11, number)
    columns, lines = random_grid(rng, known=0.1)
    sheet = Sheet(rng, columns, lines, scale=1.0, plate=(0, 0, 0), angle=cell_plates.slight_turn(rng, columns, lines))
    places = Places(columns, lines)
    for row in range(lines):
        for column in range(columns):
            x, y = places.centre(Cell(row, column))
            assert sheet.cell_at(x, y) == Cell(row, column)
            assert math.dist(sheet.turned(x, y), (x, y)) <= cell_plates.SLACK + 0.01


@pytest.mark.parametrize("number", range(12))
def test_surfaces_fill_any_grid(number: int) -> None:
    """Things lie inside, their edges on half cells, all over the picture."""
    rng = generator(Split.EXAMINATION, 12, number)
    columns, lines = random_grid(rng, known=0.0)
    picture = scenes.draw_scene(rng, columns, lines, things=4, scale=2.0)
    assert (picture.columns, picture.lines) == (columns, lines)
    assert picture.large.size == (columns * 56, lines * 56)
    for thing in picture.things:
        assert 0 <= thing.box.left < thing.box.right <= columns * CELL
        assert 0 <= thing.box.top < thing.box.bottom <= lines * CELL
        assert not any(edge % (CELL // 2) for edge in thing.box)


def test_a_lesson_that_is_too_long_is_shortened() -> None:
    """The first conversation stays whatever its length, further ones while there is room."""
    for number in range(12):
        lesson = wide_lesson(generator(Split.EXAMINATION, 10, number), 10, 6)
        short = shortened(lesson, LONGEST)
        assert short.conversations[0] == lesson.conversations[0]
        assert length(short) <= LONGEST or len(short.conversations) == 1
        assert shortened(lesson, 10_000) == lesson


def test_all_pictures_of_a_step_have_one_grid() -> None:
    """What a process draws for a step can be packed together."""
    for number in range(12):
        lessons = make_lessons("wide", 3, number * 12)
        assert len({(p.columns, p.lines) for lesson in lessons for p in lesson.pictures}) == 1


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
