"""One lesson: a drawn picture, or a pair of them, on a grid of visual tokens, and what is asked about it.

It draws from the random generator it is handed, and does not know when in training a lesson comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scripts.demo_model import cell_plates, outside, panels, questions, scenes, surfaces, wide_questions
from scripts.demo_model.drawing import Picture
from scripts.demo_model.lessons import Conversation, Lesson, length
from scripts.demo_model.magnified import magnified
from scripts.demo_model.phrases import LABELS_ZH, WORDS_ZH
from scripts.demo_model.questions import Exchange
from scripts.demo_model.sheets import free_places

LETTERS_LATIN = panels.LETTERS + panels.DIGITS * 2 + ".-"
LETTERS_CHINESE = "".join(sorted({c for word in (*LABELS_ZH, *WORDS_ZH) for c in word}))
PANELS_SHARE = {"asked labels": 0.7, "surfaces": 0.35}
"""The part of a stage's pictures that are panels, where it is not a half."""
WIDE_TOKENS = (55, 65)
"""Fewest and most visual tokens of a picture: what the first processor's limits of 43,008 and 50,960 pixels allow, in any shape."""
CHINESE_SHARE = 0.4
"""The part of drawn plates and tables that are Chinese."""
WIDEST_PLACE, WIDEST_SCALED = 40.0, 60.0
"""Pixels between the middles of two characters, at most: on the larger sizes, and on higher rungs."""


def alphabet_of_a_script(rng: np.random.Generator, *, chinese: float) -> str:
    """Choose the characters of a plate for vision alone: Chinese ones with the chance `chinese`."""
    return LETTERS_CHINESE if rng.random() < chinese else LETTERS_LATIN


def scaled_letters(rng: np.random.Generator, grid: tuple[int, int], seen: tuple[int, int], *, is_free: bool) -> Lesson:
    """Draw a lesson for vision alone, of a plate of one `grid` that is `seen` with another, or with characters anywhere."""
    alphabet = alphabet_of_a_script(rng, chinese=0.5)
    if is_free:
        places = free_places(rng, *seen, widest=WIDEST_SCALED)
        return Lesson((cell_plates.draw_cell_letters(rng, *seen, alphabet=alphabet, places=places),), ())
    scale = max(seen[0] / grid[0], seen[1] / grid[1]) if seen != grid else 1.0
    picture = cell_plates.draw_cell_letters(rng, *grid, alphabet=alphabet, scale=scale)
    return Lesson((picture if seen == grid else magnified(rng, picture, *seen),), ())


def roomy_lesson(rng: np.random.Generator, columns: int, lines: int) -> Lesson:
    """Draw a plate with room for more than usual, its characters anywhere or one to a visual token, and ask about it."""
    places = free_places(rng, columns, lines, widest=WIDEST_SCALED) if rng.random() < 0.7 else None
    across, down = (places.columns, places.lines) if places else (columns, lines)
    scale = float(rng.uniform(1.0, 2.0)) if rng.random() < 0.4 else 1.0
    chinese = rng.random() < CHINESE_SHARE
    if rng.random() < 0.25 and across >= 7 and down >= 3:
        picture = cell_plates.draw_cell_table(rng, columns, lines, scale=scale, chinese=chinese, places=places)
        return Lesson((picture,), tuple(wide_questions.about_table(rng, picture)), beside(rng))
    angle = float(rng.uniform(-2, 2)) if places and rng.random() < 0.3 else 0.0
    picture = cell_plates.draw_cell_panel(
        rng, columns, lines, scale=scale, angle=angle, chinese=chinese, places=places, most_rows=6
    )
    return Lesson((picture,), tuple(wide_questions.about_plate(rng, picture)), beside(rng))


