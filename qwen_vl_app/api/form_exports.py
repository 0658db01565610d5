"""Downloads of the page of forms: the forms that a browser shows, in each of their forms.

Knows the browser's profile. Does not know what an export looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen_vl_app.api.handing_over import Made, handed_over, made_on_disk, owner_of, refused
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.errors import AppError, UsageError
from qwen_vl_app.forms import FormExport, desk_of, export_forms
from qwen_vl_app.texts import Language

FORMS = "/app/forms"
_MIMES = {
    FormExport.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    FormExport.CSV: "text/csv",
    FormExport.JSON: "application/json",
    FormExport.PDF: "application/pdf",
}


def form_export_routes(current: Callable[[], Assistant]) -> list[Route]:
    """Return the routes; `current` returns the assistant and is called in a thread, for it may have to open it."""

    async def take(request: Request) -> Response:
        name = request.path_params["kind"]
        try:
            if name not in set(FormExport):
                raise UsageError("api.unknown_address")
            owner, kind, language = owner_of(request), FormExport(name), language_of(request)
            assistant = await run_in_threadpool(current)
            made = await run_in_threadpool(_made, assistant, owner, kind, language)
        except (AppError, OSError) as error:
            return refused(error, request)
        return handed_over(made, name=f"forms.{kind.value}", mime=_MIMES[kind])

    return [Route(FORMS + "/{kind}", take, methods=["GET"])]


def _made(assistant: Assistant, owner: str, kind: FormExport, language: Language) -> Made:
    desk = desk_of(assistant)

    def write(target: Path) -> object:
        forms = desk.list(owners=(owner, LOCAL_OWNER))  # as on the page: its own, and those of the whole site
        return export_forms(kind, target, forms, file_of=desk.file, language=language)

    return made_on_disk(assistant, owner, name=f"forms.{kind.value}", write=write)
