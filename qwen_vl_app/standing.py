"""What stands of an answer: its tables, and what persons made of them and of its places.

Knows the corrections of a turn. Does not know who asks, or how anything looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from qwen_vl_app.answers import AnswerTable, says_values, tables_in
from qwen_vl_app.chat import Answer, Size, Turn
from qwen_vl_app.corrections import Corrected, corrected
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.records import Records

CORRECTED = Reason("corrections.stands")


@dataclass(frozen=True, slots=True)
class Standing:
    """An answer's tables, and what stands of it after every correction."""

    tables: tuple[AnswerTable, ...] = ()
    corrected: Corrected = field(default_factory=Corrected)


def standing_of_turn(records: Records, owner: str, *, turn_id: int, answer: Answer, sizes: Sequence[Size]) -> Standing:
    """Return what stands of a kept turn's answer; one with nothing that could be corrected asks nobody. `sizes` are the originals'."""
    tables = tables_in(answer.parsed)
    if not (tables or answer.parsed.regions or answer.parsed.data == []):
        return Standing(tables)
    try:
        added = records.corrections(owner, turn_id)
    except HistoryError:
        return Standing(tables)  # the answer itself is there; the page says elsewhere that the history is not
    after = corrected(
        added,
        regions=answer.parsed.regions,
        tables=[each.table for each in tables],
        sizes=sizes,
    )
    return Standing(tables, after)


def as_they_stand(records: Records, owner: str, *, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return turns with their answers as persons left them: for what is taken away."""
    shown: list[Turn] = []
    sizes: tuple[Size, ...] = ()
    for turn in turns:
        sizes = tuple(picture.size for picture in turn.pictures) or sizes
        if turn.answer is None:
            shown.append(turn)
            continue
        standing = standing_of_turn(records, owner, turn_id=turn.id, answer=turn.answer, sizes=sizes)
        shown.append(replace(turn, answer=_as_corrected(turn.answer, standing)))
    return tuple(shown)


def is_corrected(answer: Answer) -> bool:
    """Return whether an answer that was made ready to be read is not the model's alone."""
    return CORRECTED in answer.notes


def _as_corrected(answer: Answer, standing: Standing) -> Answer:
    after = standing.corrected
    if after.places is None and not after.tables:
        return answer
    parsed = answer.parsed
    if after.places is not None:
        parsed = replace(parsed, regions=tuple(place.region for place in after.places))
    if after.tables:
        shown = [each.table for each in standing.tables]
        for number, mine in after.tables.items():
            shown[number] = mine.table
        # Data that a table was made of still says what was put right.
        has_places_alone = parsed.has_data and bool(parsed.regions) and not says_values(parsed)
        parsed = replace(parsed, tables=tuple(shown), has_data=has_places_alone)
    return replace(answer, parsed=parsed, notes=(CORRECTED, *answer.notes))
