"""What the doors refuse, and how: keys, types, sizes, addresses, loading, a full queue, and what nobody may read."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from qwen_vl_app.api import bodies
from qwen_vl_app.chat import EngineState
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import ModelFolderError
from qwen_vl_app.texts import Language, catalogue
from tests.api.conftest import PAGE, Serve, Served
from tests.hub_parts import WAIT_S, wait_until
from tests.links import make_link

KEY = "0123456789abcdef"
ASKING = ("/v1/chat/completions", "/api/generate", "/api/chat")


def error_of(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def asked(address: str) -> dict[str, object]:
    """A chat completion about the picture at an address."""
    content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "What is it?"}]
    return {"messages": [{"role": "user", "content": content}]}


def test_a_key_is_asked_for_where_the_site_set_one(serve: Serve) -> None:
    """Without a key and with a wrong one nothing is answered; any of the site's keys opens."""
    served = serve(["a", "b"], api_keys=(KEY, "fedcba9876543210"))
    assert (served.chat().status_code, error_of(served.chat())["code"]) == (401, "invalid_api_key")
    for given in ("Bearer wrong", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"):
        assert served.client.get("/v1/models", headers={"authorization": given}).status_code == 401, given
    for key in (KEY, "fedcba9876543210"):
        response = served.client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        assert response.status_code == 200
    assert "www-authenticate" in served.chat().headers


@pytest.mark.parametrize("path", ASKING)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_json_must_say_that_it_is_json(serve: Serve, path: str, kind: str) -> None:
    """What a form of another site could send is refused before it is read."""
    response = serve().client.post(path, content=b'{"model":"fake","prompt":"?"}', headers={"content-type": kind})
    assert response.status_code == 415


def test_json_that_says_nothing_of_itself_is_read(serve: Serve) -> None:
    """Every form says what it is; LiteLLM's client for Ollama says nothing of the JSON that it sends."""
    served = serve(["a", "b", "c"])
    asked = {"messages": [{"role": "user", "content": "?"}]}
    for path in ASKING:
        body = {"model": "fake", **({"prompt": "?"} if path == "/api/generate" else asked)}
        response = served.client.post(path, content=json.dumps(body).encode())
        assert "content-type" not in response.request.headers
        assert response.status_code == 200, path


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"a"', b"\xff\xfe{}", b'{"model": NaN}', b"[" * 100_000, b'{"model":"\\ud800"}']
)
def test_what_is_no_json_is_a_bad_request(serve: Serve, body: bytes) -> None:
    """Broken, deep, badly encoded and surrogate-ridden JSON is refused with a sentence of ours."""
    response = serve().client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_refused_before_it_is_parsed(serve: Serve) -> None:
    """Announced or not, what is too large is not kept, and the client gets to read why."""
    served = serve(api_max_body_mb=1)
    whole = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "x" * 2**21}]}).encode()
    headers = {"content-type": "application/json"}
    announced = served.client.post("/v1/chat/completions", content=whole, headers=headers)
    chunks = (whole[at : at + 2**16] for at in range(0, len(whole), 2**16))
    unannounced = served.client.post("/v1/chat/completions", content=chunks, headers=headers)
    for response in (announced, unannounced):
        assert (response.status_code, error_of(response)["code"]) == (413, "api.body_too_large")
    picture = {"file": ("a.png", b"\0" * 2**21, "image/png")}
    assert served.client.post("/describe-image/", files=picture).status_code == 413


@pytest.mark.parametrize("expect", ["Expect: 100-continue\r\n", ""])
def test_a_body_announced_over_the_limit_is_refused_as_too_large_though_it_never_comes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, expect: str
) -> None:
    """Who asks before sending is not told to go on, and who sends nothing is not told to send it again."""
    monkeypatch.setattr(bodies, "READ_TIMEOUT_S", 0.2)
    served = serve(api_max_body_mb=1)
    for path, kind in (
        ("/v1/chat/completions", "application/json"),
        ("/describe-image/", "multipart/form-data; boundary=x"),
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: {served.url[7:]}\r\nContent-Type: {kind}\r\n{expect}Content-Length: 2000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=60) as client:
            client.sendall(head.encode())
            reply = client.makefile("rb")
            assert reply.readline().startswith(b"HTTP/1.1 413 ")
            reply.close()


