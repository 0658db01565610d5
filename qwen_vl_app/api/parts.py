"""The route behind the scripts of the page's own parts.

Knows their names, each of which tells its content, so that a browser may keep what it has fetched. Does not know what they do.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
_NO_STORE = {"Cache-Control": "no-store"}


def part_routes(folder: str, scripts: Mapping[str, str]) -> list[Route]:
    """Return the route that sends each of the `scripts` under its name in `folder`."""

    async def send(request: Request) -> Response:
        script = scripts.get(request.path_params["name"])
        if script is None:
            return PlainTextResponse("Not found\n", status_code=404, headers=_NO_STORE)
        return Response(script, media_type="text/javascript", headers=_KEPT)

    return [Route(folder + "/{name}", send, methods=["GET"])]
