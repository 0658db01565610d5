"""The OpenAPI description: the doors do what it says, it says all there is, and the page that shows it works offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.routing import Route

from qwen_vl_app.api.description import ADDRESSES, openapi
from qwen_vl_app.api.routes import WITHOUT_BASE, make_routes
from qwen_vl_app.engine.base import GenerationRequest, Step
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.texts import Language, catalogue
from tests.api.conftest import Serve

EXAMPLES = 25
HOOKS = """
import schemathesis

@schemathesis.hook
def map_body(context, body):
    # Nearly every request would end at an unknown name or at a last message that is not the user's.
    if isinstance(body, dict) and isinstance(body.get("model"), str) and 0 < len(body["model"]) <= 200:
        body = body | {"model": "fake"}
    if isinstance(body, dict) and isinstance(body.get("messages"), list) and body["messages"]:
        body = body | {"messages": [*body["messages"], {"role": "user", "content": "What is it?"}]}
    return body

@schemathesis.hook
def filter_body(context, body):
    # In a multipart form a number is text, so a query that is no string cannot be told from one that is.
    return not isinstance(body, dict) or isinstance(body.get("query", ""), str)
"""
CONFIG = """
[checks.positive_data_acceptance]
# 422: well-formed, but a picture is none, or the last message is not the user's, which no schema can say.
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]
"""


class EndlessEngine(FakeEngine):
    """Says the same to everybody, for ever."""

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        self.requests.clear()
        self.replies.append(['{"a"', ": 1}"])
        return super().generate(request, should_stop=should_stop)


def test_the_doors_do_what_their_description_says(serve: Serve, tmp_path: Path) -> None:
    """Generated requests, good and bad, get the statuses and shapes that are described, and no error of the server's.

    The phase "coverage", some 1,800 requests of a minute and a half, is left to a person who changes the description.
    """
    served = serve(engine=EndlessEngine(), queue_limit_per_owner=32)
    (tmp_path / "hooks.py").write_text(HOOKS, encoding="utf-8")
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        str(program),
        "--config-file",
        "schemathesis.toml",
        "run",
        f"{served.url}/openapi.json",
        "--checks",
        "all",
    ]
    command += [
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        "11",
        "--phases",
        "fuzzing",
        "--no-color",
    ]
    surroundings = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path), "NO_PROXY": "*"}
    surroundings["PYTHONUTF8"] = "1"  # its own words do not fit every code page
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"[1-9]\d\d+ generated", done.stdout), done.stdout[-3000:]


def test_every_address_is_described(serve: Serve) -> None:
    """What can be asked is in the description; what is not is the description itself, and addresses that only refuse."""
    described = {re.sub(r"\{.*?\}", "{}", each.path).rstrip("/") for each in ADDRESSES}
    routes = {
        re.sub(r"\{.*?\}", "{}", route.path).rstrip("/")
        for route in make_routes(pytest.fail)
        if isinstance(route, Route)
    }
    roofs = {"/v1", "/v1/{}", "/v1/api/{}", "/api", "/api/{}", "/api/v1/{}"}
    assert routes - described == {
        "/docs",
        "/openapi.json",
        *roofs,
        *(re.sub(r"\{.*?\}", "{}", each) for each in WITHOUT_BASE),
    }
    assert described <= routes


@pytest.mark.parametrize("language", Language)
def test_every_address_has_a_sentence(language: Language) -> None:
    """The description speaks both languages."""
    assert {each.code for each in ADDRESSES} <= set(catalogue(language))
    assert openapi(language)["info"]["title"] == catalogue(language)["api.doc.title"]


def test_the_page_names_every_address_and_loads_nothing(serve: Serve) -> None:
    """The page is one document: no script, no picture, no style and no font from anywhere."""
    response = serve().client.get("/docs", headers={"accept-language": "zh-CN"})
    assert response.status_code == 200
    assert all(each.path in response.text for each in ADDRESSES)
    assert catalogue(Language.CHINESE)["api.doc.title"] in response.text
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|https?://", response.text)


def test_the_page_is_open_where_a_key_is_needed(serve: Serve) -> None:
    """What one may ask for is no secret; the answers are."""
    served = serve(api_keys=("0123456789abcdef",))
    assert served.client.get("/docs").status_code == 200
    assert "securitySchemes" in served.client.get("/openapi.json").json()["components"]
    assert served.client.get("/v1/models").status_code == 401
