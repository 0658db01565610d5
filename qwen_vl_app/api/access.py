"""Who may ask, and in whose name: keys, owners and the language of a caller.

Knows headers and the keys of the settings. Does not know what is asked; Host and Origin were checked by the guard.
"""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request

from qwen_vl_app.api.callers import program_behind
from qwen_vl_app.errors import UsageError
from qwen_vl_app.texts import Language


def owner_of(request: Request, keys: tuple[str, ...]) -> str:
    """Return in whose name a program asks: its key's, or without keys that of its process here. Raises UsageError.

    Not for an event loop: finding the process takes a moment.

    Every key is compared, in constant time each, so that the time tells nothing about any of them. The owner carries a
    digest: it appears in logs, and a key must not.
    """
    if not keys:
        if request.client is None:
            return "api:local"
        process = program_behind(request.client.host, request.client.port)
        return f"api:{request.client.host}" + ("" if process is None else f":{process}")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise UsageError("api.no_key")
    matches = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]
    if not any(matches):
        raise UsageError("api.wrong_key")
    return f"api:{hashlib.sha256(given.strip().encode()).hexdigest()[:12]}"


def language_of(request: Request, setting: str) -> Language:
    """Return the language for the sentences of a reply: the site's, or the caller's where that is automatic."""
    return Language.from_locale(request.headers.get("accept-language") if setting == "auto" else setting)
