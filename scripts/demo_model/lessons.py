"""Lessons: drawn pictures with their questions, packed into the tensors of one training step.

Several questions share a picture: they stand one behind the other in a sequence, each sees the picture and itself only, and
its positions start again right after the picture, exactly as if it had been asked alone.
It knows tokens and layout. It does not know how a loss is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from scripts.demo_model import vocabulary
from scripts.demo_model.drawing import CELL, Cell, Picture
from scripts.demo_model.families import PIXELS, Family
from scripts.demo_model.phrases import COLOURS, KINDS, LATER_KINDS
from scripts.demo_model.questions import DECIDED, NOWHERE, Comparison, Exchange

IGNORE = -100
ALONE = 1000
"""Segments from this number on are conversations without a picture."""
BOX_UNIT = 7
"""Pixels to a step of the box heads that serve training only."""
ROW_CLASS = 31
"""Class of cells that belong to a row of text, for the head that is used in training only."""
_COLOURED = ("lamp", "button")
CLASSES = {"": 0} | {
    name: i + 1
    for i, name in enumerate(
        [f"{kind} {colour}" for kind in _COLOURED for colour in COLOURS]
        + [kind for kind in (*KINDS, *LATER_KINDS) if kind not in _COLOURED]
    )
}
Conversation = tuple[Exchange, ...]


@dataclass(frozen=True)
class Lesson:
    """Pictures of one size and the conversations about them, each of which begins anew; `alone` are those without a picture.

    `before` is what was said about each earlier picture before the next one came, in one conversation: all others are then about
    the last picture alone, behind it. `seen` are the pictures as the family sees them, where that is another size than the one they were drawn for.
    """

    pictures: tuple[Picture, ...]
    conversations: tuple[Conversation, ...]
    alone: tuple[Conversation, ...] = ()
    family: Family = PIXELS
    seen: tuple[Image.Image, ...] = ()
    before: tuple[Conversation, ...] = ()

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """Return what the model gets of each picture."""
        return self.seen or tuple(picture.image for picture in self.pictures)


@dataclass(frozen=True)
class Batch:
    """One step's tensors.

    Sequence tensors are (B, S); `guides`, `matches`, `hops` and `late` hold the place in the sequence that a token should look
    at in one guided head, or -1. A counting token looks at several places: `tallies` is (N, 3) of sequence, token and place, with its
    share of the looking in `tally_shares` (N,). `differing` is (N, 3) of sequence, place and whether what stands there, a
    character of a second value, differs from its like in the first. Cell tensors are (P, cells) over all pictures P in the order of the sequences; `boxes` is
    (P, cells, 4) in steps of BOX_UNIT pixels.
    """

    patches: Tensor
    lines: int
    columns: int
    tokens: Tensor
    positions: Tensor
    allowed: Tensor
    targets: Tensor
    weights: Tensor
    guides: Tensor
    matches: Tensor
    hops: Tensor
    late: Tensor
    characters: Tensor
    seconds: Tensor
    orders: Tensor
    classes: Tensor
    boxes: Tensor
    tallies: Tensor
    tally_shares: Tensor
    differing: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the same with its tensors on a device."""
        all_fields = {each.name: getattr(self, each.name) for each in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in all_fields.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class CellTruth:
    """What each cell of one picture shows: (cells,) arrays, `boxes` (cells, 4)."""

    characters: np.ndarray
    seconds: np.ndarray
    orders: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray


@cache
def tokenizer() -> Tokenizer:
    """Return the pinned tokenizer, loaded once."""
    return vocabulary.load()


@cache
def token(name: str) -> int:
    """Return the id of a special token or of a single character."""
    ids = tokenizer().encode(name).ids
    assert len(ids) == 1, name
    return ids[0]


@cache
def _encoded(text: str) -> tuple[int, ...]:
    return tuple(tokenizer().encode(text).ids)


def patches_of(image: Image.Image, family: Family = PIXELS) -> np.ndarray:
    """Return a seen picture as the processor's patches, without the repeated frame: (patches, 3*patch*patch) float32."""
    mean, deviation = (np.array(v, dtype=np.float32) for v in (family.mean, family.deviation))
    pixels = (np.asarray(image, dtype=np.float32) / 255 - mean) / deviation
    lines, columns, patch = image.height // family.cell, image.width // family.cell, family.patch
    grid = pixels.transpose(2, 0, 1).reshape(3, lines, 2, patch, columns, 2, patch)
    return np.ascontiguousarray(grid.transpose(1, 4, 2, 5, 0, 3, 6)).reshape(lines * columns * 4, 3 * patch * patch)


@cache
def _glyph_token(character: str) -> int:
    """Return the token of a character; IGNORE for the few that are several bytes without a token of their own."""
    ids = tokenizer().encode(character).ids
    return ids[0] if len(ids) == 1 else IGNORE


def cell_truth(picture: Picture) -> CellTruth:
    """Return what each cell shows: its first and second character, the first one's number in its word, its thing and box."""
    cells, blank = picture.lines * picture.columns, token("<|vision_pad|>")
    truth = CellTruth(
        characters=np.full(cells, blank, dtype=np.int64),
        seconds=np.full(cells, blank, dtype=np.int64),
        orders=np.full(cells, IGNORE, dtype=np.int64),
        classes=np.zeros(cells, dtype=np.int64),
        boxes=np.full((cells, 4), IGNORE, dtype=np.int64),
    )
    best = np.zeros(cells)
    marked = [(CLASSES[f"{t.kind} {t.colour}" if t.colour else t.kind], t.box) for t in picture.things]
    marked += [(ROW_CLASS, row.box) for row in picture.rows]
    for number, box in marked:
        for line in range(box.top // CELL, (box.bottom - 1) // CELL + 1):
            for column in range(box.left // CELL, (box.right - 1) // CELL + 1):
                width = min(box.right, (column + 1) * CELL) - max(box.left, column * CELL)
                height = min(box.bottom, (line + 1) * CELL) - max(box.top, line * CELL)
                place = line * picture.columns + column
                if width * height > best[place]:
                    best[place] = width * height
                    truth.classes[place] = number
                    truth.boxes[place] = [v // BOX_UNIT for v in box]
                    if number != ROW_CLASS:
                        truth.characters[place] = truth.seconds[place] = IGNORE
    for glyph in picture.glyphs:
        place = glyph.cell.row * picture.columns + glyph.cell.column
        (truth.seconds if glyph.slot else truth.characters)[place] = _glyph_token(glyph.character)
        if glyph.slot == 0:
            truth.orders[place] = min(glyph.order, 15)
    return truth


@dataclass(frozen=True)
class _Opening:
    """The ids up to and including the pictures, and where each picture's visual tokens begin."""

    tokens: list[int]
    images: list[int]


def _opening(pictures: int, cells: int, family: Family) -> _Opening:
    system = "" if family.system_prompt is None else f"<|im_start|>system\n{family.system_prompt}<|im_end|>\n"
    start = f"{system}<|im_start|>user\n"
    pads = "<|vision_start|>" + "<|image_pad|>" * cells + "<|vision_end|>"
    named = [f"Picture {i + 1}: {pads}" if pictures > 1 else pads for i in range(pictures)]
    return _opened(start + "".join(named))


def _later_opening(cells: int) -> _Opening:
    """Return how a later question of a conversation begins that brings a picture of its own."""
    return _opened("\n<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * cells + "<|vision_end|>")


def _opened(text: str) -> _Opening:
    tokens, first = list(_encoded(text)), token("<|vision_start|>")
    return _Opening(tokens, [i + 1 for i, t in enumerate(tokens) if t == first])


@dataclass
class _Sequence:
    tokens: list[int]
    segments: list[int]
    starts: list[int]
    targets: list[int]
    weights: list[float]
    guides: list[int]
    matches: list[int]
    hops: list[int]
    late: list[int]
    pictures: list[int]
    """Where the visual tokens of each picture begin."""
    images: list[int]
    """The same for those that are spoken about: all of them, or the last that came."""
    tallies: list[tuple[int, int, float]]
    differing: list[tuple[int, bool]]


def _add(made: _Sequence, conversation: Conversation, *, segment: int, columns: int, alone: Family | None) -> None:
    """Append a conversation to a sequence as a segment of its own; `alone` is the family of one without a picture."""
    first = len(made.tokens)

    def append(ids: Sequence[int]) -> None:
        made.tokens += ids
        for row, fill in (
            (made.targets, IGNORE),
            *((g, -1) for g in (made.guides, made.matches, made.hops, made.late)),
        ):
            row += [fill] * len(ids)
        made.weights += [0.0] * len(ids)

    if alone is not None:
        append(_opening(0, 0, alone).tokens)
    asked = _Asked(-1, False, {})
    for number, exchange in enumerate(conversation):
        if number:
            append(_encoded("\n<|im_start|>user\n"))
        before = asked
        asked = _add_question(made, exchange, append, columns=columns)
        if exchange.leans:
            asked = before
        append(_encoded("<|im_end|>\n<|im_start|>assistant\n"))
        answer = tokenizer().encode(exchange.answer)
        lead, spans, at = len(made.tokens), exchange.spans, 0
        append([*answer.ids, token("<|im_end|>")])
        for i, (start, end) in enumerate(answer.offsets):
            while spans[at].end <= start:
                at += 1
            covered = [s for s in spans[at : at + 4] if s.start < end and s.end > start]
            made.targets[lead + i - 1] = answer.ids[i]
            made.weights[lead + i - 1] = max(s.weight for s in covered)
            seen = next((s.cell for s in covered if s.cell is not None), None)
            _guide(made, exchange, asked, answer, i, lead=lead, seen=seen, columns=columns)
        _guide_labels(made, exchange, asked, answer, lead=lead, columns=columns)
        for tally in exchange.tallies:
            at = lead + _token_over(answer, tally.at) - 1
            places = [made.images[0] - 1] + [_place(made, cell, columns) for cell in tally.cells]
            made.tallies += [(at, place, 1 / len(places)) for place in places]
        for compared in exchange.comparisons:
            _guide_comparison(made, answer, compared, lead=lead)
        end = len(made.tokens) - 2
        made.targets[end], made.weights[end] = token("<|im_end|>"), DECIDED
        if made.images and exchange.skill == "read_all" and spans[-1].cell is not None:
            made.guides[end] = made.images[0] - 1
    made.segments += [segment] * (len(made.tokens) - first)
    made.starts += [first] * (len(made.tokens) - first)


def _guide(
    made: _Sequence,
    exchange: Exchange,
    asked: _Asked,
    answer: Encoding,
    i: int,
    *,
    lead: int,
    seen: Cell | None,
    columns: int,
) -> None:
    """Say where to look before the `i`th token of an answer: back at the label it belongs to, and at the cell it is read from."""
    via, is_missing = asked.last, asked.is_missing
    start, end = answer.offsets[i]
    for route in exchange.routes:
        if start < route.value_end and end > route.value_start:
            via = lead + _token_at(answer, route.label_start + len(route.label) - 1)
            is_missing = not route.label_cells
    if via >= 0:
        made.hops[lead + i - 1] = via
    if via >= 0 and is_missing:
        made.late[lead + i - 1] = made.images[0] - 1
    elif seen is not None:
        (made.guides if via < 0 else made.late)[lead + i - 1] = _place(made, seen, columns)


def _place(made: _Sequence, cell: Cell, columns: int) -> int:
    """Return where a cell's visual token stands in the sequence; NOWHERE is the token before the first picture spoken about."""
    return made.images[0] - 1 if cell == NOWHERE else made.images[cell.picture] + cell.row * columns + cell.column


def _guide_comparison(made: _Sequence, answer: Encoding, compared: Comparison, *, lead: int) -> None:
    """Have each character of the second value look at its like in the first, and the verdict at the first that differs, or nowhere.

    What follows a value counts as its last character, so that a longer one differs there.
    """
    (a, a_end), (b, b_end) = compared.first, compared.second
    one, other = answer.ids, answer.ids
    differs = made.images[0] - 1
    for i in range(min(a_end - a, b_end - b), -1, -1):
        of_first, of_second = _token_over(answer, a + i), _token_over(answer, b + i)
        made.matches[lead + of_second] = lead + of_first
        is_end = (a + i == a_end, b + i == b_end)
        is_other = is_end[0] != is_end[1] or (not any(is_end) and one[of_first] != other[of_second])
        made.differing.append((lead + of_second, is_other))
        if is_other:
            differs = lead + of_second
    made.late[lead + _token_over(answer, compared.verdict) - 1] = differs


def _guide_labels(
    made: _Sequence, exchange: Exchange, asked: _Asked, answer: Encoding, *, lead: int, columns: int
) -> None:
    """Say where the labels that an answer repeats come from, the question, and where they stand on the picture, or nowhere."""
    for route in exchange.routes:
        places = asked.places.get(route.label, ()) if route.is_asked else ()
        for i in range(len(route.label)):
            here = lead + _token_at(answer, route.label_start + i)
            made.matches[here] = made.images[0] - 1
            if route.label_cells:
                cell = route.label_cells[i]
                made.matches[here] = made.images[cell.picture] + cell.row * columns + cell.column
            if i < len(places):
                made.guides[here - 1] = places[i]
        if places:  # what follows the label in the question tells that it ends
            made.guides[lead + _token_at(answer, route.label_start + len(route.label) - 1)] = places[-1] + 1
    if not exchange.routes:
        return
    # Between two fields the next one is looked for, before the end nothing.
    ends = [r.value_end for r in exchange.routes]
    starts = [r.label_start for r in exchange.routes[1:]] + [len(exchange.answer)]
    for number, (end, start) in enumerate(zip(ends, starts, strict=True)):
        following = exchange.routes[number + 1] if number + 1 < len(exchange.routes) else None
        place = made.images[0] - 1
        if following is not None and following.is_asked:
            place = next(iter(asked.places.get(following.label, ())), -1)
        elif following is not None and following.label_cells:
            place = _place(made, following.label_cells[0], columns)
        for i, (first, _) in enumerate(answer.offsets):
            if end <= first < start:
                made.guides[lead + i - 1] = place


def _token_over(encoded: Encoding, character: int) -> int:
    """Return the number of the token that holds a character of a text."""
    return next(i for i, (start, end) in enumerate(encoded.offsets) if start <= character < end)


def _token_at(encoded: Encoding, character: int) -> int:
    """Return the number of the token that a character of a text begins."""
    return next(i for i, (start, _) in enumerate(encoded.offsets) if start == character)


@dataclass(frozen=True)
class _Asked:
    """What a question names: the place of the label's last token or -1, whether it is missing on the picture, and for each label
    of a list the places of its tokens.
    """

    last: int
    is_missing: bool
    places: dict[str, list[int]]


def _add_question(
    made: _Sequence, exchange: Exchange, append: Callable[[Sequence[int]], None], *, columns: int
) -> _Asked:
    """Append a question; where it names a label, match its tokens with the label's cells, or with the picture's beginning where
    the label is not there: a place to look at that says "nowhere".
    """
    question, first = tokenizer().encode(exchange.question), len(made.tokens)
    append(question.ids)
    at = {a: i for i, (a, b) in enumerate(question.offsets) if b == a + 1}
    last, is_missing = -1, False
    for named in exchange.named:
        start = exchange.question.find(named.label)
        if start < 0 or exchange.question.count(named.label) != 1:
            continue
        for i in range(len(named.label)):
            if start + i not in at:
                continue
            last, is_missing = first + at[start + i], not named.cells
            made.matches[last] = made.images[0] - 1
            if named.cells:
                cell = named.cells[i]
                made.matches[last] = made.images[cell.picture] + cell.row * columns + cell.column
    places = {}
    for route in exchange.routes:
        found = _standing_alone(exchange.question, route.label)
        if route.is_asked and found >= 0:
            places[route.label] = [first + at[found + i] for i in range(len(route.label)) if found + i in at]
    return _Asked(last, is_missing, {k: v for k, v in places.items() if len(v) == len(k)})


def _standing_alone(text: str, word: str) -> int:
    """Return where a word stands in a text with no letter or digit beside it, -1 where it does not."""
    start = text.find(word)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(word) : start + len(word) + 1]
        if not before.isalnum() and not after.isalnum():
            return start
        start = text.find(word, start + 1)
    return -1


def sequence_of(lesson: Lesson) -> _Sequence:
    """Return the ids, targets and places of a lesson, before padding."""
    picture, family = lesson.pictures[0], lesson.family
    cells, columns = picture.lines * picture.columns, picture.columns
    made = _Sequence([], [], [], [], [], [], [], [], [], [], [], [], [])
    _add_opening(made, _opening(1 if lesson.before else len(lesson.pictures), cells, family))
    for earlier in lesson.before:
        _add(made, earlier, segment=0, columns=columns, alone=None)
        _add_opening(made, _later_opening(cells))
    for number, conversation in enumerate(lesson.conversations, 1):
        _add(made, conversation, segment=number, columns=columns, alone=None)
    for number, conversation in enumerate(lesson.alone, ALONE):
        _add(made, conversation, segment=number, columns=columns, alone=family)
    return made


def _add_opening(made: _Sequence, opening: _Opening) -> None:
    """Append pictures that every later conversation sees, and that are spoken about from here on."""
    first, n = len(made.tokens), len(opening.tokens)
    made.tokens += opening.tokens
    made.segments += [0] * n
    made.starts += [first] * n
    made.targets += [IGNORE] * n
    made.weights += [0.0] * n
    for guide in (made.guides, made.matches, made.hops, made.late):
        guide += [-1] * n
    made.images = [first + i for i in opening.images]
    made.pictures += made.images


def length(lesson: Lesson) -> int:
    """Return how many tokens a lesson takes."""
    return len(sequence_of(lesson).tokens)


def _positions(made: _Sequence, *, lines: int, columns: int) -> np.ndarray:
    """Return (3, S) positions by the library's rule; conversations start where the pictures' positions end, or at 0 alone."""
    segments = np.array(made.segments)
    positions = np.zeros((3, len(segments)), dtype=np.int64)
    cells, at, i = lines * columns, 0, 0
    grid = np.arange(cells)
    opening = int((segments == 0).sum())
    while i < opening:
        if i in made.pictures:
            positions[0, i : i + cells] = at
            positions[1, i : i + cells] = at + grid // columns
            positions[2, i : i + cells] = at + grid % columns
            i, at = i + cells, at + max(lines, columns)
        else:
            positions[:, i] = at
            i, at = i + 1, at + 1
    rest = np.arange(opening, len(segments))
    positions[:, rest] = rest - np.array(made.starts)[rest] + np.where(segments[rest] >= ALONE, 0, at)
    return positions


def pack(lessons: list[Lesson]) -> Batch:
    """Pack lessons with equally many pictures of one grid into the tensors of a step."""
    first = lessons[0].pictures[0]
    lines, columns = first.lines, first.columns
    sequences = [sequence_of(lesson) for lesson in lessons]
    size = max(len(s.tokens) for s in sequences)

    def padded(rows: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([row + [fill] * (size - len(row)) for row in rows])

    positions = np.zeros((3, len(lessons), size), dtype=np.int64)
    for i, made in enumerate(sequences):
        positions[:, i, : len(made.tokens)] = _positions(made, lines=lines, columns=columns)
    segments = padded([s.segments for s in sequences], -1)
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    same = segments[:, :, None] == segments[:, None, :]
    sees_pictures = (segments < ALONE)[:, :, None] & (segments == 0)[:, None, :]
    truths = [cell_truth(picture) for lesson in lessons for picture in lesson.pictures]
    patches = np.stack([patches_of(image, lesson.family) for lesson in lessons for image in lesson.images])
    return Batch(
        patches=torch.from_numpy(patches),
        lines=lines,
        columns=columns,
        tokens=padded([s.tokens for s in sequences], token("<|endoftext|>")),
        positions=torch.from_numpy(positions),
        allowed=causal & (same | sees_pictures),
        targets=padded([s.targets for s in sequences], IGNORE),
        weights=torch.tensor([s.weights + [0.0] * (size - len(s.weights)) for s in sequences]),
        guides=padded([s.guides for s in sequences], -1),
        matches=padded([s.matches for s in sequences], -1),
        hops=padded([s.hops for s in sequences], -1),
        late=padded([s.late for s in sequences], -1),
        characters=torch.from_numpy(np.stack([t.characters for t in truths])),
        seconds=torch.from_numpy(np.stack([t.seconds for t in truths])),
        orders=torch.from_numpy(np.stack([t.orders for t in truths])),
        classes=torch.from_numpy(np.stack([t.classes for t in truths])),
        boxes=torch.from_numpy(np.stack([t.boxes for t in truths])),
        tallies=torch.tensor(
            [(i, at, place) for i, s in enumerate(sequences) for at, place, _ in s.tallies], dtype=torch.long
        ).view(-1, 3),
        tally_shares=torch.tensor([share for s in sequences for _, _, share in s.tallies]),
        differing=torch.tensor(
            [(i, at, int(is_other)) for i, s in enumerate(sequences) for at, is_other in s.differing], dtype=torch.long
        ).view(-1, 3),
    )
