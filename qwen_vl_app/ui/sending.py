"""From what a person picked and typed to a question on its way; what cannot be sent stays in the composer.

Knows default questions and asking again. Does not draw. Every function is a callback: it changes the `PageState`
of its visit and never the session's state, for a click elsewhere may end the run around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qwen_vl_app.chat import Question, SamplingParams, StagedPicture
from qwen_vl_app.errors import AppError, Reason, UsageError
from qwen_vl_app.private import is_private
from qwen_vl_app.samples import Sample
from qwen_vl_app.ui.holdings import LooseQuestion, Problem, Restored, View
from qwen_vl_app.ui.state import submitted
from qwen_vl_app.ui.visit import Visit


def send(visit: Visit, sent: Mapping[str, object]) -> Restored | None:
    """Ask what the composer was sent with. Returns what went back into it, or None."""
    text, staged_ids = submitted(sent)
    state, before = visit.state, visit.state.restore
    is_meant_privately = sent.get("private") is True
    refused = _not_private(visit) if is_meant_privately else None
    if refused is None and state.is_still_in(sent.get("conversation")):
        ask(visit, text=text, staged_ids=staged_ids)
    else:  # a click on another conversation was faster; asked there, the question would be about other pictures
        state.told = ()
        state.problems = [Problem(refused or Reason("ui.composer.elsewhere"))]
        state.put_back(text, staged_ids)
    if state.restore is None or state.restore is before:
        return None
    # A refusal has said that it cannot be private here; from then on the person decides.
    state.restore = replace(state.restore, is_private=is_meant_privately and refused is None)
    return state.restore


def _not_private(visit: Visit) -> Reason | None:
    """Let what is asked next begin privately where nothing is open; return why it cannot be private, or None.

    The switch may be off again by now: the page is another one than that on which the question was sent.
    """
    state = visit.state
    if state.conversation_id is not None:
        return None if is_private(state.conversation_id) else Reason("ui.composer.not_private")
    state.asks_privately = visit.assistant.private.may_begin
    return None if state.asks_privately else Reason("private.site_keeps_records")


def ask(visit: Visit, *, text: str, staged_ids: Sequence[str] = ()) -> None:
    """Ask a question about staged pictures; what cannot be asked goes back into the composer."""
    state, staging = visit.state, visit.assistant.staging
    state.problems, state.told = [], ()
    pictures: list[StagedPicture] = []
    for staged_id in staged_ids:
        try:
            pictures.append(staging.get(visit.owner, staged_id))
        except UsageError as error:
            state.problems = [Problem(error.reason)]
    text = text or (default_question(visit, pictures) if pictures else "")
    if state.problems:
        state.put_back(text, tuple(picture.staged_id for picture in pictures))
    elif text and _ask(visit, text=text, pictures=pictures):
        staging.discard(visit.owner, staged_ids)
    elif text:
        state.put_back(text, tuple(staged_ids))


def ask_sample(visit: Visit, *, sample: Sample, question: str) -> None:
    """Ask a sample's question about its picture."""
    visit.state.problems, visit.state.told = [], ()
    try:
        picture = visit.assistant.stage(sample.data, sample.name)
    except AppError as error:
        visit.state.problems = [Problem(error.reason, sample.name)]
        return
    _ask(visit, text=question, pictures=[picture])


def ask_again(visit: Visit, *, turn_id: int) -> None:
    """Ask a kept question anew, with exactly the pictures that the model saw then; the new answer stands beside the old."""
    _ask_beside(visit, turn_id=turn_id, text=None)


def ask_edited(visit: Visit, *, turn_id: int, text: str) -> None:
    """Ask a kept question in other words, about the same pictures; what was asked and answered before stays within reach."""
    if visit.state.editing != turn_id:
        return  # the second click of two
    if _ask_beside(visit, turn_id=turn_id, text=text.strip()):
        visit.state.editing = None


def _ask_beside(visit: Visit, *, turn_id: int, text: str | None) -> bool:
    visit.state.problems, visit.state.told = [], ()
    try:
        question = visit.assistant.records.question_of(visit.owner, turn_id, text=text)
        if not question.text and question.pictures:
            question = replace(question, text=default_question(visit, question.pictures))
        job = visit.assistant.ask(question, owner=visit.owner, beside=turn_id, is_anew=text is None)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]
        return False
    visit.state.conversation_id, visit.state.view = job.conversation_id, View.CHAT
    if job.turn_id is None:
        visit.state.loose.append(LooseQuestion(question.text, question.pictures, job.conversation_id, job))
    return True


def show_version(visit: Visit, *, turn_id: int) -> None:
    """Go on with another version of a question: the one that was asked or answered differently."""
    visit.state.problems, visit.state.told = [], ()
    try:
        visit.assistant.records.switch(visit.owner, turn_id)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]


def ask_loose_again(visit: Visit, *, question: LooseQuestion) -> None:
    """Ask a question once more that could not be kept."""
    visit.state.problems, visit.state.told = [], ()
    if _ask(visit, text=question.text, pictures=question.pictures, is_meant_privately=question.is_private):
        visit.state.loose = [each for each in visit.state.loose if each is not question]


def default_question(visit: Visit, pictures: Sequence[StagedPicture]) -> str:
    """Return what pictures without a word are asked: something that this model can answer."""
    if any(picture.clip is not None for picture in pictures) and not visit.assistant.status.engine.is_demo:
        return visit.words("clip.default")
    return visit.words("composer.default_demo" if visit.assistant.status.engine.is_demo else "composer.default")


def _ask(visit: Visit, *, text: str, pictures: Sequence[StagedPicture], is_meant_privately: bool = False) -> bool:
    question = Question(
        text=text,
        pictures=tuple(pictures),
        in_parts=any(picture.in_parts for picture in pictures),
        conversation_id=visit.state.conversation_id,
        sampling=SamplingParams(max_new_tokens=visit.assistant.settings.max_new_tokens),
    )
    try:
        asks_privately = is_meant_privately or visit.state.asks_privately
        begins_privately = visit.state.conversation_id is None and asks_privately
        job = visit.assistant.ask(question, owner=visit.owner, is_private=begins_privately)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]
        return False
    visit.state.has_begun |= visit.state.conversation_id is None
    visit.state.conversation_id = job.conversation_id
    visit.state.last_question, visit.state.view = text, View.CHAT
    if not visit.state.is_at_table:  # else somebody is correcting it; otherwise the coming answer's picture opens
        visit.state.looked_at = ""
    if job.turn_id is None:
        loose = LooseQuestion(text, question.pictures, job.conversation_id, job, is_private=begins_privately)
        visit.state.loose.append(loose)
    return True
