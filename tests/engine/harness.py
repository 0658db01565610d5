"""What the engine's tests share: pictures of noise, one way to ask, and the library itself as the oracle."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from qwen_vl_app.chat import ImageInput, Message, SamplingParams, Size
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.local.engine import LocalEngine

FAMILIES = ("qwen2_5_vl", "qwen3_vl")


def picture(seed: int, *, width: int, height: int) -> ImageInput:
    """Return a picture of noise that depends only on its seed and size."""
    rgb = random.Random(seed).randbytes(width * height * 3)
    return ImageInput(hashlib.sha256(f"{width}x{height}".encode() + rgb).hexdigest(), Size(width, height), rgb)


def never() -> bool:
    """Never stop."""
    return False


@dataclass(frozen=True)
class Said:
    """What a run gave, collected."""

    text: str
    ids: list[int]
    logprobs: list[float]
    finish: FinishedStep


def ask(
    engine: LocalEngine,
    *messages: Message,
    key: str | None = None,
    max_new_tokens: int = 24,
    should_stop: Callable[[], bool] = never,
    **sampling: Any,
) -> Said:
    """Run a request to its end."""
    params = SamplingParams(max_new_tokens=max_new_tokens, **sampling)
    text, ids, logprobs = "", [], []
    for step in engine.generate(GenerationRequest(messages, params, key), should_stop=should_stop):
        match step:
            case TokenStep(piece, token, logprob):
                text += piece
                ids.append(token)
                logprobs.append(logprob or 0.0)
            case FinishedStep():
                text += step.text
                return Said(text, ids, logprobs, step)
    raise AssertionError("a run without a finished step")


class Oracle:
    """The library itself on the same folder: its template, its tokenizer, its processor, its generate()."""

    def __init__(self, folder: Path, family: str) -> None:
        model_class = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen3_vl": Qwen3VLForConditionalGeneration}
        self.family = family
        self.patch = 14 if family == "qwen2_5_vl" else 16
        self.model = model_class[family].from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        self.model.generation_config.repetition_penalty = 1.0
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def token_ids(self, messages: tuple[Message, ...]) -> list[int]:
        """Render the folder's template and encode it, pictures' placeholders repeated as the processor does.

        The template itself numbers pictures through all messages; where several messages have some, they are numbered in each anew.
        """
        pictures = [image for message in messages for image in message.images]
        is_numbered = len(pictures) > 1 and sum(1 for message in messages if message.images) == 1
        chat = []
        for message in messages:
            content: list[dict[str, str]] = []
            for number in range(1, len(message.images) + 1):
                if not is_numbered and len(message.images) > 1:
                    content.append({"type": "text", "text": f"Picture {number}: "})
                content.append({"type": "image"})
            chat.append({"role": message.role, "content": [*content, {"type": "text", "text": message.text}]})
        text = self.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, add_vision_id=is_numbered
        )
        parts = text.split("<|image_pad|>")
        assert len(parts) == len(pictures) + 1
        full = parts[0]
        for image, part in zip(pictures, parts[1:], strict=True):
            full += "<|image_pad|>" * (image.size.pixels // (4 * self.patch**2)) + part
        return list(self.tokenizer(full, add_special_tokens=False)["input_ids"])

    def generate(
        self, pixel_values: Callable[[ImageInput], torch.Tensor], messages: tuple[Message, ...],
        *, ids: list[int] | None = None, max_new_tokens: int = 24, **options: Any,
    ) -> list[int]:  # fmt: skip
        """Return the new tokens, without the one that ends the answer."""
        pictures = [image for message in messages for image in message.images]
        ids = ids if ids is not None else self.token_ids(messages)
        tokens = torch.tensor([ids])
        extra: dict[str, Any] = {}
        if pictures:
            extra["pixel_values"] = torch.cat([pixel_values(image) for image in pictures])
            extra["image_grid_thw"] = torch.tensor(
                [[1, image.size.height // self.patch, image.size.width // self.patch] for image in pictures]
            )
        self.model.model.rope_deltas = None
        options = {"do_sample": False, **options}
        out = self.model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=(tokens == self.model.config.image_token_id).int(),
            max_new_tokens=max_new_tokens,
            **extra,
            **options,
        )[0, len(ids) :].tolist()
        ends = {self.tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
        return [token for token in out if token not in ends]


@dataclass(frozen=True)
class Pair:
    """An engine and its oracle, on the same weights."""

    family: str
    engine: LocalEngine
    oracle: Oracle

    @property
    def factor(self) -> int:
        """Pixels along one side of a token."""
        return self.oracle.patch * 2

    def picture(self, seed: int, across: int = 4, down: int = 3) -> ImageInput:
        """Return a picture of so many tokens across and down."""
        return picture(seed, width=across * self.factor, height=down * self.factor)

    def expected(self, *messages: Message, **options: Any) -> list[int]:
        """Return what the library says."""
        parts = self.engine._parts
        assert parts is not None
        return self.oracle.generate(parts.encoder.pixel_values, messages, **options)
