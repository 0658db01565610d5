"""The engine that asks a server on loopback: against a server that speaks as vLLM does, and against the app itself."""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwen_vl_app.chat import (
    CoordinateSpace,
    Detail,
    EngineState,
    FinishReason,
    ImageInput,
    Message,
    SamplingParams,
    Size,
)
from qwen_vl_app.config import load_settings
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, StageStep, TokenStep
from qwen_vl_app.engine.remote import RemoteEngine
from qwen_vl_app.errors import AppError, InferenceError, ModelError, PromptTooLongError, SettingsError
from tests.serving import START_S, free_port, serving

WAIT_S = 60.0
TEAL = bytes((0, 128, 128))


def never() -> bool:
    return False


def request(text: str = "What is it?", *images: ImageInput, **sampling: Any) -> GenerationRequest:
    return GenerationRequest((Message("user", text, images),), SamplingParams(**sampling))


@dataclass
class Script:
    """What the server says, and what it heard."""

    events: list[Any] = field(default_factory=list)
    """Objects are sent as they are; an event to wait for holds the stream."""
    models: Any = field(default_factory=lambda: {"data": [{"id": "Qwen2.5-VL-7B-Instruct", "max_model_len": 32768}]})
    status: int = 200
    body: bytes = b""
    heard: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    most_tokens: int = 16384
    """Larger pictures are made smaller, as a server's processor does."""

    def tokens_of(self, part: Any) -> int:
        """Count a picture's tokens and the two marks around it."""
        if isinstance(part, str):
            return 0
        png = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        width, height = struct.unpack(">II", png[16:24])
        factor = 32 if "3-VL" in str(self.models) else 28
        return int(min(width * height // factor**2, self.most_tokens)) + 2


@contextmanager
def server(script: Script, port: int = 0) -> Iterator[str]:
    """A server that speaks as vLLM does: models with their context, events, `[DONE]`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.keys.append(self.headers.get("Authorization", ""))
            self._whole(json.dumps(script.models).encode())

        def do_POST(self) -> None:
            heard = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "stream" not in heard:
                tokens = 5 + sum(
                    script.tokens_of(each) for each in heard["messages"][0]["content"] if "image_url" in each
                )
                self._whole(json.dumps({"usage": {"prompt_tokens": tokens}}).encode())
                return
            script.heard.append(heard)
            if script.status != 200:
                self._whole(script.body)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for event in script.events:
                    if isinstance(event, threading.Event):
                        while not event.wait(0.02):
                            self.wfile.write(b": alive\n\n")
                    else:
                        data = event if isinstance(event, str) else json.dumps(event)
                        self.wfile.write(f"data: {data}\n\n".encode())
                    self.wfile.flush()
            except OSError:
                script.left.set()

        def _whole(self, body: bytes) -> None:
            self.send_response(script.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
        finally:
            listening.shutdown()
            thread.join()


def said(text: str, *logprobs: float, finish: str | None = None) -> dict[str, Any]:
    scored = {"content": [{"token": "x", "logprob": each} for each in logprobs]} if logprobs else None
    return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": scored, "finish_reason": finish}]}


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 30, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 16}},
}


def loaded(url: str, **more: Any) -> RemoteEngine:
    engine = RemoteEngine(url, patience_s=WAIT_S, **more)
    engine.load()
    return engine


def test_an_answer_comes_token_by_token_with_its_usage() -> None:
    """Text, probabilities, how it ended and what it cost are the server's; several tokens of one event stay several."""
    script = Script([said("A "), said("blue valve", -0.5, -0.25), said("", finish="length"), USAGE, "[DONE]"])
    with server(script) as url:
        first, *tokens, last = loaded(url).generate(request(), should_stop=never)
    assert isinstance(first, StageStep)
    assert [(step.text, step.logprob) for step in tokens if isinstance(step, TokenStep)] == [
        ("A ", None), ("", -0.5), ("blue valve", -0.25),
    ]  # fmt: skip
    assert isinstance(last, FinishedStep)
    assert last.finish_reason is FinishReason.LENGTH
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.cached_tokens) == (30, 3, 16)


def test_the_server_is_told_everything_about_sampling() -> None:
    """Nothing is left to the settings that came with its model: above all no penalty on repetition."""
    script = Script(["[DONE]"])
    with server(script) as url:
        engine = loaded(url, key="the key")
        list(engine.generate(request(temperature=0.5, seed=3, stop=("END",), max_new_tokens=9), should_stop=never))
        list(engine.generate(request(), should_stop=never))
    first, second = script.heard
    assert first["repetition_penalty"] == second["repetition_penalty"] == 1.0
    assert (first["temperature"], first["seed"], first["stop"], first["max_tokens"]) == (0.5, 3, ["END"], 9)
    assert (second["temperature"], second["top_p"], second["top_k"]) == (0.0, 1.0, -1)
    assert script.keys[0] == "Bearer the key"


def test_a_limit_that_cannot_fit_is_left_to_the_server() -> None:
    """Such servers refuse more tokens than their context has, and without a number give as many as are left."""
    script = Script(["[DONE]"])
    with server(script) as url:
        engine = loaded(url)
        for wanted in (32767, 32768):
            list(engine.generate(request(max_new_tokens=wanted), should_stop=never))
    assert [heard.get("max_tokens") for heard in script.heard] == [32767, None]


def test_pictures_arrive_as_the_model_was_to_see_them() -> None:
    """The seen picture travels without loss, before the text, and its tokens are counted."""
    image = ImageInput("id", Size(56, 28), TEAL * 55 * 28 + bytes(28 * 3))
    script = Script(["[DONE]"])
    with server(script) as url:
        *_, last = loaded(url).generate(request("Colour?", image), should_stop=never)
    picture, text = script.heard[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "Colour?"}
    png = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    decoded = Image.open(io.BytesIO(png))
    assert (decoded.size, decoded.tobytes()) == ((56, 28), image.rgb)
    assert isinstance(last, FinishedStep)
    assert last.usage.picture_tokens == 2


def test_the_status_says_where_answers_come_from() -> None:
    """Model, context and address are shown, with the sentence that says why; sizes follow the server's context."""
    models = {"data": [{"id": "a"}, {"id": "served", "root": "/srv/Qwen3-VL-8B-Instruct", "max_model_len": 6000}]}
    with server(Script(models=models)) as url:
        engine = loaded(url, model="served")
    status = engine.status
    assert (status.state, status.model, status.family) == (EngineState.READY, "served", "Qwen3-VL")
    assert status.coordinates is CoordinateSpace.THOUSANDTHS
    assert status.device in url
    assert status.choices[0].code == "engine.remote.used"
    assert status.plan is not None
    assert [rung.detail for rung in status.plan.rungs][-1] is Detail.DETAIL, "a picture leaves half of 6000 tokens"
    assert engine.seen_size(Size(4000, 3000)).tokens <= 1280
    engine.close()
    assert engine.status.state is EngineState.CLOSED


@pytest.mark.parametrize(("most", "largest"), [(16384, 5120), (2560, 2560), (1300, 1280), (300, 256)])
def test_sizes_that_the_server_would_change_are_not_used(most: int, largest: int) -> None:
    """A picture that the server makes smaller would shift every box; what it takes as it is, is tried when it loads."""
    with server(Script(most_tokens=most)) as url:
        plan = loaded(url).status.plan
    assert plan is not None
    assert plan.rungs[-1].max_tokens == largest
    assert plan.rung().max_tokens == min(largest, 1280)
    assert plan.reasons[0].facts["tokens"] == largest


def test_a_server_that_changes_every_picture_is_refused() -> None:
    """Better no answer than boxes in wrong places."""
    with server(Script(most_tokens=64)) as url:
        engine = RemoteEngine(url)
        with pytest.raises(ModelError) as wrong:
            engine.load()
    assert wrong.value.code == "engine.remote.other_sizes"


def test_a_stop_is_noticed_while_the_server_says_nothing() -> None:
    """Neither a long prefill nor a stalled server keeps a person waiting, and the server sees that nobody listens."""
    gate, stop = threading.Event(), threading.Event()
    script = Script([said("one "), gate, said("never"), "[DONE]"])
    with server(script) as url:
        steps = loaded(url).generate(request(), should_stop=stop.is_set)
        assert isinstance(next(steps), StageStep)
        assert next(steps) == TokenStep("one ", -1, None)
        stop.set()
        (last,) = steps
        assert isinstance(last, FinishedStep)
        assert last.finish_reason is FinishReason.STOPPED
        assert script.left.wait(WAIT_S), "the connection was closed"
        gate.set()


def test_closing_the_run_lets_the_server_go() -> None:
    """A run that is dropped in the middle closes its connection and leaves no thread."""
    gate = threading.Event()
    script = Script([said("one "), gate, "[DONE]"])
    with server(script) as url:
        steps = loaded(url).generate(request(), should_stop=never)
        next(steps)
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert script.left.wait(WAIT_S)
        assert not any(thread.name == "remote answer" for thread in threading.enumerate())
        gate.set()


@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        (Script([said("half")]), InferenceError, "engine.remote.lost"),
        (Script([said("half"), {"error": {"message": "secret"}}]), InferenceError, "engine.remote.failed"),
        (Script([said("half"), "{not json"]), InferenceError, "engine.remote.lost"),
        (Script(status=500, body=b"secret"), InferenceError, "engine.remote.failed"),
        (Script(status=400, body=b"This model's maximum context length is 10"), PromptTooLongError, "engine.remote.prompt_too_long"),
    ],
)  # fmt: skip
def test_failures_are_the_apps_own_errors(script: Script, kind: type[AppError], code: str) -> None:
    """A broken stream is no short answer, and no word of the server's reaches a person."""
    status, script.status = script.status, 200
    with server(script) as url:
        engine = loaded(url)
        script.status = status
        with pytest.raises(kind) as failed:
            list(engine.generate(request(), should_stop=never))
    assert failed.value.code == code
    assert "secret" not in str(failed.value)
    assert engine.status.state is EngineState.READY, "the next question may work"


