"""How the end of a prompt is read on this machine: in one captured step, for each width where that works, agrees and gains.

Knows captured decode steps, their slab, and the plain reading that is the measure. Does not know prompts or a step's
contents. Where decode steps are not captured, nothing is here either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from qwen_vl_app.engine.local.attending import added_mask
from qwen_vl_app.engine.local.chunks import ChooseChunkWay, SlabChunks
from qwen_vl_app.engine.local.decoding import Decoder
from qwen_vl_app.engine.local.graph_trial import worst_of
from qwen_vl_app.engine.local.graphs import CudaRecorder
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.memory import SCORES_BYTES
from qwen_vl_app.engine.local.one_token import Stopwatch, device_stopwatch, random_query, timed_ways
from qwen_vl_app.engine.local.several_tokens import WAYS, scores_bytes
from qwen_vl_app.engine.local.slab import Recorder, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds, Stepper
from qwen_vl_app.errors import Reason

log = logging.getLogger(__name__)

USUAL_TOKENS = 1536
"""A picture of 1 Mpx, a question and an answer: behind so many, the gain is timed."""
TILE_TOKENS = 256
"""So many tokens are read to have keys and values as a model makes them; longer memories repeat theirs."""


@dataclass(frozen=True, slots=True)
class ChunksChoice:
    """Captured reading, where there is any, and why or why not. `gains` are times as fast as plain reading, by width."""

    chunks: SlabChunks | None = None
    reason: Reason | None = None
    gains: Mapping[int, float] = field(default_factory=dict)


def choose_chunks(
    decoder: Decoder,
    stepper: Stepper,
    device: torch.device,
    *,
    has_room: bool = True,
    make_recorder: Callable[[], Recorder] = CudaRecorder,
    stopwatch: Stopwatch | None = None,
) -> ChunksChoice:
    """Return how prompts' ends are read over the rows of `stepper`, the first way to run decode steps.

    Without a reason where decode steps are not captured: theirs is the reason then. Never raises: where steps cannot be recorded
    there are none, and a width that gives other numbers than plain reading, or is not timed faster, is left to that. Nobody
    may have a seat yet.
    """
    if not isinstance(stepper, StaticStepper):
        return ChunksChoice()
    if not has_room:
        return ChunksChoice(reason=Reason("engine.choice.chunks.memory"))
    watch = stopwatch or device_stopwatch(device)
    try:
        chunks = SlabChunks(
            decoder.text,
            *stepper.memory,
            recorder=make_recorder(),
            choose_way=_fastest_way(make_recorder, watch),
        )
        chunks.prepare()
        rounds = Rounds((stepper, GrowingStepper(decoder.text, device)), chunks=chunks)
        trial = _Trial(decoder, chunks, rounds, device)
        allowed = 1e-4 if decoder.text.dtype == torch.float32 else 0.05
        # A width whose numbers differ at any length is not one to trust at the others.
        right = [width for width in chunks.widths if trial.off(width) <= allowed]
        chunks.keep(right)
        gains = {width: trial.gain(width, watch) for width in right}
    except torch.OutOfMemoryError:
        log.info("captured reading does not fit into memory")
        return ChunksChoice(reason=Reason("engine.choice.chunks.memory"))
    except Exception as error:  # noqa: BLE001 - capturing fails in many ways, and each of them only means: not this one
        log.info("prompts' ends cannot be read captured here: %s: %s", type(error).__name__, error)
        return ChunksChoice(reason=Reason("engine.choice.chunks.failed"))
    log.info("captured reading against plain, times as fast by width: %s; attends by %s", gains, chunks.ways)
    chunks.keep(width for width, gain in gains.items() if gain > 1)
    if chunks.widths:
        least = min(gains[width] for width in chunks.widths)
        told = ", ".join(map(str, chunks.widths))
        return ChunksChoice(chunks, Reason("engine.choice.chunks.graph", widths=told, times=least), gains)
    code = "engine.choice.chunks.slower" if right else "engine.choice.chunks.differs"
    return ChunksChoice(chunks, Reason(code), gains)


def _fastest_way(make_recorder: Callable[[], Recorder], stopwatch: Stopwatch) -> ChooseChunkWay:
    """Return what times the ways to attend as they will run; see `graphs._fastest_way`."""
    failed: set[str] = set()

    def choose(keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], heads: int, width: int) -> str:
        _, _, length, size = keys[0].shape
        first = next(iter(WAYS))
        if scores_bytes(heads, width, length) > SCORES_BYTES:
            return first
        columns = torch.arange(length, device=keys[0].device)
        end = max(width, length * 9 // 10)
        found = timed_ways(
            random_query(width, heads, size, like=keys[0]),
            keys,
            values,
            added_mask(columns[end - width : end], columns, keys[0].dtype),
            record=make_recorder().record,
            stopwatch=stopwatch,
            ways=WAYS,
            failed=failed,
        )
        log.info("reading %d tokens, attention over up to %d: %s", width, length, found)
        return next(iter(found))

    return choose


class _Trial:
    """Both ways, side by side, over the same memory."""

    def __init__(self, decoder: Decoder, chunks: SlabChunks, rounds: Rounds, device: torch.device) -> None:
        self._decoder, self._chunks, self._rounds = decoder, chunks, rounds
        self._device = device
        self._cache = self._filled(chunks.lengths[-1])

    def off(self, width: int) -> float:
        """Return the largest difference of logits to the plain way's, as a part of the largest, over all lengths.

        Behind as many tokens as each length allows, for the fewest and the most that a step is used for, and for the token
        after them, which would see what filled the step up.
        """
        offs: list[float] = []
        for number, bucket in enumerate(self._chunks.lengths):
            length = bucket - width - (bucket == self._chunks.lengths[-1])
            if length <= 0:
                continue
            count = self._chunks.shortest(width) if number % 2 == 0 else width
            found, plain = self._captured(length, count), self._plain(length, count)
            offs.append(float((found - plain).abs().max() / plain.abs().max()))
        worst = worst_of(offs)
        if not worst <= 0.01:
            log.info("captured reading of %d tokens is off by %.3g", width, worst)
        return worst

    def gain(self, width: int, stopwatch: Stopwatch) -> float:
        """Return how many times as fast as the plain way the fewest tokens are read that a step of this width is for."""
        count = self._chunks.shortest(width)
        length = min(USUAL_TOKENS, self._chunks.lengths[-1] - width - 1)
        ids, positions = self._asked(length, count)

        def plain() -> None:
            self._cache.truncate(length)
            self._decoder.read_text(ids, positions, self._cache)

        self._restore(length)
        plain_s = stopwatch(plain)
        return plain_s / max(stopwatch(lambda: self._chunks.read(0, length, ids, positions)), 1e-9)

    def _captured(self, length: int, count: int) -> torch.Tensor:
        self._restore(length)
        seat = self._rounds.read(self._cache, *self._asked(length, count))
        if seat is None:
            raise RuntimeError("there is no row to read into")
        try:
            heard = [self._rounds.hear(seat)]
            self._rounds.say(seat, 5)
            heard.append(self._rounds.hear(seat))
        finally:
            # A row that stays taken would be missing to every answer.
            self._rounds.leave(seat)
        return torch.stack(heard).float()

    def _plain(self, length: int, count: int) -> torch.Tensor:
        self._restore(length)
        heard = [self._decoder.read_text(*self._asked(length, count), self._cache)]
        end = length + count
        after = torch.full((3, 1), end, device=self._device)
        heard.append(self._decoder.read_text([5], after, self._cache))
        return torch.stack(heard).float()

    def _asked(self, length: int, count: int) -> tuple[list[int], torch.Tensor]:
        positions = torch.arange(length, length + count, device=self._device).expand(3, -1)
        return [7 * number % 250 + 1 for number in range(count)], positions

    @torch.inference_mode()
    def _filled(self, tokens: int) -> KVCache:
        cache = KVCache(self._decoder.layers)
        cache.reserve(tokens)
        tile = min(TILE_TOKENS, tokens)
        self._decoder.read_text(*self._asked(0, tile), cache)
        while cache.length < tokens:
            count = min(tile, tokens - cache.length)
            for number in range(self._decoder.layers):
                held = cache.read(number)
                if held is not None:
                    cache.update(held[0][:, :, :count].clone(), held[1][:, :, :count].clone(), number)
            cache.commit(count)
        return cache

    def _restore(self, length: int) -> None:
        # Neither way touches what is before `length`, and nothing of what lies behind it was ever let go.
        self._cache.truncate(length)
        self._cache.commit(length - self._cache.length)
