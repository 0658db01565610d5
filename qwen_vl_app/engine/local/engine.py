"""The local engine: one model's life, and the path of one request through it.

Knows the order of things: choose, plan, load, encode, prefill, decode, clean up. Does not know who asks, what is kept, or
how any of it is drawn. One thread loads and generates; `status` and `seen_size` may be read from any.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from qwen_vl_app.chat import (
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    ImageInput,
    LikelyToken,
    Message,
    SeenSize,
    Size,
    Usage,
)
from qwen_vl_app.engine.base import (
    DRIVER_LOST,
    FinishedStep,
    GenerationRequest,
    Prediction,
    Stage,
    StageStep,
    Step,
    TokenStep,
)
from qwen_vl_app.engine.families import Shape, smart_resize
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.answers import AnswerIds
from qwen_vl_app.engine.local.assembling import Options, Parts, Prepared, assemble, prepare
from qwen_vl_app.engine.local.memory import (
    Budget,
    predict_bytes,
)
from qwen_vl_app.engine.local.prompt import Prompt
from qwen_vl_app.engine.local.repetition import LoopGuard
from qwen_vl_app.engine.local.sampling import Choice, Sampler
from qwen_vl_app.engine.local.speed import Speed
from qwen_vl_app.engine.local.steps import Seat
from qwen_vl_app.engine.local.tokens import AnswerText, TextTokens
from qwen_vl_app.engine.local.vision import PictureFeatures, Stopped
from qwen_vl_app.engine.verified import verify_changed
from qwen_vl_app.errors import (
    AppError,
    InferenceError,
    ModelError,
    ModelNotLoadedError,
    OutOfMemoryError,
    PromptTooLongError,
    Reason,
    let_frames_go,
)

log = logging.getLogger(__name__)

RESERVED_ANSWER_TOKENS = 256
CHARACTERS_OF_A_TOKEN = 8
"""No words have so many on average: a longer prompt is looked into before it is encoded as a whole."""


class LocalEngine:
    """An `Engine` for a checkpoint on this machine's disk.

    The arguments are the settings of the same names. `verified` is the file that remembers which models' bytes were checked
    against their manifests. With `runs_to_length`, for measuring, neither an end token nor a
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
        decode: str = "auto",
        decode_batch: int = 1,
        threads: int = 0,
        detail: str = "auto",
        memory_reserve_mb: int = 1024,
        verified: Path | None = None,
        chunk_tokens: int | None = None,
        runs_to_length: bool = False,
        fault: Callable[[str], None] | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._options = Options(
            model=model,
            device=device,
            precision=precision,
            attention=attention,
            decode=decode,
            decode_batch=decode_batch,
            threads=threads,
            detail=detail,
            reserve_bytes=memory_reserve_mb * 2**20,
            chunk_tokens=chunk_tokens,
            runs_to_length=runs_to_length,
        )
        self._verified = verified
        self._runs_to_length = runs_to_length
        self._fault = fault or (lambda point: None)
        self._status = EngineStatus(EngineState.EMPTY)
        self._sizes: tuple[Shape, Budget] | None = None
        self._speed: Speed | None = None
        self._parts: Parts | None = None
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
            code = "engine.load.memory" if hardware.is_out_of_memory(error) else "engine.load.failed"
            failure = ModelError(code, model=self._status.model)
        else:
            return
        self._parts = None
        let_frames_go(failure)  # they hold what was loaded so far
        _free_memory()
        if _is_driver_lost():
            failure = ModelError(DRIVER_LOST)
        self._status = replace(self._status, state=EngineState.FAILED, plan=None, error=failure.reason)
        raise failure

    def _prepare(self) -> Prepared:
        _free_memory()  # what an earlier try or another model left in torch's cache is not taken yet
        prepared = prepare(self._models_dir, self._options)
        self._sizes = prepared.shape, prepared.budget
        self._speed = None
        self._status = prepared.status
        return prepared

    def _load(self) -> None:
        prepared = self._prepare()
        folder = prepared.folder
        # The bytes, where somebody wrote down what they have to be: a flipped one would load without a word.
        checked: tuple[Reason, ...] = ()
        if verify_changed(folder.path, self._verified):
            checked = (Reason("engine.choice.verified", model=folder.name),)
        assembled = assemble(prepared, self._options, on_progress=self._note_progress, fault=self._fault)
        self._parts, self._speed, self._status = assembled.parts, assembled.speed, assembled.status
        self._status = replace(self._status, choices=(*self._status.choices, *checked))

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

    def _guarded(self, parts: Parts, request: GenerationRequest, should_stop: Callable[[], bool]) -> Iterator[Step]:
        is_out_of_memory = False
        try:
            yield from self._run(parts, request, should_stop)
        except AppError:
            raise
        except Exception as error:  # the island's shore: whatever a library raises is told in our words
            is_out_of_memory = hardware.is_out_of_memory(error)
            if not is_out_of_memory:
                log.exception("a run failed")
                if hardware.driver_is_lost(parts.model.device):
                    # Nothing in this process computes on that card again; a new process may.
                    reason = Reason(DRIVER_LOST)
                    self._status = replace(self._status, state=EngineState.FAILED, error=reason)
                    raise InferenceError(DRIVER_LOST) from error
                raise InferenceError("engine.run_failed") from error
        if is_out_of_memory:
            # Only here, behind the handler, is the traceback gone that held the run's tensors.
            parts.prefixes.clear()
            parts.features.clear()
            _free_memory()
            raise OutOfMemoryError("engine.out_of_memory")

    def _run(  # noqa: PLR0912, PLR0915 - the path of a request, read in one piece
        self, parts: Parts, request: GenerationRequest, should_stop: Callable[[], bool]
    ) -> Iterator[Step]:
        hardware.use_threads(parts.threads)  # another model was perhaps tried meanwhile, and refused
        # 1. The sequence, and what of it is still held.
        key, answers = request.conversation_key, self._answers
        prompt = self._prompt(parts, request.messages, key)
        room = self._room(prompt)
        positions = parts.decoder.positions(prompt)
        sequence = list(prompt.units)
        form = parts.grammars.hold(request.schema, is_open=request.is_schema_open)
        seat: Seat | None = None
        # Last: what is taken counts as running until it is given back below.
        cache = parts.prefixes.take(prompt.units, key, layers=parts.decoder.layers)
        cached = cache.length

        def read_end(token_ids: Sequence[int], where: torch.Tensor) -> torch.Tensor | None:
            nonlocal seat
            seat = parts.rounds.read(cache, token_ids, where)
            return None if seat is None else parts.rounds.hear(seat)

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
                room_tokens = len(prompt.token_ids) + min(limit, RESERVED_ANSWER_TOKENS)
                parts.prefixes.make_room(cache, room_tokens * self._token_bytes())
                cache.reserve(room_tokens)
                self._fault("prefill")
                for read in parts.decoder.prefill(
                    prompt, positions, cache, features, should_stop=should_stop, read_end=read_end
                ):
                    logits = read.logits
                    yield StageStep(Stage.READING, read.done, len(prompt.token_ids))
                # 4. The answer, a token at a time.
                # Behind the last token, as the library goes on: the times of a clip may reach beyond it.
                position = int(positions[:, -1].max()) + 1
                sampler = Sampler(request.sampling, parts.model.device, form=form)
                guard = LoopGuard(lambda token: b"\n" in parts.tokens.bytes_of(token))
                seat = seat or parts.rounds.join(cache, position)
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
                    text = answer.add(chosen.token)
                    if answer.is_stopped or chosen.is_last:
                        finish = FinishReason.STOP
                    elif len(made) >= limit:
                        finish = FinishReason.LENGTH
                    elif guard.add(chosen.token) and not self._runs_to_length:
                        finish = FinishReason.REPETITION
                    else:
                        # Before the yield: while this answer is read, another's step may compute this token as well.
                        parts.rounds.say(seat, chosen.token)
                    yield _told(chosen, text, parts.tokens)
                    if finish is None:
                        if should_stop():
                            raise Stopped
                        self._fault("decode")
                        if len(sequence) > room_tokens:
                            room_tokens += RESERVED_ANSWER_TOKENS
                            parts.prefixes.make_room(cache, room_tokens * self._token_bytes())
                        logits = parts.rounds.hear(seat)
            except Stopped:
                finish = FinishReason.STOPPED
            rest = answer.finish()
            if not answer.is_stopped:
                answers.remember(key, parts.tokens, made)
            elif form is not None:
                form.cut()
            usage = Usage(len(prompt.token_ids), prompt.picture_tokens, cached, len(made))
            yield FinishedStep(finish or FinishReason.LENGTH, usage, rest, form.notes if form is not None else ())
        finally:
            # Also when the caller walks away: what was read so far serves the next question.
            try:
                if seat is not None:
                    parts.rounds.leave(seat)
            finally:
                parts.prefixes.keep(sequence, cache, key)

    def _token_bytes(self) -> int:
        """Return what a token's keys and values take."""
        if self._sizes is None:
            return 0
        shape, budget = self._sizes
        return shape.kv_bytes_per_token(budget.dtype_bytes)

    def _prompt(self, parts: Parts, messages: tuple[Message, ...], key: str | None) -> Prompt:
        text, limit = "".join(message.text for message in messages), self._context_tokens()
        if len(text) > CHARACTERS_OF_A_TOKEN * limit:
            least, read = parts.tokens.least_count(text, enough=limit)
            if least >= limit:
                frame = parts.prompts.build([replace(message, text="") for message in messages])
                raise _too_long(frame, text_tokens=round(least * len(text) / read), limit=limit)
        return parts.prompts.build(messages, answer_ids=lambda text: self._answers.recall(key, text))

    def _room(self, prompt: Prompt) -> int:
        limit = self._context_tokens()
        if len(prompt.token_ids) >= limit:
            raise _too_long(prompt, limit=limit)
        return limit - len(prompt.token_ids)

    def _context_tokens(self) -> int:
        plan = self._status.plan
        return plan.context_tokens if plan is not None else 0

    def _encode(
        self,
        parts: Parts,
        prompt: Prompt,
        cached: int,
        features: dict[str, PictureFeatures],
        should_stop: Callable[[], bool],
    ) -> Iterator[Step]:
        needed = {place.image.picture_id: place.image for place in prompt.pictures if place.end > cached}
        total = sum(_passes(image) for image in needed.values())
        done = 0
        for picture_id, image in needed.items():
            found = parts.features.get(picture_id)
            if found is None:
                passes: list[PictureFeatures] = []
                for pair in range(_passes(image)):
                    yield StageStep(Stage.ENCODING, done + pair, total)
                    self._fault("encode")
                    passes.append(parts.encoder.encode(image, pair=pair, should_stop=should_stop))
                found = PictureFeatures.joined(passes)
                parts.features.put(picture_id, found)
            features[picture_id] = found
            done += _passes(image)
        if needed:
            yield StageStep(Stage.ENCODING, total, total)

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


