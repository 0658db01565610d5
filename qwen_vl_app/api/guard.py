"""The guard in front of the page and the API: this machine's own browser may come in, and the page may load nothing else.

Knows HTTP headers, for requests and WebSockets alike: Host, Origin, fetch metadata, cookies and content-security policy.
Does not know what is behind it. One pure ASGI class, so that streams pass through it untouched.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import secrets
from collections.abc import Collection
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from qwen_vl_app import __version__
from qwen_vl_app.config import LOOPBACK_HOSTS, load_settings
from qwen_vl_app.errors import SettingsError, UsageError
from qwen_vl_app.offline import is_loopback
from qwen_vl_app.texts import Language, render

PROFILE_COOKIE = "qvl_profile"
"""128 random bits as 32 hexadecimal digits: one browser, one history."""
PROFILE_MAX_AGE_S = 400 * 24 * 3600
"""The longest that browsers keep a cookie; every visit begins it anew."""
APP_HEADER = "X-Qwen-VL-App"
"""On every reply, so that the start script can tell this app from a stranger on its port."""

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+?)\.?(?::([0-9]{1,5}))?")
_PROFILE = re.compile(r"[0-9a-f]{32}")
_COME_AGAIN = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>…</title>'

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=(), serial=()",
}


def make_middleware(
    *, index_html: Path | None = None, public_origins: Collection[str] | None = None
) -> list[Middleware]:
    """Return the guard as `st.App(middleware=...)` takes it.

    Reads `index_html`, by default the installed Streamlit's. `public_origins` are the addresses under which a reverse
    proxy on this machine offers the app, by default the settings'.
    """
    origins = _public_origins() if public_origins is None else public_origins
    policy = content_security_policy(index_html or _streamlit_page())
    return [Middleware(GuardMiddleware, policy=policy, public_origins=origins)]


def content_security_policy(index_html: Path) -> str:
    """Return the policy under which the page runs: everything from this server, nothing from anywhere else.

    Streamlit's page has an inline script, which is let in by its hash; some of its widgets start workers from blobs and
    compile WebAssembly; its components style themselves inline.
    """
    scripts = "".join(f" 'sha256-{digest}'" for digest in inline_script_digests(index_html.read_text(encoding="utf-8")))
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' blob: 'wasm-unsafe-eval'{scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "frame-src 'self' blob:",
            "manifest-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )


def inline_script_digests(html: str) -> tuple[str, ...]:
    """Return the base64 SHA-256 of every inline script of a page, as a policy names them."""
    finder = _InlineScripts()
    finder.feed(html.replace("\r\n", "\n"))  # as a browser reads it
    finder.close()
    return tuple(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in finder.scripts)


def profile_of(cookie_header: str) -> str | None:
    """Return the browser's profile from its Cookie header, or None where there is none that is well-formed."""
    for pair in cookie_header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == PROFILE_COOKIE and _PROFILE.fullmatch(value):
            return value
    return None


class GuardMiddleware:
    """Refuses foreign Hosts, Origins and clients, and dresses every reply in the headers that keep the page at home."""

    def __init__(self, app: ASGIApp, *, policy: str, public_origins: Collection[str] = ()) -> None:
        self._app = app
        self._public = frozenset(found for each in public_origins if (found := _origin(each)) is not None)
        self._headers = {"Content-Security-Policy": policy, **_HEADERS, APP_HEADER: __version__}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer it with a refusal before anything behind has seen it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        public = public_origin_of(scope, headers, self._public)
        refusal = refusal_of(scope, headers, public=public)
        if public is not None and refusal is None:
            scope = _as_seen_from_here(scope)
        if refusal is not None and scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason="foreign")(scope, receive, send)
        elif refusal is not None:
            sentence = render(refusal, Language.from_locale(headers.get("accept-language")))
            await PlainTextResponse(f"{sentence}\n", status_code=403)(scope, receive, self._dressed(send))
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif _lost_its_cookie(headers):
            await HTMLResponse(_COME_AGAIN)(scope, receive, self._dressed(send))
        else:
            profile = profile_of(headers.get("cookie", "")) or secrets.token_hex(16)
            is_secure = public is not None and public[0] == "https"
            dress = self._dressed(send, profile=profile, is_secure=is_secure, is_page=_wants_a_page(headers))
            await self._app(scope, receive, dress)

    def _dressed(
        self, send: Send, *, profile: str | None = None, is_secure: bool = False, is_page: bool = False
    ) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)  # a route with a stricter policy of its own keeps that
                # A browser that kept the page and lost its cookie is told that the page is as it was, and no more.
                is_unchanged = is_page and message["status"] == HTTPStatus.NOT_MODIFIED
                if profile is not None and (is_unchanged or headers.get("content-type", "").startswith("text/html")):
                    headers.append(
                        "Set-Cookie",
                        f"{PROFILE_COOKIE}={profile}; Path=/; Max-Age={PROFILE_MAX_AGE_S}; HttpOnly; SameSite=Strict"
                        + ("; Secure" if is_secure else ""),
                    )
            await send(message)

        return dressed


