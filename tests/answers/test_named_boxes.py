"""Boxes under the names of things, as models write them when they are asked in their user's own words."""

from __future__ import annotations

import pytest

from qwen_vl_app.answers import parse_answer
from qwen_vl_app.answers.named_boxes import asks_for_places
from qwen_vl_app.chat import Box, CoordinateSpace, JsonValue, ParsedAnswer, Size

PIXELS, THOUSANDTHS = CoordinateSpace.SEEN_PIXELS, CoordinateSpace.THOUSANDTHS
SEEN = (Size(1000, 500),)
ASKED = "Where are they? Give the bounding boxes as JSON."
FIRST, SECOND = Box(0.1, 0.1, 0.3, 0.5), Box(0.4, 0.2, 0.9, 0.6)


def parse(
    text: str, *, question: str = ASKED, space: CoordinateSpace = PIXELS, seen: tuple[Size, ...] = SEEN
) -> ParsedAnswer:
    """An answer to that question, taken apart."""
    return parse_answer(text, space=space, seen=seen, question=question)


def found(parsed: ParsedAnswer) -> list[tuple[str, Box]]:
    """What is drawn, by name."""
    return [(region.label, region.box) for region in parsed.regions]


ONE, TWO = "[100, 50, 300, 250]", "[400, 100, 900, 300]"
LAYOUTS = {
    "one each": f'{{"person": {ONE}, "car": {TWO}}}',
    "several each": f'{{"person": [{ONE}], "car": [{TWO}]}}',
    "mixed": f'{{"person": {ONE}, "car": [{TWO}], "dog": [], "cat": null, "count": 2}}',
    "a list of names": f'[{{"person": {ONE}}}, {{"car": {TWO}}}]',
    "fenced": f'Here:\n```json\n{{"person": {ONE}, "car": [{TWO}]}}\n```\nDone.',
    "within": f'{{"image": "a.jpg", "objects": {{"person": {ONE}, "car": [{TWO}]}}}}',
    "corners": '{"person": {"x1": 100, "y1": 50, "x2": 300, "y2": 250}, "car": [{"xmin": 400, "ymin": 100, "xmax": 900, "ymax": 300}]}',
    "flat corners": '[{"label": "person", "x1": 100, "y1": 50, "x2": 300, "y2": 250}, {"label": "car", "x1": 400, "y1": 100, "x2": 900, "y2": 300}]',
    "other keys": f'[{{"label": "person", "coordinates": {ONE}}}, {{"label": "car", "position": {TWO}}}]',
    "texts": '{"person": "[100, 50, 300, 250]", "car": "(400,100),(900,300)"}',
    "named lists": f'[["person", 100, 50, 300, 250], [{TWO}, "car"]]',
    "lines": f"- **person**: {ONE}\n- car： {TWO}",
    "spelt keys": f'[{{"label": "person", "Bounding Box": {ONE}}}, {{"label": "car", "boundingBox": {TWO}}}]',
    "opposite corners": '[{"label": "person", "bounding_box": {"top_left": [100, 50], "bottom_right": [300, 250]}}, {"car": {"topLeft": {"x": 400, "y": 100}, "bottomRight": {"x": 900, "y": 300}}}]',
    "side by side": f'{{"labels": ["person", "car"], "boxes": [{ONE}, {TWO}]}}',
    "key within": f'{{"person": {{"bbox_2d": {ONE}}}, "car": [{{"bbox_2d": {TWO}}}]}}',
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_are_drawn_under_their_names(layout: str) -> None:
    """Each layout that a model is known to answer in."""
    assert found(parse(LAYOUTS[layout])) == [("person", FIRST), ("car", SECOND)]


@pytest.mark.parametrize(
    "text",
    [
        f"[{ONE}, {TWO}]",
        f"The boxes are {ONE} and {TWO}.",
        f'{{"boxes": [{ONE}, {TWO}]}}',
        f'{{"objects": [{ONE}, {TWO}]}}',
    ],
)
def test_boxes_without_a_name_are_drawn_without_one(text: str) -> None:
    """A bare list, in data or in a sentence."""
    assert found(parse(text)) == [("", FIRST), ("", SECOND)]


def test_several_boxes_on_the_line_of_one_name_have_it() -> None:
    """As a sentence lists them."""
    assert found(parse(f"- valve: {ONE}, {TWO}")) == [("valve", FIRST), ("valve", SECOND)]
    assert found(parse(f"- **valve**: `{ONE}`")) == [("valve", FIRST)]


@pytest.mark.parametrize(
    "layout", [name for name in LAYOUTS if name not in ("spelt keys", "key within", "side by side")]
)
@pytest.mark.parametrize(
    "question",
    [
        "",
        "What are the readings? Answer in JSON.",
        'Extract the key-value information in the format:{"position": "", "coordinates": ""}',
        "提取图中的：['位置','坐标']，并且按照json格式输出。",
        "检测报告的数值是多少？",
    ],
)
def test_four_numbers_are_no_box_where_nobody_asked_for_places(layout: str, question: str) -> None:
    """Four readings of a log sheet stand in JSON in just the same way."""
    parsed = parse(LAYOUTS[layout], question=question)
    assert parsed.regions == () and parsed.left_out == ()


@pytest.mark.parametrize(
    "value",
    [
        '{"serial": "A 1", "readings": [10, 20, 30, 40]}',
        '{"person": [100, 50, 300, 250], "note": "two of them"}',
        '{"limits": [10, 20, 30, 40, 50]}',
        '{"readings": [40, 30, 20, 10]}',
        '{"readings": [12.5, 12.4, 12.6, 12.5]}',
        '{"years": [2021, 2022, 2025, 2026]}',
        '{"shares": [0.1, 0.2, 0.3, 0.4]}',
        '{"flags": [true, false, true, true]}',
        '{"rows": [[1, 2, 3, 4], [2, 3, 4, 5]]}',
        '{"values": [["1", "2", "3", "4"]]}',
        "[1, 2, 3, 4]",
        "[[10, 20, 30, 40], [1, 2]]",
        '{"label": "a", "position": [4, 7]}',
    ],
)
def test_what_is_no_box_is_not_made_one(value: str) -> None:
    """Beside other fields, of another count, in no order, beyond the picture, too small to be one: nothing is drawn or told."""
    parsed = parse(value)
    assert parsed.regions == () and parsed.left_out == ()


def test_one_bad_box_among_good_ones_is_told() -> None:
    """It is left out and listed, as in the published form."""
    parsed = parse(f'{{"person": [{ONE}, {TWO}, [700, 700, 800, 900]]}}')
    assert found(parsed) == [("person", FIRST), ("person", SECOND)]
    assert [left.label for left in parsed.left_out] == ["person"]


def test_the_space_is_the_familys() -> None:
    """Thousandths are scaled as such, and reach no further than a thousand."""
    assert found(parse('{"person": [100, 100, 300, 500]}', space=THOUSANDTHS)) == [("person", FIRST)]
    assert parse('{"person": [100, 100, 300, 1500]}', space=THOUSANDTHS).regions == ()


def test_names_under_pictures_lie_on_them() -> None:
    """With several pictures, a key may name the picture and the next one the thing."""
    text = f'{{"Picture 1": {{"person": {ONE}}}, "Picture 2": {{"car": [[20, 10, 60, 50]]}}}}'
    check_two(parse(text, seen=(*SEEN, Size(200, 100))))
    lines = f"Picture 1:\n- person: {ONE}\nPicture 2:\n- car: [20, 10, 60, 50]"
    check_two(parse(lines, seen=(*SEEN, Size(200, 100))))
    bare = parse(f"Picture 1: [{ONE}]\nPicture 2: [[20, 10, 60, 50]]", seen=(*SEEN, Size(200, 100)))
    assert [(each.picture_index, each.label, each.box) for each in bare.regions] == [(0, "", FIRST), (1, "", FIRST)]


def check_two(parsed: ParsedAnswer) -> None:
    """A person on the first picture, a car on the second."""
    assert [(each.picture_index, each.label, each.box) for each in parsed.regions] == [
        (0, "person", FIRST),
        (1, "car", FIRST),
    ]


@pytest.mark.parametrize(
    ("question", "is_asked"),
    [
        ("Outline the position of each valve and output all the coordinates in JSON format.", True),
        ('Locate every instance that belongs to the following categories: "a". Report bbox coordinates.', True),
        ("框出每个阀门的位置，以JSON格式输出所有坐标。", True),
        ("检测图中的人和车", True),
        ("Draw a box around each person", True),
        ('Find all valves, as {"valve": [x1, y1, x2, y2]}', True),
        ("Where is the pump?", True),
        ("What is in the box?", False),
        ("How many boxes are there?", False),
        ('Give {"detected": "", "position": ""}', False),
        ("Read all the text in the image.", False),
        ("检测单位和检测日期", False),
        ("", False),
    ],
)
def test_which_questions_ask_for_places(question: str, is_asked: bool) -> None:
    """In both languages; the names of fields to be filled ask for nothing."""
    assert asks_for_places(question) is is_asked


@pytest.mark.parametrize(
    "piece", ['{"a":[1,2,3,4],', "[[1,2,3,4],", "- a: [1,2,30,40]\n", '["a",', '{"a":{"x1":1,', "“", "{", "'"]
)
def test_long_hostile_text_is_done_soon(piece: str) -> None:
    """As an answer and as a question."""
    text = piece * (50_000 // len(piece))
    assert parse(text).notes is not None
    assert asks_for_places(text) in (True, False)


@pytest.mark.parametrize("odd", [float("inf"), 10**300, -1, "x" * 500])
def test_odd_numbers_raise_nothing(odd: JsonValue) -> None:
    """Whatever a model writes as a number."""
    for text in (
        f'{{"a": [1, 2, {odd}, 4]}}',
        f"[[1, 2, 3, {odd}]]",
        f'{{"a": {{"x1": {odd}, "y1": 1, "x2": 2, "y2": 3}}}}',
    ):
        assert parse(text).regions == ()
