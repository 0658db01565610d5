"""The real `ollama` client talks to the app: lists, answers whole and in lines, pictures, formats and refusals."""

from __future__ import annotations

import json
import threading

import ollama
import pytest
from pydantic import BaseModel

from qwen_vl_app.engine.fake import FakeEngine, PiecesThen
from qwen_vl_app.errors import InferenceError
from tests.api.conftest import Serve, Served
from tests.hub_parts import WAIT_S, wait_until


def client_of(served: Served) -> ollama.Client:
    return ollama.Client(host=served.url, timeout=WAIT_S, trust_env=False)


class Reading(BaseModel):
    unit: str
    value: float


def test_the_model_is_listed_shown_and_running(serve: Serve) -> None:
    """Lists name the model and its aliases; it can see."""
    client = client_of(serve())
    models = client.list().models
    assert models[0].model == "fake"
    assert models[0].size == 1000
    assert "qwen2.5vl:7b" in {model.model for model in models}
    shown = client.show("qwen2.5vl:7b")
    assert shown.capabilities == ["completion", "vision"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.basename"] == "fake"
    assert [model.model for model in client.ps().models] == ["fake"]


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "fake"},
        {"model": "fake", "system": "", "template": "", "verbose": False, "options": None, "name": ""},
        {"model": "", "name": "FAKE:latest", "options": {}},
    ],
)
def test_a_model_is_shown_by_the_name_that_older_programs_give_it(serve: Serve, asked: dict[str, object]) -> None:
    """Before `model` there was `name`; Ollama's own program sends both, and all else that there is, empty."""
    shown = serve().client.post("/api/show", json=asked)
    assert shown.status_code == 200, shown.text
    assert shown.json()["model_info"]["general.basename"] == "fake"


@pytest.mark.parametrize("asked", [{}, {"name": "other"}, {"model": "other", "name": "fake"}])
def test_showing_no_model_of_ours_is_an_unknown_model(serve: Serve, asked: dict[str, str]) -> None:
    """The name of today counts where both are given."""
    assert serve().client.post("/api/show", json=asked).status_code == 404


def test_the_version_is_the_apps_own(serve: Serve) -> None:
    """A client that asks for the version gets one."""
    assert serve().client.get("/api/version").json()["version"]


def test_a_whole_generated_answer_has_its_counts(serve: Serve, png: bytes) -> None:
    """A prompt with a picture is answered, with token counts and durations."""
    served = serve([["Te", "al."]])
    done = client_of(served).generate("fake", "Which colour?", images=[png], system="Be brief.")
    assert (done.response, done.done, done.done_reason) == ("Teal.", True, "stop")
    assert (done.eval_count, done.load_duration) == (2, 0)
    assert done.prompt_eval_count is not None
    assert done.total_duration is not None
    assert done.total_duration >= 0
    said = [(message.role, message.text, len(message.images)) for message in served.engine.requests[0].messages]
    assert said == [("system", "Be brief.", 0), ("user", "Which colour?", 1)]


def test_a_conversation_is_streamed_in_lines(serve: Serve, png: bytes) -> None:
    """Each line carries a piece of the message, the last one how it ended."""
    served = serve([["A ", "blue ", "valve."]])
    messages: list[dict[str, object]] = [
        {"role": "user", "content": "Look.", "images": [png]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "What?"},
    ]
    lines = list(client_of(served).chat("fake", messages, stream=True))
    assert "".join(line.message.content or "" for line in lines) == "A blue valve."
    assert [line.done for line in lines][-1]
    assert not any(line.done for line in lines[:-1])
    assert [len(message.images) for message in served.engine.requests[0].messages] == [1, 0, 0]


