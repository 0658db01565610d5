"""The page around the conversation: list, languages, samples, status, and the walls between owners."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from qwen_vl_app.api.guard import PROFILE_COOKIE as GUARDS_COOKIE
from qwen_vl_app.chat import EngineState, EngineStatus, Question
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import ModelFolderError, UsageError
from qwen_vl_app.tasks import TASKS
from qwen_vl_app.texts import Language
from qwen_vl_app.ui import chat_page
from qwen_vl_app.ui import pages as page_module
from qwen_vl_app.ui.chat_page import PROFILE_COOKIE
from qwen_vl_app.ui.holdings import Told
from qwen_vl_app.ui.pages import PAGES
from qwen_vl_app.ui.state import CONVERSATIONS_AT_ONCE, TURNS_AT_ONCE
from qwen_vl_app.ui.status_view import loading_line, queue_line, status_rows
from qwen_vl_app.ui.words import Words
from tests.hub_parts import WAIT_S
from tests.ui.conftest import (
    MakeAssistant,
    address_of,
    ask,
    click,
    composer_of,
    finish,
    html_on,
    list_of,
    page_of,
    run_until,
    search,
    tell,
    titles_of,
    words_on,
)
from tests.ui.fakes import png


def test_page_and_guard_speak_of_the_same_cookie() -> None:
    """The doors do not know each other, so only a test can hold the two names together."""
    assert PROFILE_COOKIE == GUARDS_COOKIE


@pytest.mark.parametrize(
    ("headers", "cookie", "before", "owner"),
    [
        ({"Host": "here"}, "a" * 32, "", "a" * 32),
        ({"Host": "here"}, "b" * 32, "a" * 32, "b" * 32),
        ({"Host": "here"}, "", "", ""),
        ({"Host": "here"}, "", "a" * 32, ""),
        ({"Host": "here"}, "A" * 32, "a" * 32, ""),
        ({}, "", "a" * 32, "a" * 32),
        ({}, "", "", ""),
    ],
)
def test_a_tab_is_whose_its_request_says_and_nobodys_otherwise(
    headers: dict[str, str], cookie: str, before: str, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the browser goes away while its page is drawn, no request is left: what it asked last stays its own."""
    cookies = {PROFILE_COOKIE: cookie} if cookie else {}
    context = SimpleNamespace(headers=headers, cookies=cookies)
    monkeypatch.setattr(chat_page, "st", SimpleNamespace(context=context))
    if owner:
        assert chat_page._owner_of_this_browser(before) == owner
    else:
        with pytest.raises(UsageError) as refused:
            chat_page._owner_of_this_browser(before)
        assert refused.value.code == "guard.no_cookie"


def test_a_conversation_is_renamed(make_assistant: MakeAssistant) -> None:
    """Rename opens with the old title and keeps the new one."""
    assistant = make_assistant("Yes.")
    page = finish(assistant, ask(page_of(assistant), "Is it on?"))
    page = click(page, "rename", conversation=1)
    assert page.text_input(key="title-1").value == "Is it on?"
    page.text_input(key="title-1").set_value("Pump 3")
    page = page.button(key="save-title").click().run()
    assert assistant.conversation("local", 1).title == "Pump 3"
    assert titles_of(page.run()) == ["Pump 3"]


def test_deleting_asks_first_and_then_forgets_for_good(make_assistant: MakeAssistant) -> None:
    """Delete says that it is for good; afterwards neither list nor page nor caches have the conversation."""
    assistant = make_assistant("Yes.")
    page = finish(assistant, ask(page_of(assistant), "Is it on?", a__png=png()))
    page = click(page, "delete", conversation=1)
    assert "for good" in words_on(page)
    assert assistant.conversations("local")
    page = page.button(key="delete-sure").click().run()
    assert not page.exception
    assert assistant.conversations("local") == ()
    assert "c" not in address_of(page)
    assert "Is it on?" not in words_on(page)


def test_anothers_conversation_is_not_shown_nor_any_of_its_pictures(make_assistant: MakeAssistant) -> None:
    """An address that names another owner's conversation shows a sentence, and the welcome."""
    assistant = make_assistant("Secret answer.")
    staged = assistant.stage(png(), "secret.png")
    job = assistant.ask(Question("Secret question", (staged,)), owner="0" * 32)
    job.wait(WAIT_S)
    page = page_of(assistant, conversation=job.conversation_id)
    assert not page.exception
    said = words_on(page)
    assert "Secret" not in said
    assert "secret" not in said
    assert len(page.warning) == 1
    assert not page.image
    assert "c" not in address_of(page)


