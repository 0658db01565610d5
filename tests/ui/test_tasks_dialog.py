"""Ready-made tasks: filled in, in the words of the family, at their rung; one's own are kept, taken and removed."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from qwen_vl_app.chat import CoordinateSpace, Detail
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.own_tasks import OwnTask
from qwen_vl_app.tasks import TASKS
from tests.ui.conftest import MakeAssistant, click, composer_of, page_of, words_on


def opened(page: AppTest, name: str) -> AppTest:
    return click(page, "task", task=[task.name for task in TASKS].index(name))


def test_a_task_is_filled_in_in_the_words_of_the_family(make_assistant: MakeAssistant) -> None:
    """Both families get their own words; nothing can be taken before something was named."""
    for space, asked in (
        (CoordinateSpace.SEEN_PIXELS, "Outline the position of each screw and red lamp and output"),
        (
            CoordinateSpace.THOUSANDTHS,
            'Locate every instance that belongs to the following categories: "screw, red lamp".',
        ),
    ):
        page = opened(page_of(make_assistant(engine=FakeEngine([], coordinates=space))), "find-and-count")
        assert page.button(key="task-take").disabled
        page = page.text_area(key="task-given-find-and-count").set_value("screw\n red lamp,\n").run()
        assert "Tip:" in words_on(page)
        page = page.button(key="task-take").click().run()
        restored = composer_of(page)["restore"]
        assert restored["text"].startswith(asked)
        assert restored["detail"] == "detail"


def test_an_instruction_is_one_text(make_assistant: MakeAssistant) -> None:
    """Commas and lines in an instruction part nothing."""
    page = opened(page_of(make_assistant()), "check")
    page = page.text_area(key="task-given-check").set_value("Four screws, all tight.\nThe cover is closed.").run()
    page = page.button(key="task-take").click().run()
    assert composer_of(page)["restore"]["text"].endswith("Instruction: Four screws, all tight. The cover is closed.")


def test_ones_own_tasks_are_listed_taken_and_belong_to_their_owner(make_assistant: MakeAssistant) -> None:
    """A name with signs of Markdown means itself; another owner's tasks are in no list."""
    assistant = make_assistant()
    assistant.own_tasks.save("local", [OwnTask("*Plate* [1]", "Read the plate.", Detail.LOW_MEMORY)])
    assistant.own_tasks.save("somebody", [OwnTask("Secret", "x")])
    page = page_of(assistant)
    page = opened(page, "describe")
    page = page.button(key="task-back").click().run()
    assert page.button(key="take-own-*Plate* [1]").label == r"\*Plate\* \[1\]"
    assert "Secret" not in words_on(page)
    page = page.button(key="take-own-*Plate* [1]").click().run()
    restored = composer_of(page)["restore"]
    assert (restored["text"], restored["detail"]) == ("Read the plate.", "low_memory")


def test_a_question_is_taken_as_it_was_left(make_assistant: MakeAssistant) -> None:
    """The click that takes it often ends its writing: both reach a busy app at once, and the last words count."""
    assistant = make_assistant()
    page = opened(page_of(assistant), "describe")
    next(each for each in page.text_area if str(each.key).startswith("task-prompt-")).set_value("Describe the pump.")
    page = page.button(key="task-take").click().run()
    assert composer_of(page)["restore"]["text"] == "Describe the pump."

    page = opened(page, "find-and-count")
    page = page.text_area(key="task-given-find-and-count").set_value("screw").run()
    page.text_area(key="task-given-find-and-count").set_value("red lamp")
    page = page.button(key="task-take").click().run()
    said = composer_of(page)["restore"]["text"]
    assert "red lamp" in said and "screw" not in said

    page = click(page, "tasks").button(key="task-new").click().run()
    page = page.text_area(key="task-own-prompt").set_value("Read").run()
    page.text_area(key="task-own-prompt").set_value("Read the plate.")
    page.selectbox(key="task-own-detail").select_index(0)
    plan = assistant.status.engine.plan
    assert plan is not None and (first := plan.rungs[0].detail) is not plan.rung().detail
    page = page.button(key="task-take").click().run()
    restored = composer_of(page)["restore"]
    assert (restored["text"], restored["detail"]) == ("Read the plate.", first.value)


def test_a_task_of_ones_own_goes_after_a_person_was_asked_and_alone(make_assistant: MakeAssistant) -> None:
    """A second click on the bin finds what it meant gone, and no other task in its place."""
    assistant = make_assistant()
    assistant.own_tasks.save("local", [OwnTask(name, f"Read {name}.") for name in ("A", "B", "C")])
    page = click(page_of(assistant), "tasks")
    assert "Remove **B** from your tasks?" in words_on(page)
    page.button(key="remove-own-B").click()
    page = page.run()
    assert [task.title for task in assistant.own_tasks.of("local")] == ["A", "C"]
    keys = [str(button.key) for button in page.button if "remove-own" in str(button.key)]
    assert keys == ["remove-own-A", "remove-own-C"]


def test_erasing_everything_takes_ones_own_tasks_along(make_assistant: MakeAssistant) -> None:
    """They are words of a person, too."""
    assistant = make_assistant()
    assistant.own_tasks.save("local", [OwnTask("Plate", "Read the plate.")])
    assistant.records.erase_everything("local")
    assert assistant.own_tasks.of("local") == ()
