"""An engine that asks an OpenAI-compatible server on this machine's loopback, such as vLLM or SGLang, instead of a model of its own.

Knows HTTP, server-sent events and what those servers add to them. Connects to loopback addresses only, whatever it is told.
Does not know torch, nor what stands behind the server: every card of this machine, or the head of a cluster.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwen_vl_app.chat import (
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    ImageInput,
    Message,
    Rung,
    SeenSize,
    Size,
    SizePlan,
    Usage,
)
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Prediction, Stage, StageStep, Step
from qwen_vl_app.engine.families import FAMILIES, Family, smart_resize
from qwen_vl_app.engine.remote_exchange import Exchange
from qwen_vl_app.engine.remote_words import (
    FINISHES,
    still_loads,
    tokens_of,
    told_plan,
    usage_of,
    written,
    written_sampling,
    written_schema,
)
from qwen_vl_app.errors import ModelError, ModelNotLoadedError, Reason

ADDRESS = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})(/[\w./-]*)?")
"""Where such a server may be."""
DEFAULT_CONTEXT_TOKENS = 8192
"""What is assumed of a server that does not tell; vLLM and SGLang do."""
RUNGS = {
    Detail.LOW_MEMORY: 256,
    Detail.FAST: 768,
    Detail.BALANCED: 1280,
    Detail.DETAIL: 2560,
    Detail.DOCUMENT: 5120,
}
"""Picture tokens. Memory is the server's concern, so every rung is there."""
RETRY_S = 2.0
START_PATIENCE_S = 1800.0
"""A server that was started together with the app may read its weights for long."""
CONNECT_TIMEOUT_S = 5.0
STALL_TIMEOUT_S = 600.0
BACKGROUND_TIER = "flex"
"""OpenAI's word for a request that may wait."""
MOST_AT_A_TIME = 8
MOST_PICTURE_MARKS = 8
"""Tokens that stand around a picture: two in both families, and some room."""
_FAMILY_NAMES = ((re.compile(r"qwen3[-_.]?vl"), "qwen3_vl"), (re.compile(r"qwen2[._]5[-_]?vl"), "qwen2_5_vl"))


