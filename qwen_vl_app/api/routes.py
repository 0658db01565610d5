"""Every HTTP address beside the page, in the order in which they are tried.

Knows which dialects there are. What is under their roofs and is not theirs is refused here: the page behind would answer
it with itself.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qwen_vl_app.api.asking import Call
from qwen_vl_app.api.description import description_routes
from qwen_vl_app.api.doors import Door, GetAssistant
from qwen_vl_app.api.ollama_doors import ollama_routes
from qwen_vl_app.api.openai_doors import openai_routes
from qwen_vl_app.api.prior_doors import prior_routes
from qwen_vl_app.api.slashes import ROOFS
from qwen_vl_app.errors import UsageError

WITHOUT_BASE = ("/chat/completions", "/models", "/models/{name:path}")
"""Where OpenAI's clients ask that were given this app's address without `/v1`; the page behind would answer them."""
METHODS = ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


def make_routes(get_assistant: GetAssistant) -> list[BaseRoute]:
    """Return the addresses as `st.App(routes=...)` takes them. Nothing is opened before the first request."""
    unknown = dict.fromkeys(METHODS, refuse_unknown)
    without_base = Door(get_assistant, dict.fromkeys(METHODS, refuse_without_base))
    nowhere, not_of_ollama = Door(get_assistant, unknown), Door(get_assistant, unknown, is_ollama=True)
    return [
        *description_routes(get_assistant),
        *openai_routes(get_assistant),
        *prior_routes(get_assistant),
        *ollama_routes(get_assistant),
        *(Route(address, without_base) for address in WITHOUT_BASE),
        *(Route(address, nowhere) for address in ("/api/", "/api/v1/{rest:path}")),
        # Ollama's clients show what they find in `error`, and take it for a sentence; some are given our OpenAI base.
        *(Route(address, not_of_ollama) for address in ("/api/{rest:path}", "/v1/api/{rest:path}")),
        *(Route(roof + rest, nowhere) for roof in ROOFS for rest in ("", "/{rest:path}")),
    ]


async def refuse_unknown(_: Call) -> Response:
    """Say that there is nothing here."""
    raise UsageError("api.unknown_address")


async def refuse_without_base(_: Call) -> Response:
    """Say what the base address of OpenAI's clients is."""
    raise UsageError("api.without_base")