@pytest.mark.parametrize(("locale", "title"), [("zh-CN", "就图片提问"), ("en-GB", "Ask about your pictures")])
def test_the_page_speaks_the_browsers_language(make_assistant: MakeAssistant, locale: str, title: str) -> None:
    """The language follows the browser until one is chosen."""
    assert page_of(make_assistant(), locale=locale).title[0].value == title


def test_an_uploaders_english_words_give_way_to_the_pages_own(make_assistant: MakeAssistant) -> None:
    """Streamlit has no setting for them; where the page speaks English they are right as they are."""
    assistant = make_assistant()
    rules = {
        locale: "".join(element.proto.body for element in page_of(assistant, locale=locale).get("html"))
        for locale in ("zh-CN", "en-US")
    }
    assert 'content: "选择文件"' in rules["zh-CN"] and 'content: "把文件放到这里"' in rules["zh-CN"]
    assert "stFileUploaderDropzone" not in rules["en-US"]


def test_the_language_can_be_switched_and_stays_in_the_address(make_assistant: MakeAssistant) -> None:
    """Choosing Chinese turns the whole page, and a reload keeps it."""
    page = page_of(make_assistant())
    page = page.segmented_control(key="language-en").set_value("中文").run()
    assert page.title[0].value == "就图片提问"
    assert address_of(page)["lang"] == "zh"


def test_the_language_can_be_switched_after_the_browser_went_back_over_a_switch(make_assistant: MakeAssistant) -> None:
    """The switch shows the language of the page, and the other one is one click away again."""
    page = page_of(make_assistant())
    page = page.segmented_control(key="language-en").set_value("中文").run()
    page = tell(page, Told(1, "went", {})).run()
    assert page.title[0].value == "Ask about your pictures"
    switch = page.segmented_control(key="language-en")
    assert switch.value is Language.ENGLISH
    assert switch.set_value("中文").run().title[0].value == "就图片提问"


def test_a_sample_of_the_demo_model_is_one_click_from_an_answer(make_assistant: MakeAssistant, tmp_path: Path) -> None:
    """The demo model says what it is; a card asks its own question about its own picture."""
    folder = tmp_path / "models" / "demo" / "samples"
    folder.mkdir(parents=True)
    (folder / "one.png").write_bytes(png())
    entry = {
        "file": "one.png",
        "title": {"en": "A panel", "zh": "面板"},
        "question": {"en": "Read all the text in the image.", "zh": "请识别出图中所有的文字。"},
    }
    (folder / "samples.json").write_text(json.dumps([entry, {"file": "gone.png"}]), encoding="utf-8")
    engine = DemoEngine(["PRESSURE 12.5"], model="demo")
    assistant = make_assistant(engine=engine)
    page = page_of(assistant, locale="zh")
    assert "演示模型" in words_on(page)
    assert re.findall(r'data-sample="(\d+)"', html_on(page)) == ["0"]
    assert "面板" in html_on(page)
    page = finish(assistant, click(click(page, "sample", sample=0), "sample", sample=0))  # one click too many
    assert "PRESSURE 12.5" in words_on(page)
    assert len(assistant.turns("local", 1)) == 1
    assert engine.requests[0].messages[-1].text == "请识别出图中所有的文字。"


def test_a_model_without_samples_offers_tasks_that_go_into_the_composer(make_assistant: MakeAssistant) -> None:
    """A card writes its question in the reader's language; nothing is asked before a picture has come."""
    engine = FakeEngine([])
    page = page_of(make_assistant(engine=engine), locale="zh-CN")
    page = click(page, "task", task=[task.name for task in TASKS].index("read-text"))
    page = page.button(key="task-take").click().run()
    restored = composer_of(page)["restore"]
    assert (restored["text"], restored["detail"]) == ("请识别出图中所有的文字。", "detail")
    assert not engine.requests


def test_the_list_grows_on_demand(make_assistant: MakeAssistant) -> None:
    """Older conversations come when asked for."""
    assistant = make_assistant(*["Yes."] * 60, queue_limit=100, queue_limit_per_owner=100)
    for number in range(CONVERSATIONS_AT_ONCE + 5):
        assistant.ask(Question(f"Question {number}"))
    page = page_of(assistant)
    assert len(titles_of(page)) == CONVERSATIONS_AT_ONCE
    assert list_of(page)["has_older"]
    page = click(page, "older")
    assert len(titles_of(page)) == CONVERSATIONS_AT_ONCE + 5
    assert not list_of(page)["has_older"]