def test_loading_waits_for_a_server_that_starts_later() -> None:
    """App and server may be started together."""
    port = free_port()
    engine = RemoteEngine(f"http://127.0.0.1:{port}/v1", patience_s=WAIT_S)
    loading = threading.Thread(target=engine.load)
    loading.start()
    with server(Script(), port):
        loading.join(WAIT_S)
        assert engine.status.state is EngineState.READY


@pytest.mark.parametrize("listed", [[], [{"id": "demo", "root": "demo", "max_model_len": None, "sizes": None}]])
def test_loading_waits_for_a_server_that_has_no_model_yet(listed: list[dict[str, Any]]) -> None:
    """A server may listen before its model is there; an app of this kind then names it already, and has no sizes."""
    script = Script(models={"data": listed})
    with server(script) as url:
        engine = RemoteEngine(url, patience_s=WAIT_S)
        loading = threading.Thread(target=engine.load)
        loading.start()
        while not script.keys:
            time.sleep(0.01)
        assert engine.status.plan is None
        script.models = Script().models
        loading.join(WAIT_S)
        assert engine.status.state is EngineState.READY


def test_closing_ends_the_waiting() -> None:
    """Nobody waits half an hour for an app to end."""
    engine = RemoteEngine("http://127.0.0.1:9/v1")
    failures: list[str] = []

    def load() -> None:
        try:
            engine.load()
        except ModelError as error:
            failures.append(error.code)

    loading = threading.Thread(target=load)
    loading.start()
    engine.close()
    loading.join(WAIT_S)
    assert failures == ["engine.remote.no_answer"]


