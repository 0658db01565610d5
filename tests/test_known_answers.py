"""What is known of a model is asked of it, and every way in which it may go wrong is told by its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwen_vl_app.bootstrap import open_assistant
from qwen_vl_app.config import ROOT, load_settings
from qwen_vl_app.doctor import run_known_answers
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import InferenceError, Reason
from qwen_vl_app.known_answers import LISTING, KnownAnswersResult, load_known_answers
from qwen_vl_app.samples import load_samples
from qwen_vl_app.texts import render
from tests.hub_parts import WAIT_S, a_file, an_assistant, replace_settings

BOXES = '```json\n[{"bbox_2d": [0, 0, 140, 140], "label": "lamp"}]\n```'


def entry(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"name": "a plate", "pictures": ["a.png"], "question": "What?", "answer": answer, **changes}


def run(tmp_path: Path, entries: object, *replies: str | InferenceError) -> tuple[KnownAnswersResult, FakeEngine]:
    folder = tmp_path / "models" / "demo"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(a_file())
    if entries is not None:
        (folder / "known.json").write_text(json.dumps(entries), encoding="utf-8")
    engine = FakeEngine(list(replies), model="demo")
    settings = replace_settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models")
    with an_assistant(engine, tmp_path / "data", settings=settings) as assistant:
        assistant.wait_until_loaded(WAIT_S)
        result = run_known_answers(assistant)
        assert not assistant.records.conversations("local"), "it leaves no trace"
    return result, engine


@pytest.mark.parametrize(
    ("wanted", "reply", "is_right"),
    [
        ({"text": "42"}, " 42\n", True),
        ({"text": "42"}, "43", False),
        ({"data": {"A": "1", "B": None}}, '{"B": null, "A": "1"}', True),
        ({"data": {"A": "1", "B": None}}, '{"A": "1"}', False),
        ({"data": []}, "```json\n[]\n```", True),
        ({"data": []}, "nothing", False),
        ({"boxes": [{"label": "lamp", "box": [0, 0, 0.25, 0.5]}]}, BOXES, True),
        ({"boxes": [{"label": "rust", "box": [0, 0, 0.25, 0.5]}]}, BOXES, False),
        ({"boxes": [{"label": "lamp", "box": [0.5, 0.5, 1, 1]}]}, BOXES, False),
        ({"boxes": []}, BOXES, False),
    ],
)
def test_an_answer_is_held_against_what_is_known(
    tmp_path: Path, wanted: dict[str, Any], reply: str, is_right: bool
) -> None:
    """Text, data and boxes are each compared as what they are; a wrong one has a sentence."""
    result, engine = run(tmp_path, [entry(wanted)], reply)
    assert (result.right, result.total) == (int(is_right), 1)
    assert result.are_all_right is is_right
    assert len(engine.requests[0].messages[-1].images) == 1
    assert [render(reason, "en") for reason in result.reasons] == (
        [] if is_right else ['The known question "a plate" was not answered as it should be.']
    )


def test_a_question_may_have_no_picture_or_two(tmp_path: Path) -> None:
    """The pictures are those of the list, in its order."""
    asked = [entry({"text": "hi"}, pictures=[]), entry({"text": "same"}, pictures=["a.png", "a.png"])]
    result, engine = run(tmp_path, asked, "hi", "same")
    assert (result.right, result.total) == (2, 2)
    assert [len(request.messages[-1].images) for request in engine.requests] == [0, 2]


def test_a_failed_answer_is_wrong_with_its_own_reason(tmp_path: Path) -> None:
    """The questions after it are asked all the same."""
    result, _ = run(
        tmp_path, [entry({"text": "1"}), entry({"text": "2"})], InferenceError("inference.out_of_memory"), "2"
    )
    assert (result.right, result.total) == (1, 2)
    assert [reason.code for reason in result.reasons] == ["inference.out_of_memory"]


def test_a_model_without_a_list_has_nothing_known(tmp_path: Path) -> None:
    """Nothing is asked, and nothing is wrong."""
    result, engine = run(tmp_path, None)
    assert result == KnownAnswersResult()
    assert not result.are_all_right
    assert not engine.requests


@pytest.mark.parametrize(
    "entries",
    [
        {"name": "no list"},
        [entry({"text": "42"}, pictures=["lost.png"])],
        [entry({"text": "42"}, pictures=["../../secret"])],
        [entry({})],
        [entry({"boxes": [{"label": "lamp", "box": [1, 2]}]})],
        [{"name": "nothing else"}],
        ["a text"],
    ],
)
def test_a_damaged_list_is_told(tmp_path: Path, entries: object) -> None:
    """It is a reason with a next step, not an error."""
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    result, engine = run(tmp_path, entries)
    assert result.reasons == (Reason("known.unreadable", model="demo"),)
    assert result.total == 0
    assert not engine.requests


def test_lists_that_are_nested_without_end_are_damaged_ones(tmp_path: Path) -> None:
    """A model's folder may come from anybody; Python gives up on such a text with an error of another kind."""
    (tmp_path / LISTING).write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match="nested"):
        load_known_answers(tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "samples.json").write_text("[" * 100_000, encoding="utf-8")
    assert load_samples(tmp_path) == ()


@pytest.mark.parametrize(("name", "least"), [("demo", 32), ("demo-relative", 14)])
def test_the_demo_model_knows_its_answers(tmp_path: Path, name: str, least: int) -> None:
    """Every known answer of the models that ship with the app comes out right, on this machine."""
    settings = load_settings(overrides={"models_dir": ROOT / "models", "model": name, "data_dir": tmp_path})
    with open_assistant(settings) as assistant:
        assistant.wait_until_loaded(120.0)
        result = run_known_answers(assistant)
    assert result.total == len(load_known_answers(ROOT / "models" / name)) >= least
    assert [(each.known.name, each.said) for each in result.results if not each.is_right] == []
    assert result.are_all_right
