"""One arm of the benchmark, in a process of its own: loads the weights its way and answers with exactly N tokens.

Knows clocks, memory and two ways to run a model: the library's as it comes, and ours. Does not know the other arms.
A process of its own makes the peak of memory true and leaves nothing of one arm to the next.
"""

from __future__ import annotations

import hashlib
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
import transformers
from transformers.utils import logging as transformers_logging

from qwen_vl_app.chat import ImageInput, Message, SamplingParams, Size
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.folders import inspect_folder
from qwen_vl_app.engine.local.attending import leave_cudnn_out
from qwen_vl_app.engine.local.device_clock import StepTimes, wait_for
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.prompt import PromptBuilder, read_frame
from qwen_vl_app.engine.local.tokens import TextTokens
from qwen_vl_app.engine.local.vision import processor_of

QUESTION, FOLLOW_UP = "Read all the text in the image.", "How many are there?"
MIXED_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to run a model. `holds` says whether ours keeps what it computed, `decode` how its steps are run."""

    name: str
    is_stock: bool
    precision: str
    holds: bool = True
    decode: str = "auto"


ARMS: tuple[Arm, ...] = (
    Arm("stock fp32", is_stock=True, precision="fp32"),
    Arm("stock bf16", is_stock=True, precision="bf16"),
    Arm("own loop fp32, nothing held", is_stock=False, precision="fp32", holds=False),
    Arm("+ held pictures and sequences", is_stock=False, precision="fp32"),
    Arm("+ bf16", is_stock=False, precision="bf16"),
    Arm("+ int8 products", is_stock=False, precision="int8"),
)


CARD_ARMS: tuple[Arm, ...] = (
    Arm("stock bf16", is_stock=True, precision="bf16"),
    Arm("own loop bf16, nothing held", is_stock=False, precision="bf16", holds=False, decode="plain"),
    Arm("+ held pictures and sequences", is_stock=False, precision="bf16", decode="plain"),
    Arm("+ int8 products, captured", is_stock=False, precision="int8"),
    Arm("+ nf4 products, captured", is_stock=False, precision="nf4"),
    Arm("+ compiled steps", is_stock=False, precision="bf16", decode="compiled"),
    Arm("+ captured steps", is_stock=False, precision="bf16", decode="graph"),
    Arm("+ fp8 products, captured", is_stock=False, precision="fp8"),
)
"""On a graphics card. The first is what the others are compared with, the last what is called ours at its best."""


@dataclass(frozen=True, slots=True)
class Work:
    """What an arm is to do: which model, pictures of which sizes, how many tokens, how often, and on which device.

    `cap_bytes` is all that it may take of a graphics card, 0 for the whole of it.
    """

    arm: Arm
    folder: Path
    sizes: tuple[Size, ...]
    tokens: int
    repeats: int
    threads: int
    round: int
    device: str = "cpu"
    cap_bytes: int = 0


class _Way(Protocol):
    device: torch.device

    def answer(self, messages: Sequence[Message], *, tokens: int, key: str) -> Iterator[None]:
        """Yield once for every token, exactly `tokens` times."""
        ...

    def said(self, key: str) -> str:
        """Return the text of the last answer of a conversation."""
        ...

    def decode_bytes(self) -> int:
        """Return the bytes of weights that one decoded token reads."""
        ...


class _Stock:
    """The library's own generate(), as it comes."""

    def __init__(self, work: Work) -> None:
        folder = inspect_folder(work.folder)
        family = folder.family
        if family is None:
            raise ValueError("not a model of a known family")
        self._tokens = TextTokens(work.folder / "tokenizer.json", model=folder.name)
        self._prompts = PromptBuilder(
            self._tokens,
            read_frame(work.folder, family),
            family,
            picture_token=int(folder.config["image_token_id"]),
            model=folder.name,
        )
        self._processor = processor_of(family, {})
        dtype = torch.float32 if work.arm.precision == "fp32" else torch.bfloat16
        model_class = getattr(transformers, family.architecture)
        self.device = torch.device(work.device)
        transformers_logging.disable_progress_bar()  # its bar would stand in the middle of our own report
        model = model_class.from_pretrained(work.folder, local_files_only=True, dtype=dtype)
        self._model = model.eval().to(self.device)
        self._model.generation_config.repetition_penalty = 1.0
        self._patch = family.patch
        self._answers: dict[str, list[int]] = {}

    def answer(self, messages: Sequence[Message], *, tokens: int, key: str) -> Iterator[None]:
        prompt = self._prompts.build(messages, answer_ids=lambda text: self._answers.get(key))
        grids = [[1, place.grid_height, place.grid_width] for place in prompt.pictures]
        pixels = [
            self._processor(images=[_rgb(place.image)], input_data_format="channels_last", return_tensors="pt")
            for place in prompt.pictures
        ]
        ids = torch.tensor([prompt.token_ids], device=self.device)
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

        class Watch(transformers.StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: torch.Tensor, scores: Any, **unused: Any) -> torch.Tensor:
                # The library looks at the token right behind this; here it may still have to be computed.
                wait_for(input_ids.device)
                arrived.put(None)
                return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

        def run() -> None:
            try:
                self._model.model.rope_deltas = None
                with torch.inference_mode():
                    out = self._model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        mm_token_type_ids=(ids == self._model.config.image_token_id).int(),
                        pixel_values=torch.cat([one["pixel_values"] for one in pixels]).to(self.device),
                        image_grid_thw=torch.tensor(grids, device=self.device),
                        do_sample=False,
                        min_new_tokens=tokens,
                        max_new_tokens=tokens,
                        stopping_criteria=[Watch()],
                    )
                self._answers[key] = out[0, ids.shape[1] :].tolist()
                arrived.put(True)
            except Exception as error:  # noqa: BLE001 - carried to the thread that waits
                arrived.put(error)

        thread = threading.Thread(target=run)
        thread.start()
        while (told := arrived.get()) is None:
            yield
        thread.join()
        if isinstance(told, Exception):
            raise told

    def said(self, key: str) -> str:
        return ""  # its tokens are put back by the conversation's key

    def decode_bytes(self) -> int:
        text = self._model.model.language_model.layers
        return int(sum(part.nbytes for part in text.parameters()) + self._model.lm_head.weight.nbytes)


