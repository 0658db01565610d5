"""Prefill over explicit tokens, positions and one KV cache, asking before each layer whether to go on.

Knows the decoder's layers. Does not know prompts, stop strings or conversations. Positions are always given: the library
keeps those of whoever asked last in the model, which is silently wrong for everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from qwen_vl_app.engine.local.attending import CARD_WAYS, SequenceAttending, choose_many
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.loading import LoadedModel
from qwen_vl_app.engine.local.prompt import Prompt
from qwen_vl_app.engine.local.text import TextModel
from qwen_vl_app.engine.local.vision import PictureFeatures, Stopped
from qwen_vl_app.errors import Reason

ReadEnd = Callable[[Sequence[int], torch.Tensor], torch.Tensor | None]
"""Takes the last tokens of a prompt, all of them text, and their positions (3, tokens); returns the next token's logits, or
None where it reads no such end."""


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """`done` of the prompt's tokens were read. The last step has the `logits` of the next token, (vocabulary,)."""

    done: int
    logits: torch.Tensor | None = None


class Decoder:
    """Runs the text model of one loaded model."""

    def __init__(self, model: LoadedModel, *, chunk_tokens: int) -> None:
        self._model = model
        self._text = TextModel(model.module, products=model.products)
        self._chunk_tokens = chunk_tokens
        heads = self._text.heads
        self._way = choose_many(model.device, self._text.dtype, heads=heads.query, shared=heads.shared, size=heads.size)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What has to be said of how prompts are read here."""
        return (Reason("engine.choice.reading.repeated"),) if self._way is CARD_WAYS[-1] else ()

    @property
    def text(self) -> TextModel:
        """The layers, for those who make the tokens behind the prompt."""
        return self._text

    @property
    def device(self) -> torch.device:
        """Where they run."""
        return self._model.device

    @property
    def layers(self) -> int:
        """How many layers a cache has to have."""
        return len(self._text.layers)

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that one pass reads."""
        return self._text.token_bytes

    @torch.inference_mode()
    def positions(self, prompt: Prompt) -> torch.Tensor:
        """Return (3, tokens): time, height and width of every token of the whole prompt."""
        token_ids = torch.tensor([prompt.token_ids])
        kinds = torch.zeros_like(token_ids, dtype=torch.int32)
        pictures: list[list[int]] = []
        clips: list[list[int]] = []
        pair_seconds: list[float] = []
        for place in prompt.pictures:
            clip = place.image.clip
            kinds[0, place.start : place.end] = 1 if clip is None else 2
            if clip is None:
                pictures.append([1, place.grid_height, place.grid_width])
            elif not place.offset:
                clips.append([clip.pairs, place.grid_height, place.grid_width])
                pair_seconds.append(clip.seconds / clip.pairs)
        positions, _ = self._model.module.model.get_rope_index(
            token_ids,
            mm_token_type_ids=kinds,
            image_grid_thw=torch.tensor(pictures) if pictures else None,
            video_grid_thw=torch.tensor(clips) if clips else None,
            second_per_grid_ts=torch.tensor(pair_seconds) if clips else None,
        )
        return torch.as_tensor(positions)[:, 0].to(self._model.device)

    def prefill(
        self,
        prompt: Prompt,
        positions: torch.Tensor,
        cache: KVCache,
        features: Mapping[str, PictureFeatures],
        *,
        should_stop: Callable[[], bool],
        read_end: ReadEnd | None = None,
    ) -> Iterator[PrefillStep]:
        """Feed what the cache lacks of the prompt, a chunk at a time. Raises Stopped; the chunks before are kept.

        Whenever nothing but text is left, `read_end` is asked to read all of it, into memory of its own.
        """
        total = len(prompt.token_ids)
        while cache.length < total:
            start = cache.length
            if read_end is not None and all(place.end <= start for place in prompt.pictures):
                if should_stop():
                    raise Stopped
                logits = read_end(prompt.token_ids[start:], positions[:, start:])
                if logits is not None:
                    yield PrefillStep(total, logits)
                    return
            end = min(cache.length + self._chunk_tokens, total)
            hidden = self._feed_chunk(prompt, positions, cache, features=features, end=end, should_stop=should_stop)
            yield PrefillStep(end, self._logits(hidden) if end == total else None)

    @torch.inference_mode()
    def read_text(self, token_ids: Sequence[int], positions: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """Feed text at `positions` (3, tokens) in one chunk; return the next token's logits, (vocabulary,)."""
        embedded = self._text.embed(torch.tensor(token_ids, device=self._model.device))
        return self._text.logits(self._layers(embedded, positions, cache, should_stop=lambda: False))[0]

    @torch.inference_mode()
    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._text.logits(hidden)[0]

    @torch.inference_mode()
    def _feed_chunk(
        self,
        prompt: Prompt,
        positions: torch.Tensor,
        cache: KVCache,
        *,
        features: Mapping[str, PictureFeatures],
        end: int,
        should_stop: Callable[[], bool],
    ) -> torch.Tensor:
        device = self._model.device
        start = cache.length
        embedded = self._text.embed(torch.tensor(prompt.token_ids[start:end], device=device))
        deepstack: list[tuple[slice, Sequence[torch.Tensor]]] = []
        for place in prompt.pictures:
            left, right = max(place.start, start), min(place.end, end)
            if left >= right:
                continue
            feature = features[place.image.picture_id]
            inside = slice(left - place.start + place.offset, right - place.start + place.offset)
            here = slice(left - start, right - start)
            embedded[here] = feature.tokens[inside].to(embedded.dtype)
            deepstack.append((here, [layer[inside] for layer in feature.deepstack]))
        where = positions[:, start:end]
        return self._layers(embedded, where, cache, should_stop=should_stop, deepstack=deepstack)

    def _layers(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        cache: KVCache,
        *,
        should_stop: Callable[[], bool],
        deepstack: Sequence[tuple[slice, Sequence[torch.Tensor]]] = (),
    ) -> torch.Tensor:
        count = hidden.shape[0]
        attending = SequenceAttending(cache, count, hidden.device, way=self._way)
        rotary = self._text.rotary(positions)
        for number, layer in enumerate(self._text.layers):
            if should_stop():
                raise Stopped
            hidden = layer(hidden, rotary, attending, number)
            # By slices and not by a mask, for which torch asks the card how many tokens that are, once a layer.
            for here, features in deepstack:
                if number < len(features):
                    hidden[here] += features[number].to(hidden.dtype)
        cache.commit(count)
        return hidden[-1:]
