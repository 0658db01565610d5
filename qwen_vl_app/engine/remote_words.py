"""What goes to an OpenAI-compatible server and what comes back, in the app's words and in theirs.

Knows the fields that vLLM and SGLang add to OpenAI's. Does not know connections.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from qwen_vl_app.chat import (
    Detail,
    FinishReason,
    ImageInput,
    LikelyToken,
    Message,
    Rung,
    SamplingParams,
    SizePlan,
    Usage,
)
from qwen_vl_app.engine.base import TokenStep
from qwen_vl_app.engine.families import FAMILIES
from qwen_vl_app.errors import InferenceError

TOKEN_ID_UNKNOWN = -1

FINISHES: Mapping[str | None, FinishReason] = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


def tokens_of(choice: Mapping[str, Any]) -> Iterator[TokenStep]:
    """Yield a step for every token of one event; its text goes with the last, for its pieces may split a character."""
    text = str((choice.get("delta") or {}).get("content") or "")
    scored = [each for each in (choice.get("logprobs") or {}).get("content") or [] if isinstance(each, dict)]
    scored = [each for each in scored if "logprob" in each]
    if not scored and not text:
        return
    for number, each in enumerate(scored):
        likely = tuple(
            LikelyToken(_raw(other), float(other["logprob"]))
            for other in each.get("top_logprobs") or ()
            if isinstance(other, dict) and "logprob" in other
        )
        piece = text if number + 1 == len(scored) else ""
        yield TokenStep(piece, TOKEN_ID_UNKNOWN, float(each["logprob"]), raw=_raw(each), likely=likely)
    if not scored:
        yield TokenStep(text, TOKEN_ID_UNKNOWN, None)


def _raw(token: Mapping[str, Any]) -> bytes:
    """Return a token's bytes; servers that tell none give its text."""
    told = token.get("bytes")
    if isinstance(told, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in told):
        return bytes(told)
    return str(token.get("token") or "").encode(errors="replace")


def written_schema(schema: str) -> dict[str, Any]:
    """Return the field that asks these servers to hold the answer to a schema."""
    form = {"name": "answer", "schema": json.loads(schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def usage_of(told: Mapping[str, Any] | None, so_far: Usage) -> Usage:
    """Return the server's counts, where an event has them, over those so far."""
    if not told:
        return so_far
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
    return replace(
        so_far,
        prompt_tokens=int(told.get("prompt_tokens") or 0),
        completion_tokens=int(told.get("completion_tokens") or 0),
        cached_tokens=int(cached or 0),
    )


def written_sampling(params: SamplingParams) -> dict[str, Any]:
    """Say everything: what is left out, these servers take from the model's own settings, a penalty on repetition among it."""
    return {
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k or -1,
        "repetition_penalty": 1.0,
        **({} if params.seed is None else {"seed": params.seed}),
        **({} if not params.stop else {"stop": list(params.stop)}),
        **({} if not params.top_logprobs else {"top_logprobs": params.top_logprobs}),
    }


def written(message: Message, *, is_own: bool = False) -> dict[str, Any]:
    """Return a message in OpenAI's form, its pictures before its text. `is_own` asks an app of this kind to keep their sizes.

    Raises InferenceError for a clip: these servers have no form for frames that were chosen already.
    """
    if any(image.clip is not None for image in message.images):
        raise InferenceError("clip.not_here")
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [
        {
            "type": "image_url",
            "image_url": {
                "url": f"data:image/png;base64,{base64.b64encode(png_of(image)).decode()}",
                **({"detail": "original"} if is_own else {}),
            },
        }
        for image in message.images
    ]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}


def still_loads(model: Mapping[str, Any]) -> bool:
    """Return whether an app of this kind names its model and has no sizes yet, which it tells once it may be asked."""
    return "sizes" in model and model["sizes"] is None


def told_plan(model: Mapping[str, Any]) -> tuple[str, SizePlan] | None:
    """Return the family's name and the plan that an app of this kind tells of its model; None of any other server.

    Raises KeyError, TypeError or ValueError where it tells them and they make no sense.
    """
    sizes = model.get("sizes")
    if not isinstance(sizes, Mapping):
        return None
    family = next((each for each in FAMILIES.values() if each.display_name == sizes["family"]), None)
    if family is None:
        return None
    rungs = tuple(Rung(Detail(name), int(pixels), int(tokens)) for name, pixels, tokens in sizes["rungs"])
    if not rungs:
        raise ValueError("no sizes")
    min_pixels = int(sizes.get("min_pixels", 4 * family.factor**2))
    if not 0 < min_pixels <= rungs[0].max_pixels:
        raise ValueError("no sizes")
    plan = SizePlan(family.factor, min_pixels, rungs, Detail(sizes["default"]), int(model["max_model_len"]))
    return family.model_type, plan


def png_of(image: ImageInput) -> bytes:
    """Return the seen picture as PNG, without loss; quickly, for it does not travel far."""
    width, height = image.size.width, image.size.height
    stride = width * 3
    rows = b"".join(b"\0" + image.rgb[at * stride : (at + 1) * stride] for at in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