def test_a_search_finds_words_in_answers_and_leads_to_the_turn(make_assistant: MakeAssistant) -> None:
    """What was said far up is found with its words marked, and a click opens the conversation there."""
    assistant = make_assistant("The gauge shows seven bar.", *["Yes."] * TURNS_AT_ONCE)
    for number in range(TURNS_AT_ONCE + 1):
        assistant.ask(Question(f"And {number}?" if number else "Pump?", conversation_id=1 if number else None)).wait(
            WAIT_S
        )
    page = page_of(assistant, conversation=1)
    assert "seven bar" not in words_on(page)
    page = search(page.button(key="new").click().run(), "SEVEN")
    (hit,) = list_of(page)["hits"]
    assert (hit["title"], hit["turn"]) == ("Pump?", 1)
    assert [text for text, is_match in hit["pieces"] if is_match] == ["seven"]
    page = click(page, "open", conversation=hit["id"], turn=hit["turn"])
    assert "seven bar" in words_on(page)
    assert composer_of(page)["jump"]["turn"] == 1
    page = search(page, "nowhere")
    assert list_of(page)["note"] == "Nothing here has all these words."


def test_a_conversation_is_pinned_without_being_opened(make_assistant: MakeAssistant) -> None:
    """A pinned one stands at the top under its own heading, and lets go again."""
    assistant = make_assistant("One.", "Two.")
    page = finish(assistant, ask(page_of(assistant), "First?"))
    page = finish(assistant, ask(page.button(key="new").click().run(), "Second?"))
    page = click(page, "pin", conversation=1, on=1)
    assert [group["name"] for group in list_of(page)["groups"]] == ["Pinned", "Today"]
    assert titles_of(page) == ["First?", "Second?"]
    assert address_of(page)["c"] == "2"
    page = click(page, "pin", conversation=1, on=0)
    assert [group["name"] for group in list_of(page)["groups"]] == ["Today"]


@pytest.mark.parametrize(
    "act", ["open", "pin", "rename", "delete", "again", "edit", "erase", "version", "large", "nonsense"]
)
def test_a_click_cannot_reach_what_is_anothers(make_assistant: MakeAssistant, act: str) -> None:
    """Whatever number a browser sends, nobody else's conversation opens, changes or goes."""
    assistant = make_assistant("Secret.")
    job = assistant.ask(Question("Whose?"), owner="0" * 32)
    job.wait(WAIT_S)
    page = click(page_of(assistant), act, conversation=job.conversation_id, turn=job.turn_id, picture="1 OR 1", on=1)
    assert not page.exception
    assert "Secret." not in words_on(page) and "Whose?" not in words_on(page)
    (kept,) = assistant.conversations("0" * 32)
    assert (kept.title, kept.is_pinned, kept.turn_count) == ("Whose?", False, 1)


def test_the_settings_page_shows_neither_keys_nor_the_places_of_folders(
    make_assistant: MakeAssistant, tmp_path: Path
) -> None:
    """Everybody who sees the page sees the settings; a key lets a program in, and would be anybody's."""
    key = "a-key-of-programs-0123456789"
    folders = (tmp_path / "photos-a", tmp_path / "photos_b")
    assistant = make_assistant(api_keys=(key,), remote_key="another-key-0123456789", batch_folders=folders)
    table = click(page_of(assistant), "page-settings").dataframe[0].value
    values = dict(zip(table["Name"], table["Value here"], strict=True))
    assert (values["api_keys"], values["remote_key"]) == ("••••••", "••••••")
    assert values["batch_folders"] == "photos-a, photos_b"
    assert not [value for value in values.values() if str(tmp_path) in value or "key" in value]
    usual = dict(zip(table["Name"], table["Default"], strict=True))
    assert (usual["api_keys"], usual["queue_limit"]) == ("", "32")


def test_status_and_settings_have_a_page_with_an_address(make_assistant: MakeAssistant) -> None:
    """The page names every setting and why the model was chosen; a new conversation leads back."""
    assistant = make_assistant()
    page = click(page_of(assistant), "page-settings")
    assert address_of(page)["view"] == "settings"
    assert "max_upload_mb" in list(page.dataframe[0].value["Name"])
    assert str(assistant.settings.data_dir.parent) not in page.dataframe[0].value.to_string()
    page = page.button(key="new").click().run()
    assert "view" not in address_of(page)
    assert page.title[0].value == "Ask about your pictures"


