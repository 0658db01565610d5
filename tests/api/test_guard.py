"""The guard lets in this machine's own browser and programs, and nobody else; every reply carries the page's limits."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwen_vl_app.api.guard import (
    APP_HEADER,
    PROFILE_COOKIE,
    GuardMiddleware,
    content_security_policy,
    inline_script_digests,
    make_middleware,
    profile_of,
)

PROFILE = "0123456789abcdef0123456789abcdef"


class Page:
    """An application that notes who came in and answers with a page."""

    def __init__(self, *, content_type: str = "text/html; charset=utf-8", policy: str = "", status: int = 200) -> None:
        self.visits: list[str] = []
        self._status = status
        self._headers = [(b"content-type", content_type.encode())]
        if policy:
            self._headers.append((b"content-security-policy", policy.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.visits.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": self._status, "headers": list(self._headers)})
            await send({"type": "http.response.body", "body": b"<p>inside</p>"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})


class Reply:
    """What came back, in the words of the test."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        start = messages[0] if messages else {}
        self.status = int(start.get("status", 0))
        self.headers = {name.decode().lower(): value.decode() for name, value in start.get("headers", [])}
        self.body = b"".join(message.get("body", b"") for message in messages[1:]).decode()


def ask(
    app: ASGIApp,
    headers: dict[str, str] | None = None,
    *,
    kind: str = "http",
    method: str = "GET",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    server: tuple[str, int | None] | None = ("127.0.0.1", 8501),
) -> Reply:
    """Send one request through the guard. Host is the app's own unless the test says otherwise; None leaves it out."""
    sent = {"host": "127.0.0.1:8501"} | (headers or {})
    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http" if kind == "http" else "ws",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
        "client": client,
        "server": server,
    }
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request" if kind == "http" else "websocket.connect", "body": b""}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(GuardMiddleware(app, policy="default-src 'none'")(scope, receive, send))
    return Reply(messages)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:8501"},
        {"host": "LOCALHOST:8501"},
        {"host": "[::1]:8501"},
        {"origin": "http://127.0.0.1:8501"},
        {"host": "localhost:8501", "origin": "http://localhost:8501", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_machines_own_browser_and_programs_come_in(headers: dict[str, str], kind: str) -> None:
    """Own names, own origin and a client without any fetch metadata pass, for requests and WebSockets."""
    page = Page()
    ask(page, headers, kind=kind)
    assert page.visits == [kind]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": ""},
        {"host": "evil.example"},
        {"host": "evil.example:8501"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:8502"},
        {"host": "127.0.0.1:8501@evil.example"},
        {"host": "127.0.0.1.evil.example:8501"},
        {"host": "192.168.1.5:8501"},
        {"host": "0.0.0.0:8501"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8501"},
        {"origin": "http://127.0.0.1:8502"},
        {"origin": "http://localhost:8501"},
        {"origin": "http://127.0.0.1:8501.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_whoever_is_foreign_is_refused_before_anything_sees_it(headers: dict[str, str], kind: str) -> None:
    """Foreign Hosts (DNS rebinding), Origins and cross-site requests get 403 or a closed handshake."""
    page = Page()
    reply = ask(page, headers, kind=kind)
    assert page.visits == []
    if kind == "http":
        assert reply.status == 403
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert "http://127.0.0.1:8501" in reply.body
        assert PROFILE_COOKIE not in reply.headers.get("set-cookie", "")
    else:
        assert [message["type"] for message in reply.messages] == ["websocket.close"]


def test_a_client_on_another_machine_is_refused_whatever_it_says() -> None:
    """A server that was made to listen to everybody still answers loopback alone."""
    page = Page()
    assert ask(page, client=("192.168.1.5", 50000)).status == 403
    assert ask(page, client=("::ffff:192.168.1.5", 50000)).status == 403
    assert page.visits == []
    assert ask(page, client=("::ffff:127.0.0.1", 50000)).status == 200


def test_without_a_known_port_nobody_comes_in() -> None:
    """A server that cannot say which port it serves cannot be compared with the Host."""
    page = Page()
    assert ask(page, server=None).status == 403
    assert page.visits == []


def test_the_refusal_speaks_the_browsers_language() -> None:
    """A Chinese browser reads Chinese."""
    assert "本应用" in ask(Page(), {"host": "evil.example", "accept-language": "zh-CN,zh;q=0.9"}).body


def test_a_link_on_another_site_may_lead_here_but_a_form_may_not() -> None:
    """Following a link is a person's doing; posting in their name is not."""
    visit = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
        "cookie": f"{PROFILE_COOKIE}={PROFILE}",
    }
    page = Page()
    assert ask(page, visit).status == 200
    assert ask(page, visit, method="POST").status == 403
    assert page.visits == ["http"]


def test_every_reply_carries_the_limits_and_the_apps_name() -> None:
    """Policy, nosniff, no referrer and the mark that the start script looks for, on refusals as well."""
    for reply in (ask(Page()), ask(Page(), {"host": "evil.example"})):
        assert reply.headers["content-security-policy"] == "default-src 'none'"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=(self)" in reply.headers["permissions-policy"]
        assert reply.headers[APP_HEADER.lower()]


def test_a_route_keeps_a_policy_of_its_own() -> None:
    """A preview in a sandbox is not given the page's wider policy."""
    assert ask(Page(policy="sandbox")).headers["content-security-policy"] == "sandbox"


def test_a_new_browser_gets_a_profile_and_an_old_one_keeps_it() -> None:
    """128 random bits, out of reach of scripts and of other sites; the same value again at the next visit."""
    first, second = ask(Page()), ask(Page())
    made = profile_of(first.headers["set-cookie"])
    assert made is not None
    assert made != profile_of(second.headers["set-cookie"])
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=Strict" in first.headers["set-cookie"]
    again = ask(Page(), {"cookie": f"other=1; {PROFILE_COOKIE}={PROFILE}"})
    assert profile_of(again.headers["set-cookie"]) == PROFILE


def test_only_a_page_brings_a_profile() -> None:
    """Scripts, pictures and API replies set no cookie."""
    assert "set-cookie" not in ask(Page(content_type="application/json")).headers


def test_a_browser_that_kept_the_page_and_lost_its_cookie_gets_one() -> None:
    """The page was as it was, so none came with it; a part of the page brings none then either."""
    unchanged = Page(content_type="", status=304)
    visit = {"accept": "text/html,*/*;q=0.8", "sec-fetch-site": "none", "sec-fetch-dest": "document"}
    assert profile_of(ask(unchanged, visit).headers["set-cookie"]) is not None
    assert "set-cookie" not in ask(unchanged, visit | {"sec-fetch-dest": "script", "accept": "*/*"}).headers
    assert "set-cookie" not in ask(Page(content_type="", status=204), visit).headers


@pytest.mark.parametrize("value", ["", "short", "g" * 32, PROFILE + "0", PROFILE.upper(), f'"{PROFILE}"'])
def test_a_malformed_profile_is_none(value: str) -> None:
    """Whatever is not 32 hexadecimal digits is not taken as anybody's name."""
    assert profile_of(f"a=b; {PROFILE_COOKIE}={value}") is None


def test_a_visit_from_another_site_does_not_overwrite_the_profile() -> None:
    """The browser holds the strict cookie back then, so the page asks it to come again by itself."""
    page = Page()
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    reply = ask(page, visit)
    assert page.visits == []
    assert "set-cookie" not in reply.headers
    assert 'http-equiv="refresh"' in reply.body


def test_the_policy_names_the_inline_script_and_no_other_place(tmp_path: Path) -> None:
    """The hash is that of the installed page's script; no host, no wildcard and no unsafe script is allowed."""
    script = "\n  window.x = '<b>' \n"
    page = tmp_path / "index.html"
    page.write_bytes(f"<script>{script}</script><script src='a.js'></script>".replace("\n", "\r\n").encode())
    policy = content_security_policy(page)
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{expected}'" in policy
    assert policy.count("sha256-") == 1
    assert "http" not in policy
    assert "*" not in policy
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe-inline" not in scripts
    assert "'unsafe-eval'" not in scripts


def test_the_installed_page_has_an_inline_script_to_let_in() -> None:
    """The middleware is made from the installed Streamlit, whose page this policy was written for."""
    (middleware,) = make_middleware()
    assert "sha256-" in str(middleware.kwargs["policy"])


def test_inline_scripts_are_hashed_as_written() -> None:
    """Markup inside a script is text, and a script with a source is not inline."""
    assert inline_script_digests("<script src=x></script><p>t</p>") == ()
    assert len(inline_script_digests("<script>a</script><script type=module>b</script>")) == 2
