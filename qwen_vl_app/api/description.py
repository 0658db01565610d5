"""What the addresses take and give, as OpenAPI 3.1 and as a page to read: both made here, neither loads anything.

Knows every address and the shapes of its requests. Does not know how they are answered. The page has no script and no
style from elsewhere, so that it works on a machine without a network.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from qwen_vl_app import __version__
from qwen_vl_app.api.asking import Call
from qwen_vl_app.api.doors import Door, GetAssistant
from qwen_vl_app.api.ollama_replies import (
    ChatLine,
    GenerateLine,
    OllamaError,
    RunningModels,
    Shown,
    Tags,
    Version,
)
from qwen_vl_app.api.ollama_requests import ChatRequest, GenerateRequest, ShowRequest
from qwen_vl_app.api.openai_replies import Completion, ErrorReply, Model, ModelList
from qwen_vl_app.api.openai_requests import ChatCompletionRequest
from qwen_vl_app.api.prior_replies import Analyzed, Described
from qwen_vl_app.texts import Language, t

COMMON = (401, 405)
"""Any address: no key, or a wrong method."""
WITH_BODY = (400, 408, 413, 415)
ASKING = (404, 422, 429, 500, 503)


@dataclass(frozen=True, slots=True)
class Address:
    """One method of one address. `form` are the fields of a multipart form: files, and texts."""

    path: str
    method: str
    code: str
    reply: type[BaseModel]
    request: type[BaseModel] | None = None
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    stream_type: str = ""
    errors: tuple[int, ...] = COMMON
    error: type[BaseModel] = ErrorReply
    parameters: tuple[Mapping[str, Any], ...] = field(default=())


_STREAMS: Mapping[str, Mapping[str, Any]] = {
    "text/event-stream": {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}},
    "application/x-ndjson": {"type": "string"},
}
"""What a stream holds: of events each one, of lines the whole text."""
_NAME: Mapping[str, Any] = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
_ALL = (*COMMON, *WITH_BODY, *ASKING)

ADDRESSES = (
    Address("/v1/models", "get", "api.doc.models", ModelList),
    Address("/v1/models/{name}", "get", "api.doc.model", Model, errors=(*COMMON, 404), parameters=(_NAME,)),
    Address(
        "/v1/chat/completions",
        "post",
        "api.doc.completions",
        Completion,
        request=ChatCompletionRequest,
        stream_type="text/event-stream",
        errors=_ALL,
    ),
    Address("/api/version", "get", "api.doc.version", Version, error=OllamaError),
    Address("/api/tags", "get", "api.doc.tags", Tags, error=OllamaError),
    Address("/api/ps", "get", "api.doc.ps", RunningModels, error=OllamaError),
    Address(
        "/api/show",
        "post",
        "api.doc.show",
        Shown,
        request=ShowRequest,
        errors=(*COMMON, *WITH_BODY, 404),
        error=OllamaError,
    ),
    Address(
        "/api/generate",
        "post",
        "api.doc.generate",
        GenerateLine,
        request=GenerateRequest,
        stream_type="application/x-ndjson",
        errors=_ALL,
        error=OllamaError,
    ),
    Address(
        "/api/chat",
        "post",
        "api.doc.chat",
        ChatLine,
        request=ChatRequest,
        stream_type="application/x-ndjson",
        errors=_ALL,
        error=OllamaError,
    ),
    Address("/describe-image/", "post", "api.doc.describe", Described, files=("file",), errors=_ALL),
    Address("/api/v1/analyze", "post", "api.doc.analyze", Analyzed, files=("image",), texts=("query",), errors=_ALL),
)


def description_routes(get_assistant: GetAssistant) -> list[BaseRoute]:
    """Return the description and the page."""
    return [
        Route("/openapi.json", Door(get_assistant, {"GET": describe}, is_open=True)),
        Route("/docs", Door(get_assistant, {"GET": show_page}, is_open=True)),
    ]


async def describe(call: Call) -> Response:
    """Return the OpenAPI description."""
    return JSONResponse(openapi(call.language, has_keys=bool(call.settings.api_keys)))


async def show_page(call: Call) -> Response:
    """Return the page."""
    return HTMLResponse(page(call.language))


def openapi(language: Language = Language.ENGLISH, *, has_keys: bool = True) -> dict[str, Any]:
    """Return the description of every address."""
    requests = {each.request for each in ADDRESSES if each.request is not None}
    replies = {each.reply for each in ADDRESSES} | {each.error for each in ADDRESSES}
    ordered = sorted(requests | replies, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for each in ADDRESSES:
        paths.setdefault(each.path, {})[each.method] = _operation(each, language, has_keys=has_keys)
    components: dict[str, Any] = {"schemas": definitions["$defs"]}
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": t("api.doc.title", language), "version": __version__},
        "paths": paths,
        "components": components,
    }


def _operation(each: Address, language: Language, *, has_keys: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref(each.reply)}}
    if each.stream_type:
        content[each.stream_type] = {"schema": _STREAMS[each.stream_type]}
    responses: dict[str, Any] = {"200": {"description": t("api.doc.answer", language), "content": content}}
    for status in each.errors:
        refused = {"application/json": {"schema": _ref(each.error)}}
        responses[str(status)] = {"description": t("api.doc.refusal", language), "content": refused}
    operation: dict[str, Any] = {"summary": t(each.code, language), "responses": responses}
    if each.parameters:
        operation["parameters"] = list(each.parameters)
    if each.request is not None:
        body = {"application/json": {"schema": _ref(each.request)}}
        operation["requestBody"] = {"required": True, "content": body}
    elif each.files:
        properties: dict[str, Any] = {name: {"type": "string", "format": "binary"} for name in each.files}
        properties |= {name: {"type": "string", "minLength": 1} for name in each.texts}
        form: dict[str, Any] = {"type": "object", "required": list(properties), "properties": properties}
        form["additionalProperties"] = False
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    if has_keys:
        operation["security"] = [{"key": []}]
    return operation


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def page(language: Language) -> str:
    """Return the page to read: every address, its fields with what they take, and an example."""
    schemas = openapi(language)["components"]["schemas"]
    sections = "".join(_section(each, schemas, language) for each in ADDRESSES)
    title, words = html.escape(t("api.doc.title", language)), html.escape(t("api.doc.introduction", language))
    return (
        f'<!doctype html><html lang="{language.value}"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<main><h1>{title}</h1><p>{words}</p><p><a href="/openapi.json">openapi.json</a></p>{sections}</main></html>'
    )


def _section(each: Address, schemas: Mapping[str, Any], language: Language) -> str:
    head = f"<h2><code>{each.method.upper()} {html.escape(each.path)}</code></h2>"
    told = f"<p>{html.escape(t(each.code, language))}</p>"
    rows = [(name, t("api.doc.file", language)) for name in each.files]
    rows += [(name, "string") for name in each.texts]
    if each.request is not None:
        properties = schemas[each.request.__name__]["properties"]
        rows += [(name, _told(about)) for name, about in properties.items()]
    if not rows:
        return head + told
    cells = "".join(
        f"<tr><td><code>{html.escape(name)}</code><td><code>{html.escape(about)}</code>" for name, about in rows
    )
    columns = f"<tr><th>{html.escape(t('api.doc.field', language))}<th>{html.escape(t('api.doc.takes', language))}"
    return f"{head}{told}<table>{columns}{cells}</table>"


def _told(about: Mapping[str, Any]) -> str:
    """Return in a few words what a field takes."""
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    for key in ("anyOf", "oneOf"):
        if key in about:
            return " | ".join(_told(each) for each in about[key] if each.get("type") != "null") or "null"
    if "const" in about:
        return repr(about["const"])
    if "enum" in about:
        return " | ".join(str(each) for each in about["enum"])
    kind = str(about.get("type", "any"))
    if kind == "array":
        return f"[{_told(about.get('items', {}))}]"
    lowest, highest = about.get("minimum", about.get("exclusiveMinimum")), about.get("maximum")
    return kind if lowest is None or highest is None else f"{kind} {lowest} .. {highest}"


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#1b1b1b;background:#fff}main{max-width:56rem;margin:auto;padding:1rem}"
    "code{font-family:ui-monospace,Consolas,monospace}table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2rem .6rem;"
    "text-align:left;vertical-align:top}@media(prefers-color-scheme:dark){body{color:#eee;background:#111}a{color:#8cf}}"
)