def _passes(image: ImageInput) -> int:
    """Return how often the vision tower looks: once at a picture, once at each pair of a clip's frames."""
    return 1 if image.clip is None else image.clip.pairs


def _too_long(prompt: Prompt, *, limit: int, text_tokens: int = 0) -> PromptTooLongError:
    """Return the refusal of a prompt, or of one without its text, which has about so many tokens."""
    return PromptTooLongError(
        "engine.prompt_too_long",
        tokens=len(prompt.token_ids) + text_tokens,
        limit=limit,
        picture_tokens=prompt.picture_tokens,
        pictures=sum(not place.offset for place in prompt.pictures),
    )


def _told(chosen: Choice, text: str, tokens: TextTokens) -> TokenStep:
    likely = tuple(LikelyToken(tokens.bytes_of(each.token), each.logprob) for each in chosen.likely)
    return TokenStep(text, chosen.token, chosen.logprob, tokens.bytes_of(chosen.token), chosen.allowed, likely)


def _is_driver_lost() -> bool:
    """Return whether this process has used a card that answers it no more: trying again here would fail as well."""
    is_used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return is_used and hardware.driver_is_lost(torch.device("cuda"))


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # a driver that has fallen over: what failed before is to be told
            log.warning("the graphics card did not take its memory back", exc_info=True)
