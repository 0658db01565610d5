"""One decode step of one or several answers: the protocol, the plain way, and the round in which all who spoke are heard.

Knows seats, tokens and growing caches. Does not know how tokens are chosen or who reads them. An answer says its token and
goes on to other things; the first one that wants to hear what follows has the step run for all who said something. So
several answers share one reading of the weights, without threads and whatever order they are resumed in.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from qwen_vl_app.engine.local.attending import RowsAttending
from qwen_vl_app.engine.local.hardware import is_out_of_memory
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.text import TextModel

log = logging.getLogger(__name__)

MOST_ROWS = 8
"""Answers in one step."""


@dataclass(slots=True, eq=False)
class Seat:
    """An answer's place. `length` tokens of its sequence are computed, `position` is where the next one stands.

    `position` differs from `length` because a picture takes fewer positions than tokens. Behind the tokens that `cache`
    holds, the others may lie elsewhere until the seat is left.
    """

    cache: KVCache
    position: int
    length: int
    row: int = 0
    token: int | None = None
    """Said and not yet fed."""
    logits: torch.Tensor | None = None
    """Of what follows, (vocabulary,), until they are heard."""


class Stepper(Protocol):
    """A way to run a step."""

    name: str
    most_rows: int

    def enter(self, seat: Seat) -> bool:
        """Take a seat in; False where there is no room for it, and nothing was changed."""
        ...

    def has_room(self, seat: Seat) -> bool:
        """Return whether a seat that was taken in can have one token more."""
        ...

    def step(self, seats: Sequence[Seat]) -> torch.Tensor:
        """Feed the token of each seat; return (seats, vocabulary). What raises leaves every sequence as it was."""
        ...

    def leave(self, seat: Seat) -> None:
        """Bring all that was computed into the seat's cache."""
        ...


class Chunks(Protocol):
    """A way to read several tokens at a prompt's end into the first stepper's rows; see `chunks.SlabChunks`."""

    def takes(self, length: int, count: int) -> bool:
        """Return whether so many tokens behind `length` others can be read so."""
        ...

    def read(self, row: int, length: int, token_ids: Sequence[int], positions: torch.Tensor) -> torch.Tensor:
        """Write the tokens behind a row's `length`; return the logits (vocabulary,) of what follows."""
        ...


class GrowingStepper:
    """Every sequence in its own cache, which grows; on any device."""

    name = "plain"

    def __init__(self, text: TextModel, device: torch.device, *, most_rows: int = MOST_ROWS) -> None:
        self._text = text
        self._device = device
        self.most_rows = most_rows

    def enter(self, seat: Seat) -> bool:
        """There is always room: memory itself is the limit."""
        return True

    def has_room(self, seat: Seat) -> bool:
        """See `enter`."""
        return True

    @torch.inference_mode()
    def step(self, seats: Sequence[Seat]) -> torch.Tensor:
        """See `Stepper.step`."""
        told = torch.tensor([[seat.token or 0 for seat in seats], [seat.position for seat in seats]])
        told = told.to(self._device)
        hidden = self._text.embed(told[0])
        rotary = self._text.rotary(told[1].expand(3, -1))
        attending = RowsAttending([seat.cache for seat in seats])
        for number, layer in enumerate(self._text.layers):
            hidden = layer(hidden, rotary, attending, number)
        logits = self._text.logits(hidden)
        for seat in seats:
            seat.cache.commit(1)
        return logits

    def leave(self, seat: Seat) -> None:
        """Everything is in the cache already."""


class Rounds:
    """The answers under way. `steppers` are tried in order; the last one takes everybody. `chunks` write into the first's rows."""

    def __init__(self, steppers: Sequence[Stepper], *, chunks: Chunks | None = None) -> None:
        self._steppers = tuple(steppers)
        self._chunks = chunks
        self._seated: dict[Seat, Stepper] = {}

    @property
    def name(self) -> str:
        """The first way's."""
        return self._steppers[0].name

    @property
    def most_rows(self) -> int:
        """How many answers the first way makes in one step."""
        return self._steppers[0].most_rows

    def join(self, cache: KVCache, position: int) -> Seat:
        """Seat a sequence whose tokens are all in `cache`; the next one stands at `position`."""
        seat = Seat(cache, position, cache.length)
        self._seat(seat, self._steppers)
        return seat

    def read(self, cache: KVCache, token_ids: Sequence[int], positions: torch.Tensor) -> Seat | None:
        """Seat a sequence that ends with `token_ids`, text at `positions` (3, tokens), which `cache` lacks; they are read at once.

        What follows can be heard. None where there is no such way for them, or no row; then nothing was changed.
        """
        count = len(token_ids)
        # One token alone is a decode step: what a question leaves that was asked before, word for word.
        if self._chunks is None or not (count == 1 or self._chunks.takes(cache.length, count)):
            return None
        seat = Seat(cache, int(positions[:, -1].max()) + 1, cache.length)
        stepper = self._steppers[0]
        if not stepper.enter(seat):
            return None
        self._seated[seat] = stepper
        try:
            if count == 1:
                seat.position -= 1
                self.say(seat, token_ids[0])
                self._step(seat)
            else:
                seat.logits = self._chunks.read(seat.row, seat.length, token_ids, positions)
                seat.length += count
        except BaseException:
            self.leave(seat)
            raise
        return seat

    def say(self, seat: Seat, token: int) -> None:
        """Tell which token an answer goes on with."""
        seat.token, seat.logits = token, None

    def hear(self, seat: Seat) -> torch.Tensor:
        """Return the logits (vocabulary,) behind the token that was said last, running a step where nobody has yet."""
        if seat.logits is None:
            self._step(seat)
        logits, seat.logits = seat.logits, None
        if logits is None:
            raise ValueError("nothing was said")
        return logits

    def leave(self, seat: Seat) -> None:
        """End an answer: its cache then holds what was computed of it, less where memory was too short for that."""
        stepper = self._seated.pop(seat, None)
        if stepper is not None:
            try:
                stepper.leave(seat)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # The answer stands. Only the next question will have to read it anew.
                log.info("an answer was not kept for the next question: memory is short")

    def _seat(self, seat: Seat, steppers: Sequence[Stepper]) -> None:
        self._seated[seat] = next(stepper for stepper in steppers if stepper.enter(seat))

    def _step(self, asking: Seat) -> None:
        self._make_room(asking)
        stepper = self._seated[asking]
        others = [
            seat
            for seat, its in self._seated.items()
            if its is stepper and seat.token is not None and seat is not asking
        ]
        seats = [asking, *(seat for seat in others if stepper.has_room(seat))][: stepper.most_rows]
        logits = stepper.step(seats)
        for seat, row in zip(seats, logits, strict=True):
            seat.length += 1
            seat.position += 1
            seat.token, seat.logits = None, row

    def _make_room(self, seat: Seat) -> None:
        stepper = self._seated[seat]
        if not stepper.has_room(seat):
            # What was too long for one way goes on in the next.
            stepper.leave(seat)
            self._seat(seat, self._steppers[self._steppers.index(stepper) + 1 :])
