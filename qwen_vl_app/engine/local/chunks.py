"""The end of a prompt read in one step over a slab's row: several tokens that are text, filled up to one of a few widths.

Knows the slab's keys and values, and one step for each width and length. Does not know who records the steps, whether
that gains, or which prompts end so. A follow-up about a picture that was read before has ten to a hundred new tokens: it
reads every weight once, as a decode step does, and launches as many kernels. What fills up a step stands behind the tokens
that count, where nobody looks before the answer's own tokens have been written over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from qwen_vl_app.engine.local.attending import added_mask
from qwen_vl_app.engine.local.memory import CHUNK_WIDTHS
from qwen_vl_app.engine.local.one_token import Attend
from qwen_vl_app.engine.local.several_tokens import WAYS
from qwen_vl_app.engine.local.slab import Body, EagerRecorder, Recorder, buckets_of
from qwen_vl_app.engine.local.text import TextModel

ChooseChunkWay = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], int, int], str]
"""Takes the layers' keys and values, the number of query heads and of tokens; returns the name of a way."""
FACTS = 3
"""What a step is told beside its tokens: the row, how many tokens it holds, and which new one is the last that counts."""


def lengths_of(tokens: int) -> tuple[int, ...]:
    """Return the lengths that a step is made for: every second one of the decode steps' and the whole.

    To look at twice as much memory as there is costs several tokens no more than one, beside reading all weights.
    """
    every_second = buckets_of(tokens)[::2]
    return every_second if every_second[-1] == tokens else (*every_second, tokens)


class _ChunkAttending:
    """Tokens of one row, written behind its length."""

    def __init__(
        self,
        keys: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        row: torch.Tensor,
        places: torch.Tensor,
        way: Attend,
    ) -> None:
        self._keys, self._values = keys, values
        self._way = way
        self._row, self._places = row, places
        columns = torch.arange(keys[0].shape[2], device=places.device)
        self._mask = added_mask(places, columns, keys[0].dtype)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, number: int) -> torch.Tensor:
        """See `Attending`."""
        keys, values = self._keys[number], self._values[number]
        keys[self._row, :, self._places] = key
        values[self._row, :, self._places] = value
        return self._way(query, self._of_row(keys), self._of_row(values), self._mask)

    def _of_row(self, part: torch.Tensor) -> torch.Tensor:
        # Which row it is, only the device knows: of several, the one is copied out, a layer at a time.
        return part if part.shape[0] == 1 else part.index_select(0, self._row[:1])


class SlabChunks:
    """Steps of several tokens over the rows of a slab; `widths` are those that are in use."""

    def __init__(
        self,
        text: TextModel,
        keys: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        *,
        recorder: Recorder | None = None,
        choose_way: ChooseChunkWay | None = None,
        widths: Sequence[int] = CHUNK_WIDTHS,
    ) -> None:
        """Take a slab's keys and values, (rows, kv_heads, tokens, size) for each layer."""
        self.widths = tuple(widths)
        self.ways: dict[tuple[int, int], str] = {}
        """How the step of that width and length attends, by its name in `several_tokens.WAYS`; the first where not told."""
        self._all_widths = tuple(widths)
        self._text = text
        self._keys, self._values = keys, values
        self._recorder = recorder or EagerRecorder()
        self._choose_way = choose_way
        self._tokens = keys[0].shape[2]
        self.lengths = lengths_of(self._tokens)
        device = keys[0].device
        self._told = torch.zeros(FACTS + max(widths), dtype=torch.long, device=device)
        self._positions = torch.zeros((3, max(widths)), dtype=torch.long, device=device)
        self._steps: dict[tuple[int, int], Body] = {}

    def shortest(self, width: int) -> int:
        """Return how few tokens a step of this width is used for; one alone is a decode step."""
        return max((each + 1 for each in self._all_widths if each < width), default=2)

    def takes(self, length: int, count: int) -> bool:
        """Return whether `count` tokens behind `length` others can be read so."""
        width = self._width(count)
        return width in self.widths and length + width < self._tokens

    @torch.inference_mode()
    def read(self, row: int, length: int, token_ids: Sequence[int], positions: torch.Tensor) -> torch.Tensor:
        """Return the logits (vocabulary,) behind tokens at `positions` (3, tokens), written behind a row's `length`.

        For what `takes` allows. What raises leaves the row's first `length` tokens as they were.
        """
        count = len(token_ids)
        width = self._width(count)
        bucket = next(each for each in self.lengths if each >= length + width)
        told = [row, length, count - 1, *token_ids, *(0 for _ in range(width - count))]
        self._told[: len(told)] = torch.tensor(told)
        self._positions[:, :count] = positions
        # A replayed step writes its next result into the same memory.
        return self._prepared(width, bucket)().clone()

    @torch.inference_mode()
    def prepare(self) -> None:
        """Record every step there can be. For before the first answer enters: it writes over the rows."""
        steps = [(width, bucket) for width in self.widths for bucket in self.lengths if bucket >= width]
        if self._choose_way is not None:
            self._choose_ways(self._choose_way, steps)
        # Recording runs a step, which must not write beyond its length.
        self._told.zero_()
        for width, bucket in steps:
            self._prepared(width, bucket)

    def keep(self, widths: Iterable[int]) -> None:
        """Use no other widths than these, and let the others' steps go."""
        kept = set(widths)
        self.widths = tuple(width for width in self.widths if width in kept)
        self._steps = {step: body for step, body in self._steps.items() if step[0] in kept}

    def _choose_ways(self, choose: ChooseChunkWay, steps: Iterable[tuple[int, int]]) -> None:
        # Over nothing, every way would give the same.
        for part in (*self._keys, *self._values):
            part.normal_()
        for width, bucket in steps:
            keys = [part[:1, :, :bucket] for part in self._keys]
            values = [part[:1, :, :bucket] for part in self._values]
            self.ways[width, bucket] = choose(keys, values, self._text.heads.query, width)
        for part in (*self._keys, *self._values):
            part.zero_()

    def _width(self, count: int) -> int:
        return next((width for width in self._all_widths if width >= count), 0)

    def _prepared(self, width: int, bucket: int) -> Body:
        found = self._steps.get((width, bucket))
        if found is None:
            found = self._steps[width, bucket] = self._recorder.record(self._body(width, bucket))
        return found

    def _body(self, width: int, bucket: int) -> Body:
        row, length, last = (self._told[place : place + 1] for place in range(FACTS))
        token_ids = self._told[FACTS : FACTS + width]
        positions = self._positions[:, :width]
        way = WAYS[self.ways.get((width, bucket), next(iter(WAYS)))]
        keys = [part[:, :, :bucket] for part in self._keys]
        values = [part[:, :, :bucket] for part in self._values]

        def body() -> torch.Tensor:
            hidden = self._text.embed(token_ids)
            rotary = self._text.rotary(positions)
            places = length + torch.arange(width, device=length.device)
            attending = _ChunkAttending(keys, values, row.expand(width), places, way)
            for number, layer in enumerate(self._text.layers):
                hidden = layer(hidden, rotary, attending, number)
            return self._text.logits(hidden.index_select(0, last))[0]

        return body