@pytest.mark.parametrize(
    ("models", "more", "code"),
    [
        ({"data": []}, {}, "engine.remote.no_answer"),
        ({"data": [{"id": "Qwen2.5-VL-7B"}]}, {"model": "other"}, "engine.remote.no_such_model"),
        ({"data": [{"id": "llava"}]}, {}, "engine.remote.unknown_family"),
        ({"models": 1}, {}, "engine.remote.no_answer"),
        ([], {}, "engine.remote.no_answer"),
    ],
)
def test_a_server_without_a_usable_model_is_said(models: Any, more: dict[str, str], code: str) -> None:
    """What is wrong is named; only a server that has no model yet is given time."""
    with server(Script(models=models)) as url:
        engine = RemoteEngine(url, patience_s=0, **more)  # type: ignore[arg-type]
        with pytest.raises(ModelError) as wrong:
            engine.load()
    assert wrong.value.code == code
    assert engine.status.state is EngineState.FAILED


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1:8000/v1", "https://127.0.0.1:8000", "http://example.org:80", "http://127.0.0.1.example.org:80/v1",
        "http://user@127.0.0.1:80", "http://127.0.0.1:80@example.org:1", "file:///x", "127.0.0.1:80", "http://0.0.0.0:80",
    ],
)  # fmt: skip
def test_only_loopback_is_spoken_to(address: str) -> None:
    """Neither the settings nor the engine take an address beyond this machine."""
    with pytest.raises(ModelError):
        RemoteEngine(address)
    with pytest.raises(SettingsError):
        load_settings({"remote_address": address}, file=Path("none"), environment={})


