"""The real `openai` client talks to the app: whole answers, streams, pictures, forms, probabilities and refusals."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from qwen_vl_app.chat import FinishReason
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Step
from qwen_vl_app.engine.fake import FakeEngine, PiecesThen
from qwen_vl_app.errors import InferenceError, Reason
from tests.api.conftest import Serve, Served
from tests.hub_parts import WAIT_S, wait_until


def client_of(served: Served, *, key: str = "no key is needed here") -> OpenAI:
    return OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0, timeout=WAIT_S)


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_models_are_listed_and_aliases_lead_to_the_one_that_is_loaded(serve: Serve) -> None:
    """The list begins with the model's own name; every other name says which model it stands for."""
    models = client_of(serve()).models.list().data
    assert models[0].id == "fake"
    assert {"Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b-instruct"} <= {model.id for model in models}
    assert {model.model_extra["root"] for model in models if model.model_extra} == {"fake"}


def test_an_alias_is_answered_by_the_loaded_model_which_gives_its_own_name(serve: Serve) -> None:
    """A client of an earlier system keeps its model's name, and is told which model answered."""
    served = serve(["A gauge."])
    done = client_of(served).chat.completions.create(model="Qwen/Qwen2.5-VL-7B-Instruct", messages=user("What is it?"))
    assert (done.choices[0].message.content, done.model) == ("A gauge.", "fake")
    assert client_of(served).models.retrieve("Qwen/Qwen2.5-VL-7B-Instruct").id == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_a_whole_answer_has_its_usage_and_how_it_ended(serve: Serve) -> None:
    """Text, reason and token counts come back as OpenAI gives them."""
    done = client_of(serve([["A ", "blue ", "valve."]])).chat.completions.create(model="fake", messages=user("Well?"))
    assert done.choices[0].message.content == "A blue valve."
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (1, 3, 4)


def test_an_answer_that_met_its_limit_says_length(serve: Serve) -> None:
    """A cut answer is told from a whole one."""
    served = serve(engine=FakeEngine(["cut of"], finish_reason=FinishReason.LENGTH))
    done = client_of(served).chat.completions.create(model="fake", messages=user("Go on"), max_tokens=2)
    assert done.choices[0].finish_reason == "length"
    assert served.engine.requests[0].sampling.max_new_tokens == 2


def test_a_stream_brings_the_text_in_pieces_and_the_usage_at_the_end(serve: Serve) -> None:
    """Every piece is an event; the role comes first, the reason last, and the usage in a piece without choices."""
    stream = client_of(serve([["A ", "blue ", "valve."]])).chat.completions.create(
        model="fake", messages=user("Well?"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "A blue valve."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_mistake_of_ours_is_told_in_the_stream_as_well(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status has gone out by then; a stream that only broke off would look like a cable that was pulled."""

    def break_down(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("qwen_vl_app.api.forms.AnswerForm.misfit", break_down)
    served = serve(["{}", "{}", "{}"])
    form: Any = {"type": "json_object"}
    for is_stream in (True, False):
        with pytest.raises(openai.APIError) as failed:
            list(
                client_of(served).chat.completions.create(
                    model="fake", messages=user("?"), response_format=form, stream=is_stream
                )
            )
        assert failed.value.code == "app.unexpected"
        assert "secret" not in str(failed.value)
    asked = {"model": "fake", "prompt": "?", "format": "json"}
    last = served.client.post("/api/generate", json=asked).text.splitlines()[-1]
    assert list(json.loads(last)) == ["error"]


def test_every_event_is_one_line_to_every_client(serve: Serve) -> None:
    """Some split lines where Unicode does."""
    text = "a\u2028b\u2029c\x85d\x1ee\x0bf 阀"
    response = serve([text]).chat(stream=True)
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    assert events[0]["choices"][0]["delta"]["content"] == text
    assert "阀" in response.text


def test_text_is_streamed_while_it_is_made(serve: Serve) -> None:
    """The first piece arrives while the model still works on the second."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine([["first ", "second"]], gate=gate))
    stream = client_of(served).chat.completions.create(model="fake", messages=user("Well?"), stream=True)
    gate.release()
    chunks = iter(stream)
    assert next(chunks).choices[0].delta.content == "first "
    gate.release()
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content] == ["second"]


@pytest.mark.parametrize("form", ["object", "string"])
def test_pictures_come_as_data_uris(serve: Serve, data_uri: str, form: str) -> None:
    """A picture in OpenAI's object or as a bare string reaches the model, before the text."""
    served = serve(["Teal."])
    address = {"url": data_uri, "detail": "high"} if form == "object" else data_uri
    content = [{"type": "text", "text": "Which colour?"}, {"type": "image_url", "image_url": address}]
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": content}]  # type: ignore[list-item, misc]
    done = client_of(served).chat.completions.create(model="fake", messages=messages)
    assert done.choices[0].message.content == "Teal."
    (message,) = served.engine.requests[0].messages
    assert (message.text, len(message.images)) == ("Which colour?", 1)
    assert message.images[0].rgb[:3] == bytes((0, 128, 128))


def test_several_turns_reach_the_model_in_order(serve: Serve, data_uri: str) -> None:
    """The client keeps the conversation: system message, earlier pictures and answers come with every request."""
    served = serve(["It is closed."])
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": data_uri}}, {"type": "text", "text": "?"}],
        },
        {"role": "assistant", "content": "A valve."},
        {"role": "user", "content": "Open or closed?"},
    ]
    client_of(served).chat.completions.create(model="fake", messages=messages)  # type: ignore[arg-type]
    said = [(message.role, message.text, len(message.images)) for message in served.engine.requests[0].messages]
    assert said == [
        ("system", "Be brief.", 0),
        ("user", "?", 1),
        ("assistant", "A valve.", 0),
        ("user", "Open or closed?", 0),
    ]


