"""How fast this machine is with this model: measured once, on a picture and a few words, when it is loaded.

Knows seconds and tokens. Does not know what is answered. The same run warms the model up: the first pass through fresh
kernels and memory takes many times as long as the second, and nobody should wait for it with a question.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from qwen_vl_app.chat import ImageInput, Message, Size
from qwen_vl_app.engine.families import Shape
from qwen_vl_app.engine.local.decoding import Decoder
from qwen_vl_app.engine.local.device_clock import Clock, clock_of
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.prompt import PromptBuilder
from qwen_vl_app.engine.local.steps import Rounds
from qwen_vl_app.engine.local.vision import PictureEncoder

log = logging.getLogger(__name__)

SIDE_TOKENS = 8
"""The picture is a square of so many tokens."""
CARD_SIDE_TOKENS = 31
"""On a card: what is small takes as long there as launching kernels and reading weights, whatever its size, and says nothing of
a real picture. With a question about it, this fits into the least slab of captured steps; where memory is too short for it,
the small one is taken.
"""
DECODED_TOKENS = 4
LONG_ENOUGH_S = 2.0
"""A first round that took this long was mostly work and not warming up; it is not repeated. On a card it always is: kernels are
brought there when they are first called, which can take as long.
"""
QUESTION = "Read all the text in the image."
ROWS = (1, 2, 4, 8)
"""Answers in one step, of which each is tried."""
STEPS_TRIED, TRYING_S = 4, 0.25
"""Steps for each number of answers, fewer where they take longer than this together."""
CARD_SHARED_TOKENS = 128
"""On a card, behind so many tokens: copies of a long prompt for each answer could be more than there is room for."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured: seconds for one picture of `picture_tokens`, for `prompt_tokens` read, and for one token made."""

    picture_tokens: int
    encode_s: float
    prompt_tokens: int
    prefill_s: float
    token_s: float

    def first_token_s(self, shape: Shape, pictures: Sequence[int], *, text_tokens: int) -> float:
        """Return the seconds until the first word of a question with pictures of so many tokens and so much text.

        Grows with the work: linear layers with the tokens, attention with their square.
        """
        encode = sum(
            self.encode_s * shape.vision_work(tokens) / shape.vision_work(self.picture_tokens) for tokens in pictures
        )
        prompt = sum(pictures) + text_tokens
        # A pass costs at least the reading of all weights, which is what one token costs.
        prefill = self.prefill_s * shape.text_work(prompt) / shape.text_work(self.prompt_tokens)
        return encode + max(prefill, self.token_s)

    def figures(self) -> Mapping[str, float]:
        """Return the same by name, for a status."""
        return {
            "vision_s_per_token": self.encode_s / self.picture_tokens,
            "prefill_tokens_per_s": self.prompt_tokens / self.prefill_s,
            "decode_tokens_per_s": 1 / self.token_s,
        }


@dataclass(frozen=True, slots=True)
class _Round:
    speed: Speed
    cache: KVCache
    position: int


def measure(
    prompts: PromptBuilder,
    encoder: PictureEncoder,
    decoder: Decoder,
    rounds: Rounds,
    *,
    factor: int,
    clock: Clock | None = None,
) -> tuple[Speed, Mapping[int, float]]:
    """Run a picture and a few words through the model, twice where the first time was short or on a card; return the second.

    Beside it, for 2, 4 and 8 answers made in one step, as far as steps take so many: how many times the tokens a second of
    one alone.
    """
    clock = clock or clock_of(decoder.device)
    done: _Round | None = None
    if clock.is_card:
        try:
            done = _warm(prompts, encoder, decoder, rounds, _noise(CARD_SIDE_TOKENS * factor), clock=clock)
        except torch.OutOfMemoryError:
            log.info("memory is too short to measure a picture of %d tokens", CARD_SIDE_TOKENS**2)
    # Behind the handler, which holds what did not fit.
    done = done or _warm(prompts, encoder, decoder, rounds, _noise(SIDE_TOKENS * factor), clock=clock)
    return done.speed, _gains(rounds, done, clock)


def _noise(side: int) -> ImageInput:
    rgb = random.Random(0).randbytes(side * side * 3)  # noqa: S311 - noise, not a secret
    return ImageInput(hashlib.sha256(rgb).hexdigest(), Size(side, side), rgb)


def _warm(
    prompts: PromptBuilder,
    encoder: PictureEncoder,
    decoder: Decoder,
    rounds: Rounds,
    image: ImageInput,
    *,
    clock: Clock,
) -> _Round:
    began = clock()
    done = _round(prompts, encoder, decoder, rounds, image, clock=clock)
    if clock.is_card or clock() - began < LONG_ENOUGH_S:
        done = _round(prompts, encoder, decoder, rounds, image, clock=clock)
    return done


def _gains(rounds: Rounds, of: _Round, clock: Clock) -> Mapping[int, float]:
    gains: dict[int, float] = {}
    alone_s = 0.0
    for rows in ROWS:
        if rows > rounds.most_rows or rounds.most_rows == 1:
            break
        step_s = _step_s(rounds, of, rows, clock)
        alone_s = alone_s or step_s
        gains[rows] = rows * alone_s / step_s
    return gains


def _step_s(rounds: Rounds, of: _Round, rows: int, clock: Clock) -> float:
    """Return the seconds of the quickest of a few steps of so many answers: what came in between slowed the others."""
    shared = min(of.cache.length, CARD_SHARED_TOKENS) if clock.is_card else of.cache.length
    seats = [rounds.join(of.cache.fork(shared), of.position) for _ in range(rows)]
    taken: list[float] = []
    while len(taken) < STEPS_TRIED and sum(taken) < TRYING_S:
        began = clock()
        for number, seat in enumerate(seats):
            rounds.say(seat, len(taken) + number + 1)
        for seat in seats:
            rounds.hear(seat)
        taken.append(max(clock() - began, 1e-6))
    for seat in seats:
        rounds.leave(seat)
    return min(taken)


def _round(
    prompts: PromptBuilder,
    encoder: PictureEncoder,
    decoder: Decoder,
    rounds: Rounds,
    image: ImageInput,
    *,
    clock: Clock,
) -> _Round:
    prompt = prompts.build((Message("user", QUESTION, (image,)),))
    start = clock()
    features = {image.picture_id: encoder.encode(image, should_stop=_never)}
    encoded = clock()
    positions = decoder.positions(prompt)
    cache = KVCache(decoder.layers)
    token = 0
    for step in decoder.prefill(prompt, positions, cache, features, should_stop=_never):
        if step.logits is not None:
            token = int(step.logits.argmax())
    read = clock()
    seat = rounds.join(cache, int(positions.max()) + 1)
    try:
        for _ in range(DECODED_TOKENS):
            rounds.say(seat, token)
            token = int(rounds.hear(seat).argmax())
        done = clock()
    finally:
        rounds.leave(seat)
    speed = Speed(
        picture_tokens=prompt.picture_tokens,
        encode_s=max(encoded - start, 1e-6),
        prompt_tokens=len(prompt.token_ids),
        prefill_s=max(read - encoded, 1e-6),
        token_s=max((done - read) / DECODED_TOKENS, 1e-6),
    )
    return _Round(speed, cache, int(positions.max()) + 1 + DECODED_TOKENS)


def _never() -> bool:
    return False
