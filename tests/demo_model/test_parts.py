"""Parts of plates: cut where no row is cut, seen larger than on the whole plate, and with their truth."""

from __future__ import annotations

from scripts.demo_model.cell_plates import draw_cell_panel
from scripts.demo_model.crops import TOUCHED, cut, window
from scripts.demo_model.curriculum import RUNGS, Split, generator
from scripts.demo_model.drawing import CELL
from scripts.demo_model.drawn_lessons import WIDE_TOKENS
from scripts.demo_model.examination import crop_papers
from scripts.demo_model.magnified import QUARTER
from scripts.demo_model.part_lessons import part_lesson, random_part


def test_a_part_of_a_plate_keeps_its_rows() -> None:
    """Its file shows just those rows, and the answers and boxes are theirs."""
    for paper in crop_papers(7, 6):
        picture = paper.picture
        assert picture.large.height < picture.large.width and picture.rows
        for row in picture.rows:
            assert 0 <= row.box.left < row.box.right <= picture.image.width
            assert 0 <= row.box.top < row.box.bottom <= picture.image.height
        read = next(exchange for exchange in paper.exchanges if exchange.skill == "read_all")
        assert read.answer.splitlines() == [f"{row.label} {row.value}" for row in picture.rows]


def test_a_part_is_seen_with_its_truth() -> None:
    """Characters are said by tokens of their own, in their rows, where what is seen of the part shows them; no row is cut."""
    for number in range(12):
        rng = generator(Split.TRAINING, 5, number)
        part = random_part(rng, RUNGS[0] if number % 2 else WIDE_TOKENS[1])
        lesson = part_lesson(rng, part)
        picture = lesson.pictures[0]
        assert (picture.columns, picture.lines) == part.seen
        assert picture.rows and lesson.conversations
        cells = [glyph.cell for glyph in picture.glyphs]
        assert len(set(cells)) == len(cells)
        stretch = part.seen[1] * CELL / part.height
        for row in picture.rows:
            assert {*row.label_cells, *row.value_cells} <= set(cells)
            assert row.box.bottom - row.box.top >= (CELL - 2 * TOUCHED) * stretch - CELL / 2
        for glyph in picture.glyphs:
            assert glyph.cell.row == int(max(0.0, (glyph.centre[1] - QUARTER) * stretch) // CELL)


def test_a_part_begins_where_no_row_is_cut() -> None:
    """Rows are whole or not there; where a plate has no such place, none is named."""
    rng = generator(Split.TRAINING, 6, 0)
    found = 0
    for _ in range(40):
        picture = draw_cell_panel(rng, 10, 6, most_rows=4)
        height = float(rng.uniform(1.0, 4.0)) * CELL
        top = window(rng, picture, height)
        if top is None:
            continue
        found += 1
        shown = cut(picture, top, top + height)
        assert shown.rows and shown.image.height == round(height)
        for row in picture.rows:
            within = min(row.box.bottom, top + height) - max(row.box.top, top)
            assert within <= TOUCHED or within >= CELL - 2 * TOUCHED
            assert (row.label in {r.label for r in shown.rows}) == (within > CELL / 2)
    assert found > 20
    assert window(rng, picture, CELL / 2) is None  # lower than any row
