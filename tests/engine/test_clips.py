"""Clips: the same tokens in, the same tokens out as the library itself, in both families; and the rules of their sizes."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import pytest
import torch

from qwen_vl_app.chat import Clip, Detail, ImageInput, Message, Size
from qwen_vl_app.engine.base import GenerationRequest, Stage, StageStep
from qwen_vl_app.engine.clips import budget_tokens, pair_tokens, seen_clip
from qwen_vl_app.engine.fake import FAKE_PLAN
from qwen_vl_app.engine.local.decoding import Decoder
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.remote_words import written
from qwen_vl_app.errors import InferenceError
from tests.engine.harness import Oracle, Pair, ask, never, picture

QUESTION = "What happens, and when?"


def clip_of(
    pair: Pair, seed: int, *, frames: int = 6, seconds: float = 3.0, across: int = 3, down: int = 2
) -> ImageInput:
    """Return a clip of noise, its frames evenly spread."""
    size = Size(across * pair.factor, down * pair.factor)
    rgb = random.Random(seed).randbytes(size.pixels * 3 * frames)
    moments = tuple(round(number * seconds / frames, 3) for number in range(frames))
    clip = Clip(seconds, moments)
    return ImageInput(hashlib.sha256(f"{clip}{size}".encode() + rgb).hexdigest(), size, rgb, clip)


def frames_of(image: ImageInput) -> np.ndarray:
    """Return (frames, channels, height, width)."""
    flat = np.frombuffer(image.rgb, dtype=np.uint8)
    return flat.reshape(-1, image.size.height, image.size.width, 3).transpose(0, 3, 1, 2)


def patches(pair: Pair, image: ImageInput) -> torch.Tensor:
    """Cut frames as the library's video processor writes it down, in the order of its own dimensions."""
    parts = pair.engine._parts
    assert parts is not None
    patch, merge = pair.oracle.patch, 2
    mean, std = (value.cpu().numpy()[:, None, None] for value in (parts.encoder._mean, parts.encoder._deviation))
    frames = ((frames_of(image).astype(np.float64) / 255).astype(np.float32) - mean) / std
    count, channels, height, width = frames.shape
    time, down, across = count // 2, height // patch, width // patch
    cut = frames.reshape(time, 2, channels, down // merge, merge, patch, across // merge, merge, patch)
    cut = cut.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return torch.from_numpy(cut.reshape(time * down * across, channels * 2 * patch * patch).copy())


def clip_text(oracle: Oracle, image: ImageInput) -> str:
    """Return what the library's processor puts in the place of a clip."""
    assert image.clip is not None
    tokens = image.size.pixels // (4 * oracle.patch**2)
    if oracle.family == "qwen2_5_vl":
        return "<|vision_start|>" + "<|video_pad|>" * (tokens * image.clip.pairs) + "<|vision_end|>"
    text = "<|vision_start|>"
    for first, second in zip(image.clip.moments[::2], image.clip.moments[1::2], strict=True):
        text += f"<{(first + second) / 2:.1f} seconds><|vision_start|>{'<|video_pad|>' * tokens}<|vision_end|>"
    return text + "<|vision_end|>"


def expected_ids(oracle: Oracle, *messages: Message) -> list[int]:
    """Return the prompt's tokens: the folder's template around what stands for pictures and clips."""
    chat = [{"role": message.role, "content": [{"type": "text", "text": "\x00" * len(message.images) + message.text}]}
            for message in messages]  # fmt: skip
    text = oracle.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    for message in messages:
        pictures = clips = 0
        for image in message.images:
            if image.clip is None:
                pictures += 1
                name = f"Picture {pictures}: "
                tokens = image.size.pixels // (4 * oracle.patch**2)
                body = "<|vision_start|>" + "<|image_pad|>" * tokens + "<|vision_end|>"
            else:
                clips += 1
                name, body = f"Video {clips}: ", clip_text(oracle, image)
            text = text.replace("\x00", (name if len(message.images) > 1 else "") + body, 1)
    return list(oracle.tokenizer(text, add_special_tokens=False)["input_ids"])


def expected(pair: Pair, *messages: Message, max_new_tokens: int = 24) -> list[int]:
    """Return what the library's own generate() says."""
    oracle = pair.oracle
    ids = torch.tensor([expected_ids(oracle, *messages)])
    config = oracle.model.config
    kinds = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    shown = [image for message in messages for image in message.images]
    clips = [(image, image.clip) for image in shown if image.clip is not None]
    stills = [image for image in shown if image.clip is None]

    def grid(image: ImageInput) -> list[int]:
        return [image.size.height // oracle.patch, image.size.width // oracle.patch]

    given: dict[str, Any] = {
        "pixel_values_videos": torch.cat([patches(pair, image) for image, _ in clips]),
        "video_grid_thw": torch.tensor([[clip.pairs, *grid(image)] for image, clip in clips]),
    }
    if oracle.family == "qwen2_5_vl":
        rates = [len(clip.moments) / clip.seconds for _, clip in clips]
        given["second_per_grid_ts"] = torch.tensor([2 / rate for rate in rates])
    if stills:
        parts = pair.engine._parts
        assert parts is not None
        given["pixel_values"] = torch.cat([parts.encoder.pixel_values(image) for image in stills])
        given["image_grid_thw"] = torch.tensor([[1, *grid(image)] for image in stills])
    oracle.model.model.rope_deltas = None
    out = oracle.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, max_new_tokens=max_new_tokens,
        do_sample=False, **given,
    )[0, ids.shape[1] :].tolist()  # fmt: skip
    ends = {oracle.tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
    return [token for token in out if token not in ends]


def prompt_ids(pair: Pair, *messages: Message) -> list[int]:
    parts = pair.engine._parts
    assert parts is not None
    return list(parts.prompts.build(messages).token_ids)


def test_answers_about_a_clip_are_the_librarys_own(pair: Pair) -> None:
    for seed, options in ((1, {}), (2, {"frames": 8, "seconds": 17.3}), (3, {"frames": 2, "across": 5, "down": 3})):
        message = Message("user", QUESTION, (clip_of(pair, seed, **options),))
        assert prompt_ids(pair, message) == expected_ids(pair.oracle, message)
        assert ask(pair.engine, message).ids == expected(pair, message)


def test_a_clip_and_pictures_in_one_conversation_are_the_librarys_own(pair: Pair) -> None:
    messages = (
        Message("user", "Compare.", (clip_of(pair, 4), pair.picture(5), clip_of(pair, 6, frames=4))),
        Message("assistant", "There is a gauge."),
        Message("user", "And this?", (pair.picture(7),)),
    )
    assert prompt_ids(pair, *messages) == expected_ids(pair.oracle, *messages)
    assert ask(pair.engine, *messages).ids == expected(pair, *messages)


def test_a_follow_up_reads_the_clip_no_second_time_and_says_the_same(pair: Pair) -> None:
    parts = pair.engine._parts
    assert parts is not None
    first = Message("user", QUESTION, (clip_of(pair, 8),))
    said = ask(pair.engine, first, key="a")
    other = ask(pair.engine, Message("user", QUESTION, (clip_of(pair, 9),)), key="b")
    messages = (first, Message("assistant", said.text), Message("user", "When did it end?"))
    parts.features.clear()
    follow_up = ask(pair.engine, *messages, key="a")
    assert other.finish.usage.cached_tokens < said.finish.usage.picture_tokens, "another clip is another prefix"
    assert follow_up.finish.usage.cached_tokens > said.finish.usage.picture_tokens
    parts.prefixes.clear()
    assert follow_up.ids == ask(pair.engine, *messages).ids


def test_an_encoded_clip_is_not_encoded_again(pair: Pair) -> None:
    parts = pair.engine._parts
    assert parts is not None
    message = Message("user", QUESTION, (clip_of(pair, 10),))
    said = ask(pair.engine, message)
    parts.prefixes.clear()

    def fault(point: str) -> None:
        assert point != "encode"

    pair.engine._fault = fault
    assert ask(pair.engine, message).ids == said.ids


def test_time_is_told_to_the_model(pair: Pair) -> None:
    """The same frames over another length have other positions, or other words."""
    parts = pair.engine._parts
    assert parts is not None
    short, long = (parts.prompts.build((Message("user", "?", (clip_of(pair, 11, seconds=s),)),)) for s in (3.0, 30.0))
    decoder: Decoder = parts.decoder
    if pair.family == "qwen3_vl":
        assert short.token_ids != long.token_ids
    else:
        assert not torch.equal(decoder.positions(short), decoder.positions(long))


def test_a_clip_can_be_stopped_between_its_frames(pair: Pair) -> None:
    message = Message("user", QUESTION, (clip_of(pair, 12, frames=8),))
    looks: list[int] = []
    for step in pair.engine.generate(GenerationRequest((message,)), should_stop=lambda: len(looks) >= 2):
        if isinstance(step, StageStep) and step.stage is Stage.ENCODING:
            looks.append(step.total)
    assert looks == [4, 4]
    assert ask(pair.engine, message).ids == expected(pair, message)


def test_the_librarys_own_processor_makes_the_same_of_a_clip(pair: Pair) -> None:
    """Where torchvision is, which the library needs for clips and the app does not."""
    pytest.importorskip("torchvision")
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil, Qwen3VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
    from transformers.video_utils import VideoMetadata

    is_three = pair.family == "qwen3_vl"
    parts = pair.engine._parts
    assert parts is not None
    settings = {
        "image_mean": parts.encoder._mean.tolist(),
        "image_std": parts.encoder._deviation.tolist(),
        "patch_size": pair.oracle.patch,
    }
    video = (Qwen3VLVideoProcessor if is_three else Qwen2VLVideoProcessor)(**settings)
    processor = (Qwen3VLProcessor if is_three else Qwen2_5_VLProcessor)(
        image_processor=Qwen2VLImageProcessorPil(**settings), tokenizer=pair.oracle.tokenizer, video_processor=video
    )
    image = clip_of(pair, 13, frames=6, seconds=3.0)
    text = pair.oracle.tokenizer.apply_chat_template(
        [{"role": "user", "content": "\x00" + QUESTION}], tokenize=False, add_generation_prompt=True
    ).replace("\x00", "<|vision_start|><|video_pad|><|vision_end|>")
    made = processor(
        text=[text],
        videos=[torch.from_numpy(frames_of(image).copy())],
        video_metadata=[
            VideoMetadata(total_num_frames=60, fps=20.0, duration=3.0, frames_indices=list(range(0, 60, 10)))
        ],
        do_sample_frames=False,
        do_resize=False,
        return_tensors="pt",
    )
    message = Message("user", QUESTION, (image,))
    assert prompt_ids(pair, message) == made["input_ids"][0].tolist()
    assert made["video_grid_thw"].tolist() == [[3, 4, 6]]
    assert torch.allclose(parts.encoder.pixel_values(image), made["pixel_values_videos"], atol=1e-6)
    if not is_three:
        assert made["second_per_grid_ts"] == pytest.approx([1.0])


def test_a_model_without_the_token_for_clips_says_so(models_dir: Any) -> None:
    engine = LocalEngine(models_dir, model="qwen2_5_vl", device="cpu", precision="fp32", threads=1)
    engine.load()
    parts = engine._parts
    assert parts is not None
    del parts.tokens.specials["<|video_pad|>"]
    image = picture(1, width=56, height=56)
    clip = ImageInput("x", image.size, image.rgb * 2, Clip(1.0, (0.0, 0.5)))
    with pytest.raises(InferenceError, match=r"engine\.clip\.unknown_to_model"):
        list(engine.generate(GenerationRequest((Message("user", "?", (clip,)),)), should_stop=never))


def test_a_clip_of_an_earlier_turn_is_not_sent_elsewhere_as_its_first_frame() -> None:
    image = ImageInput("x", Size(28, 28), bytes(2 * 28 * 28 * 3), Clip(1.0, (0.0, 0.5)))
    with pytest.raises(InferenceError, match=r"clip\.not_here"):
        written(Message("user", "?", (image,)))


def test_a_short_clip_gets_two_frames_a_second_and_a_long_one_what_the_plan_has() -> None:
    """1280 tokens a picture, four pictures or half of the context of 8192: 4096 tokens, 32 pairs of 128."""
    size = Size(1920, 1080)
    assert budget_tokens(FAKE_PLAN, None) == 4096
    ten, hour = (seen_clip(FAKE_PLAN, size, seconds=s, frame_count=10**6, detail=None) for s in (10.0, 3600.0))
    assert (ten.count, hour.count) == (20, 64)
    assert 128 * 10 <= ten.seen.tokens <= 4096 and hour.seen.tokens <= 4096
    assert ten.seen.size.width % 28 == ten.seen.size.height % 28 == 0
    assert ten.seen.size.pixels > hour.seen.size.pixels


@pytest.mark.parametrize("detail", [None, Detail.LOW_MEMORY, Detail.DETAIL])
@pytest.mark.parametrize("size", [Size(1920, 1080), Size(64, 48), Size(2000, 40), Size(8, 8)])
@pytest.mark.parametrize(("seconds", "frames"), [(0.04, 1), (0.1, 3), (1.0, 30), (4.1, 120), (90.0, 2700), (3000.0, 7)])
def test_no_clip_costs_more_than_its_share(size: Size, seconds: float, frames: int, detail: Detail | None) -> None:
    made = seen_clip(FAKE_PLAN, size, seconds=seconds, frame_count=frames, detail=detail)
    assert made.count % 2 == 0 and 2 <= made.count <= max(2, frames)
    assert made.seen.tokens == sum(pair_tokens(made.seen, made.count))
    assert made.seen.tokens <= budget_tokens(FAKE_PLAN, detail)
    assert made.seen.size.width % 28 == made.seen.size.height % 28 == 0