def test_many_large_requests_at_once_do_not_fill_the_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others' bodies hold the memory that there is for them, a new one is asked to come back; then it is answered."""
    monkeypatch.setattr(bodies, "MOST_HELD_BYTES", 2**20)
    served = serve(["a"])
    large = {"messages": [{"role": "user", "content": "x" * 300_000}]}
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as slow:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {served.url[7:]}\r\nContent-Type: application/json\r\n"
        slow.sendall(f"{head}Content-Length: 2000000\r\n\r\n".encode() + b" " * 900_000)
        wait_until(lambda: bodies.HELD._total >= 900_000)
        response = served.chat(**large)
        assert (response.status_code, error_of(response)["code"]) == (429, "api.too_much_at_once")
        assert "retry-after" in response.headers
    wait_until(lambda: bodies.HELD._total == 0)
    assert served.chat(**large).status_code == 200
    wait_until(lambda: bodies.HELD._total == 0)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/a.png",
        "https://localhost:{port}/a.png",
        "HTTP://127.0.0.1:{port}/a.png",
        "//127.0.0.1:{port}/a.png",
        "ftp://127.0.0.1:{port}/a.png",
        "file:///etc/hostname",
        "file://server/share/a.png",
        "\\\\server\\share\\a.png",
        "/etc/hostname",
        "C:\\a.png",
        "blob:http://127.0.0.1:{port}/1",
        "javascript:1",
    ],
)
def test_an_address_is_refused_without_a_socket(serve: Serve, address: str) -> None:
    """Whatever a picture's address names, nobody is asked for it: a listener on the very port hears nothing."""
    served = serve()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        response = served.chat(**asked(address.format(port=listener.getsockname()[1])))
        assert (response.status_code, error_of(response)["code"]) == (422, "api.address_refused")
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("data:image/png,plain", "api.not_a_data_uri"),
        ("data:image/png;base64", "api.not_a_data_uri"),
        ("data:image/png;base64,", "image.empty"),
        ("data:image/png;base64,====", "api.not_base64"),
        ("data:image/png;base64,!!!!", "api.not_base64"),
        ("data:image/png;base64,AAAA", "image."),
    ],
)
def test_what_is_no_picture_is_named(serve: Serve, address: str, code: str) -> None:
    """A data URI that is none, that is no base64, or that holds no picture is refused, each by its reason."""
    response = serve().chat(**asked(address))
    assert response.status_code == 422
    found = error_of(response)["code"]
    assert found == code or (code == "image." and str(found).startswith("image."))


def test_files_of_the_allowed_folder_and_no_others_may_be_named(serve: Serve, tmp_path: Path, png: bytes) -> None:
    """A `file:` address works inside the folder of the settings; above it, beside it and through links it does not."""
    folder, outside = tmp_path / "pictures", tmp_path / "secret.png"
    folder.mkdir()
    (folder / "a picture.png").write_bytes(png)
    outside.write_bytes(png)
    with contextlib.suppress(OSError):  # without one there is none to follow
        make_link(folder / "link.png", outside)
    (tmp_path / "pictures-2").mkdir()
    (tmp_path / "pictures-2" / "a.png").write_bytes(png)
    served = serve(["Teal."], api_file_folder=folder)
    assert served.chat(**asked((folder / "a picture.png").as_uri())).status_code == 200
    for address in (
        outside.as_uri(),
        (folder / "link.png").as_uri(),
        f"{folder.as_uri()}/../secret.png",
        f"{folder.as_uri()}/%2e%2e/secret.png",
        (tmp_path / "pictures-2" / "a.png").as_uri(),
        (folder / "none.png").as_uri(),
        folder.as_uri(),
        f"file://server{folder}/a picture.png",
        f"file:////server{folder}/a picture.png",
        f"{folder.as_uri()}/a%00.png",
    ):
        response = served.chat(**asked(address))
        assert (response.status_code, error_of(response)["code"]) == (422, "api.file_refused"), address


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2), ("presence_penalty", 0.5), ("frequency_penalty", -1), ("repetition_penalty", 1.05), ("logit_bias", {"1": 2}),
        ("tools", [{"type": "function"}]), ("audio", {}), ("reasoning_effort", "low"),
    ],
)  # fmt: skip
def test_a_field_that_would_change_the_answer_is_refused_by_name(serve: Serve, field: str, value: object) -> None:
    """Nothing is quietly answered otherwise than it was asked."""
    found = error_of(serve().chat(**{field: value}))
    assert (found["code"], found["param"]) == ("api.unsupported_field", field)
    assert field in found["message"]


