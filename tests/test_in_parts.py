"""A large picture looked at part by part: small things are found where they are, each once, and a stop keeps what there is."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import FinishReason, ImageInput, Question, Size
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.history import HistoryStore
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S
from tests.ui.fakes import fake_decoder

THINGS = ((101, 203, 141, 243), (1500, 300, 1530, 340), (3000, 1700, 3060, 1750), (3960, 1900, 3990, 1990))
"""Red squares, in pixels of a picture of 4000 x 2000; one lies where parts overlap."""


def a_photo() -> bytes:
    image = Image.new("RGB", (4000, 2000), "white")
    draw = ImageDraw.Draw(image)
    for x1, y1, x2, y2 in THINGS:
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill="red")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sees_red(smallest_px: int = 20) -> Callable[[GenerationRequest], str]:
    """Answer as a model that finds red things of at least so many pixels in the picture it is given."""

    def answer(request: GenerationRequest) -> str:
        boxes = _red_boxes(request.messages[-1].images[0])
        large = [box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= smallest_px]
        return json.dumps([{"bbox_2d": box, "label": "thing"} for box in large])

    return answer


def _red_boxes(image: ImageInput) -> list[list[int]]:
    pixels = np.frombuffer(image.rgb, np.uint8).reshape(image.size.height, image.size.width, 3).astype(int)
    is_red = (pixels[..., 0] > 180) & (pixels[..., 1] < 120)
    boxes: list[list[int]] = []
    columns = np.flatnonzero(is_red.any(axis=0))  # things stand apart, each in a band of its own
    for group in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
        if len(group):
            rows = np.flatnonzero(is_red[:, group].any(axis=1))
            boxes.append([int(group[0]), int(rows[0]), int(group[-1]) + 1, int(rows[-1]) + 1])
    return boxes


Ask = Callable[[AnsweringEngine], tuple[Assistant, Question]]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Open an assistant over an engine, and prepare the question about the photo."""
    opened: list[Assistant] = []

    def make(engine: AnsweringEngine) -> tuple[Assistant, Question]:
        settings = Settings(data_dir=tmp_path / "data")
        assistant = Assistant(
            engine=engine, decoder=fake_decoder(), history=HistoryStore(settings.data_dir), settings=settings
        )
        assistant.open()
        opened.append(assistant)
        assistant.wait_until_loaded(WAIT_S)
        picture = replace(assistant.stage(a_photo(), "photo.png"), in_parts=True)
        return assistant, Question("Find the things.", (picture,), in_parts=True)

    yield make
    for assistant in opened:
        assistant.close()


def test_small_things_are_found_in_their_places(ask: Ask) -> None:
    """The whole is too small to see them; in parts each is found once, to a few pixels of the original."""
    engine = AnsweringEngine(sees_red())
    assistant, question = ask(engine)
    whole = assistant.ask(replace(question, in_parts=False)).wait(WAIT_S)
    assert whole is not None and len(whole.parsed.regions) < len(THINGS)
    count = assistant.intake.part_count(question.pictures[0])
    engine.requests.clear()
    answer = assistant.ask(question).wait(WAIT_S)
    assert answer is not None and answer.finish_reason is FinishReason.STOP
    assert len(engine.requests) == count + 1
    found = sorted(region.box.to_pixels(Size(4000, 2000)) for region in answer.parsed.regions)
    assert len(found) == len(THINGS)
    for box, thing in zip(found, sorted(THINGS), strict=True):
        assert box == pytest.approx(thing, abs=8)
    (note,) = [note for note in answer.notes if note.code == "tiles.asked"]
    assert note.facts == {"count": count, "looked": count}
    turn = assistant.turns("local", 2)[0]
    assert turn.answer is not None and len(turn.answer.parsed.regions) == len(THINGS)
    assert assistant.records.question_of("local", turn.id).in_parts  # asked again, it is asked in parts again


def test_lines_of_all_parts_become_one_text(ask: Ask) -> None:
    """Where the answers are words, each line is said once."""
    engine = AnsweringEngine(lambda request: f"LINE\npart {request.messages[-1].images[0].picture_id[:6]}")
    assistant, question = ask(engine)
    answer = assistant.ask(question).wait(WAIT_S)
    assert answer is not None
    lines = answer.text.splitlines()
    assert lines.count("LINE") == 1
    assert len(lines) == len(set(lines)) > 2


def test_objects_of_all_parts_become_one(ask: Ask) -> None:
    """Each part knows a value that the others do not; the answer has them all, as data."""
    numbers: list[int] = []

    def answer(_: GenerationRequest) -> str:
        numbers.append(len(numbers))
        known = {"serial": "A1" if numbers[-1] == 2 else None, "date": "2024" if numbers[-1] == 1 else None}
        return f"```json\n{json.dumps(known)}\n```"

    assistant, question = ask(AnsweringEngine(answer))
    found = assistant.ask(question).wait(WAIT_S)
    assert found is not None and found.parsed.data == {"serial": "A1", "date": "2024"}


def test_what_is_said_of_things_stays_beside_their_places(ask: Ask) -> None:
    """A form with boxes is one form in its own keys, with the places on the whole; what only the whole shows is in it."""
    numbers: list[int] = []

    def answer(request: GenerationRequest) -> str:
        numbers.append(len(numbers))
        boxes = _red_boxes(request.messages[-1].images[0])
        known = {"lit": True, "serial": "A1"} if boxes else {"lit": None, "serial": None}
        title = "PUMP STATION 7" if numbers[-1] == 0 else None
        box = boxes[0] if boxes and numbers[-1] else None
        return json.dumps({"title": title, **known, "bbox_2d": box, "label": "thing"})

    assistant, question = ask(AnsweringEngine(answer))
    found = assistant.ask(replace(question, schema='{"type": "object"}')).wait(WAIT_S)
    assert found is not None and isinstance(found.parsed.data, dict)
    assert found.parsed.data | {"bbox_2d": None} == {
        "title": "PUMP STATION 7",
        "lit": True,
        "serial": "A1",
        "bbox_2d": None,
        "label": "thing",
    }
    seen = question.pictures[0].seen.size
    box, first = found.parsed.data["bbox_2d"], found.parsed.regions[0].box
    assert box == pytest.approx([round(value) for value in first.to_pixels(seen)], abs=2)
    assert first.to_pixels(Size(4000, 2000)) == pytest.approx(THINGS[0], abs=8)


