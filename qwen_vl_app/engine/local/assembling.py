"""A model put together: chosen, planned, brought into memory, tested on this machine, and measured once.

Knows the order of loading. Does not know requests or states: what it is doing goes out by `on_progress`, and what goes
wrong is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qwen_vl_app.chat import EngineState, EngineStatus, SizePlan
from qwen_vl_app.engine.families import Family, Shape
from qwen_vl_app.engine.folders import ModelFolder, fingerprint, list_models
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.attending import leave_cudnn_out
from qwen_vl_app.engine.local.attention import choose_attention
from qwen_vl_app.engine.local.chunk_choice import choose_chunks
from qwen_vl_app.engine.local.decoding import Decoder
from qwen_vl_app.engine.local.grammar import Grammars
from qwen_vl_app.engine.local.graphs import choose_steps
from qwen_vl_app.engine.local.loading import LoadedModel, load_model, read_end_tokens
from qwen_vl_app.engine.local.memory import (
    KV_SHARE,
    Budget,
    chunk_graph_bytes,
    chunk_tokens,
    make_plan,
    read_image_settings,
    read_limits,
    slab_tokens,
    with_default_by_time,
)
from qwen_vl_app.engine.local.prefixes import PrefixStore, Rest
from qwen_vl_app.engine.local.prompt import PromptBuilder, read_frame
from qwen_vl_app.engine.local.sizing import choose_fit
from qwen_vl_app.engine.local.slab import SlabSize
from qwen_vl_app.engine.local.speed import Speed, measure
from qwen_vl_app.engine.local.steps import Rounds
from qwen_vl_app.engine.local.tokens import TextTokens
from qwen_vl_app.engine.local.vision import FeatureCache, PictureEncoder
from qwen_vl_app.errors import ModelFolderError, Reason

CHUNK_TOKENS = {"cpu": 512, "cuda": 2048}
FEATURE_SHARE = 0.1
"""Part of the usable memory for pictures already encoded."""
HOST_SHARE = 0.2
"""Part of the host's free memory for sequences of a graphics card that nobody asks about."""
TYPICAL_TEXT_TOKENS = 32
"""Words of a question about one picture, with the chat's frame."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say of a model, by their names."""

    model: str = ""
    device: str = "auto"
    precision: str = "auto"
    attention: str = "auto"
    decode: str = "auto"
    decode_batch: int = 1
    threads: int = 0
    detail: str = "auto"
    reserve_bytes: int = 0
    chunk_tokens: int | None = None
    runs_to_length: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that exists only while a model is loaded."""

    folder: ModelFolder
    model: LoadedModel
    tokens: TextTokens
    prompts: PromptBuilder
    encoder: PictureEncoder
    decoder: Decoder
    rounds: Rounds
    features: FeatureCache
    prefixes: PrefixStore
    end_tokens: frozenset[int]
    grammars: Grammars
    threads: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is chosen and planned before a weight is read; `status` says so, as LOADING."""

    folder: ModelFolder
    family: Family
    shape: Shape
    device: torch.device
    precision: hardware.PrecisionChoice
    settings: Mapping[str, Any]
    budget: Budget
    status: EngineStatus
    plan: SizePlan
    threads: int


@dataclass(frozen=True, slots=True)
class Assembled:
    """A model ready to be asked. `status` says READY, with all that was chosen."""

    parts: Parts
    speed: Speed
    status: EngineStatus