@pytest.mark.parametrize(("locale", "here", "there"), [
    ("en-US", "this computer", "the computer that runs the app"), ("zh-CN", "这台电脑", "运行本应用的电脑"),
])  # fmt: skip
def test_a_reader_at_another_computer_is_told_which_one_keeps_things(
    make_assistant: MakeAssistant, locale: str, here: str, there: str
) -> None:
    """Behind a reverse proxy "this computer" is the reader's, who does not run the app."""
    near = words_on(click(page_of(make_assistant(), locale=locale), "page-settings"))
    assert f"**Nothing leaves {here}" in near or f"不会离开{here}" in near
    shared = make_assistant(public_origins=("https://vision.site.example",), api_keys=("a-key-of-programs-0123456789",))
    first = page_of(shared, locale=locale)
    far = words_on(first) + str(list_of(first)) + words_on(click(first, "page-settings"))
    assert there in far and here not in far
    assert Words(Language.ENGLISH, is_elsewhere=True)("list.empty").endswith("on the computer that runs the app.")


@pytest.mark.parametrize(
    ("loaded", "total", "told"),
    [
        (0, 0, "Starting the engine …"),
        (250, 1000, "Loading the model: 250 B of 1000 B"),
        (1000, 1000, "Loaded; trying it out …"),
    ],
)
def test_every_stage_of_loading_has_a_name(loaded: int, total: int, told: str) -> None:
    """No number is shown where there is none to show."""
    status = EngineStatus(EngineState.LOADING, loaded_bytes=loaded, weights_bytes=total)
    assert loading_line(status, Words(Language.ENGLISH)) == told


def test_a_model_that_cannot_be_loaded_leaves_the_history_readable(make_assistant: MakeAssistant) -> None:
    """The page says why there is no model, and does not take questions."""
    error = ModelFolderError("model.not_loaded")
    page = page_of(make_assistant(engine=FakeEngine(load_error=error), waits=False))
    run_until(page, lambda page: page.warning)
    assert not composer_of(page)["can_ask"]
    assert "models/qwen2.5-vl-7b-instruct" in words_on(page)


def test_a_question_that_cannot_be_kept_is_answered_all_the_same(make_assistant: MakeAssistant, tmp_path: Path) -> None:
    """Without a history the answer stands on the page, with a note that it is not kept."""
    (tmp_path / "data").write_text("a file where the folder should be")
    assistant = make_assistant("An answer.")
    page = ask(page_of(assistant), "Still there?", a__png=png())
    run_until(page, lambda page: "An answer." in words_on(page))
    assert not page.exception
    assert assistant.status.history_problem is not None
    assert "Still there?" in words_on(page)


class DemoEngine(FakeEngine):
    """A scripted engine that says it is the demo."""

    def load(self) -> None:
        """Become ready, as the demo."""
        super().load()
        self._status = replace(self._status, is_demo=True)


def test_the_status_line_tells_what_is_asked_and_not_what_the_queue_still_puts_away(
    make_assistant: MakeAssistant,
) -> None:
    """An answer that is over is not in the making, whatever the queue has left to do; several at a time are counted."""
    status = make_assistant().status
    english = Words(Language.ENGLISH)
    assert queue_line(replace(status, is_busy=True), english) == "No one waiting"
    assert queue_line(replace(status, unanswered=1), english) == "One answer in progress"
    assert queue_line(replace(status, unanswered=3), english) == "3 answers in progress"
    assert queue_line(replace(status, unanswered=3, waiting=2), english) == "2 waiting"


def test_an_answer_in_the_making_is_in_the_status_until_it_is_over(
    make_assistant: MakeAssistant, gate: threading.Semaphore
) -> None:
    """From the question to the last word, and no moment longer."""
    assistant = make_assistant(engine=FakeEngine([["one ", "two"]], gate=gate))
    job = assistant.ask(Question("Count"))
    assert assistant.status.unanswered == 1
    gate.release(2)
    assert job.wait(60) is not None
    assert assistant.status.unanswered == 0


def test_every_page_and_every_line_of_the_status_has_its_drawing(make_assistant: MakeAssistant) -> None:
    """The browser's part draws them by name."""
    drawings = Path(page_module.__file__).with_name("frontend").joinpath("rows.js").read_text(encoding="utf-8")
    rows = status_rows(make_assistant().status, Words(Language.ENGLISH))
    for name in [*PAGES, *(row.name for row in rows), "notices"]:
        assert f"  {name}: " in drawings, name
    assert all(row.explanation for row in rows)
