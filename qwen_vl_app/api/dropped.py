"""The batch page's own route: pictures that are dropped there go into a folder of the app's, one at a time.

Knows the browser's profile and bodies with a limit. Does not know what is asked about them later. Strangers are turned
away by the guard in front of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from qwen_vl_app.api.bodies import HELD, Turns
from qwen_vl_app.api.guard import profile_of
from qwen_vl_app.api.uploads import BODIES_AT_ONCE, body_of, language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.errors import AppError, UsageError
from qwen_vl_app.texts import render

DROPS = "/app/drops"


def dropped_routes(current: Callable[[], Assistant], current_runs: Callable[[], BatchRuns]) -> list[Route]:
    """Return the routes; both functions are called in a thread, for they may have to open something."""
    doors = _Drops(current, current_runs)
    return [
        Route(DROPS + "/{drop_id}", doors.add, methods=["POST"]),
        Route(DROPS + "/{drop_id}", doors.remove, methods=["DELETE"]),
    ]


class _Drops:
    def __init__(self, current: Callable[[], Assistant], current_runs: Callable[[], BatchRuns]) -> None:
        self._current = current
        self._current_runs = current_runs
        self._bodies = Turns(BODIES_AT_ONCE)
        self._writes = asyncio.Semaphore(BODIES_AT_ONCE)

    async def add(self, request: Request) -> Response:
        """Take one file; the reply tells what lies in the drop now, or in one sentence why it was not taken."""
        try:
            owner = _owner(request)
            assistant = await run_in_threadpool(self._current)
            async with self._bodies.of(owner):
                data = await body_of(request, limit=assistant.settings.max_upload_mb * 2**20)
                runs = await run_in_threadpool(self._current_runs)
                name = request.query_params.get("name", "")[:1024]
                drop_id = request.path_params["drop_id"]
                async with self._writes:
                    there = await run_in_threadpool(runs.dropped.add, owner, drop_id, name, data)
            return JSONResponse({"count": there.count, "bytes": there.size_bytes})
        except AppError as error:
            # A file that is no picture is an ordinary answer: browsers cry out over any other status.
            return JSONResponse({"problem": render(error, language_of(request))})
        except ClientDisconnect:
            return Response(status_code=499)
        finally:
            HELD.give_back(request.scope)

    async def remove(self, request: Request) -> Response:
        """Clear a drop away that nobody wants to run over."""
        try:
            owner = _owner(request)
            runs = await run_in_threadpool(self._current_runs)
            folder = runs.dropped.folder(owner, request.path_params["drop_id"])
            if not await run_in_threadpool(runs.is_needed, folder):
                await run_in_threadpool(runs.dropped.delete, folder)
            return Response(status_code=204)
        except AppError as error:
            return JSONResponse({"problem": render(error, language_of(request))}, status_code=404)


def _owner(request: Request) -> str:
    owner = profile_of(request.headers.get("cookie", ""))
    if owner is None:
        raise UsageError("staging.no_browser")
    return owner
