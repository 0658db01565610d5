"""What the hub does for programs: nothing is kept, earlier messages come along, memory that runs out lowers all pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Detail, EarlierMessage, FinishReason, Question, ScoredToken
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import OutOfMemoryError, UsageError
from qwen_vl_app.jobs import Priority
from tests.hub_parts import WAIT_S, a_file, an_assistant, replace_settings


def ask(assistant: Assistant, question: Question) -> str:
    job = assistant.ask(question, owner="api:x", is_kept=False, priority=Priority.API)
    answer = job.wait(WAIT_S)
    assert answer is not None
    assert answer.finish_reason is FinishReason.STOP, answer.error
    return answer.text


def test_nothing_is_kept_and_nothing_is_missed(tmp_path: Path) -> None:
    """A program's question leaves no turn, and its answer does not complain that none was kept."""
    with an_assistant(FakeEngine(["a", "b"]), tmp_path) as assistant:
        job = assistant.ask(Question("?"), owner="api:x", is_kept=False)
        answer = job.wait(WAIT_S)
        assert answer is not None
        assert (job.turn_id, job.conversation_id, answer.notes) == (None, None, ())
        assert assistant.conversations("api:x") == ()
        assistant.ask(Question("?"), owner="api:x").wait(WAIT_S)
        assert len(assistant.conversations("api:x")) == 1, "by default it is kept"


def test_earlier_messages_stand_before_the_question(tmp_path: Path) -> None:
    """System, questions with pictures and answers reach the model in order."""
    engine = FakeEngine(["yes"])
    with an_assistant(engine, tmp_path) as assistant:
        picture = assistant.stage(a_file(), "a.png")
        earlier = (
            EarlierMessage("system", "Be brief."),
            EarlierMessage("user", "What is it?", (picture,)),
            EarlierMessage("assistant", "A lamp."),
        )
        assert ask(assistant, Question("Is it on?", earlier=earlier)) == "yes"
    (prompt,) = engine.requests
    assert [(message.role, message.text, len(message.images)) for message in prompt.messages] == [
        ("system", "Be brief.", 0), ("user", "What is it?", 1), ("assistant", "A lamp.", 0), ("user", "Is it on?", 0),
    ]  # fmt: skip


def test_memory_that_runs_out_lowers_the_earlier_pictures_too(tmp_path: Path) -> None:
    """Every picture of the prompt goes one rung down, and the answer says so."""
    engine = FakeEngine([OutOfMemoryError("inference.out_of_memory"), "fits"])
    with an_assistant(engine, tmp_path) as assistant:
        large = assistant.stage(a_file(4000, 3000), "a.png", detail=Detail.DETAIL)
        earlier = (EarlierMessage("user", "?", (large,)), EarlierMessage("assistant", "A hall."))
        job = assistant.ask(Question("Again?", pictures=(large,), earlier=earlier), is_kept=False)
        answer = job.wait(WAIT_S)
    assert answer is not None
    assert [note.code for note in answer.notes] == ["inference.smaller_after_out_of_memory"]
    first, second = (
        [image.size.pixels for message in request.messages for image in message.images] for request in engine.requests
    )
    assert len(first) == len(second) == 2
    assert all(after < before for before, after in zip(first, second, strict=True))


def test_pictures_are_counted_over_the_whole_conversation(tmp_path: Path) -> None:
    """Earlier pictures cost as much as new ones."""
    with an_assistant(FakeEngine(["a"]), tmp_path, settings=replace_settings(max_pictures=2)) as assistant:
        picture = assistant.stage(a_file(), "a.png")
        earlier = (EarlierMessage("user", "?", (picture, picture)), EarlierMessage("assistant", "!"))
        with pytest.raises(UsageError) as refused:
            assistant.ask(Question("?", pictures=(picture,), earlier=earlier), is_kept=False)
        assert refused.value.code == "question.too_many_pictures"


