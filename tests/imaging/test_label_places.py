"""Labels keep out of each other's way as long as there is room."""

from __future__ import annotations

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vl_app.imaging.label_places import LabelPlaces, Rectangle

IMAGE = Rectangle(0, 0, 999, 699)


def place_all(boxes: list[Rectangle], wide: int = 90, high: int = 20, image: Rectangle = IMAGE) -> list[Rectangle]:
    """Place one label for each box, in order."""
    places = LabelPlaces(image, boxes)
    return [places.place(box, wide, high) for box in boxes]


def overlaps(rectangles: list[Rectangle]) -> int:
    """How many pairs share a pixel."""
    pairs = [(one, two) for at, one in enumerate(rectangles) for two in rectangles[:at]]
    return sum(one.shared_with(two) > 0 for one, two in pairs)


def test_one_label_stands_on_its_box() -> None:
    """Above the upper left corner, where people look for it."""
    assert place_all([Rectangle(300, 300, 500, 400)]) == [Rectangle(300, 280, 389, 299)]


def test_at_the_upper_edge_it_hangs_below_or_inside() -> None:
    """There is no room above; the label still touches its box."""
    (label,) = place_all([Rectangle(300, 5, 500, 100)])
    assert label == Rectangle(300, 101, 389, 120)
    (label,) = place_all([Rectangle(0, 0, 999, 699)])
    assert label == Rectangle(0, 0, 89, 19)


def test_twenty_small_neighbours_in_a_row_have_labels_of_their_own() -> None:
    """Parts in a tray stand closer than their names are wide."""
    boxes = [Rectangle(50 + 45 * at, 300, 85 + 45 * at, 335) for at in range(20)]
    assert overlaps(place_all(boxes)) == 0


def test_eight_boxes_on_one_place_have_labels_of_their_own() -> None:
    """Several readings of one thing are all named."""
    assert overlaps(place_all([Rectangle(400, 300, 520, 380)] * 8)) == 0


def test_a_label_does_not_hide_a_neighbour_where_it_can_go_elsewhere() -> None:
    """What it names is no more important than what it would cover."""
    above, below = Rectangle(300, 250, 400, 295), Rectangle(300, 300, 400, 400)
    label = LabelPlaces(IMAGE, [above, below]).place(below, 90, 20)
    assert label.shared_with(above) == 0


def test_a_label_stays_near_its_box_among_many() -> None:
    """Far away it would name something else; over a corner of a neighbour it still names its own."""
    boxes = [Rectangle(400 + 30 * at, 300 + 25 * at, 500 + 30 * at, 380 + 25 * at) for at in range(6)]
    for box, label in zip(boxes, place_all(boxes, 110), strict=True):
        around = Rectangle(box.left - 130, box.top - 45, box.right + 130, box.bottom + 45)
        assert label.shared_with(around) == 110 * 20


def test_four_hundred_labels_take_no_noticeable_time() -> None:
    """A crowded picture is drawn as a person waits for it."""
    chance = random.Random(5)
    boxes = [
        Rectangle(x, y, x + 20, y + 20) for x, y in ((chance.randrange(979), chance.randrange(679)) for _ in range(400))
    ]
    began = time.process_time()
    place_all(boxes)
    assert time.process_time() - began < 30, (
        "it is some 0.3 s; only work that grows out of hand takes a hundred times as long"
    )


numbers = st.integers(-50, 1100)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=12), st.integers(1, 300), st.integers(1, 60))
def test_every_label_lies_inside_the_picture(boxes: list[tuple[int, int, int, int]], wide: int, high: int) -> None:
    """Whatever the boxes are, and however many."""
    ordered = [Rectangle(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    for label in place_all(ordered, wide, high):
        assert label.left >= 0 and label.top >= 0
        assert label.right <= IMAGE.right and label.bottom <= IMAGE.bottom
        assert (label.right - label.left + 1, label.bottom - label.top + 1) == (wide, high)