def test_sampling_reaches_the_model_and_is_greedy_by_default(serve: Serve) -> None:
    """What the client sets is what the engine gets; what it does not set is greedy."""
    served = serve(["a", "b"])
    create = client_of(served).chat.completions.create
    create(
        model="fake",
        messages=user("?"),
        temperature=0.7,
        top_p=0.9,
        seed=11,
        stop=["END", "###"],
        max_completion_tokens=7,
    )
    create(model="fake", messages=user("?"))
    first, second = (request.sampling for request in served.engine.requests)
    assert (first.temperature, first.top_p, first.seed, first.stop) == (0.7, 0.9, 11, ("END", "###"))
    assert first.max_new_tokens == 7
    assert (second.temperature, second.top_p, second.stop) == (0.0, 1.0, ())
    assert second.max_new_tokens == served.assistant.settings.max_new_tokens


def test_a_top_p_of_nothing_is_greedy(serve: Serve) -> None:
    """Scripts set it for answers that are the same each time; what the temperature says does not matter then."""
    served = serve(["a", "b"])
    create = client_of(served).chat.completions.create
    create(model="fake", messages=user("?"), temperature=0, top_p=0)
    create(model="fake", messages=user("?"), temperature=0.7, top_p=0)
    for request in served.engine.requests:
        assert (request.sampling.temperature, request.sampling.top_p) == (0.0, 1.0)
    for top_p in (-0.1, 1.1):
        with pytest.raises(openai.BadRequestError, match="top_p"):
            create(model="fake", messages=user("?"), top_p=top_p)


def test_what_changes_nothing_is_taken(serve: Serve) -> None:
    """No reasoning, and a free choice among no tools, are what there is anyway."""
    body = {"tools": [], "tool_choice": "auto", "reasoning_effort": "none"}
    done = client_of(serve(["a"])).chat.completions.create(model="fake", messages=user("?"), extra_body=body)
    assert done.choices[0].message.content == "a"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_huge_limit_is_no_limit(serve: Serve, field: str) -> None:
    """Clients write a huge number where they want none; nonsense is refused by its name."""
    served = serve(["a", "b", "c"])
    create = client_of(served).chat.completions.create
    for wanted in (32768, 32769, 2**63 - 1):
        create(model="fake", messages=user("?"), extra_body={field: wanted})
    assert [request.sampling.max_new_tokens for request in served.engine.requests] == [32768] * 3
    for nonsense in (0, -1, 1.5, "many"):
        with pytest.raises(openai.BadRequestError, match=field):
            create(model="fake", messages=user("?"), extra_body={field: nonsense})


def test_an_earlier_answer_may_be_empty(serve: Serve) -> None:
    """Clients send null, or nothing, where an answer only called tools: its turn stays, without words."""
    served = serve(["a"])
    earlier: list[Any] = [{"role": "assistant", "content": None, "tool_calls": None}, {"role": "assistant"}]
    messages = [*user("Which lamp?"), earlier[0], *user("This one"), earlier[1], *user("And now?")]
    client_of(served).chat.completions.create(model="fake", messages=messages)
    assert [(message.role, message.text) for message in served.engine.requests[0].messages] == [
        ("user", "Which lamp?"),
        ("assistant", ""),
        ("user", "This one"),
        ("assistant", ""),
        ("user", "And now?"),
    ]
    for role in ("user", "system"):
        with pytest.raises(openai.BadRequestError, match="content"):
            wrong: Any = [{"role": role, "content": None}, *user("?")]
            client_of(served).chat.completions.create(model="fake", messages=wrong)


