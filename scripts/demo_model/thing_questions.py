"""Questions of the wider domain about things: where they are, how many, of which colour, and whether there is one at all.

Like `wide_questions.py`, which asks about words, it turns a picture's truth into words and knows no tokens.
"""

from __future__ import annotations

import numpy as np

from scripts.demo_model import later_phrases, phrases
from scripts.demo_model.drawing import CELL, Cell, Picture, Thing
from scripts.demo_model.phrases import COLOURS, Language
from scripts.demo_model.questions import DECIDED, NOWHERE, AnswerWriter, Exchange, corner_of, pick, vary
from scripts.demo_model.surfaces import ALL_KINDS


def boxes_of(things: tuple[Thing, ...], language: Language) -> AnswerWriter:
    """Write the box list of things; an empty list when there are none."""
    answer = AnswerWriter()
    answer.form("```json\n[")
    for i, thing in enumerate(things):
        corner = corner_of(thing)
        answer.form(",\n" if i else "\n", weight=DECIDED, cell=corner)
        answer.box(thing.box, label=ALL_KINDS[thing.kind][language][0], label_cells=(corner,))
    answer.form("\n]\n```" if things else "]\n```", weight=DECIDED, cell=NOWHERE)
    return answer


def detect_all(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for boxes around everything."""
    templates = tuple(t for t in phrases.DETECT_ALL[language] if "lamp" not in t and "按钮" not in t)
    return boxes_of(picture.things, language).exchange("detect_all", language, vary(rng, pick(rng, templates)))


def words_for(rng: np.random.Generator, kind: str, language: Language) -> tuple[str, str]:
    """Return the words for one and for several of a kind; those of any stranger for a kind that is never drawn."""
    if kind:
        return ALL_KINDS[kind][language]
    return later_phrases.STRANGERS[int(rng.integers(0, len(later_phrases.STRANGERS)))][language]


def some_kind(rng: np.random.Generator, picture: Picture, *, present: float) -> str:
    """Choose a kind of thing, with the given chance one that is there; seldom the empty name, for a thing that is never drawn."""
    if rng.random() < 0.08:
        return ""
    there = sorted({t.kind for t in picture.things})
    if there and rng.random() < present:
        return there[int(rng.integers(0, len(there)))]
    return list(ALL_KINDS)[int(rng.integers(0, len(ALL_KINDS)))]


def detect_kind(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for boxes around things of a kind that may not be there."""
    kind = some_kind(rng, picture, present=0.7)
    if kind and rng.random() < 0.15:
        return _two_kinds(rng, picture, kind, language)
    one, many = words_for(rng, kind, language)
    template = vary(rng, pick(rng, phrases.DETECT_KIND[language]))
    answer = boxes_of(tuple(t for t in picture.things if t.kind == kind), language)
    return answer.exchange(
        "detect_kind", language, template.replace("{one}", one).replace("{many}", many), subject=kind
    )


def _two_kinds(rng: np.random.Generator, picture: Picture, kind: str, language: Language) -> Exchange:
    other = some_kind(rng, picture, present=0.6)
    template = vary(rng, pick(rng, later_phrases.TWO_KINDS[language]))
    question = template.replace("{first}", ALL_KINDS[kind][language][0])
    question = question.replace("{second}", words_for(rng, other, language)[0])
    answer = boxes_of(tuple(t for t in picture.things if t.kind in (kind, other)), language)
    return answer.exchange("detect_kind", language, question, subject=f"{kind},{other}")


def count(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask how many there are, of one kind or in all."""
    kind = None if rng.random() < 0.3 else some_kind(rng, picture, present=0.65)
    one, many = phrases.ANY_THING[language] if kind is None else words_for(rng, kind, language)
    wanted = [t for t in picture.things if kind is None or t.kind == kind]
    answer = AnswerWriter()
    if picture.is_outside:
        answer.form(phrases.CANNOT_TELL[language], weight=DECIDED)
    else:
        answer.counted(str(len(wanted)), map(corner_of, wanted))
    template = vary(rng, pick(rng, phrases.COUNT[language]))
    return answer.exchange(
        "count", language, template.replace("{one}", one).replace("{many}", many), subject=kind or ""
    )


def colour(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for the colour of the only lamp or button; one that is not there is not shown."""
    single = [t for t in picture.things if t.colour and sum(o.kind == t.kind for o in picture.things) == 1]
    answer = AnswerWriter()
    if single:
        thing = single[int(rng.integers(0, len(single)))]
        kind = thing.kind
        box = thing.box
        centre = Cell((box.top + box.bottom) // 2 // CELL, (box.left + box.right) // 2 // CELL)
        answer.seen(COLOURS[thing.colour or "red"][0 if language == "en" else 1], centre)
    else:
        there = {t.kind for t in picture.things}
        missing = [k for k in ("lamp", "button") if k not in there]
        if not missing:  # then there are several of each, and nobody could say which is meant
            return count(rng, picture, language)
        kind = missing[int(rng.integers(0, len(missing)))]
        answer.form((phrases.CANNOT_TELL if picture.is_outside else phrases.NOT_THERE)[language], weight=DECIDED)
    question = vary(rng, pick(rng, phrases.COLOUR[language])).replace("{one}", ALL_KINDS[kind][language][0])
    return answer.exchange("colour", language, question, subject=kind)


def yes_no(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask whether there is a thing of one kind, most often a defect."""
    kind = some_kind(rng, picture, present=0.5)
    found = [t for t in picture.things if t.kind == kind]
    template = vary(rng, pick(rng, phrases.YES_NO[language]))
    if kind:
        one, article = ALL_KINDS[kind][language][0], pick(rng, phrases.WITH_ARTICLE[kind])
    else:
        one, many = words_for(rng, "", language)
        article = f"a {one}" if rng.random() < 0.5 else f"any {many}"
    question = template.replace("{a}", article).replace("{one}", one)
    answer = AnswerWriter()
    if picture.is_outside:
        answer.form(phrases.CANNOT_TELL[language], weight=DECIDED)
    else:
        answer.counted((phrases.YES if found else phrases.NO)[language], map(corner_of, found))
    return answer.exchange("yes_no", language, question, subject=kind)