def skill_lesson(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    seen: tuple[int, int] | None = None,
    surfaces: float = 0.2,
) -> Lesson:
    """Draw a plate or a surface, a table, nothing at all or something outside, and ask whatever may be asked.

    It is `seen` with so many visual tokens across and down where that is more than it was drawn for. `surfaces` is their share
    of the pictures.
    """
    scale = float(rng.uniform(1.0, 3.0)) if rng.random() < 0.4 else 1.0
    if seen is not None:
        scale = max(scale, seen[0] / columns, seen[1] / lines)

    def as_seen(picture: Picture) -> Picture:
        return picture if seen in (None, (columns, lines)) else magnified(rng, picture, *seen)

    is_first = (columns, lines) == (panels.COLUMNS, panels.LINES)
    chance = rng.random()
    if chance < 0.42 and is_first:
        picture, exchanges = first_picture(rng, scale, panels_share=0.4, as_seen=as_seen)
        if rng.random() < 0.5:
            return Lesson((picture,), singly(exchanges))
        talk = wide_questions.about_plate if picture.rows else wide_questions.about_surface
        conversations = talk(rng, picture)
    elif chance < 0.8 - surfaces:
        angle = cell_plates.slight_turn(rng, columns, lines) if rng.random() < 0.3 else 0.0
        chinese = rng.random() < CHINESE_SHARE
        picture = cell_plates.draw_cell_panel(
            rng, columns, lines, scale=scale, angle=angle, chinese=chinese, most_rows=4
        )
        picture = as_seen(picture)
        conversations = wide_questions.about_plate(rng, picture)
    elif chance < 0.9 - surfaces and columns >= 7 and lines >= 4:
        picture = cell_plates.draw_cell_table(rng, columns, lines, scale=scale, chinese=rng.random() < CHINESE_SHARE)
        picture = as_seen(picture)
        conversations = wide_questions.about_table(rng, picture)
    elif chance < 0.87:
        things = 0 if rng.random() < 0.25 else None
        picture = as_seen(scenes.draw_scene(rng, columns, lines, things=things, scale=scale))
        conversations = wide_questions.about_surface(rng, picture)
    else:
        picture = outside.draw_outside(rng, *(seen or (columns, lines)))
        conversations = wide_questions.about_outside(rng, picture)
    if rng.random() < 0.12:
        language, is_task = wide_questions.language_for(rng, picture), bool(rng.random() < 0.5)
        # A task's question is long: behind another it would be left out of nearly every lesson.
        conversations.insert(0 if is_task else 1, (wide_questions.beyond(rng, picture, language, is_task=is_task),))
    return Lesson((picture,), tuple(conversations), beside(rng))


def shortened(lesson: Lesson, longest: int) -> Lesson:
    """Leave out conversations, never the first, that would make a lesson longer than `longest` tokens."""
    kept: tuple[Conversation, ...] = lesson.conversations[:1]
    bare = length(replace(lesson, conversations=(), alone=()))
    taken = length(replace(lesson, conversations=kept))
    for conversation in lesson.conversations[1:]:
        # Lengths add up: each conversation stands on its own behind the picture.
        more = length(replace(lesson, conversations=(conversation,), alone=())) - bare
        if taken + more <= longest:
            kept, taken = (*kept, conversation), taken + more
    return replace(lesson, conversations=kept)


def make_lesson(stage: str, rng: np.random.Generator) -> Lesson:
    """Draw one lesson of a first stage."""
    if stage == "letters":
        return Lesson((panels.draw_characters(rng),), ())
    if stage in ("short panels", "panels"):
        rows = int(rng.integers(1, 3)) if stage == "short panels" else int(rng.integers(2, 5))
        picture = panels.draw_panel(rng, rows=rows)
        return Lesson((picture,), singly(questions.about_panel(rng, picture)))
    scale = 1.0
    if stage in ("all sizes", "asked labels", "surfaces") and rng.random() < 0.5:
        scale = float(rng.uniform(1.0, 3.0))
    return first_lesson(rng, scale, panels_share=PANELS_SHARE.get(stage, 0.5))


def first_lesson(rng: np.random.Generator, scale: float, *, panels_share: float) -> Lesson:
    """Draw a panel or a scene of the first domain with its questions."""
    picture, exchanges = first_picture(rng, scale, panels_share=panels_share)
    return Lesson((picture,), singly(exchanges))


def first_picture(
    rng: np.random.Generator,
    scale: float,
    *,
    panels_share: float,
    as_seen: Callable[[Picture], Picture] = lambda picture: picture,
) -> tuple[Picture, list[Exchange]]:
    """Draw a panel or a scene of the first domain, and ask about it `as_seen`."""
    if rng.random() < panels_share:
        picture = as_seen(panels.draw_panel(rng, scale=scale))
        return picture, questions.about_panel(rng, picture)
    picture = as_seen(scenes.draw_scene(rng, scale=scale))
    return picture, questions.about_scene(rng, picture)


def singly(exchanges: list[Exchange]) -> tuple[Conversation, ...]:
    """Make a conversation of each exchange."""
    return tuple((exchange,) for exchange in exchanges)