@pytest.mark.parametrize("is_stream", [False, True])
def test_logprobs_are_those_of_the_tokens(serve: Serve, is_stream: bool) -> None:
    """Each token of the answer comes with its text, its bytes and the logarithm of its probability."""
    served = serve([["Öl", "stand"]])
    create = client_of(served).chat.completions.create
    if is_stream:
        chunks = create(model="fake", messages=user("?"), logprobs=True, stream=True)
        told = [chunk.choices[0].logprobs for chunk in chunks]
        tokens = [token for logprobs in told if logprobs for token in logprobs.content or ()]
    else:
        found = create(model="fake", messages=user("?"), logprobs=True).choices[0].logprobs
        assert found is not None
        tokens = found.content or []
    assert [(token.token, token.logprob) for token in tokens] == [("Öl", -0.1), ("stand", -0.1)]
    assert bytes(tokens[0].bytes or ()) == "Öl".encode()


class Reading(BaseModel):
    unit: str
    value: float


def test_an_answer_in_a_schema_is_parsed_by_the_client(serve: Serve) -> None:
    """The client's own parsing of a pydantic model works; prose around the data is left out."""
    served = serve(['Here it is:\n```json\n{"unit": "bar", "value": 4.5,}\n```'])
    done = client_of(served).chat.completions.parse(model="fake", messages=user("Read it"), response_format=Reading)
    assert done.choices[0].message.parsed == Reading(unit="bar", value=4.5)
    assert '"unit"' in served.engine.requests[0].messages[-1].text, "the model was told the schema"


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_does_not_fit_is_repaired_once(serve: Serve, is_stream: bool) -> None:
    """The model sees its own answer and what is wrong with it; only what fits goes out, and both attempts are counted."""
    served = serve(['{"unit": "bar"}', '{"unit": "bar", "value": 4.5}'])
    form = {"type": "json_schema", "json_schema": {"name": "reading", "schema": Reading.model_json_schema()}}
    create = client_of(served).chat.completions.create
    if is_stream:
        chunks = create(model="fake", messages=user("Read it"), response_format=form, stream=True)  # type: ignore[call-overload]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        done = create(model="fake", messages=user("Read it"), response_format=form)  # type: ignore[call-overload]
        text = done.choices[0].message.content
        assert done.usage.completion_tokens == 2
    assert Reading.model_validate_json(text) == Reading(unit="bar", value=4.5)
    again = served.engine.requests[1].messages
    assert [message.role for message in again] == ["user", "assistant", "user"]
    assert "required" in again[-1].text


class CutForms(FakeEngine):
    """Says of every answer that a stop text came before the end of its form."""

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        for step in super().generate(request, should_stop=should_stop):
            yield replace(step, notes=(Reason("engine.form.cut"),)) if isinstance(step, FinishedStep) else step


def test_a_form_that_a_stop_text_cuts_goes_out_as_far_as_it_came(serve: Serve) -> None:
    """As where the limit cuts it: it is no answer that does not fit, and nobody is to take it for a whole one."""
    text = '{"unit": "bar"'
    served = serve(engine=CutForms([text, text], holds_forms=True))
    schema = {"name": "reading", "schema": Reading.model_json_schema(), "strict": True}
    asked = {"response_format": {"type": "json_schema", "json_schema": schema}, "stop": ","}
    whole = served.chat(**asked).json()
    assert (whole["choices"][0]["message"]["content"], whole["choices"][0]["finish_reason"]) == (text, "length")
    stream = served.chat(**asked, stream=True).text.splitlines()
    first, *_, last = [json.loads(line[6:]) for line in stream if line.startswith("data: {")]
    assert (first["choices"][0]["delta"]["content"], last["choices"][0]["finish_reason"]) == (text, "length")
    for reply in (whole, last):
        assert [note["code"] for note in reply["notes"]] == ["engine.form.cut"]


def test_a_form_that_is_held_to_goes_out_as_it_is_written(serve: Serve) -> None:
    """Where the engine holds the answer to its schema, the text streams, with the probabilities of its tokens."""
    gate = threading.Semaphore(0)
    pieces = ['{"unit": "', 'bar", ', '"value": 4.5}']
    served = serve(engine=FakeEngine([pieces], gate=gate, holds_forms=True))
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "reading", "schema": Reading.model_json_schema(), "strict": True},
    }
    stream = client_of(served).chat.completions.create(
        model="fake", messages=user("Read it"), response_format=form, stream=True, logprobs=True, top_logprobs=2
    )
    gate.release()
    first = next(iter(stream))
    assert first.choices[0].delta.content == pieces[0]
    logprobs: Any = first.choices[0].logprobs
    token = logprobs.content[0]
    assert (token.token, [each.token for each in token.top_logprobs]) == (pieces[0], [pieces[0], "?0"])
    gate.release(5)
    text = pieces[0] + "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert Reading.model_validate_json(text) == Reading(unit="bar", value=4.5)
    asked = served.engine.requests[0]
    assert json.loads(asked.schema or "") == Reading.model_json_schema()
    assert asked.sampling.top_logprobs == 2