def test_an_unknown_field_and_a_wrong_one_are_named(serve: Serve) -> None:
    """The name leads to the place, deep inside as well; what was sent is not repeated."""
    served = serve()
    assert error_of(served.chat(temprature=0.3))["param"] == "temprature"
    assert error_of(served.chat(temperature="hot"))["param"] == "temperature"
    found = error_of(served.chat(messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}]))
    assert found["param"] == "messages.0.content.0.text"
    assert error_of(served.chat(messages=[{"role": "tool", "content": "secret"}]))["param"] == "messages.0.role"
    assert error_of(served.chat(messages=["secret"]))["param"] == "messages.0"
    for part in ({"type": "input_audio", "input_audio": {}}, {"text": "no type"}):
        found = error_of(served.chat(messages=[{"role": "user", "content": [part]}]))
        assert found["param"] == "messages.0.content.0.type"
    assert error_of(served.chat(messages=[{"role": "user", "content": ["secret"]}]))["param"] == "messages.0.content.0"


def test_a_wrong_value_is_not_called_unsupported_for_its_name(serve: Serve) -> None:
    """A message takes no `name`; a form has one, and whoever left it out would be told that it is missing."""
    served = serve()
    for name in ("", "x" * 65):
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": {}}}
        found = error_of(served.chat(response_format=form))
        assert (found["code"], found["param"]) == ("api.bad_field", "response_format.json_schema.name")
    found = error_of(served.chat(metadata={"name": 5}))
    assert (found["code"], found["param"]) == ("api.bad_field", "metadata.name")


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/v1/other", "/v1/chat/completions/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_is_not_there_is_not_answered_by_the_page(serve: Serve, path: str, method: str) -> None:
    """A program never gets the page's HTML for an answer."""
    response = serve().client.request(method, path)
    assert (response.status_code, error_of(response)["code"]) == (404, "api.unknown_address")


def test_what_ollama_has_and_the_app_has_not_is_refused_as_ollama_does(serve: Serve) -> None:
    """Its clients take what stands in `error` for a sentence, and would show an object as `[object Object]`."""
    served = serve()
    for method, path in (
        ("POST", "/api/pull"),
        ("POST", "/api/embed"),
        ("DELETE", "/api/delete"),
        ("GET", "/v1/api/tags"),
    ):
        response = served.client.request(method, path)
        assert response.status_code == 404
        assert response.json() == {"error": catalogue(Language.ENGLISH)["api.unknown_address"]}, path


def test_a_base_address_without_its_end_is_told(serve: Serve) -> None:
    """OpenAI's clients put their own part behind it, and would read the page."""
    served = serve()
    for method, path in (("POST", "/chat/completions"), ("GET", "/models"), ("GET", "/models/a/b")):
        response = served.client.request(method, path)
        assert (response.status_code, error_of(response)["code"]) == (404, "api.without_base")
        assert "/v1" in error_of(response)["message"]


def test_a_wrong_method_says_which_is_right(serve: Serve) -> None:
    """Also a preflight of another site's page is refused: there is no cross-origin access."""
    served = serve()
    for method in ("GET", "PUT", "OPTIONS", "DELETE"):
        response = served.client.request(method, "/v1/chat/completions")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert "access-control-allow-origin" not in response.headers
    assert served.client.get("/").text == PAGE


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
@pytest.mark.parametrize("path", [*ASKING, "/describe-image/", "/v1/models", "/docs"])
def test_foreign_hosts_and_origins_come_before_everything(serve: Serve, path: str, headers: dict[str, str]) -> None:
    """Another site's page reaches no address, and a name that was bent to this machine neither."""
    served = serve()
    method = "GET" if path in ("/v1/models", "/docs") else "POST"
    assert served.client.request(method, path, headers=headers).status_code == 403