def test_a_picture_alone_may_follow_what_was_said(tmp_path: Path) -> None:
    """After instructions, a picture needs no words; without either there is no question."""
    with an_assistant(FakeEngine(["a"]), tmp_path) as assistant:
        picture = assistant.stage(a_file(), "a.png")
        system = (EarlierMessage("system", "Describe what you are shown."),)
        assert ask(assistant, Question("", pictures=(picture,), earlier=system)) == "a"
        for empty in (Question("", pictures=(picture,)), Question(" ", earlier=system)):
            with pytest.raises(UsageError):
                assistant.ask(empty, is_kept=False)


def test_tokens_come_with_their_probabilities(tmp_path: Path) -> None:
    """What the engine says of its tokens is kept with the job, from any place on."""
    with an_assistant(FakeEngine([["a", "b", "c"]]), tmp_path) as assistant:
        job = assistant.ask(Question("?"), is_kept=False)
        job.wait(WAIT_S)
    assert job.news().tokens == tuple(ScoredToken(text, -0.1, text.encode()) for text in "abc")
    assert job.news(text_start=1, token_start=2).text == "bc"
    assert job.news(token_start=2).tokens == (ScoredToken("c", -0.1, b"c"),)


PLATE = '{"type":"object","properties":{"serial":{"type":"string"},"volts":{"type":"integer"}},"required":["serial","volts"]}'


def test_a_form_lets_the_model_leave_out_what_is_not_there(tmp_path: Path) -> None:
    """The engine gets a form in which anything may be null or missing; in the data what is missing is null."""
    engine = FakeEngine(['{"volts": 3}'], holds_forms=True)
    with an_assistant(engine, tmp_path) as assistant:
        answer = assistant.ask(Question("Read it", schema=PLATE)).wait(WAIT_S)
    assert answer is not None
    assert answer.parsed.data == {"serial": None, "volts": 3}
    assert answer.text == '{"volts": 3}'
    assert [token.raw for token in answer.tokens] == [b'{"volts": 3}']
    request = engine.requests[0]
    assert request.is_schema_open
    assert '"null"' in (request.schema or "")
    assert "required" not in (request.schema or "")


def test_a_schema_to_the_letter_is_passed_on_as_it_is(tmp_path: Path) -> None:
    """Who asked for exactly this gets exactly this."""
    engine = FakeEngine(['{"volts": 3}'], holds_forms=True)
    with an_assistant(engine, tmp_path) as assistant:
        answer = assistant.ask(Question("Read it", schema=PLATE, is_schema_exact=True), is_kept=False).wait(WAIT_S)
        support = assistant.model.form_support(PLATE)
        assert (support.is_held, support.unheld) == (True, ())
        assert assistant.model.form_support('{"type":"array","uniqueItems":true}').unheld == ("uniqueItems",)
        assert not assistant.model.form_support('{"type":"wrong"}').is_held
    assert answer is not None
    assert answer.parsed.data == {"volts": 3}
    assert (engine.requests[0].schema, engine.requests[0].is_schema_open) == (PLATE, False)


def test_another_form_is_another_question(tmp_path: Path) -> None:
    """A stored answer is given again for the same form alone, and the turn knows its form."""
    other = PLATE.replace("volts", "bars")
    with an_assistant(FakeEngine(['{"volts": 3}', '{"bars": 4}'], holds_forms=True), tmp_path) as assistant:
        for schema, said in ((PLATE, '{"volts": 3}'), (other, '{"bars": 4}'), (PLATE, '{"volts": 3}')):
            job = assistant.ask(Question("Read it", schema=schema))
            answer = job.wait(WAIT_S)
            assert answer is not None
            assert answer.text == said
            assert job.turn_id is not None
            assert assistant.records.question_of(job.owner, job.turn_id).schema == schema
        assert answer is not None
        assert [note.code for note in answer.notes] == ["history.from_cache"]


@pytest.mark.parametrize("schema", ["", "words", "[]", "[" * 100_000, '{"a": ' * 5000 + "1" + "}" * 5000])
def test_what_is_no_schema_is_refused_before_it_is_asked(tmp_path: Path, schema: str) -> None:
    """In one sentence, and nothing is kept of it."""
    with an_assistant(FakeEngine(), tmp_path) as assistant:
        with pytest.raises(UsageError) as refused:
            assistant.ask(Question("Read it", schema=schema))
        assert refused.value.code == "question.bad_schema"
        assert not assistant.conversations("local")