def test_it_is_off_by_default() -> None:
    """Nobody is asked unless the settings say so."""
    assert load_settings(file=Path("none"), environment={}).remote_address == ""


@pytest.fixture
def other_app(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The app itself as the server, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tests.ui.served_app", str(port), str(tmp_path)]
    with serving(command, log=tmp_path / "log", is_ready=lambda: True):  # whoever asks it waits for it
        yield lambda: f"http://127.0.0.1:{port}/v1"


def test_a_real_server_process_answers(other_app: Callable[[], str]) -> None:
    """A server in a process of its own is waited for, asked about a picture, and stopped in the middle."""
    engine = RemoteEngine(other_app(), family="qwen2_5_vl", patience_s=START_S)
    engine.load()
    image = ImageInput("id", Size(56, 56), TEAL * 56 * 56)
    steps = list(engine.generate(request("Where is the lamp?", image), should_stop=never))
    assert "bbox_2d" in "".join(step.text for step in steps if isinstance(step, TokenStep))
    assert isinstance(steps[-1], FinishedStep)
    assert steps[-1].finish_reason is FinishReason.STOP
    stop = threading.Event()
    seen: list[str] = []
    for step in engine.generate(request("LONG, please"), should_stop=stop.is_set):
        if isinstance(step, TokenStep):
            seen.append(step.text)
            if len(seen) == 3:
                stop.set()
    assert len(seen) < 100
    again = list(engine.generate(request("And now?"), should_stop=never))
    assert isinstance(again[-1], FinishedStep), "the server was freed"


def test_several_questions_may_be_asked_at_a_time() -> None:
    """Runs do not share anything: two that take turns each get their own answer."""
    with server(Script([said("one "), said("two"), "[DONE]"])) as url:
        engine = loaded(url)
        left, right = (engine.generate(request(), should_stop=never) for _ in range(2))
        texts = [[step.text for step in pair if isinstance(step, TokenStep)] for pair in zip(left, right, strict=True)]
    assert [text for text in texts if text] == [["one ", "one "], ["two", "two"]]


def test_a_schema_and_likely_tokens_go_to_the_server_and_come_back() -> None:
    """The server is asked to hold the answer to it, as OpenAI writes that; the bytes of its tokens come back, or their text."""
    scored = [
        {
            "token": "\ufffd",
            "logprob": -0.5,
            "bytes": [0xE5],
            "top_logprobs": [{"token": "x", "logprob": -0.1, "bytes": [120]}],
        },
        {"token": "x", "logprob": -0.2, "bytes": None},
    ]
    event = {
        "choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": scored}, "finish_reason": "stop"}]
    }
    script = Script([event, "[DONE]"])
    schema = '{"type":"object","properties":{"b":{},"a":{}}}'
    with server(script) as address:
        engine = RemoteEngine(address)
        engine.load()
        asked = GenerationRequest((Message("user", "?"),), SamplingParams(top_logprobs=1), schema=schema)
        steps = list(engine.generate(asked, should_stop=never))
    form = script.heard[0]["response_format"]["json_schema"]
    assert (json.dumps(form["schema"], separators=(",", ":")), form["strict"]) == (schema, True)
    assert script.heard[0]["top_logprobs"] == 1
    tokens = [step for step in steps if isinstance(step, TokenStep)]
    assert [(step.raw, step.logprob, step.text) for step in tokens] == [(b"\xe5", -0.5, ""), (b"x", -0.2, "x")]
    assert [(each.raw, each.logprob) for each in tokens[0].likely] == [(b"x", -0.1)]
    finished = steps[-1]
    assert isinstance(finished, FinishedStep)
    assert [note.code for note in finished.notes] == ["engine.form.remote"]
