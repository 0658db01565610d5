"""Decode steps over memory that stays where it is: rows of a slab, lengths in buckets, every step the same operations.

Knows a slab of keys and values, its rows, and one step over the first so many rows and tokens of it. Does not know who
records the step: a `Recorder` may run it each time, or capture it once as a CUDA graph and replay it. For that the step
reads nothing from the host and tells it nothing: tokens, lengths and positions lie in one small tensor on the device, and
the mask is computed there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from qwen_vl_app.engine.local.attending import added_mask
from qwen_vl_app.engine.local.one_token import WAYS, AttendOne, ChooseWay
from qwen_vl_app.engine.local.steps import Seat
from qwen_vl_app.engine.local.text import TextModel

Body = Callable[[], torch.Tensor]
SHORTEST_BUCKET = 256
BATCHES = (1, 2, 4, 8)
"""So many rows a step has; unused ones compute nonsense that nobody reads."""


class Recorder(Protocol):
    """Makes a step repeatable."""

    def record(self, body: Body) -> Body:
        """Return what runs `body` again over the same memory and returns its result."""
        ...


class EagerRecorder:
    """Records nothing: the step is run anew each time."""

    def record(self, body: Body) -> Body:
        """See `Recorder.record`."""
        return body


@dataclass(frozen=True, slots=True)
class SlabSize:
    """How much memory a slab takes: `rows` answers of up to `tokens` each, the last of which is never used."""

    rows: int
    tokens: int

    def nbytes(self, token_bytes: int) -> int:
        """Return the bytes for so many bytes of keys and values a token."""
        return self.rows * self.tokens * token_bytes


def buckets_of(tokens: int) -> tuple[int, ...]:
    """Return the lengths that a step is made for: each half as long again or a third longer than the one before."""
    found = []
    length = SHORTEST_BUCKET
    while length < tokens:
        found.append(length)
        if length * 3 // 2 < tokens:
            found.append(length * 3 // 2)
        length *= 2
    return (*found, tokens)


class _SlabAttending:
    """One token a row, written behind the row's own length."""

    def __init__(
        self, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], lengths: torch.Tensor, way: AttendOne
    ) -> None:
        self._keys, self._values = keys, values
        self._way = way
        self._lengths = lengths
        columns = torch.arange(keys[0].shape[2], device=lengths.device)
        self._rows = torch.arange(lengths.shape[0], device=lengths.device)
        self._mask = added_mask(lengths, columns, keys[0].dtype)[:, None, None]

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, number: int) -> torch.Tensor:
        """See `Attending`."""
        keys, values = self._keys[number], self._values[number]
        keys[self._rows, :, self._lengths] = key
        values[self._rows, :, self._lengths] = value
        return self._way(query, keys, values, self._mask)