def public_origin_of(scope: Scope, headers: Headers, public: Collection[Origin]) -> Origin | None:
    """Return under which of the site's public addresses a request was made, or None.

    The app listens on loopback alone, so whoever speaks of such an address is on this machine: the reverse proxy. The
    server has taken scheme and client from that proxy's X-Forwarded-Proto and X-Forwarded-For, and from nobody else's.
    """
    hosts = headers.getlist("host")
    scheme = "https" if scope.get("scheme") in ("https", "wss") else "http"
    asked = _host_and_port(hosts[0], scheme) if len(hosts) == 1 else None
    return (scheme, *asked) if asked is not None and (scheme, *asked) in public else None


def refusal_of(scope: Scope, headers: Headers, *, public: Origin | None = None) -> UsageError | None:
    """Return why a request must not come in, or None. `public` is the site's address that it was made under, if any.

    The port is the one that the connection arrived on, so that no setting can disagree with it. A name that an outside
    site let point to this machine (DNS rebinding) is refused by Host; another site's page is refused by Origin, or by
    the fetch metadata that browsers send where they send no Origin. A program on this machine sends neither.
    """
    server, client = scope.get("server"), scope.get("client")
    port = int(server[1]) if server and server[1] else 0
    foreign_host = UsageError("guard.foreign_host", port=port)
    foreign_origin = UsageError("guard.foreign_origin", port=port)
    if public is None and client is not None and not is_loopback(client[0]):
        return foreign_host
    scheme = "https" if scope.get("scheme") in ("https", "wss") else "http"
    hosts = headers.getlist("host")
    own = _host_and_port(hosts[0], scheme) if len(hosts) == 1 else None
    if own is None or (public is None and (own[0] not in LOOPBACK_HOSTS or own[1] != port)):
        return foreign_host
    origins = headers.getlist("origin")
    if any(_origin(origin) != (scheme, *own) for origin in origins):
        return foreign_origin
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and not _is_visit(scope, headers):
        return foreign_origin
    return None


def _as_seen_from_here(scope: Scope) -> Scope:
    """Return the scope of a request that came through the proxy as if it had not: the page knows loopback addresses only.

    Without this, Streamlit would take the public name for a foreign one, and ask an outside service for its own address.
    """
    port = (scope.get("server") or ("", 0))[1]
    here = {b"host": f"127.0.0.1:{port}".encode(), b"origin": f"http://127.0.0.1:{port}".encode()}
    return {**scope, "headers": [(name, here.get(name, value)) for name, value in scope["headers"]]}


def _is_visit(scope: Scope, headers: Headers) -> bool:
    """Return whether a person followed a link to the page, which is no request in another site's name."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _lost_its_cookie(headers: Headers) -> bool:
    """Return whether the profile may be missing only because a link on another site led here.

    Browsers hold a SameSite=Strict cookie back then; a new one would replace it, and with it the person's history.
    """
    return headers.get("sec-fetch-site") == "cross-site" and profile_of(headers.get("cookie", "")) is None


def _wants_a_page(headers: Headers) -> bool:
    """Return whether a browser asks for the page itself, and not for one of its parts."""
    return headers.get("sec-fetch-dest", "document") == "document" and "text/html" in headers.get("accept", "")


def _host_and_port(text: str, scheme: str) -> tuple[str, int] | None:
    match = _HOST.fullmatch(text.lower())
    if match is None:
        return None
    return match[1].strip("[]"), int(match[2] or (443 if scheme == "https" else 80))


def _public_origins() -> tuple[str, ...]:
    try:
        return load_settings().public_origins
    except SettingsError:
        return ()  # the page says what is wrong with the settings


def _origin(text: str) -> Origin | None:
    scheme, _, host = text.partition("://")
    own = _host_and_port(host, scheme)
    return (scheme, *own) if own is not None else None


def _streamlit_page() -> Path:
    found = importlib.util.find_spec("streamlit")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("streamlit", name="streamlit")
    return Path(found.origin).with_name("static") / "index.html"


class _InlineScripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and "src" not in dict(attrs)
        if self._inside:
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False