def test_probabilities_are_told_only_for_what_the_model_wrote(serve: Serve) -> None:
    """Data taken out of prose is not what the tokens said, so nothing is told of them."""
    served = serve(['So: {"a": 1}', '{"a": 1}'])
    told = [
        client_of(served).chat.completions.create(
            model="fake", messages=user("?"), response_format={"type": "json_object"}, logprobs=True
        )
        for _ in range(2)
    ]
    assert [done.choices[0].message.content for done in told] == ['{"a": 1}', '{"a": 1}']
    assert told[0].choices[0].logprobs is None
    assert told[1].choices[0].logprobs is not None


def test_a_form_that_is_not_strict_is_kept_to_as_well_as_it_goes(serve: Serve) -> None:
    """As OpenAI has it: without strict the model's last attempt is passed on, and a note says that it does not fit."""
    served = serve(["none", "still none"] * 2)
    schema: Any = {"name": "reading", "schema": Reading.model_json_schema()}
    done = client_of(served).chat.completions.create(
        model="fake",
        messages=user("Read it"),
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert done.choices[0].message.content == "still none"
    assert "api.form_not_kept" in str(done.model_extra)
    strict: Any = {"type": "json_schema", "json_schema": {**schema, "strict": True}}
    with pytest.raises(openai.UnprocessableEntityError):
        client_of(served).chat.completions.create(model="fake", messages=user("Read it"), response_format=strict)


def test_likely_tokens_are_told_with_logprobs_alone(serve: Serve) -> None:
    """Asked for without them they would be left out without a word."""
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client_of(serve()).chat.completions.create(model="fake", messages=user("?"), top_logprobs=3)
    assert refused.value.param == "top_logprobs"


def test_an_answer_that_never_fits_is_refused_and_not_passed_off(serve: Serve) -> None:
    """After one repair there is no second: the client is told, rather than given something else."""
    served = serve(["no data here", "still none"])
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client_of(served).chat.completions.create(
            model="fake", messages=user("Read it"), response_format={"type": "json_object"}
        )
    assert refused.value.code == "api.answer_does_not_fit"


def test_the_errors_are_the_clients_own_classes(serve: Serve) -> None:
    """An unknown model, a wrong key and a bad field come as what the client calls them."""
    served = serve(api_keys=("0123456789abcdef",))
    with pytest.raises(openai.AuthenticationError):
        client_of(served).models.list()
    client = client_of(served, key="0123456789abcdef")
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=user("?"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="fake", messages=user("?"), n=2)
    assert (bad.value.param, bad.value.code) == ("n", "api.unsupported_field")


def test_a_failure_in_the_middle_of_a_stream_is_an_error_and_not_an_end(serve: Serve) -> None:
    """A stream that broke cannot be mistaken for a short answer."""
    served = serve([PiecesThen(["A val"], InferenceError("inference.out_of_memory"))])
    stream = client_of(served).chat.completions.create(model="fake", messages=user("?"), stream=True)
    with pytest.raises(openai.APIError) as broken:
        list(stream)
    assert "memory" in str(broken.value)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_frees_the_model(serve: Serve, is_stream: bool) -> None:
    """The answer of somebody who is gone is stopped, and the next question is answered."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine([["one ", "two"], ["next"]], gate=gate))
    if is_stream:
        stream = client_of(served).chat.completions.create(model="fake", messages=user("?"), stream=True)
        gate.release()
        assert next(iter(stream)).choices[0].delta.content == "one "
        stream.close()
    else:
        leaving = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=WAIT_S)
        body = json.dumps({"model": "fake", "messages": user("?")})
        leaving.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        wait_until(lambda: served.assistant.status.is_busy)
        leaving.close()
    wait_until(lambda: not served.assistant.status.is_busy)
    gate.release(10)
    done = client_of(served).chat.completions.create(model="fake", messages=user("?"))
    assert done.choices[0].message.content == "next"


def test_nothing_of_it_is_kept(serve: Serve) -> None:
    """A program's questions leave no trace in the history."""
    served = serve(["a"])
    client_of(served).chat.completions.create(model="fake", messages=user("?"))
    owners = ("api:127.0.0.1", f"api:127.0.0.1:{os.getpid()}", "local")
    assert not any(served.assistant.conversations(owner) for owner in owners)
