"""A browser of this machine, driven through its own debugging door on loopback: opens the page, asks a question, listens.

Knows Chromium and its kin (Chrome, Edge). Does not know what is asked, nor what an answer means. Whatever the page tries to load
or to connect to is noted, whether or not it was let.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from qwen_vl_app.offline import is_loopback

_FLAGS = (
    *("--headless=new", "--no-first-run", "--no-default-browser-check", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-domain-reliability", "--metrics-recording-only", "--no-pings", "--remote-debugging-port=0"),
    # What the browser itself would like to know from its maker finds no address; what the page asks for is noted before.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
START_TIMEOUT_S = 60.0
# The composer lives in a shadow tree of its own, which a plain query does not look into.
_ALL = """((selector) => {
  const found = (root) => [...root.querySelectorAll(selector)].concat(
    ...[...root.querySelectorAll('*')].filter((each) => each.shadowRoot).map((each) => found(each.shadowRoot)));
  return found(document);
})"""
_TEXT = f"{_ALL}('[data-testid=\"composer-text\"]')[0]"
_READY = f"(() => {{const it = {_TEXT}; return !!it && !it.disabled}})()"
_CHIPS = f"{_ALL}('[data-testid=\"composer-chip\"]').length > 0"
_FILES = f"{_ALL}('input[type=file]')[0]"
_ANSWER = f"""((question) => {{
  const turns = document.querySelector('.st-key-turns');
  if (!turns || {_ALL}('[class*="st-key-stop-"]').length) return "";
  const at = turns.innerText.lastIndexOf(question);
  return at < 0 ? "" : turns.innerText.slice(at + question.length).trim();
}})"""
"""What stands behind the question, once there is nothing to stop any more. The page's samples may be the very same words."""
_TRY_OUTSIDE = """(async () => {
  try { await fetch('http://192.0.2.1/', {mode: 'no-cors'}); return 'sent'; } catch (error) { return 'refused'; }
})()"""
_STILL_S = 2.0
"""An answer that has not grown for so long is over."""


class BrowserError(Exception):
    """The browser did not start, or the page did not do what it should. The text is for the report."""


@dataclass(slots=True)
class PageRecord:
    """What the page did. `outside` are requests beyond loopback, `policy` the page's content-security policy."""

    browser: str
    requests: int = 0
    outside: list[str] = field(default_factory=list)
    policy: str = ""
    answer: str = ""
    forbidden_fetch: str = ""


def ask_in_page(browser: Path, address: str, *, picture: Path | None, question: str, timeout_s: float) -> PageRecord:
    """Open the page, ask a question about a picture, and return what happened. Raises BrowserError."""
    record = PageRecord(browser.stem)
    deadline = time.monotonic() + timeout_s
    with _running(browser) as port, _door(port) as door:
        tab = _Tab(door, record)
        tab.call("Network.enable")
        tab.call("Page.enable")
        tab.call("Page.navigate", url=address)
        tab.wait_for(_READY, deadline, "the page did not become ready")
        if picture is not None:
            tab.pick(picture)
            tab.wait_for(_CHIPS, deadline, "the page took no picture")
        tab.evaluate(f"{_TEXT}.focus()")
        tab.call("Input.insertText", text=question)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            tab.call("Input.dispatchKeyEvent", type=kind, **key)
        record.answer = tab.settled(f"{_ANSWER}({json.dumps(question)})", deadline)
        # The page itself tries to get out: that this one is refused shows that the others would have been.
        listed = len(record.outside)
        record.forbidden_fetch = str(tab.evaluate(_TRY_OUTSIDE))
        tab.listen(1.0)
        del record.outside[listed:]
    return record


@contextmanager
def _running(browser: Path) -> Iterator[int]:
    """Start the browser with a profile of its own; give the port of its debugging door."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(browser), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        if sys.platform == "linux" and _is_root():
            command.insert(1, "--no-sandbox")  # a browser of root's refuses to start otherwise
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield _port_of(process, Path(profile) / "DevToolsActivePort")
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _is_root() -> bool:
    if sys.platform == "win32":
        return False
    import os  # noqa: PLC0415 - who runs this is all that is asked of it

    return os.geteuid() == 0


def _port_of(process: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(file.read_text(encoding="ascii").split()[0])
        time.sleep(0.1)
    raise BrowserError("the browser did not start")


@contextmanager
def _door(port: int) -> Iterator[ClientConnection]:
    import http.client  # noqa: PLC0415 - asked once, on loopback

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        try:
            connection.request("GET", "/json/list")
            pages = [each for each in json.load(connection.getresponse()) if each.get("type") == "page"]
        except (OSError, ValueError, http.client.HTTPException):
            pages = []
        finally:
            connection.close()
        if pages:
            break
        time.sleep(0.1)
    else:
        raise BrowserError("the browser has no page")
    try:
        with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, proxy=None) as door:
            yield door
    except (OSError, WebSocketException) as error:
        raise BrowserError("the browser closed its door") from error


class _Tab:
    """One page of the browser. Everything that it asks for goes into the record, as it is told in between."""

    def __init__(self, door: ClientConnection, record: PageRecord) -> None:
        self._door = door
        self._record = record
        self._number = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._door.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._door.recv(timeout=START_TIMEOUT_S))
            if told.get("id") == self._number:
                if "error" in told:
                    raise BrowserError(f"the browser refused {method}")
                return dict(told.get("result", {}))
            self._note(told)

    def evaluate(self, code: str) -> Any:
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        return result.get("result", {}).get("value")

    def wait_for(self, condition: str, deadline: float, problem: str) -> None:
        while time.monotonic() < deadline:
            if self.evaluate(condition):
                return
            self.listen(0.2)
        raise BrowserError(problem)

    def settled(self, code: str, deadline: float) -> str:
        """Return a text once it is there and has stopped growing."""
        text, since = "", time.monotonic()
        while time.monotonic() < deadline:
            now = str(self.evaluate(code) or "")
            if now != text:
                text, since = now, time.monotonic()
            if text.strip() and time.monotonic() - since > _STILL_S:
                return text
            self.listen(1.0)
        raise BrowserError("no answer came")

    def pick(self, file: Path) -> None:
        """Put a file into the page's field for files."""
        found = self.call("Runtime.evaluate", expression=_FILES).get("result", {}).get("objectId")
        if not found:
            raise BrowserError("the page has no field for files")
        self.call("DOM.setFileInputFiles", objectId=found, files=[str(file)])

    def listen(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._note(json.loads(self._door.recv(timeout=left)))
            except TimeoutError:
                return

    def _note(self, told: dict[str, Any]) -> None:
        method, parameters = told.get("method"), told.get("params", {})
        if method == "Network.requestWillBeSent":
            self._look_at(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self._look_at(parameters["url"])
        elif method == "Network.responseReceived" and parameters.get("type") == "Document":
            headers = {name.lower(): value for name, value in parameters["response"]["headers"].items()}
            self._record.policy = self._record.policy or headers.get("content-security-policy", "")

    def _look_at(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("data", "blob", "about"):
            return
        self._record.requests += 1
        if not is_loopback(parts.hostname or ""):
            self._record.outside.append(url[:200])