class StaticStepper:
    """A `Stepper` over a slab. Sequences are copied in when they enter and what is new copied out when they leave."""

    def __init__(
        self,
        text: TextModel,
        device: torch.device,
        size: SlabSize,
        *,
        recorder: Recorder | None = None,
        name: str = "static",
        choose_way: ChooseWay | None = None,
    ) -> None:
        """Take the memory. `choose_way` is asked by `prepare` how the steps of each length are to attend."""
        self.name = name
        self.ways: dict[tuple[int, int], str] = {}
        """How the step of so many rows and that bucket attends, by its name in `one_token.WAYS`; the first where not told."""
        self._choose_way = choose_way
        self.most_rows = size.rows
        self._text = text
        self._size = size
        self._recorder = recorder or EagerRecorder()
        self._buckets = buckets_of(size.tokens)
        self._batches = (*(count for count in BATCHES if count < size.rows), size.rows)
        shape = (2, len(text.layers), size.rows, text.heads.shared, size.tokens, text.heads.size)
        # In one piece, so that a row is cleared by one kernel and not by two for each layer.
        self._whole = torch.zeros(shape, dtype=text.dtype, device=device)
        self._keys, self._values = (list(part) for part in self._whole)
        self._told = torch.zeros((3, size.rows), dtype=torch.long, device=device)
        """Tokens, lengths and positions of the rows."""
        self._is_on_card = device.type == "cuda"
        self._seats: list[Seat] = []
        """By row, without gaps."""
        self._steps: dict[tuple[int, int], Body] = {}

    @property
    def memory(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The layers' keys and values, (rows, kv_heads, tokens, size) each, for who reads prompts into the same rows."""
        return self._keys, self._values

    @property
    def row_counts(self) -> tuple[int, ...]:
        """The numbers of rows that there are steps for."""
        return self._batches

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that there are steps for, each number of rows with each of them."""
        return self._buckets

    @torch.inference_mode()
    def enter(self, seat: Seat) -> bool:
        """See `Stepper.enter`."""
        if len(self._seats) == self._size.rows or seat.length >= self._size.tokens - 1:
            return False
        seat.row = len(self._seats)
        for number, (keys, values) in enumerate(zip(self._keys, self._values, strict=True)):
            held = seat.cache.read(number)
            if held is not None:
                keys[seat.row, :, : seat.length] = held[0][0]
                values[seat.row, :, : seat.length] = held[1][0]
        self._clear_behind(seat.row, seat.length)
        self._seats.append(seat)
        return True

    def _clear_behind(self, row: int, length: int) -> None:
        # What an earlier answer left may be NaN, and what is masked out is still multiplied by nothing.
        self._whole[:, :, row, :, length:] = 0

    def has_room(self, seat: Seat) -> bool:
        """See `Stepper.has_room`. The last place of a row takes what idle rows write."""
        return seat.length < self._size.tokens - 1

    @torch.inference_mode()
    def step(self, seats: Sequence[Seat]) -> torch.Tensor:
        """See `Stepper.step`."""
        count = next(batch for batch in self._batches if batch >= len(self._seats))
        longest = max(seat.length for seat in self._seats)
        bucket = next(length for length in self._buckets if length > longest)
        # A row that says nothing now writes behind its own end, where its next token will overwrite it.
        rows = [(seat.token or 0, seat.length, seat.position) for seat in self._seats]
        rows.extend((0, 0, 0) for _ in range(self._size.rows - len(rows)))
        # Anew each time: a step that nobody waited for may not have been told yet, and torch keeps such memory until then.
        told = torch.tensor(list(zip(*rows, strict=True)), pin_memory=self._is_on_card)
        self._told.copy_(told, non_blocking=True)
        logits = self._prepared(count, bucket)()
        # A replayed step writes its next result into the same memory.
        return torch.stack([logits[seat.row] for seat in seats])

    @torch.inference_mode()
    def leave(self, seat: Seat) -> None:
        """See `Stepper.leave`. The last row moves into the place that becomes free."""
        if seat not in self._seats:  # it left before and failed on the way: its row is another's by now
            return
        try:
            self._copy_out(seat)
        finally:
            self._free(seat)

    def _copy_out(self, seat: Seat) -> None:
        start, end, row = seat.cache.length, seat.length, slice(seat.row, seat.row + 1)
        if end > start:
            for number, (keys, values) in enumerate(zip(self._keys, self._values, strict=True)):
                seat.cache.update(keys[row, :, start:end], values[row, :, start:end], number)
            seat.cache.commit(end - start)

    def _free(self, seat: Seat) -> None:
        last = self._seats.pop()
        if last is not seat:
            self._whole[:, :, seat.row, :, : last.length] = self._whole[:, :, last.row, :, : last.length]
            self._clear_behind(seat.row, last.length)
            last.row = seat.row
            self._seats[last.row] = last

    def prepare(self) -> None:
        """Record every step there can be, so that no answer waits for it. For before the first answer enters."""
        if self._choose_way is not None:
            self._choose_ways(self._choose_way)
        for count in self._batches:
            for bucket in self._buckets:
                self._prepared(count, bucket)

    def _choose_ways(self, choose: ChooseWay) -> None:
        # Over nothing, every way would give the same.
        for part in (*self._keys, *self._values):
            part.normal_()
        for count in self._batches:
            for bucket in self._buckets:
                keys = [part[:count, :, :bucket] for part in self._keys]
                values = [part[:count, :, :bucket] for part in self._values]
                self.ways[count, bucket] = choose(keys, values, self._text.heads.query)
        for part in (*self._keys, *self._values):
            part.zero_()

    def _prepared(self, count: int, bucket: int) -> Body:
        found = self._steps.get((count, bucket))
        if found is None:
            found = self._steps[count, bucket] = self._recorder.record(self._body(count, bucket))
        return found

    def _body(self, count: int, bucket: int) -> Body:
        told = self._told[:, :count]
        way = WAYS[self.ways.get((count, bucket), next(iter(WAYS)))]
        keys = [part[:count, :, :bucket] for part in self._keys]
        values = [part[:count, :, :bucket] for part in self._values]

        def body() -> torch.Tensor:
            hidden = self._text.embed(told[0])
            rotary = self._text.rotary(told[2].expand(3, -1))
            attending = _SlabAttending(keys, values, told[1], way)
            for number, layer in enumerate(self._text.layers):
                hidden = layer(hidden, rotary, attending, number)
            return self._text.logits(hidden)

        return body