class RemoteEngine:
    """An `Engine` whose model is another process on this machine. Any number of threads may ask it at a time.

    `address` is the server's base, such as `http://127.0.0.1:8000/v1`. `model` is one of its names, by default its first.
    `family` says what the boxes in its answers mean; `auto` reads it from the model's name.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "",
        key: str = "",
        family: str = "auto",
        detail: Detail | None = None,
        patience_s: float = START_PATIENCE_S,
    ) -> None:
        found = ADDRESS.fullmatch(address.rstrip("/"))
        if found is None:
            raise ModelError("engine.remote.not_loopback")
        self._host = found[1].strip("[]")
        self._port = int(found[2])
        self._base = found[3] or ""
        self._wanted = model
        self._key = key
        self._family_name = family
        self._detail = detail
        self._patience_s = patience_s
        self._closing = threading.Event()
        self._is_own = False
        """True where the server is an app of this kind, which tells its plan of sizes."""
        self._status = EngineStatus(state=EngineState.EMPTY)

    @property
    def status(self) -> EngineStatus:
        """What stands behind the address, as far as it has told."""
        return self._status

    def prepare(self) -> None:
        """Ask the server once what it has. Raises ModelError where it does not answer or its model is of no known family."""
        try:
            self._status = replace(self._introduced(), state=self._status.state)
        except ModelError as error:
            self._status = replace(self._status, state=EngineState.FAILED, error=error.reason)
            raise

    def load(self) -> None:
        """Wait until the server answers, then be ready. Raises ModelError when it never does, or `close` is called."""
        self._status = replace(self._status, state=EngineState.LOADING, device=self._place)
        attempts = max(int(self._patience_s / RETRY_S), 1)
        for attempt in range(attempts):
            try:
                introduced = self._introduced()
                self._status = replace(self._measured(introduced), state=EngineState.READY)
                return
            except _UnreachableError as error:
                if attempt + 1 < attempts and not self._closing.wait(RETRY_S):
                    continue
                self._fail(error)
                raise
            except ModelError as error:
                self._fail(error)
                raise

    def seen_size(self, size: Size, *, detail: Detail | None = None) -> SeenSize:
        """Return what the model will see of a picture. The server keeps this size, which is a multiple of the factor."""
        plan = self._status.plan
        if plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        rung = plan.rung(detail)
        seen = smart_resize(size, plan.factor, min_pixels=plan.min_pixels, max_pixels=rung.max_pixels)
        return SeenSize(seen, seen.pixels // plan.factor**2, rung.detail)

    def predict(self, picture_tokens: Sequence[int], *, text_tokens: int = 0) -> Prediction:
        """Return that nothing is known: the server's speed is its own, and so is its memory."""
        del picture_tokens, text_tokens
        if self._status.plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        return Prediction(first_token_s=None, memory_bytes=0)

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Ask the server and pass on what it says. Raises InferenceError, ModelNotLoadedError, PromptTooLongError."""
        if self._status.state is not EngineState.READY or self._status.plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        return self._steps(request, self._status.plan, should_stop)

    def forget(self) -> None:
        """Do nothing: all is held by the server, which has no door for this."""

    def close(self) -> None:
        """Ask no more. The server goes on running: it is not the app's."""
        self._closing.set()
        self._status = replace(self._status, state=EngineState.CLOSED, plan=None)

    @property
    def _place(self) -> str:
        return f"{self._host}:{self._port}"

    def _fail(self, error: ModelError) -> None:
        self._status = replace(self._status, state=EngineState.FAILED, error=error.reason)

    def _introduced(self) -> EngineStatus:
        """Ask for the server's models and return a status that describes the one that will be used."""
        status, body = self._exchange("GET", "/models", None, timeout_s=CONNECT_TIMEOUT_S)
        if status == http.client.SERVICE_UNAVAILABLE:
            raise _UnreachableError("engine.remote.no_answer", address=self._place)
        if status != http.client.OK:
            raise ModelError("engine.remote.refused", address=self._place, status=status)
        try:
            models = [dict(each) for each in json.loads(body)["data"]]
            if not models:  # it listens already, and still loads
                raise _UnreachableError("engine.remote.no_answer", address=self._place)
            chosen = next((each for each in models if self._wanted in ("", each["id"])), None)
            if chosen is None:
                raise ModelError("engine.remote.no_such_model", address=self._place, model=self._wanted)
            if still_loads(chosen):
                raise _UnreachableError("engine.remote.no_answer", address=self._place)
            name, context = str(chosen["id"]), int(chosen.get("max_model_len") or DEFAULT_CONTEXT_TOKENS)
            own = told_plan(chosen)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError("engine.remote.no_answer", address=self._place) from error
        self._is_own = own is not None
        family = self._family(f"{name} {chosen.get('root', '')}") if own is None else FAMILIES[own[0]]
        plan = _plan(family, context, self._detail) if own is None else own[1]
        return EngineStatus(
            state=EngineState.LOADING,
            model=name,
            family=family.display_name,
            coordinates=family.coordinates,
            fingerprint=hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest(),
            device=self._place,
            plan=replace(plan, default=plan.rung(self._detail).detail) if self._detail else plan,
            choices=(Reason("engine.remote.used", address=self._place, model=name),),
        )

    def _measured(self, status: EngineStatus) -> EngineStatus:
        """Return the status with the rungs whose pictures the server takes as they are.

        Boxes count the pixels of what the model saw. A server that makes pictures smaller on its own would shift every one of
        them without a word, but its count of tokens tells. Raises ModelError where it changes even the smallest.
        """
        plan = status.plan
        if plan is None or self._is_own:  # an app of this kind has told its sizes, and keeps them
            return status
        text_tokens = self._prompt_tokens(status.model, None)
        for kept in range(len(plan.rungs), 0, -1):
            side = math.isqrt(plan.rungs[kept - 1].max_tokens)
            size = Size(side * plan.factor, side * plan.factor)
            spent = self._prompt_tokens(status.model, size) - text_tokens
            if 0 <= spent - side**2 <= MOST_PICTURE_MARKS:
                lowered = replace(plan, rungs=plan.rungs[:kept])
                reason = Reason("engine.remote.sizes", tokens=lowered.rungs[-1].max_tokens)
                return replace(
                    status, plan=replace(lowered, default=lowered.rung(plan.default).detail, reasons=(reason,))
                )
        raise ModelError("engine.remote.other_sizes", address=self._place)

    def _prompt_tokens(self, model: str, size: Size | None) -> int:
        """Ask about a grey picture of that size, or about none, and return what the server counts. Raises ModelError."""
        grey = () if size is None else (ImageInput("grey", size, b"\x80" * (size.pixels * 3)),)
        wanted = {"model": model, "messages": [written(Message("user", ".", grey))], "max_tokens": 1, "temperature": 0}
        status, body = self._exchange(
            "POST", "/chat/completions", json.dumps(wanted).encode(), timeout_s=STALL_TIMEOUT_S
        )
        if status == http.client.SERVICE_UNAVAILABLE:
            raise _UnreachableError("engine.remote.no_answer", address=self._place)
        try:
            # A server may refuse what is too large for it; then that size is not one of its own.
            return int(json.loads(body)["usage"]["prompt_tokens"]) if status == http.client.OK else -1
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError("engine.remote.no_answer", address=self._place) from error

    def _family(self, names: str) -> Family:
        if self._family_name != "auto":
            return FAMILIES[self._family_name]
        for pattern, model_type in _FAMILY_NAMES:
            if pattern.search(names.lower()):
                return FAMILIES[model_type]
        raise ModelError("engine.remote.unknown_family", address=self._place)

    def _exchange(self, method: str, path: str, body: bytes | None, *, timeout_s: float) -> tuple[int, bytes]:
        connection = self._connection(timeout_s)
        try:
            connection.request(method, self._base + path, body=body, headers=self._headers())
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _UnreachableError("engine.remote.no_answer", address=self._place) from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        # http.client takes no proxy from the environment, so nothing but this address is ever spoken to.
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **key}

    def _steps(self, request: GenerationRequest, plan: SizePlan, should_stop: Callable[[], bool]) -> Iterator[Step]:
        pictures = [image for message in request.messages for image in message.images]
        picture_tokens = sum(image.size.pixels // plan.factor**2 for image in pictures)
        usage, finish = Usage(picture_tokens=picture_tokens), FinishReason.STOP
        yield StageStep(Stage.READING, 0, 1)
        with Exchange(self._connection(STALL_TIMEOUT_S), self._place) as exchange:
            exchange.send(f"{self._base}/chat/completions", self._body(request), self._headers())
            for event in exchange.events(should_stop):
                if event is None:
                    yield FinishedStep(FinishReason.STOPPED, usage)
                    return
                for choice in event.get("choices") or ():
                    yield from tokens_of(choice)
                    finish = FINISHES.get(choice.get("finish_reason"), finish)
                usage = usage_of(event.get("usage"), usage)
        # Whether it was held to is the server's secret, so that whoever asked has to look.
        notes = () if request.schema is None else (Reason("engine.form.remote", address=self._place),)
        yield FinishedStep(finish, usage, notes=notes)

    def _body(self, request: GenerationRequest) -> bytes:
        sampling = written_sampling(request.sampling)
        plan = self._status.plan
        if not self._is_own and plan is not None and request.sampling.max_new_tokens >= plan.context_tokens:
            del sampling["max_tokens"]  # these servers refuse what cannot fit, and without a number give what does
        wanted: dict[str, Any] = {
            "model": self._status.model,
            "messages": [written(message, is_own=self._is_own) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "logprobs": True,
            **sampling,
            **({} if request.schema is None else written_schema(request.schema)),
            # An app of this kind then lets everybody else go first; other servers know other tiers, or none.
            **({"service_tier": BACKGROUND_TIER} if self._is_own and request.is_background else {}),
        }
        return json.dumps(wanted).encode()


@dataclass(frozen=True, slots=True)
class OwnApp:
    """An app of this kind: its model, empty while that still begins to load, and the answers of runs that it makes at a time."""

    model: str
    at_a_time: int = 1


def own_app(address: str, *, key: str = "") -> OwnApp | None:
    """Return what an app of this kind at an address on loopback tells; None where no such app answers."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        return None
    connection = http.client.HTTPConnection(found[1].strip("[]"), int(found[2]), timeout=CONNECT_TIMEOUT_S)
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("GET", f"{found[3] or ''}/models", headers=headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            return None
        models = json.loads(body)["data"]
        if not models:
            return OwnApp("")
        sizes = models[0].get("sizes")
        if still_loads(models[0]):
            return OwnApp(str(models[0]["root"]))
        if not isinstance(sizes, dict):
            return None
        return OwnApp(str(models[0]["root"]), min(max(int(sizes.get("at_a_time", 1)), 1), MOST_AT_A_TIME))
    except (
        OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ):  # fmt: skip
        return None
    finally:
        connection.close()


class _UnreachableError(ModelError):
    """Nobody listens yet, or there is no model yet."""


def _plan(family: Family, context: int, detail: Detail | None) -> SizePlan:
    """Return every rung of which one picture leaves half of the context to the rest; the lowest in any case."""
    area = family.factor**2
    rungs = [Rung(name, tokens * area, tokens) for name, tokens in RUNGS.items()]
    fitting = tuple(rung for rung in rungs if rung.max_tokens <= context // 2) or (rungs[0],)
    plan = SizePlan(family.factor, 4 * area, fitting, fitting[0].detail, context)
    return replace(plan, default=plan.rung(detail or Detail.BALANCED).detail)
