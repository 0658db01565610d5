"""The local engine: one model's life, and the path of one request through it.

Knows the order of things: choose, plan, load, encode, prefill, decode, clean up. Does not know who asks, what is kept, or
how any of it is drawn. One thread loads and generates; `status` and `seen_size` may be read from any.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qwen_vl_app.chat import (
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    LikelyToken,
    Message,
    SeenSize,
    Size,
    SizePlan,
    Usage,
)
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Prediction, Stage, StageStep, Step, TokenStep
from qwen_vl_app.engine.families import Family, Shape, smart_resize
from qwen_vl_app.engine.folders import ModelFolder, choose_model, fingerprint, list_models
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.answers import AnswerIds
from qwen_vl_app.engine.local.attention import choose_attention
from qwen_vl_app.engine.local.decoding import Decoder
from qwen_vl_app.engine.local.grammar import Grammars
from qwen_vl_app.engine.local.loading import LoadedModel, load_model, read_end_tokens
from qwen_vl_app.engine.local.memory import (
    Budget,
    make_plan,
    predict_bytes,
    read_image_settings,
    read_limits,
    with_default_by_time,
)
from qwen_vl_app.engine.local.prefixes import PrefixStore
from qwen_vl_app.engine.local.prompt import Prompt, PromptBuilder, read_frame
from qwen_vl_app.engine.local.repetition import LoopGuard
from qwen_vl_app.engine.local.sampling import Choice, Sampler
from qwen_vl_app.engine.local.speed import Speed, measure
from qwen_vl_app.engine.local.tokens import AnswerText, TextTokens
from qwen_vl_app.engine.local.vision import FeatureCache, PictureEncoder, PictureFeatures, Stopped
from qwen_vl_app.errors import (
    AppError,
    InferenceError,
    ModelError,
    ModelFolderError,
    ModelNotLoadedError,
    OutOfMemoryError,
    PromptTooLongError,
    Reason,
)

log = logging.getLogger(__name__)

CHUNK_TOKENS = {"cpu": 512, "cuda": 2048}
FEATURE_SHARE, PREFIX_SHARE = 0.1, 0.3
"""Parts of the usable memory for pictures already encoded and for sequences at rest."""
RESERVED_ANSWER_TOKENS = 256
TYPICAL_TEXT_TOKENS = 32
"""Words of a question about one picture, with the chat's frame."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything that exists only while a model is loaded."""

    folder: ModelFolder
    model: LoadedModel
    tokens: TextTokens
    prompts: PromptBuilder
    encoder: PictureEncoder
    decoder: Decoder
    features: FeatureCache
    prefixes: PrefixStore
    end_tokens: frozenset[int]
    grammars: Grammars


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is chosen and planned before a weight is read."""

    folder: ModelFolder
    family: Family
    shape: Shape
    device: torch.device
    precision: hardware.PrecisionChoice
    settings: Mapping[str, Any]
    budget: Budget
    plan: SizePlan


class LocalEngine:
    """An `Engine` for a checkpoint on this machine's disk.

    The arguments are the settings of the same names. With `runs_to_length`, for measuring, neither an end token nor a
    repetition ends an answer. `fault` is called with a point's name ("load", "encode", "prefill",
    "decode") before that work, so that a test can make it fail there.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        model: str = "",
        device: str = "auto",
        precision: str = "auto",
        attention: str = "auto",
        threads: int = 0,
        detail: str = "auto",
        memory_reserve_mb: int = 1024,
        chunk_tokens: int | None = None,
        runs_to_length: bool = False,
        fault: Callable[[str], None] | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._wanted = model
        self._device = device
        self._precision = precision
        self._attention = attention
        self._threads = threads
        self._detail = detail
        self._reserve_bytes = memory_reserve_mb * 2**20
        self._chunk_tokens = chunk_tokens
        self._runs_to_length = runs_to_length
        self._fault = fault or (lambda point: None)
        self._status = EngineStatus(EngineState.EMPTY)
        self._sizes: tuple[Shape, Budget] | None = None
        self._speed: Speed | None = None
        self._parts: _Parts | None = None
        self._answers = AnswerIds()

    @property
    def status(self) -> EngineStatus:
        """What the engine is and how far it is."""
        return self._status

    # Loading

    def load(self) -> None:
        """Choose a model, plan, and bring it into memory. Raises ModelError; `status` then says FAILED and why."""
        self._told(self._load)

    def prepare(self) -> None:
        """Choose a model and plan the sizes of pictures, reading no weights. Raises ModelError as `load` does."""
        self._told(self._prepare)

    def _told(self, step: Callable[[], object]) -> None:
        """Do a step of bringing a model up; where it fails, let `status` say why, free everything, raise ModelError."""
        self._status = EngineStatus(EngineState.LOADING)
        failure: ModelError
        try:
            step()
        except ModelError as error:
            failure = error
        except Exception as error:  # the island's shore: whatever a library raises while loading is told in our words
            log.exception("loading failed")
            code = "engine.load.memory" if _is_out_of_memory(error) else "engine.load.failed"
            failure = ModelError(code, model=self._status.model)
        else:
            return
        self._parts = None
        _free_memory()
        self._status = replace(self._status, state=EngineState.FAILED, plan=None, error=failure.reason)
        raise failure

    def _prepare(self) -> _Prepared:
        # 1. Where, and which model fits there.
        where = hardware.choose_device(self._device)
        device = where.device
        free = hardware.free_bytes(device)
        choice = choose_model(list_models(self._models_dir), free - self._reserve_bytes, wanted=self._wanted)
        folder, family, shape = choice.folder, choice.folder.family, choice.folder.shape
        if family is None or shape is None:
            raise ModelFolderError("engine.folder.bad_config", model=folder.name)
        precision = hardware.choose_precision(
            self._precision, device, parameters=folder.parameters, memory_bytes=free - self._reserve_bytes
        )
        threads = hardware.choose_threads(self._threads, parameters=folder.parameters)
        torch.set_num_threads(threads)
        # 2. The plan, before the weights: pictures can be staged from here on.
        settings = read_image_settings(folder.path)
        limits = read_limits(settings, family, model=folder.name)
        weights = int(folder.parameters * precision.parameter_bytes)
        # A small model shall not be refused its sizes because of a reserve that was meant for large ones.
        reserve = min(self._reserve_bytes, max(free - weights, 0) // 4)
        chunk = self._chunk_tokens or CHUNK_TOKENS[device.type]
        budget = Budget(
            free_bytes=max(free - weights, 0),
            reserve_bytes=reserve,
            dtype_bytes=precision.activation_bytes,
            chunk_tokens=chunk,
            is_cpu=device.type == "cpu",
            parameters=folder.parameters,
        )
        plan = make_plan(family, shape, limits, budget, wanted=self._detail)
        self._sizes = shape, budget
        self._speed = None
        self._status = EngineStatus(
            EngineState.LOADING,
            model=folder.name,
            family=family.display_name,
            coordinates=family.coordinates,
            is_demo=folder.is_demo,
            device=hardware.device_name(device),
            dtype=precision.name,
            weights_bytes=folder.weight_bytes,
            plan=plan,
            choices=(
                choice.reason,
                where.reason,
                precision.reason,
                Reason("engine.choice.threads", threads=threads),
            ),
        )
        return _Prepared(folder, family, shape, device, precision, settings, budget, plan)

    def _load(self) -> None:
        prepared = self._prepare()
        folder, family, device = prepared.folder, prepared.family, prepared.device
        # 3. Words.
        tokens = TextTokens(folder.path / "tokenizer.json", model=folder.name)
        picture_token = int(folder.config.get("image_token_id", 151655))
        prompts = PromptBuilder(
            tokens, read_frame(folder.path, family), family, picture_token=picture_token, model=folder.name
        )
        # 4. Weights.
        self._fault("load")
        model = load_model(
            folder,
            device=device,
            dtype=prepared.precision.dtype,
            is_int8=prepared.precision.is_int8,
            on_progress=self._note_progress,
        )
        if prepared.precision.is_int8 and not hardware.has_fast_bf16_cpu():
            model.visual.float()
        # 5. Attention, tested on this device with this model's heads.
        tower = model.visual.config
        attention = choose_attention(
            self._attention,
            device=device,
            dtype=model.visual.patch_embed.weight.dtype,
            heads=int(tower.num_heads),
            head_dim=int(tower.hidden_size) // int(tower.num_heads),
        )
        tower._attn_implementation = attention.implementation
        encoder = PictureEncoder(model, family, prepared.settings)
        decoder = Decoder(model, chunk_tokens=prepared.budget.chunk_tokens)
        # 6. Warm up, and know from it how long things take here.
        speed = measure(prompts, encoder, decoder, factor=family.factor)
        self._speed = speed
        plan = prepared.plan
        if self._detail == "auto" and prepared.budget.is_cpu:
            plan = with_default_by_time(
                plan, lambda tokens: speed.first_token_s(prepared.shape, (tokens,), text_tokens=TYPICAL_TEXT_TOKENS)
            )
        end_tokens = frozenset[int]() if self._runs_to_length else read_end_tokens(folder.path, tokens.specials)
        grammars = Grammars(tokens, vocabulary=model.vocabulary, end_tokens=end_tokens)
        self._parts = _Parts(
            folder=folder,
            model=model,
            tokens=tokens,
            prompts=prompts,
            encoder=encoder,
            decoder=decoder,
            features=FeatureCache(int(prepared.budget.usable_bytes * FEATURE_SHARE)),
            prefixes=PrefixStore(self._prefix_budget(prepared.budget, prepared.shape, prepared.plan)),
            end_tokens=end_tokens,
            grammars=grammars,
        )
        self._status = replace(
            self._status,
            state=EngineState.READY,
            loaded_bytes=folder.weight_bytes,
            fingerprint=fingerprint(folder),
            attention=attention.name,
            plan=plan,
            figures=speed.figures(),
            choices=(*self._status.choices, attention.reason, grammars.reason),
        )

    @staticmethod
    def _prefix_budget(budget: Budget, shape: Shape, plan: SizePlan) -> int:
        all_context = plan.context_tokens * shape.kv_bytes_per_token(budget.dtype_bytes)
        return min(int(budget.usable_bytes * PREFIX_SHARE), 2 * all_context)

    def _note_progress(self, loaded_bytes: int) -> None:
        self._status = replace(self._status, loaded_bytes=loaded_bytes)

    # Sizes

    def seen_size(self, size: Size, *, detail: Detail | None = None) -> SeenSize:
        """Return what the model would see of a picture of this upright size.

        Raises ImageShapeError where it is too long and thin, ModelNotLoadedError before there is a plan.
        """
        plan = self._status.plan
        if plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        rung = plan.rung(detail)
        seen = smart_resize(size, plan.factor, min_pixels=plan.min_pixels, max_pixels=rung.max_pixels)
        return SeenSize(seen, seen.pixels // plan.factor**2, rung.detail)

    def predict(self, picture_tokens: Sequence[int], *, text_tokens: int = 0) -> Prediction:
        """Return what a question will take; see `Engine.predict`."""
        sizes, speed = self._sizes, self._speed
        if sizes is None or self._status.plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        shape, budget = sizes
        seconds = None if speed is None else speed.first_token_s(shape, picture_tokens, text_tokens=text_tokens)
        return Prediction(seconds, predict_bytes(shape, budget, picture_tokens, text_tokens=text_tokens))

    # Generating

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Answer a request, one resumable step at a time; see `Engine.generate`."""
        if self._parts is None:
            raise ModelNotLoadedError("engine.not_ready")
        return self._guarded(self._parts, request, should_stop)

    def _guarded(self, parts: _Parts, request: GenerationRequest, should_stop: Callable[[], bool]) -> Iterator[Step]:
        is_out_of_memory = False
        try:
            yield from self._run(parts, request, should_stop)
        except AppError:
            raise
        except Exception as error:  # the island's shore: whatever a library raises is told in our words
            is_out_of_memory = _is_out_of_memory(error)
            if not is_out_of_memory:
                log.exception("a run failed")
                raise InferenceError("engine.run_failed") from error
        if is_out_of_memory:
            # Only here, behind the handler, is the traceback gone that held the run's tensors.
            parts.prefixes.clear()
            parts.features.clear()
            _free_memory()
            raise OutOfMemoryError("engine.out_of_memory")

    def _run(  # noqa: PLR0915 - the path of a request, read in one piece
        self, parts: _Parts, request: GenerationRequest, should_stop: Callable[[], bool]
    ) -> Iterator[Step]:
        # 1. The sequence, and what of it is still held.
        key, answers = request.conversation_key, self._answers
        prompt = self._prompt(parts, request.messages, key)
        room = self._room(prompt)
        positions = parts.decoder.positions(prompt)
        cache = parts.prefixes.take(prompt.units, key, layers=parts.decoder.layers)
        cached = cache.length
        sequence = list(prompt.units)
        form = parts.grammars.hold(request.schema)
        try:
            answer = AnswerText(parts.tokens, request.sampling.stop)
            made: list[int] = []
            finish: FinishReason | None = None
            try:
                # 2. Pictures that were not seen lately.
                features: dict[str, PictureFeatures] = {}
                yield from self._encode(parts, prompt, cached, features, should_stop)
                # 3. The prompt.
                logits: torch.Tensor | None = None
                limit = min(request.sampling.max_new_tokens, room)
                cache.reserve(len(prompt.token_ids) + min(limit, RESERVED_ANSWER_TOKENS))
                self._fault("prefill")
                for read in parts.decoder.prefill(prompt, positions, cache, features, should_stop=should_stop):
                    logits = read.logits
                    yield StageStep(Stage.READING, read.done, len(prompt.token_ids))
                # 4. The answer, a token at a time.
                position = int(positions.max()) + 1
                sampler = Sampler(request.sampling, parts.model.device, form=form)
                guard = LoopGuard(lambda token: b"\n" in parts.tokens.bytes_of(token))
                while finish is None and logits is not None:
                    if should_stop():
                        raise Stopped
                    chosen = sampler.choose(logits)
                    if chosen is None:
                        finish = FinishReason.LENGTH
                        break
                    if chosen.token in parts.end_tokens:
                        finish = FinishReason.STOP
                        break
                    made.append(chosen.token)
                    sequence.append(chosen.token)
                    yield self._told_token(parts, chosen, answer.add(chosen.token))
                    if answer.is_stopped or chosen.is_last:
                        finish = FinishReason.STOP
                    elif len(made) >= limit:
                        finish = FinishReason.LENGTH
                    elif guard.add(chosen.token) and not self._runs_to_length:
                        finish = FinishReason.REPETITION
                    else:
                        self._fault("decode")
                        logits = parts.decoder.decode(chosen.token, position, cache, should_stop=should_stop)
                        position += 1
            except Stopped:
                finish = FinishReason.STOPPED
            text = answer.finish()
            if not answer.is_stopped:
                answers.remember(key, parts.tokens, made)
            usage = Usage(len(prompt.token_ids), prompt.picture_tokens, cached, len(made))
            yield FinishedStep(finish or FinishReason.LENGTH, usage, text, form.notes if form is not None else ())
        finally:
            # Also when the caller walks away: what was read so far serves the next question.
            parts.prefixes.keep(sequence, cache, key)

    @staticmethod
    def _told_token(parts: _Parts, chosen: Choice, text: str) -> TokenStep:
        raw = parts.tokens.bytes_of
        likely = tuple(LikelyToken(raw(each.token), each.logprob) for each in chosen.likely)
        return TokenStep(text, chosen.token, chosen.logprob, raw(chosen.token), chosen.allowed, likely)

    def _prompt(self, parts: _Parts, messages: tuple[Message, ...], key: str | None) -> Prompt:
        return parts.prompts.build(messages, answer_ids=lambda text: self._answers.recall(key, text))

    def _room(self, prompt: Prompt) -> int:
        plan = self._status.plan
        limit = plan.context_tokens if plan is not None else 0
        tokens = len(prompt.token_ids)
        if tokens >= limit:
            raise PromptTooLongError(
                "engine.prompt_too_long",
                tokens=tokens,
                limit=limit,
                picture_tokens=prompt.picture_tokens,
                pictures=len(prompt.pictures),
            )
        return limit - tokens

    def _encode(
        self,
        parts: _Parts,
        prompt: Prompt,
        cached: int,
        features: dict[str, PictureFeatures],
        should_stop: Callable[[], bool],
    ) -> Iterator[Step]:
        needed = {place.image.picture_id: place.image for place in prompt.pictures if place.end > cached}
        for done, (picture_id, image) in enumerate(needed.items()):
            yield StageStep(Stage.ENCODING, done, len(needed))
            found = parts.features.get(picture_id)
            if found is None:
                self._fault("encode")
                found = parts.encoder.encode(image, should_stop=should_stop)
                parts.features.put(picture_id, found)
            features[picture_id] = found
        if needed:
            yield StageStep(Stage.ENCODING, len(needed), len(needed))

    def forget(self) -> None:
        """Let go of encoded pictures, held sequences and the tokens of earlier answers.

        A run that is under way keeps its own in the stores that it began with, and they go with it.
        """
        self._answers = AnswerIds()
        if self._parts is not None:
            parts = self._parts
            self._parts = replace(parts, features=parts.features.emptied(), prefixes=parts.prefixes.emptied())
        _free_memory()

    def close(self) -> None:
        """Let the model go; further calls raise ModelNotLoadedError."""
        self._parts = None
        self._answers = AnswerIds()
        _free_memory()
        self._status = replace(self._status, state=EngineState.CLOSED, plan=None, loaded_bytes=0)


def _is_out_of_memory(error: BaseException) -> bool:
    # A CPU allocation that fails is a bare RuntimeError whose text is all there is to know it by.
    told = isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error))
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or told


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
