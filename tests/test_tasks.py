"""Ready-made tasks: the prompts the models were trained on, by family and language, with a person's own words in them."""

from __future__ import annotations

import json

import pytest

from qwen_vl_app.chat import CoordinateSpace
from qwen_vl_app.errors import UsageError
from qwen_vl_app.tasks import TASKS, Takes, Task, prompt_of, task_named, task_of
from qwen_vl_app.texts import Language, catalogue

QWEN2_5, QWEN3 = CoordinateSpace.SEEN_PIXELS, CoordinateSpace.THOUSANDTHS


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_has_a_title_and_a_hint_in_both_languages(task: Task) -> None:
    """A person reads what it does and how to ask better."""
    for language in Language:
        assert catalogue(language)[task.title_code]
        assert catalogue(language)[task.hint_code]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("coordinates", CoordinateSpace)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_task_can_be_asked(task: Task, coordinates: CoordinateSpace, language: str) -> None:
    """Each family has words in each language; what a person adds stands in them."""
    given = () if task.takes is Takes.NOTHING else ("阀门 V-12",)
    prompt = prompt_of(task, given, coordinates=coordinates, language=language)
    assert all(word in prompt for word in given)
    has_chinese = any("\u4e00" <= char <= "\u9fff" for char in prompt.replace("阀门", ""))
    trained_in_english = "Locate every instance" in prompt
    assert has_chinese == (language == "zh") or trained_in_english


def test_the_two_families_are_asked_to_locate_in_their_own_words() -> None:
    """The published prompts differ, and each model boxes better when asked in its own."""
    task = task_named("find-and-count")
    assert prompt_of(task, ["lamp"], coordinates=QWEN2_5, language="en") == (
        "Outline the position of each lamp and output all the coordinates in JSON format."
    )
    assert prompt_of(task, ["lamp", "button"], coordinates=QWEN3, language="en") == (
        'Locate every instance that belongs to the following categories: "lamp, button". '
        "Report bbox coordinates in JSON format."
    )


def test_names_of_fields_are_locked_into_json() -> None:
    """The form in the prompt is JSON, whatever marks a name holds."""
    prompt = prompt_of(task_named("extract-fields"), ['5" valve', "date"], coordinates=QWEN2_5, language="en")
    assert json.loads(prompt.partition("format:")[2]) == {'5" valve': "", "date": ""}
    chinese = prompt_of(task_named("extract-fields"), ["发票代码", "发票号码"], coordinates=QWEN2_5, language="zh")
    assert chinese == "提取图中的：['发票代码','发票号码']，并且按照json格式输出。"


def test_words_that_are_missing_or_too_many_are_refused() -> None:
    """A task that needs names is not asked without them, and none are swallowed silently."""
    with pytest.raises(UsageError, match="something_missing"):
        prompt_of(task_named("extract-fields"), [" "], coordinates=QWEN2_5, language="en")
    with pytest.raises(UsageError, match="takes_nothing"):
        prompt_of(task_named("describe"), ["lamp"], coordinates=QWEN2_5, language="en")


def test_a_task_is_found_by_its_name() -> None:
    """Underscores and capitals are forgiven; anything else is answered with the names there are."""
    assert task_named("Read_Text") is task_named("read-text")
    with pytest.raises(UsageError) as refused:
        task_named("dance")
    assert "read-text" in str(refused.value.facts["known"])


@pytest.mark.parametrize("coordinates", list(CoordinateSpace))
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_question_tells_of_which_task_it_is(task: Task, language: str, coordinates: CoordinateSpace) -> None:
    """Whatever was added to it; any other question is of none."""
    for given in ([], ["serial number"], ["lamp", "red button", "门"]):
        if bool(given) is (task.takes is not Takes.NOTHING):
            question = prompt_of(task, given, coordinates=coordinates, language=language)
            assert task_of(f" {question}\n") is task
            assert task_of(f"{question} And why?") is not task or task.takes is Takes.INSTRUCTION
    assert task_of("Where is the lamp?") is None
