"""Questions, follow-ups, stops, people who walk away and faults in any order: what is said to the end is the library's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch

from qwen_vl_app.chat import FinishReason, Message, SamplingParams
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Step, TokenStep
from qwen_vl_app.engine.local import slab
from qwen_vl_app.engine.local.prefixes import PrefixStore, Rest
from qwen_vl_app.errors import OutOfMemoryError
from tests.engine.harness import Pair
from tests.engine.test_chunks import reading

TURNS = 4


@dataclass(eq=False)
class Asked:
    """One question under way. `left` is how many steps its caller stays for, `is_patient` who stays to the end."""

    messages: tuple[Message, ...]
    key: str
    ids: list[int]
    length: int
    left: int
    fate: str
    steps: Iterator[Step] = field(default_factory=lambda: iter(()))
    said: list[int] = field(default_factory=list)
    text: str = ""
    end: FinishedStep | None = None

    def should_stop(self) -> bool:
        """Stop once the caller has had enough, where it says so."""
        return self.fate == "stopped" and self.left < 0


def some_faults(dice: random.Random) -> Callable[[str], None]:
    """Return a fault that comes once, after so many passes of any point."""
    left = dice.randrange(60)

    def fail(at: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise torch.OutOfMemoryError(f"CUDA out of memory at {at}")

    return fail


def go_on(asked: Asked) -> bool:
    """Run one step of a question; False where it was the last."""
    asked.left -= 1
    if asked.fate == "closed" and asked.left < 0:
        asked.steps.close()  # type: ignore[attr-defined]
        return False
    try:
        step = next(asked.steps, None)
    except OutOfMemoryError:
        return False
    match step:
        case TokenStep(text, token):
            asked.said.append(token)
            asked.text += text
        case FinishedStep():
            assert asked.end is None
            asked.end = step
            asked.text += step.text
    return step is not None


def test_whatever_happens_between_an_answer_is_the_librarys(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Several at once over three rows and a small store; what was stopped or failed harms nobody, and nothing stays behind."""
    monkeypatch.setattr(slab, "SHORTEST_BUCKET", 32)
    engine, whole = pair.engine, pair.engine._parts
    assert whole is not None
    request.addfinalizer(lambda: setattr(engine, "_parts", whole))
    token_bytes = engine._token_bytes()
    read = reading(pair, rows=3, tokens=300)
    assert engine._parts is not None
    rest = Rest(300 * token_bytes, away=torch.clone, back=torch.clone)
    parts = engine._parts = replace(engine._parts, prefixes=PrefixStore(300 * token_bytes, rest=rest))
    dice = random.Random(1)
    pictures = [pair.picture(200 + number, 1 + number, 3) for number in range(4)]
    specials = set(parts.tokens.specials.values())
    talks: list[tuple[str, tuple[Message, ...]]] = []

    def asked() -> Asked:
        key, before = dice.choice(talks) if talks and dice.random() < 0.7 else (f"talk {dice.randrange(4)}", ())
        if before and dice.random() < 0.3:
            before = before[:-2]  # the last question in another form
        images = tuple(dice.sample(pictures, dice.randrange(3)))
        messages = (*before, Message("user", dice.choice(("What is it?", "读取文字 🙂", "Why? " * 9)), images))
        fate = dice.choice(("ends", "ends", "stopped", "closed"))
        ids = list(engine._prompt(parts, messages, key).token_ids)
        made = Asked(messages, key, ids, dice.choice((1, 8, 16)), dice.randrange(40), fate)
        sampling = SamplingParams(max_new_tokens=made.length)
        made.steps = engine.generate(GenerationRequest(messages, sampling, key), should_stop=made.should_stop)
        return made

    ended = 0
    for turn in range(TURNS):
        engine._fault = some_faults(dice) if turn % 2 else lambda at: None
        all_of_it = [asked() for _ in range(dice.randrange(2, 6))]
        under_way = list(all_of_it)
        while under_way:
            one = dice.choice(under_way)
            if not go_on(one):
                under_way.remove(one)
        engine._fault = lambda at: None
        for each in all_of_it:
            expected = pair.expected(*each.messages, ids=each.ids, max_new_tokens=each.length) if each.said else []
            assert each.said == expected[: len(each.said)]
            if each.end is not None and each.end.finish_reason is not FinishReason.STOPPED:
                ended += 1
                assert each.said == expected
                assert each.end.usage.completion_tokens == len(each.said)
                assert each.end.usage.cached_tokens < each.end.usage.prompt_tokens == len(each.ids)
                if not specials & set(each.said):  # which the library would take for a picture
                    talks.append((each.key, (*each.messages, Message("assistant", each.text))))
        assert not read.rounds._seated and not read.stepper._seats
        assert parts.prefixes.running_bytes == 0
    assert ended > TURNS // 2