def prepare(models_dir: Path, options: Options) -> Prepared:
    """Choose a model and plan the sizes of pictures, reading no weights. Raises ModelError."""
    # 1. Where, and which model fits there.
    where = hardware.choose_device(options.device)
    device = where.device
    free = hardware.free_bytes(device)
    fit = choose_fit(
        list_models(models_dir),
        device,
        free - options.reserve_bytes,
        model=options.model,
        precision=options.precision,
    )
    choice, precision = fit.choice, fit.precision
    folder, family, shape = choice.folder, choice.folder.family, choice.folder.shape
    if family is None or shape is None:
        raise ModelFolderError("engine.folder.bad_config", model=folder.name)
    threads = hardware.choose_threads(options.threads, parameters=folder.parameters)
    # 2. The plan, before the weights: pictures can be staged from here on.
    settings = read_image_settings(folder.path)
    limits = read_limits(settings, family, model=folder.name)
    # A small model shall not be refused its sizes because of a reserve that was meant for large ones.
    reserve = min(options.reserve_bytes, max(free - fit.weight_bytes, 0) // 4)
    budget = Budget(
        free_bytes=max(free - fit.weight_bytes, 0),
        reserve_bytes=reserve,
        dtype_bytes=precision.activation_bytes,
        chunk_tokens=options.chunk_tokens
        or chunk_tokens(
            shape,
            precision.activation_bytes,
            max(free - fit.weight_bytes, 0) - reserve,
            most=CHUNK_TOKENS[device.type],
        ),
        is_cpu=device.type == "cpu",
        parameters=folder.parameters,
        answers=options.decode_batch,
    )
    plan = make_plan(family, shape, limits, budget, wanted=options.detail)
    status = EngineStatus(
        EngineState.LOADING,
        model=folder.name,
        family=family.display_name,
        coordinates=family.coordinates,
        is_demo=folder.is_demo,
        device=hardware.device_name(device),
        dtype=precision.name,
        weights_bytes=folder.weight_bytes,
        build=hardware.build_name(),
        driver=hardware.driver_version(device),
        needed_bytes=fit.weight_bytes + reserve,
        free_bytes=free,
        plan=plan,
        choices=(
            choice.reason,
            where.reason,
            precision.reason,
            Reason("engine.choice.threads", threads=threads),
        ),
    )
    return Prepared(folder, family, shape, device, precision, settings, budget, status, plan, threads)


def assemble(
    prepared: Prepared,
    options: Options,
    *,
    on_progress: Callable[[int], None] = lambda loaded: None,
    fault: Callable[[str], None] = lambda point: None,
) -> Assembled:
    """Bring what was prepared into memory. `on_progress` gets the bytes of weights in place. Raises ModelError."""
    folder, family, device, budget = prepared.folder, prepared.family, prepared.device, prepared.budget
    hardware.use_threads(prepared.threads)
    # 3. Words.
    tokens = TextTokens(folder.path / "tokenizer.json", model=folder.name)
    picture_token = int(folder.config.get("image_token_id", 151655))
    prompts = PromptBuilder(
        tokens, read_frame(folder.path, family), family, picture_token=picture_token, model=folder.name
    )
    # 4. Weights.
    fault("load")
    leave_cudnn_out()
    model = load_model(
        folder,
        device=device,
        dtype=prepared.precision.dtype,
        products=prepared.precision.products,
        on_progress=on_progress,
    )
    if prepared.precision.products.is_compact and budget.is_cpu and not hardware.has_fast_bf16_cpu():
        model.visual.float()
    # 5. Attention, tested on this device with this model's heads.
    tower = model.visual.config
    attention = choose_attention(
        options.attention,
        device=device,
        dtype=model.visual.patch_embed.weight.dtype,
        heads=int(tower.num_heads),
        head_dim=int(tower.hidden_size) // int(tower.num_heads),
    )
    tower._attn_implementation = attention.implementation
    encoder = PictureEncoder(model, family, prepared.settings)
    decoder = Decoder(model, chunk_tokens=budget.chunk_tokens)
    # 6. Decode steps, tested against the plain way.
    fixed = slab_tokens(prepared.shape, budget, prepared.plan)
    slab = None if fixed is None else SlabSize(options.decode_batch, fixed)
    steps = choose_steps(options.decode, decoder.text, device, rows=options.decode_batch, slab=slab)
    # Beside them, the ends of prompts, tested against the plain reading.
    graph_bytes = None if slab is None else chunk_graph_bytes(prepared.shape, budget, slab.tokens)
    chunks = choose_chunks(decoder, steps.steppers[0], device, has_room=graph_bytes is not None)
    rounds = Rounds(steps.steppers, chunks=chunks.chunks)
    # 7. Warm up, and know from it how long things take here.
    speed, gains = measure(prompts, encoder, decoder, rounds, factor=family.factor)
    plan = prepared.plan
    if options.detail == "auto" and budget.is_cpu:
        plan = with_default_by_time(
            plan, lambda tokens: speed.first_token_s(prepared.shape, (tokens,), text_tokens=TYPICAL_TEXT_TOKENS)
        )
    end_tokens = frozenset[int]() if options.runs_to_length else read_end_tokens(folder.path, tokens.specials)
    grammars = Grammars(tokens, vocabulary=model.vocabulary, end_tokens=end_tokens)
    parts = Parts(
        folder=folder,
        model=model,
        tokens=tokens,
        prompts=prompts,
        encoder=encoder,
        decoder=decoder,
        rounds=rounds,
        features=FeatureCache(int(budget.usable_bytes * FEATURE_SHARE)),
        prefixes=_prefix_store(
            prepared,
            slab if len(steps.steppers) > 1 else None,
            graph_bytes=0 if chunks.chunks is None or graph_bytes is None else graph_bytes,
        ),
        end_tokens=end_tokens,
        grammars=grammars,
        threads=prepared.threads,
    )
    status = replace(
        prepared.status,
        state=EngineState.READY,
        loaded_bytes=folder.weight_bytes,
        fingerprint=fingerprint(folder),
        attention=attention.name,
        plan=plan,
        figures=speed.figures(),
        gains=gains if budget.is_cpu else {},
        choices=(
            *prepared.status.choices,
            attention.reason,
            *decoder.reasons,
            steps.reason,
            *(() if chunks.reason is None else (chunks.reason,)),
            grammars.reason,
        ),
    )
    return Assembled(parts, speed, status)


def _prefix_store(prepared: Prepared, slab: SlabSize | None, *, graph_bytes: int) -> PrefixStore:
    """Return a store for what the plan lets conversations take, without the fixed memory for decode steps and reading."""
    budget, device = prepared.budget, prepared.device
    token_bytes = prepared.shape.kv_bytes_per_token(budget.dtype_bytes)
    fixed = graph_bytes + (0 if slab is None else slab.nbytes(token_bytes))
    allowed = int(budget.usable_bytes * KV_SHARE) - fixed
    most = (budget.answers + 1) * prepared.plan.context_tokens * token_bytes
    rest = None
    if device.type != "cpu":
        host = int(hardware.free_bytes(torch.device("cpu")) * HOST_SHARE)
        rest = Rest(min(host, 2 * most), away=lambda part: part.to("cpu"), back=lambda part: part.to(device))
    return PrefixStore(max(0, min(allowed, most)), rest=rest)
