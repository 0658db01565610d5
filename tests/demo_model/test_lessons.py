"""Where a lesson asks the model to look: every place is one that it can see, and the one that the answer comes from."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from scripts.demo_model import cell_plates, scenes, thing_questions, wide_questions
from scripts.demo_model.curriculum import LONGEST, Split, generator
from scripts.demo_model.drawing import Picture
from scripts.demo_model.drawn_lessons import pair_lesson, shortened, skill_lesson
from scripts.demo_model.lessons import Conversation, Lesson, pack, sequence_of, tokenizer
from scripts.demo_model.phrases import Language
from scripts.demo_model.questions import NOWHERE, Exchange, corner_of


def rng(number: int) -> np.random.Generator:
    return generator(Split.EXAMINATION, 21, number)


def plate(*texts: tuple[str, str]) -> Picture:
    return cell_plates.draw_cell_panel(rng(0), 10, 6, worn=False, fixed=texts)


def places(picture: Picture, conversation: Conversation) -> tuple[list[str], dict[str, list[int]], int]:
    """Return the tokens as words, the guided places by name, and the place that says "nowhere"."""
    made = sequence_of(Lesson((picture,), (conversation,)))
    words = [tokenizer().decode([t], skip_special_tokens=False) for t in made.tokens]
    guided = {"guides": made.guides, "matches": made.matches, "hops": made.hops, "late": made.late}
    return words, guided, made.images[0] - 1


@pytest.mark.parametrize("number", range(20))
def test_every_place_can_be_seen_from_the_token_that_looks_there(number: int) -> None:
    """No token is asked to look ahead of itself or into another conversation."""
    lesson = pair_lesson(rng(number), 10, 6) if number % 5 == 0 else skill_lesson(rng(number), 10, 6)
    batch = pack([lesson])
    for wanted in (batch.guides, batch.matches, batch.hops, batch.late):
        tokens = (wanted[0] >= 0).nonzero().flatten()
        assert batch.allowed[0, tokens, wanted[0, tokens]].all()
    sequence, token, place = batch.tallies.unbind(-1)
    assert batch.allowed[sequence, token, place].all()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("ask", [thing_questions.count, thing_questions.yes_no, wide_questions.describe])
def test_a_number_looks_at_all_that_it_counts_and_once_at_nothing(ask: wide_questions.Asking, language: str) -> None:
    """The shares of each counting token make one; each counted thing has a place of its own."""
    for number in range(8):
        picture = scenes.draw_scene(rng(number))
        exchange = ask(rng(100 + number), picture, "en" if language == "en" else "zh")
        shares: dict[int, list[float]] = defaultdict(list)
        batch = pack([Lesson((picture,), ((exchange,),))])
        for (_, token, _), share in zip(batch.tallies.tolist(), batch.tally_shares.tolist(), strict=True):
            shares[token].append(share)
        assert len(shares) == len(exchange.tallies) > 0
        for tally, found in zip(exchange.tallies, shares.values(), strict=True):
            assert len(found) == len(set(tally.cells)) + 1
            assert sum(found) == pytest.approx(1.0)
        counted = {cell for tally in exchange.tallies for cell in tally.cells}
        assert counted <= {corner_of(thing) for thing in picture.things}


def test_between_asked_fields_the_next_one_is_looked_for_and_at_the_end_nothing() -> None:
    """An object goes on while the question names another label, and closes when it names none."""
    picture = plate(("TAG", "P-204"), ("BAR", "6.3"))
    exchange: Exchange | None = None
    for number in range(400):
        exchange = wide_questions.fields_as_json(rng(number), picture, "en")
        if list(json.loads(exchange.answer)) == ["BAR", "TAG"] and "BAR, TAG" in exchange.question:
            break
    assert exchange is not None
    words, guided, nowhere = places(picture, (exchange,))
    separator, end = words.index('",'), words.index('"}')
    asked = words.index("T")
    assert "".join(words[asked : asked + 3]) == "TAG"
    assert guided["guides"][separator - 1] == asked
    assert guided["guides"][end - 1] == nowhere


def test_a_question_that_leans_goes_by_way_of_the_label_before() -> None:
    """ "And where is it?" finds its row through the label of the question it goes on from."""
    picture = plate(("TAG", "P-204"), ("BAR", "6.3"))
    talk: tuple[Exchange, Exchange] | None = None
    for number in range(400):
        talk = wide_questions.follow_up(rng(number), picture, "en")
        if talk[1].leans and talk[1].skill == "row_box" and talk[0].question.endswith("?"):
            break
    assert talk is not None
    first, then = talk
    words, guided, _ = places(picture, talk)
    digit = max(i for i, word in enumerate(words) if word == " [") + 1
    via = guided["hops"][digit - 1]
    assert words[via] == first.subject[-1]
    assert guided["late"][digit - 1] > 0
    assert then.subject == first.subject


@pytest.mark.parametrize(
    ("one", "other", "differs"), [("6.3", "6.3", ""), ("68.4", "71.2", "7"), ("12", "123", "3"), ("123", "12", " in")]
)
def test_a_verdict_looks_at_the_first_character_that_differs(one: str, other: str, differs: str) -> None:
    """Equal values send it nowhere; a longer one differs where the shorter ends."""
    pair = plate(("TAG", one)), plate(("TAG", other))
    exchange = next(
        e for n in range(50) for e in wide_questions.about_two(rng(n), pair) if e.skill == "same" and e.language == "en"
    )
    made = sequence_of(Lesson(pair, ((exchange,),)))
    words = [tokenizer().decode([t], skip_special_tokens=False) for t in made.tokens]
    verdict = max(i for i, word in enumerate(words) if word == ":") + 1
    looked = made.late[verdict - 1]
    assert (looked == made.images[0] - 1) if not differs else (words[looked] == differs)
    second = [i for i, m in enumerate(made.matches) if m > max(made.images) + 60]
    assert len(second) == min(len(one), len(other)) + 1


def test_nowhere_is_no_cell_of_a_picture() -> None:
    """The place that says "nothing more" stands for no visual token."""
    assert NOWHERE.row < 0
    assert NOWHERE.column < 0


def test_the_long_questions_of_the_apps_tasks_are_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not fit behind another conversation, and would be left out where a lesson is shortened."""
    asked: list[Exchange] = []

    def beyond(rng: np.random.Generator, picture: Picture, language: Language, *, is_task: bool = False) -> Exchange:
        exchange = ask(rng, picture, language, is_task=is_task)
        if is_task:
            asked.append(exchange)
        return exchange

    ask = wide_questions.beyond
    monkeypatch.setattr(wide_questions, "beyond", beyond)
    taught = [
        exchange
        for number in range(150, 250)
        for conversation in shortened(skill_lesson(rng(number), 10, 6), LONGEST).conversations
        for exchange in conversation
    ]
    assert asked
    assert all(exchange in taught for exchange in asked)
