"""What a click on the page's own HTML asks for: which turn, which picture, which conversation.

Knows the names that stand in the `data-` attributes of buttons. Does not draw: every act is a callback that changes the
`PageState`, and the run after it shows what came of it. What a browser sends is a stranger's word until it was read as a
number; whose turn it is, the hub asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qwen_vl_app.errors import AppError
from qwen_vl_app.private import is_private
from qwen_vl_app.tasks import TASKS
from qwen_vl_app.ui.holdings import Problem, RowRequest, View
from qwen_vl_app.ui.sending import ask_again, ask_sample, show_version
from qwen_vl_app.ui.visit import Visit


def act(visit: Visit, wanted: Mapping[str, object]) -> None:
    """Do what a click asks for; what is no act of ours is passed over."""
    name = wanted.get("act")
    if isinstance(name, str) and name in _ACTS_OF_PAGES:
        visit.state.show(_ACTS_OF_PAGES[name])
        return
    numbers = {key: _number(value) for key, value in wanted.items() if key != "act"}
    do = _ACTS.get(name) if isinstance(name, str) else None
    if do is None:
        return
    visit.state.told = ()
    visit.state.forget_dialogs()
    try:
        do(visit, numbers)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]


def _again(visit: Visit, numbers: Mapping[str, int]) -> None:
    turn_id = numbers.get("turn", 0)
    turn = visit.assistant.turn(visit.owner, turn_id)
    # The second click of two, on a page that does not show yet what came of the first, names a version that is no longer open.
    if any(each.id == turn_id for each in visit.assistant.turns(visit.owner, turn.conversation_id)):
        ask_again(visit, turn_id=turn_id)


def _edit(visit: Visit, numbers: Mapping[str, int]) -> None:
    turn = visit.assistant.turn(visit.owner, numbers.get("turn", 0))
    # A question that is being answered offers no editing: opened later, when its answer has come, nobody asked for it.
    if all(job.turn_id != turn.id for job in visit.assistant.running(visit.owner, turn.conversation_id)):
        visit.state.editing = turn.id


def _version(visit: Visit, numbers: Mapping[str, int]) -> None:
    show_version(visit, turn_id=numbers.get("turn", 0))


def _large(visit: Visit, numbers: Mapping[str, int]) -> None:
    visit.state.large = (numbers.get("turn", 0), numbers.get("picture", 0))


def _look(visit: Visit, numbers: Mapping[str, int]) -> None:
    turn_id = numbers.get("turn", 0)
    visit.state.opened.add(turn_id)
    visit.state.looked_at = f"{turn_id}-{numbers['picture']}" if "picture" in numbers else f"turn-{turn_id}"


def _erase(visit: Visit, numbers: Mapping[str, int]) -> None:
    visit.state.erasing = visit.assistant.turn(visit.owner, numbers.get("turn", 0)).id


def _take_away(visit: Visit, _: Mapping[str, int]) -> None:
    visit.state.is_taking = True


def _tasks(visit: Visit, _: Mapping[str, int]) -> None:
    visit.state.tasks = ""


def _task(visit: Visit, numbers: Mapping[str, int]) -> None:
    number = numbers.get("task", 0)
    visit.state.tasks = TASKS[number].name if number < len(TASKS) else ""


def _sample(visit: Visit, numbers: Mapping[str, int]) -> None:
    samples, number = visit.assistant.samples(), numbers.get("sample", 0)
    is_welcome = visit.state.conversation_id is None and not visit.state.loose  # else it is the second click of two
    if is_welcome and number < len(samples):
        ask_sample(visit, sample=samples[number], question=visit.words.of(samples[number].question))


def _open(visit: Visit, numbers: Mapping[str, int]) -> None:
    state, number, turn_id = visit.state, numbers.get("conversation", 0), numbers.get("turn", 0)
    visit.assistant.conversation(visit.owner, number)
    state.open(number)
    if not turn_id:
        return
    if turn_id not in (shown := [turn.id for turn in visit.assistant.turns(visit.owner, number)]):
        visit.assistant.records.switch(visit.owner, turn_id)
        shown = [turn.id for turn in visit.assistant.turns(visit.owner, number)]
    if turn_id in shown:
        state.turns_shown = max(state.turns_shown, len(shown) - shown.index(turn_id))
        state.go_to_turn(turn_id)


def _pin(visit: Visit, numbers: Mapping[str, int]) -> None:
    visit.assistant.records.pin(visit.owner, numbers.get("conversation", 0), is_pinned=bool(numbers.get("on")))


def _rename(visit: Visit, numbers: Mapping[str, int]) -> None:
    visit.state.row_request = RowRequest("rename", numbers.get("conversation", 0))


def _delete(visit: Visit, numbers: Mapping[str, int]) -> None:
    visit.state.row_request = RowRequest("delete", numbers.get("conversation", 0))


def _older(visit: Visit, _: Mapping[str, int]) -> None:
    visit.state.show_older()


def _earlier(visit: Visit, _: Mapping[str, int]) -> None:
    visit.state.show_earlier()


def _private(visit: Visit, numbers: Mapping[str, int]) -> None:
    visit.state.asks_privately = bool(numbers.get("on")) and visit.assistant.private.may_begin


def _end_private(visit: Visit, _: Mapping[str, int]) -> None:
    number = visit.state.conversation_id
    if is_private(number) and number is not None:
        visit.assistant.delete(visit.owner, number)
        visit.state.forget_conversation(number)


_ACTS: Mapping[str, Callable[[Visit, Mapping[str, int]], None]] = {
    "again": _again,
    "edit": _edit,
    "erase": _erase,
    "version": _version,
    "large": _large,
    "tasks": _tasks,
    "task": _task,
    "sample": _sample,
    "take-away": _take_away,
    "look": _look,
    "open": _open,
    "pin": _pin,
    "rename": _rename,
    "delete": _delete,
    "private": _private,
    "end-private": _end_private,
    "older": _older,
    "earlier": _earlier,
}


_ACTS_OF_PAGES: Mapping[str, View] = {f"page-{view.value}": view for view in View}


def _number(value: object) -> int:
    said = str(value)
    return int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0
