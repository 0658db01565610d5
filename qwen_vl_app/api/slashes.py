"""Addresses with a slash too many: a base address that ends in one, and a client that begins with one, make `//v1/models`.

Knows the programs' roofs. Does not know what is under them. Stands behind the guard, and leads nowhere that an address with
single slashes does not.
"""

from __future__ import annotations

import re

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

ROOFS = ("/v1", "/api")
_SLASHES = re.compile(r"/{2,}")


def slash_middleware() -> list[Middleware]:
    """Return what puts addresses right, as `st.App(middleware=...)` takes it."""
    return [Middleware(SlashMiddleware)]


class SlashMiddleware:
    """Lets a request for a program's address through under that address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; what is under no roof of the programs' stays as it is."""
        if scope["type"] == "http" and "//" in scope["path"]:
            path = _SLASHES.sub("/", scope["path"])
            if any(path == roof or path.startswith(f"{roof}/") for roof in ROOFS):
                raw = _SLASHES.sub("/", scope.get("raw_path", b"").decode("latin-1"))
                scope = {**scope, "path": path, "raw_path": raw.encode("latin-1")}
        await self._app(scope, receive, send)