class _Ours:
    """The engine, asked through its own protocol."""

    def __init__(self, work: Work) -> None:
        self._engine = LocalEngine(
            work.folder.parent,
            model=work.folder.name,
            device=work.device,
            precision=work.arm.precision,
            decode=work.arm.decode,
            threads=work.threads,
            memory_reserve_mb=0,
            runs_to_length=True,
        )
        self._engine.load()
        self._holds = work.arm.holds
        self._answers: dict[str, str] = {}
        parts = self._engine._parts
        assert parts is not None  # noqa: S101 - it is loaded
        self._parts = parts
        self.device = parts.model.device
        self._steps = StepTimes(self.device)
        stepper = parts.rounds._steppers[0]
        stepper.step = self._steps.around(stepper.step)  # type: ignore[method-assign]

    @property
    def model_s(self) -> float:
        """Seconds within the model while decoding, to tell the loop's own share."""
        return self._steps.seconds

    def answer(self, messages: Sequence[Message], *, tokens: int, key: str) -> Iterator[None]:
        if not self._holds:
            self._parts.prefixes.clear()
            self._parts.features.clear()
        request = GenerationRequest(tuple(messages), SamplingParams(max_new_tokens=tokens), key)
        text = ""
        for step in self._engine.generate(request, should_stop=lambda: False):
            if isinstance(step, TokenStep | FinishedStep):
                text += step.text
            if isinstance(step, TokenStep):
                yield
        self._answers[key] = text

    def said(self, key: str) -> str:
        return self._answers[key]

    def decode_bytes(self) -> int:
        return self._parts.decoder.token_bytes


def _rgb(image: ImageInput) -> Any:
    return np.frombuffer(image.rgb, dtype=np.uint8).reshape(image.size.height, image.size.width, 3)


def random_picture(seed: int, size: Size) -> ImageInput:
    """Return noise of so many pixels, the same for the same seed."""
    rgb = random.Random(seed).randbytes(size.pixels * 3)  # noqa: S311 - noise, not a secret
    return ImageInput(hashlib.sha256(rgb).hexdigest(), size, rgb)