def test_lines_arrive_while_the_answer_is_made(serve: Serve) -> None:
    """The first piece is there while the model works on the second."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine([["first ", "second"]], gate=gate))
    stream = client_of(served).generate("fake", "?", stream=True)
    gate.release()
    pieces = (line.response for line in stream if line.response)
    assert next(pieces) == "first "
    gate.release()
    assert list(pieces) == ["second"]


def test_a_format_is_a_schema_or_json(serve: Serve) -> None:
    """A schema is kept to, with one repair; `json` takes any object."""
    served = serve(['{"unit": 1}', '{"unit": "bar", "value": 2}', 'So: {"a": 1}'])
    done = client_of(served).generate("fake", "Read it", format=Reading.model_json_schema())
    assert Reading.model_validate_json(done.response or "") == Reading(unit="bar", value=2)
    assert client_of(served).generate("fake", "Any", format="json").response == '{"a": 1}'


def test_options_reach_the_model(serve: Serve) -> None:
    """What chooses tokens is taken, what only a loader knows is ignored."""
    served = serve(["a"])
    options = {"temperature": 0.5, "seed": 3, "num_predict": 9, "top_k": 5, "stop": ["X"], "num_ctx": 4096}
    client_of(served).generate("fake", "?", options=options)
    sampling = served.engine.requests[0].sampling
    assert (sampling.temperature, sampling.seed, sampling.max_new_tokens, sampling.top_k) == (0.5, 3, 9, 5)
    assert sampling.stop == ("X",)


def test_a_limit_of_tokens_may_be_none(serve: Serve) -> None:
    """-1 and -2 are Ollama's words for no limit, and clients write huge numbers; 0 is the app's own."""
    served = serve(["a"] * 5)
    for wanted in (-1, -2, 2**31, 32769, 0):
        client_of(served).generate("fake", "?", options={"num_predict": wanted})
    default = served.assistant.settings.max_new_tokens
    assert [request.sampling.max_new_tokens for request in served.engine.requests] == [32768] * 4 + [default]
    with pytest.raises(ollama.ResponseError, match="num_predict"):
        client_of(served).generate("fake", "?", options={"num_predict": -3})


def test_a_top_p_of_nothing_is_greedy(serve: Serve) -> None:
    """Only the likeliest token is left then, at any temperature."""
    served = serve(["a"])
    client_of(served).generate("fake", "?", options={"top_p": 0, "temperature": 0.8})
    sampling = served.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p) == (0.0, 1.0)


def test_an_empty_prompt_asks_only_whether_the_model_is_there(serve: Serve) -> None:
    """Clients that load a model before they ask are told that it is loaded."""
    served = serve()
    assert client_of(served).generate("fake", "").done_reason == "load"
    assert served.engine.requests == []


def test_refusals_name_what_is_not_supported(serve: Serve) -> None:
    """An unknown model, a tool and a repetition penalty are errors with a status and a sentence."""
    served = serve()
    client = client_of(served)
    with pytest.raises(ollama.ResponseError) as unknown:
        client.generate("llama3", "?")
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as penalty:
        client.generate("fake", "?", options={"repeat_penalty": 1.1})
    assert (penalty.value.status_code, "options.repeat_penalty" in penalty.value.error) == (400, True)


def test_a_failure_in_the_middle_is_an_error_line(serve: Serve) -> None:
    """A stream that broke cannot be mistaken for a short answer."""
    served = serve([PiecesThen(["A val"], InferenceError("inference.out_of_memory"))])
    with pytest.raises(ollama.ResponseError, match="memory"):
        list(client_of(served).generate("fake", "?", stream=True))


def test_a_client_that_leaves_frees_the_model(serve: Serve) -> None:
    """Nobody reads on, so nobody answers on."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine([["one ", "two"]], gate=gate))
    with served.client.stream("POST", "/api/generate", json={"model": "fake", "prompt": "?"}) as stream:
        gate.release()
        assert any("one " in line for line in stream.iter_lines())
    wait_until(lambda: not served.assistant.status.is_busy)


def test_every_line_is_one_to_the_client(serve: Serve) -> None:
    """It splits the stream where Unicode says that a line ends."""
    text = "a\u2028b\u2029c\x85d"
    assert "".join(line.response or "" for line in client_of(serve([text])).generate("fake", "?", stream=True)) == text


def test_a_format_that_is_held_to_comes_in_lines_with_its_probabilities(serve: Serve) -> None:
    """The schema goes to the engine as it was sent, and the text comes as it is written."""
    pieces = ['{"unit": "bar", ', '"value": 2}']
    served = serve(engine=FakeEngine([pieces], holds_forms=True))
    schema = Reading.model_json_schema()
    lines = list(
        client_of(served).generate("fake", "Read it", format=schema, stream=True, logprobs=True, top_logprobs=1)
    )
    assert "".join(line.response or "" for line in lines) == "".join(pieces)
    assert [each.token for line in lines for each in line.logprobs or ()] == pieces
    assert json.loads(served.engine.requests[0].schema or "") == schema