@pytest.mark.parametrize("path", [*ASKING, "/describe-image/"])
def test_while_the_model_loads_a_program_is_asked_to_come_back(serve: Serve, png: bytes, path: str) -> None:
    """503 with Retry-After, and the list of models is there already."""
    loading = threading.Event()
    served = serve(engine=FakeEngine(loading=loading), is_loaded=False)
    try:
        body: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "?"}]}
        if path == "/describe-image/":
            response = served.client.post(path, files={"file": ("a.png", png)})
        else:
            response = served.client.post(path, json={"model": "fake", "prompt": "?"} if "generate" in path else body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        told = served.client.get("/v1/models").json()["data"][0]
        assert told["id"] == "fake"
        assert told["sizes"] is None, "a command that waits for it would ask too early"
    finally:
        loading.set()
    wait_until(lambda: served.client.get("/v1/models").json()["data"][0]["sizes"] is not None)


@pytest.mark.parametrize("path", ASKING)
def test_before_a_model_is_chosen_no_name_is_wrong(serve: Serve, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first seconds it is not known yet which names will work: 503, not 404."""
    loading = threading.Event()
    served = serve(engine=FakeEngine(loading=loading), is_loaded=False)
    empty = replace(served.engine.status, model="", state=EngineState.EMPTY, plan=None)
    monkeypatch.setattr(served.engine, "_status", empty)
    said = (
        {"model": "qwen", "prompt": "?"}
        if "generate" in path
        else {"model": "qwen", "messages": [{"role": "user", "content": "?"}]}
    )
    try:
        assert served.client.post(path, json=said).status_code == 503
    finally:
        loading.set()


def test_a_model_that_did_not_load_says_why(serve: Serve) -> None:
    """The reason is the catalogue's sentence."""
    served = serve(engine=FakeEngine(load_error=ModelFolderError("model.not_loaded")), is_loaded=False)
    wait_until(lambda: served.assistant.status.engine.error is not None)
    assert (served.chat().status_code, error_of(served.chat())["code"]) == (503, "model.not_loaded")


def test_a_full_queue_is_429_with_a_time_to_come_back(serve: Serve) -> None:
    """Who asks more than their share is told so, and when to try again."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine([["x"]] * 3, gate=gate), queue_limit_per_owner=1, api_keys=("0123456789abcdef",))
    served.client.headers["authorization"] = (
        "Bearer 0123456789abcdef"  # one caller, whatever the system tells of connections
    )
    first = threading.Thread(target=served.chat)
    first.start()
    wait_until(lambda: served.assistant.status.is_busy)
    second = threading.Thread(target=served.chat)
    second.start()
    wait_until(lambda: served.assistant.status.waiting == 1)
    response = served.chat()
    gate.release(10)
    first.join()
    second.join()
    assert (response.status_code, error_of(response)["type"]) == (429, "rate_limit_error")
    assert 1 <= int(response.headers["retry-after"]) <= 120


def test_a_waiting_stream_shows_its_place(serve: Serve) -> None:
    """While it is queued, a stream says so in comments, which clients skip."""
    gate = threading.Semaphore(0)
    served = serve(engine=FakeEngine([["x"], ["y"]], gate=gate))
    first = threading.Thread(target=served.chat)
    first.start()
    wait_until(lambda: served.assistant.status.is_busy)
    body = {"model": "fake", "messages": [{"role": "user", "content": "?"}], "stream": True}
    with served.client.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": queued 1"
        gate.release(10)
        assert "data: [DONE]" in list(lines)
    first.join()


def test_no_exceptions_text_leaves_the_app(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours is one calm sentence and a line in the log."""
    served = serve()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 42 at /srv/private")

    monkeypatch.setattr(served.assistant, "ask", broken)
    response = served.chat()
    assert response.status_code == 500
    assert error_of(response)["code"] == "app.unexpected"
    assert "secret" not in response.text


def test_a_refusal_speaks_the_callers_language(serve: Serve) -> None:
    """Chinese for those who ask for it."""
    served = serve()
    response = served.client.get("/v1/nothing", headers={"accept-language": "zh-CN,zh;q=0.9"})
    assert error_of(response)["message"] == catalogue(Language.CHINESE)["api.unknown_address"]


def test_too_many_pictures_are_counted_over_all_messages(serve: Serve, data_uri: str) -> None:
    """A conversation cannot carry more pictures than a question may."""
    served: Served = serve(["a"], max_pictures=2)
    message = asked(data_uri)["messages"][0]  # type: ignore[index]
    earlier = [message, {"role": "assistant", "content": "a"}] * 2
    response = served.chat(messages=[*earlier, message])
    assert error_of(response)["code"] == "question.too_many_pictures"
    assert served.chat(messages=[message, {"role": "assistant", "content": "a"}, message]).status_code == 200


@pytest.mark.parametrize("way", ["lines", "for addresses", "unpadded", "percent", "parameters", "capitals", "no type"])
def test_base64_is_taken_as_programs_write_it(serve: Serve, way: str) -> None:
    """In lines, in the alphabet for addresses, without padding, escaped, or beside odd parameters: it is one picture."""
    data = _base64_with_signs_and_padding()
    head = "data:image/png;base64,"
    address = {
        "lines": head + "\r\n".join(data[at : at + 76] for at in range(0, len(data), 76)),
        "for addresses": head + data.replace("+", "-").replace("/", "_"),
        "unpadded": head + data.rstrip("="),
        "percent": head + quote(data, safe=""),
        "parameters": f'data:image/png;name="a, b.png";charset=utf-8;base64,{data}',
        "capitals": f"DATA:IMAGE/PNG;BASE64,{data}",
        "no type": f"data:;base64,{data}",
    }[way]
    served = serve(["Teal."])
    assert served.chat(**asked(address)).status_code == 200


def _base64_with_signs_and_padding() -> str:
    """Return a picture whose base64 has `+`, `/` and `=`; bytes behind the end of a PNG are no part of it."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(file, "PNG")
    return base64.b64encode(
        file.getvalue() + b"\xfb\xef\xbe\xff\xff\xff" * 3 + b"\0" * (-len(file.getvalue()) % 3 + 1)
    ).decode()


def test_a_picture_that_cannot_be_used_is_named_by_its_field(serve: Serve, png: bytes) -> None:
    """Of several pictures a program learns which one it was."""
    good, torn = (f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (png, png[:60]))
    content = [{"type": "image_url", "image_url": {"url": url}} for url in (good, torn)]
    response = serve().chat(messages=[{"role": "user", "content": [*content, {"type": "text", "text": "?"}]}])
    assert response.status_code == 422
    assert error_of(response)["param"] == "messages.0.content.1.image_url"


def test_json_behind_a_byte_order_mark_is_json(serve: Serve) -> None:
    """Editors and shells of Windows put one there."""
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "?"}]}).encode("utf-8-sig")
    served = serve(["Teal."])
    headers = {"Content-Type": "application/json"}
    assert served.client.post("/v1/chat/completions", content=body, headers=headers).status_code == 200


def test_a_compressed_request_is_refused_as_what_it_is(serve: Serve) -> None:
    """And not as broken JSON."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = serve().client.post("/v1/chat/completions", content=gzip.compress(b"{}"), headers=headers)
    assert (response.status_code, error_of(response)["code"]) == (415, "api.compressed")


@pytest.mark.parametrize("address", ["/v1", "/v1/", "/api", "/api/", "/v1/nothing"])
def test_a_roof_covers_its_own_address(serve: Serve, address: str) -> None:
    """A client that is given the wrong base gets JSON that says so, and never the page."""
    response = serve().client.get(address)
    assert (response.status_code, error_of(response)["code"]) == (404, "api.unknown_address")


def test_a_slash_too_many_leads_to_the_same_address(serve: Serve) -> None:
    """A base address that ends in a slash, and a client that begins with one: the door answers, and never the page."""
    served = serve(["Teal."])
    base = served.url
    assert httpx.get(f"{base}//v1/models", trust_env=False, timeout=WAIT_S).json()["data"][0]["id"] == "fake"
    assert httpx.get(f"{base}//api//tags", trust_env=False, timeout=WAIT_S).json()["models"]
    body = {"model": "fake", "messages": [{"role": "user", "content": "?"}]}
    said = httpx.post(f"{base}///v1//chat/completions", json=body, trust_env=False, timeout=WAIT_S)
    assert said.json()["choices"][0]["message"]["content"] == "Teal."
    nothing = httpx.get(f"{base}//v1//nothing", trust_env=False, timeout=WAIT_S)
    assert (nothing.status_code, error_of(nothing)["code"]) == (404, "api.unknown_address")
    assert httpx.get(f"{base}//v1x", trust_env=False, timeout=WAIT_S).text.startswith(
        "<!doctype html>"
    )  # under no roof, so not ours
    foreign = httpx.get(f"{base}//v1/models", headers={"Host": "elsewhere.example"}, trust_env=False, timeout=WAIT_S)
    assert foreign.status_code == 403


def test_base64_is_base64_for_ollama_too(serve: Serve, png: bytes) -> None:
    """Ollama's pictures are bare base64; an address among them is refused as what it is not."""
    served = serve(["Teal."])
    good = base64.b64encode(png).decode()
    body = {"model": "fake", "prompt": "?", "stream": False}
    assert served.client.post("/api/generate", json=body | {"images": [good]}).status_code == 200
    for bad in ("http://127.0.0.1/a.png", "file:///etc/hostname", "%%%"):
        assert served.client.post("/api/generate", json=body | {"images": [bad]}).status_code == 422
