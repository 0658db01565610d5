"""The model on a device from which nothing can be read: what would make a graphics card wait for the host shows here.

Tensors of that device have a shape and no numbers. A number that is asked for, a result whose size depends on numbers, and
a product of tensors that lie on two devices all raise. On a card the first two would cost time, and end a capture.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AttentionInterface

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.folders import list_models
from qwen_vl_app.engine.local import decoding, one_token, several_tokens
from qwen_vl_app.engine.local.attending import CARD_WAYS, ManyWay
from qwen_vl_app.engine.local.attention import Windows, _as_library_function
from qwen_vl_app.engine.local.chunks import SlabChunks
from qwen_vl_app.engine.local.decoding import Decoder
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.loading import load_model
from qwen_vl_app.engine.local.memory import read_image_settings
from qwen_vl_app.engine.local.slab import SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Seat, Stepper
from qwen_vl_app.engine.local.vision import PictureEncoder, PictureFeatures
from tests.engine.harness import FAMILIES, Pair, never, picture

ELSEWHERE = torch.device("meta")
CHUNK_TOKENS = 16
DEEP_LAYERS = {"qwen2_5_vl": 0, "qwen3_vl": 2}


@pytest.fixture(params=CARD_WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> ManyWay:
    """Each way in which prompts are read on a card."""
    found: ManyWay = request.param
    return found


def decoder_of(models_dir: Path, family: str, way: ManyWay, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    """Return the decoder of a tiny model whose weights lie where nothing can be read."""
    monkeypatch.setattr(decoding, "choose_many", lambda *given, **named: way)
    folder = next(folder for folder in list_models(models_dir) if folder.name == family)
    return Decoder(load_model(folder, device=ELSEWHERE, dtype=torch.bfloat16), chunk_tokens=CHUNK_TOKENS)


def test_a_prompt_is_read_without_asking_the_device(
    pair: Pair, models_dir: Path, way: ManyWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several chunks, a picture across two of them, with the features that later layers add to it."""
    parts = pair.engine._parts
    assert parts is not None
    decoder = decoder_of(models_dir, pair.family, way, monkeypatch)
    factor = parts.folder.family.factor if parts.folder.family else 0
    shown = picture(1, width=5 * factor, height=4 * factor)
    prompt = parts.prompts.build((Message("user", "Read the value.", images=(shown,)),))
    hidden = decoder.text.embed(torch.zeros(1, dtype=torch.long, device=ELSEWHERE)).shape[1]
    tokens = torch.empty(20, hidden, device=ELSEWHERE)
    features = {shown.picture_id: PictureFeatures(tokens, (tokens,) * DEEP_LAYERS[pair.family])}
    cache = KVCache(decoder.layers)
    read = list(decoder.prefill(prompt, decoder.positions(prompt), cache, features, should_stop=never))
    assert [step.done for step in read] == [
        *range(CHUNK_TOKENS, len(prompt.token_ids), CHUNK_TOKENS),
        len(prompt.token_ids),
    ]
    (place,) = prompt.pictures
    assert place.start < CHUNK_TOKENS * (place.start // CHUNK_TOKENS + 1) < place.end, (
        "the picture is across two chunks"
    )
    logits = read[-1].logits
    assert logits is not None and logits.device == ELSEWHERE and logits.shape == (parts.model.vocabulary,)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_encoded_without_asking_the_device(
    models_dir: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All windows in one call, as on a card; of the kernel itself, only what it is given is looked at."""
    given: list[Windows] = []

    def packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, windows: Windows) -> torch.Tensor:
        given.append(windows)
        return torch.empty_like(v)

    folder = next(folder for folder in list_models(models_dir) if folder.name == family)
    assert folder.family is not None
    model = load_model(folder, device=ELSEWHERE, dtype=torch.bfloat16)
    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_once_elsewhere", _as_library_function(packed))
    model.visual.config._attn_implementation = "flash_once_elsewhere"
    encoder = PictureEncoder(model, folder.family, read_image_settings(folder.path))
    shown = picture(1, width=9 * folder.family.factor, height=6 * folder.family.factor)
    encoded = encoder.encode(shown, should_stop=never)
    assert encoded.tokens.device == ELSEWHERE and encoded.tokens.shape[0] == 54
    assert all(windows.edges.device == ELSEWHERE and windows.longest <= 54 * 4 for windows in given)
    assert len(given) == len(model.visual.blocks)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_run_without_asking_the_device(
    models_dir: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain and in fixed memory, one token and several, by each way to attend."""
    decoder = decoder_of(models_dir, family, CARD_WAYS[0], monkeypatch)
    text = decoder.text

    def step(stepper: Stepper) -> None:
        seat = Seat(KVCache(decoder.layers), 0, 0, token=1)
        assert stepper.enter(seat)
        assert stepper.step([seat]).device == ELSEWHERE
        seat.length += 1
        stepper.leave(seat)

    step(GrowingStepper(text, ELSEWHERE))
    for name in one_token.WAYS:
        static = StaticStepper(text, ELSEWHERE, SlabSize(2, 300))
        static.ways = {(rows, length): name for rows in static.row_counts for length in static.lengths}
        step(static)
    for name in several_tokens.WAYS:
        chunks = SlabChunks(text, *static.memory)
        chunks.ways = {(width, length): name for width in chunks.widths for length in chunks.lengths}
        positions = torch.arange(20, 25, device=ELSEWHERE).expand(3, -1)
        assert chunks.read(1, 20, [1, 2, 3, 4, 5], positions).device == ELSEWHERE