def measure_arm(work: Work) -> dict[str, Any]:
    """Load, and measure every size; return seconds and bytes by name. The best of the repeats counts."""
    torch.set_num_threads(work.threads)
    if work.device != "cpu":
        cap_memory(work.cap_bytes)
        # Also for the library as it comes: on an H100 it would be compared at what cuDNN plans for each new length, which
        # cards for workstations do not do.
        leave_cudnn_out()
    began = time.perf_counter()
    way: _Way = _Stock(work) if work.arm.is_stock else _Ours(work)
    wait_for(way.device)
    load_s = time.perf_counter() - began
    torch.set_num_threads(work.threads)
    sizes: dict[str, Any] = {}
    for number, size in enumerate(work.sizes):
        seed = 1000 * work.round + 100 * number
        best: dict[str, float] = {}
        _spent(way, (Message("user", QUESTION, (random_picture(seed, size),)),), tokens=2, key="warm")
        for repeat in range(work.repeats):
            for name, value in _once(way, size, seed + 1 + 10 * repeat, tokens=work.tokens).items():
                kept = best.get(name, value)
                best[name] = max(kept, value) if "_per_s" in name else min(kept, value)
        best["gb_per_s"] = best["decode_tokens_per_s"] * way.decode_bytes() / 1e9
        sizes[f"{size.width}x{size.height}"] = best
    return {"arm": asdict(work.arm), "load_s": load_s, "peak_bytes": _peak_bytes(work.device), "sizes": sizes}


def _once(way: _Way, size: Size, seed: int, *, tokens: int) -> dict[str, float]:
    one, other = random_picture(seed, size), random_picture(seed + 1, size)
    first = Message("user", QUESTION, (one,))
    model_s = getattr(way, "model_s", 0.0)
    cold, rest = _spent(way, (first,), tokens=tokens, key=str(seed))
    found = {"first_token_s": cold, "decode_tokens_per_s": (tokens - 1) / rest}
    if isinstance(way, _Ours):
        found["loop_share"] = max(0.0, 1 - (way.model_s - model_s) / rest)
    later = (first, Message("assistant", way.said(str(seed))), Message("user", FOLLOW_UP))
    found["follow_up_first_token_s"], _ = _spent(way, later, tokens=2, key=str(seed))
    # Mixed repeats: another picture, the first once more, the other once more, both asked something else.
    mixed = 0.0
    for place, image in enumerate((other, one, other, one)):
        question = Message("user", FOLLOW_UP if place > 1 else QUESTION, (image,))
        mixed += sum(_spent(way, (question,), tokens=MIXED_TOKENS, key=f"{seed}-{place}"))
    found["mixed_s"] = mixed
    return found


def _spent(way: _Way, messages: Sequence[Message], *, tokens: int, key: str) -> tuple[float, float]:
    """Return the seconds to the first token and from there to the last, from decoded RGB on.

    Each token is a number on the host when it comes, so that a card has computed it; what else it was told is waited for.
    """
    wait_for(way.device)
    began = time.perf_counter()
    first = 0.0
    count = 0
    for _ in way.answer(messages, tokens=tokens, key=key):
        count += 1
        first = first or time.perf_counter() - began
    if count != tokens:
        raise RuntimeError(f"{count} tokens instead of {tokens}")
    wait_for(way.device)
    return first, time.perf_counter() - began - first


def cap_memory(cap_bytes: int) -> None:
    """Let this process have no more than so much of the graphics card; 0 is all of it."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(cap_bytes / total, 1.0) if cap_bytes else 1.0)


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415 - not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@dataclass(frozen=True, slots=True)
class Reading:
    """How memory is to be read: by so many threads, or by a graphics card."""

    threads: int
    device: str = "cpu"


def measure_bandwidth(work: Reading) -> float:
    """Return the GB/s at which this machine reads memory: the limit of decoding. The best of several sums counts."""
    torch.set_num_threads(work.threads)
    block = torch.ones(2**27 if work.device == "cpu" else 2**29, device=work.device)
    best = 0.0
    for _ in range(6):
        began = time.perf_counter()
        float(block.sum())
        best = max(best, block.nbytes / (time.perf_counter() - began) / 1e9)
    return best