def test_parts_know_what_was_said_before(ask: Ask) -> None:
    """A follow-up is asked with the turns before it, for the whole and for each part, and with the question's schema."""
    engine = AnsweringEngine(lambda _: '{"lit": true}')
    assistant, question = ask(engine)
    first = assistant.ask(replace(question, text="Which lamps are lit?", in_parts=False))
    assert first.wait(WAIT_S) is not None
    engine.requests.clear()
    schema = '{"type": "object", "properties": {"lit": {"type": "boolean"}}}'
    follow_up = replace(question, text="And here?", conversation_id=first.conversation_id, schema=schema)
    answer = assistant.ask(follow_up).wait(WAIT_S)
    assert answer is not None and answer.parsed.data == {"lit": True} and answer.text.startswith("{")
    assert len(engine.requests) > 2
    for request in engine.requests:
        assert [(message.role, message.text) for message in request.messages] == [
            ("user", "Which lamps are lit?"),
            ("assistant", '{"lit": true}'),
            ("user", "And here?"),
        ]
        assert [len(message.images) for message in request.messages] == [1, 0, 1]
        assert request.schema is not None and request.is_schema_open
    parts = {request.messages[-1].images[0].picture_id for request in engine.requests}
    assert len(parts) > 1


def test_a_stop_keeps_what_was_found(ask: Ask) -> None:
    """Stopped at the third picture: the things of the part before it stand in the answer, which says how far it came."""
    jobs: list[AnswerJob] = []
    is_asked = threading.Event()

    def answer_then_stop(request: GenerationRequest) -> str:
        if len(engine.requests) == 2:  # the whole and one part have been looked at
            assert is_asked.wait(WAIT_S)
            jobs[0].cancel()
        return sees_red()(request)

    engine = AnsweringEngine(answer_then_stop)
    assistant, question = ask(engine)
    jobs.append(assistant.ask(question))
    is_asked.set()
    answer = jobs[0].wait(WAIT_S)
    assert answer is not None and answer.finish_reason is FinishReason.STOPPED
    (note,) = [note for note in answer.notes if note.code == "tiles.asked"]
    assert int(str(note.facts["looked"])) < int(str(note.facts["count"]))
    (region,) = answer.parsed.regions
    assert region.box.to_pixels(Size(4000, 2000)) == pytest.approx(THINGS[0], abs=8)


@pytest.mark.parametrize("whole", ["PUMP 7\n10 bar", '{"serial": "A1"}'])
def test_a_stop_in_the_first_part_leaves_what_was_said_of_the_whole(ask: Ask, whole: str) -> None:
    """The first letters about a part do not take its place."""
    jobs: list[AnswerJob] = []
    is_asked = threading.Event()

    class ThenStop(list[str]):
        def __iter__(self) -> Iterator[str]:
            for piece in super().__iter__():
                yield piece
                assert is_asked.wait(WAIT_S)
                jobs[0].cancel()

    def answer_then_stop(_: GenerationRequest) -> str | list[str]:
        return ThenStop([whole[:3], whole[3:]]) if len(engine.requests) == 1 else whole

    engine = AnsweringEngine(answer_then_stop)
    assistant, question = ask(engine)
    jobs.append(assistant.ask(question))
    is_asked.set()
    answer = jobs[0].wait(WAIT_S)
    assert answer is not None and answer.finish_reason is FinishReason.STOPPED
    assert answer.text == whole or answer.parsed.data == json.loads(whole)


def test_several_pictures_are_seen_whole_and_the_answer_says_so(ask: Ask) -> None:
    """Parts are for a single picture: two are asked about once, with a note, and again so when the question is asked again."""
    engine = AnsweringEngine(lambda _: "Yes.")
    assistant, question = ask(engine)
    job = assistant.ask(replace(question, pictures=question.pictures * 2))
    answer = job.wait(WAIT_S)
    assert answer is not None and answer.text == "Yes."
    assert len(engine.requests) == 1
    assert [(note.code, note.facts) for note in answer.notes] == [("tiles.several", {"count": 2})]
    assert job.turn_id is not None and assistant.records.question_of("local", job.turn_id).in_parts
    file = io.BytesIO()
    Image.new("RGB", (100, 80), "white").save(file, "PNG")
    small = assistant.stage(file.getvalue(), "small.png")
    answer = assistant.ask(replace(question, pictures=(small, small))).wait(WAIT_S)
    assert answer is not None and not answer.notes  # parts of these would show nothing more


def test_a_small_picture_is_asked_about_whole(ask: Ask) -> None:
    """Where parts would show nothing more there are none, and nothing is said about them."""
    engine = AnsweringEngine(lambda _: "Yes.")
    assistant, question = ask(engine)
    file = io.BytesIO()
    Image.new("RGB", (100, 80), "white").save(file, "PNG")
    small = assistant.stage(file.getvalue(), "small.png")
    assert assistant.intake.part_count(small) == 0
    answer = assistant.ask(replace(question, pictures=(small,))).wait(WAIT_S)
    assert answer is not None and answer.text == "Yes."
    assert not [note for note in answer.notes if note.code == "tiles.asked"]
