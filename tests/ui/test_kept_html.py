"""HTML that is kept: given back for the very same turn alone, within bounds, and gone after an erasure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import Question
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.ui import kept_html
from qwen_vl_app.ui.kept_html import MOST, forget_html, html_of
from tests.hub_parts import WAIT_S
from tests.ui.conftest import MakeAssistant, ask, click, finish, html_on, page_of


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    forget_html()
    yield
    forget_html()


def test_html_is_made_again_only_for_something_else() -> None:
    """The same key and the same content are made once; other content under the key, another time."""
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return f"<p>{len(made)}</p>"

    assert [html_of(1, ("a",), make), html_of(1, ("a",), make), html_of(1, ("b",), make)] == [
        "<p>1</p>",
        "<p>1</p>",
        "<p>2</p>",
    ]
    forget_html()
    assert html_of(1, ("b",), make) == "<p>3</p>"


def test_no_more_is_kept_than_fits() -> None:
    """The ones that were made first go first."""
    for number in range(MOST + 5):
        html_of(number, number, lambda: "")
    assert len(kept_html._kept) == MOST
    assert 4 not in kept_html._kept and 5 in kept_html._kept


def test_an_erasure_leaves_nothing_behind(make_assistant: MakeAssistant) -> None:
    """What was drawn of a turn is kept while it is there, and gone from this process when something is erased."""
    assistant = make_assistant(engine=FakeEngine(["A secret.", "Later."]))
    page = finish(assistant, ask(page_of(assistant), "Which?"))
    assistant.ask(Question("And?", conversation_id=1)).wait(WAIT_S)
    page.run()
    assert "A secret." in html_on(page)
    assert "A secret." in str(kept_html._kept)
    click(page, "delete", conversation=1).button(key="delete-sure").click().run()
    assert not kept_html._kept


def test_an_erasure_behind_the_page_leaves_nothing_behind(make_assistant: MakeAssistant) -> None:
    """A program's erasure, or one by age, does not pass through the page, and reaches what the page keeps all the same."""
    assistant = make_assistant(engine=FakeEngine(["A secret.", "Later."]))
    page = finish(assistant, ask(page_of(assistant), "Which?"))
    assistant.ask(Question("And?", conversation_id=1)).wait(WAIT_S)
    page.run()
    assert "A secret." in str(kept_html._kept)
    assistant.records.erase_everything(LOCAL_OWNER)
    assert not kept_html._kept


def test_private_turns_are_not_kept(make_assistant: MakeAssistant) -> None:
    """What goes with its tab is in nothing that outlives it."""
    assistant = make_assistant(engine=FakeEngine(["A secret.", "Later."]))
    page = click(page_of(assistant), "private", on=1)
    page = finish(assistant, ask(page, "Which?"))
    page = finish(assistant, ask(page, "And?"))
    assert "A secret." in html_on(page)
    assert not kept_html._kept