def random_grid(
    rng: np.random.Generator, *, tokens: tuple[int, int] = WIDE_TOKENS, known: float = 0.5
) -> tuple[int, int]:
    """Choose how many visual tokens a picture has across and down: with the chance `known` those of the first domain."""
    if rng.random() < known:
        return panels.COLUMNS, panels.LINES
    fewest, most = tokens
    shapes = [(c, n) for c in range(6, 24) for n in range(3, 13) if fewest <= c * n <= most and 0.5 <= c / n <= 7.5]
    return shapes[int(rng.integers(0, len(shapes)))]


def letters_lesson(rng: np.random.Generator, columns: int, lines: int, *, is_free: bool = False) -> Lesson:
    """Draw a lesson for vision alone; characters stand anywhere when it `is_free`."""
    alphabet = alphabet_of_a_script(rng, chinese=0.65)
    places = free_places(rng, columns, lines, widest=WIDEST_PLACE) if is_free else None
    return Lesson((cell_plates.draw_cell_letters(rng, columns, lines, alphabet=alphabet, places=places),), ())


def wide_lesson(rng: np.random.Generator, columns: int, lines: int, *, is_free: bool = False) -> Lesson:
    """Draw one lesson of the wider domain on a grid; the first domain stays among them."""
    scale = float(rng.uniform(1.0, 3.0)) if rng.random() < 0.4 else 1.0
    if not is_free and (columns, lines) == (panels.COLUMNS, panels.LINES) and rng.random() < 0.5:
        lesson = first_lesson(rng, scale, panels_share=0.5)
        if rng.random() < 0.5:
            return lesson
        picture = lesson.pictures[0]
        talk = wide_questions.about_plate if picture.rows else wide_questions.about_surface
        return Lesson((picture,), tuple(talk(rng, picture)), beside(rng))
    places, angle = None, 0.0
    if is_free:
        places = free_places(rng, columns, lines, widest=WIDEST_PLACE)
        angle = float(rng.uniform(-3, 3)) if rng.random() < 0.3 else 0.0
    elif rng.random() < 0.15:
        angle = float(rng.uniform(-2, 2))
    across, down = (places.columns, places.lines) if places else (columns, lines)
    chinese = rng.random() < 0.35
    chance = rng.random()
    if chance < 0.42:
        picture = cell_plates.draw_cell_panel(
            rng, columns, lines, scale=scale, angle=angle, chinese=chinese, places=places
        )
        conversations = wide_questions.about_plate(rng, picture)
    elif chance < 0.54 and down >= 3 and across >= 7:
        picture = cell_plates.draw_cell_table(rng, columns, lines, scale=scale, chinese=chinese, places=places)
        conversations = wide_questions.about_table(rng, picture)
    elif chance < 0.86:
        picture = surfaces.draw_surface(rng, columns, lines, scale=scale)
        conversations = wide_questions.about_surface(rng, picture)
    else:
        picture = outside.draw_outside(rng, columns, lines)
        conversations = wide_questions.about_outside(rng, picture)
    return Lesson((picture,), tuple(conversations), beside(rng))


def beside(rng: np.random.Generator) -> tuple[Conversation, ...]:
    """Choose what is said without the picture, seldom anything."""
    if rng.random() > 0.1:
        return ()
    return ((wide_questions.about(rng, "en" if rng.random() < 0.5 else "zh"),),)


def pair_lesson(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    chinese: float = 0.35,
    scale: float = 1.0,
    seen: tuple[int, int] | None = None,
) -> Lesson:
    """Draw two panels with the same labels, some values changed in the second; `chinese` is the chance of Chinese ones.

    They are `seen` with so many visual tokens across and down where that is more than they were drawn for.
    """
    is_chinese = rng.random() < chinese
    if seen is not None:
        scale = max(scale, seen[0] / columns, seen[1] / lines)
    first = cell_plates.draw_cell_panel(rng, columns, lines, scale=scale, chinese=is_chinese, most_rows=3)
    texts = [(row.label, row.value) for row in first.rows]
    changed = set() if rng.random() < 0.2 else {int(i) for i in rng.integers(0, len(texts), int(rng.integers(1, 3)))}
    other = tuple(
        (label, cell_plates.wide_value(rng, max(2, len(value)), chinese=is_chinese) if i in changed else value)
        for i, (label, value) in enumerate(texts)
    )
    fixed = other if all(len(v) <= max(len(t[1]) for t in texts) for _, v in other) else tuple(texts)
    second = cell_plates.draw_cell_panel(rng, columns, lines, scale=scale, chinese=is_chinese, fixed=fixed)
    if seen is not None and seen != (columns, lines):
        first, second = (magnified(rng, picture, *seen) for picture in (first, second))
    return Lesson((first, second), singly(wide_questions.about_two(rng, (first, second))))
