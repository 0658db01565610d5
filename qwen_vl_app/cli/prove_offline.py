"""`prove-offline`: runs the app, asks it a question through a browser, watches what it connects to, and writes a report to sign.

Knows processes, sockets and the report's words. Does not know why anything would connect: it only says whether anything did.
"""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from qwen_vl_app import __version__
from qwen_vl_app.cli import page_driver
from qwen_vl_app.cli.page_driver import BrowserError, PageRecord
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.config import ADDRESS, ROOT, Settings, environment_for
from qwen_vl_app.doctor import find_browser, known_question
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.offline import go_offline, is_loopback
from qwen_vl_app.texts import Language, t

START_TIMEOUT_S = 180.0
WATCH_EVERY_S = 0.2
SHIPPED = ("app.py", "qwen_vl_app", "scripts", ".streamlit", "requirements.txt", "requirements-gpu.txt")
SHIPPED_SUFFIXES = frozenset({".py", ".toml", ".txt", ".css", ".js", ".html", ".json", ".svg"})


@dataclass(slots=True)
class Watch:
    """What was seen of the app's processes from outside of them, over and over while it ran."""

    looks: int = 0
    listening: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    processes: int = 0


@dataclass(slots=True)
class Proof:
    """Everything that goes into the report."""

    made_at: str
    version: str
    system: str
    python: str
    torch: str
    model: str
    watch: Watch
    guard: Mapping[str, Any]
    page: PageRecord | None
    page_problem: str
    has_browser: bool
    shipped: Mapping[str, str]
    kit: str

    @property
    def is_clean(self) -> bool:
        """True where nothing tried to leave, and nothing listened beyond loopback."""
        guard_is_clean = (
            self.guard.get("guarding") is True
            and self.guard.get("refused") == 0
            and not self.guard.get("beyond_loopback")
        )
        # Without a browser there is no page to judge; a page that could not be asked is no proof.
        page_is_clean = (
            not self.has_browser
            if self.page is None
            else (
                not self.page.outside
                and self.page.forbidden_fetch == "refused"
                and "default-src 'none'" in self.page.policy
            )
        )
        watched = self.watch.looks > 0 and bool(self.watch.listening)
        ends_at_home = all(is_loopback(end.rpartition(":")[0]) for end in self.watch.listening)
        return guard_is_clean and page_is_clean and watched and ends_at_home and not self.watch.outside


def prove_offline(
    parts: Parts,
    *,
    overrides: Mapping[str, Any],
    out: Path,
    timeout_s: float,
    uses_browser: bool = True,
    is_json: bool = False,
) -> int:
    """Write the report; return 1 where something tried to leave, or the app could not be watched."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    go_offline()
    try:
        settings = parts.settings(overrides)
    except AppError as error:
        terminal.fail(error)
        return status_of(error)
    terminal.language = language_of({"language": settings.language})
    if settings.remote_address:
        terminal.fail(Reason("prove.remote"))
        return FAILED
    if (running := parts.probe(settings).running()) is not None:
        # Its model has the memory that the proof's own app needs: that one would choose a smaller model, and be proved.
        terminal.fail(Reason("prove.app_is_running", port=running.port))
        return FAILED
    try:
        proof = _prove(settings, terminal, timeout_s=timeout_s, uses_browser=uses_browser)
    except TimeoutError:
        terminal.fail(Reason("prove.not_started"))
        return FAILED
    try:
        out.write_text(report_of(proof, terminal.language), encoding="utf-8")
    except OSError:
        terminal.fail(Reason("prove.not_written", file=out.name))
        return FAILED
    if is_json:
        terminal.json({**_as_json(proof), "is_clean": proof.is_clean, "report": str(out)})
    else:
        terminal.line(terminal.say("prove.clean" if proof.is_clean else "prove.not_clean"))
        terminal.line(terminal.say("prove.written", file=str(out)))
    return DONE if proof.is_clean else FAILED


def _prove(settings: Settings, terminal: Terminal, *, timeout_s: float, uses_browser: bool) -> Proof:
    page, problem = None, ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        terminal.tell(terminal.say("prove.starting"))
        with _running_app(settings, folder) as (app, port), _watching(app) as watch:
            model = _wait_for_model(port, key=settings.api_keys[0] if settings.api_keys else "")
            browser = find_browser(is_drivable=True) if uses_browser else None
            if browser is None:
                problem = t("prove.no_browser", terminal.language)
            else:
                terminal.tell(terminal.say("prove.asking", browser=browser.stem))
                picture, question = _question(settings, folder)
                try:
                    page = page_driver.ask_in_page(
                        browser, f"http://127.0.0.1:{port}/", picture=picture, question=question, timeout_s=timeout_s
                    )
                except BrowserError as error:
                    problem = str(error)
        guard = _read_guard(folder / "guard.json")
    return Proof(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=_version_of("torch"),
        model=model,
        watch=watch,
        guard=guard,
        page=page,
        page_problem=problem,
        has_browser=browser is not None,
        shipped=hash_shipped(ROOT),
        kit=_hash(ROOT / "offline_pkgs" / "SHA256SUMS"),
    )


@contextmanager
def _running_app(settings: Settings, folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """Start the app as people start it, with data of its own; give its process and port. Raises TimeoutError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "qwen_vl_app.witness", str(folder / "guard.json"), "run", str(ROOT / "app.py")]
    command += ["--server.address", ADDRESS, "--server.port", str(port), "--server.headless", "true"]
    surroundings = environment_for(settings, port=port, data_dir=folder / "data", keep="nothing")
    with (folder / "app.log").open("wb") as log:
        app = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            if app.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.2)
        yield psutil.Process(app.pid), port
    finally:
        app.terminate()
        try:
            app.wait(30)
        except subprocess.TimeoutExpired:
            app.kill()
            app.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2.0) as reply:
            return bool(reply.status == 200)
    except (OSError, URLError):
        return False


def _wait_for_model(port: int, *, key: str = "") -> str:
    """Return the model's name once it is there; empty where none comes. It is asked of the app as any program asks, with a key."""
    asked = Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urlopen(asked, timeout=5.0) as reply:  # noqa: S310 - its address stands above
                listed = json.load(reply).get("data", [])
        except (OSError, ValueError):
            listed = []
        if listed:
            return str(listed[0].get("id", ""))
        time.sleep(0.5)
    return ""


@contextmanager
def _watching(app: psutil.Process) -> Iterator[Watch]:
    """Look at the sockets of the app and of whatever it starts, again and again, from outside."""
    watch, stop = Watch(), threading.Event()

    def look_again() -> None:
        while not stop.wait(WATCH_EVERY_S):
            look(app, watch)

    watching = threading.Thread(target=look_again, name="watch", daemon=True)
    watching.start()
    try:
        yield watch
    finally:
        look(app, watch)
        stop.set()
        watching.join(5.0)


def look(app: psutil.Process, watch: Watch) -> None:
    """Note the ends of every internet socket that the app and its children have at this moment."""
    try:
        family = [app, *app.children(recursive=True)]
    except psutil.Error:
        return
    watch.processes = max(watch.processes, len(family))
    for process in family:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        for each in connections:
            takes_datagrams = each.type == socket.SOCK_DGRAM and each.laddr and not each.raddr
            if each.status == psutil.CONN_LISTEN or takes_datagrams:
                watch.listening.add(f"{each.laddr.ip}:{each.laddr.port}")
            if each.raddr and not is_loopback(each.raddr.ip):
                watch.outside.add(f"{each.raddr.ip}:{each.raddr.port}")
    watch.looks += 1


def _question(settings: Settings, folder: Path) -> tuple[Path | None, str]:
    """Return a picture and a question: the demo model's own where it is there, else words alone."""
    from qwen_vl_app.bootstrap import probe  # noqa: PLC0415 - the doors' way to the models

    known = known_question(probe(settings).models())
    if known is None:
        return None, "What can you do? Answer in one sentence."
    picture = folder / known.name
    picture.write_bytes(known.picture)
    return picture, known.question


def _read_guard(file: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def hash_shipped(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of the app itself by name, line ends made alike; under "" the hash over all of them."""
    files: dict[str, str] = {}
    for name in SHIPPED:
        top = root / name
        found = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in found:
            if path.is_file() and path.suffix in SHIPPED_SUFFIXES and "__pycache__" not in path.parts:
                data = path.read_bytes().replace(b"\r\n", b"\n")
                files[path.relative_to(root).as_posix()] = hashlib.sha256(data).hexdigest()
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return {"": hashlib.sha256(listing.encode()).hexdigest(), **files}


def _hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _as_json(proof: Proof) -> dict[str, Any]:
    told = asdict(proof)
    told["watch"] = {
        **told["watch"],
        "listening": sorted(proof.watch.listening),
        "outside": sorted(proof.watch.outside),
    }
    told["shipped"] = proof.shipped[""]
    return told


def report_of(proof: Proof, language: Language) -> str:
    """Return the report as Markdown."""

    def say(code: str, **facts: Any) -> str:
        return t(f"prove.report.{code}", language, **facts)

    none, page, guard = say("none"), proof.page, proof.guard
    rows = [
        ("guarding", say("yes") if guard.get("guarding") else say("no")),
        ("listening", ", ".join(sorted(proof.watch.listening)) or none),
        ("refused", str(guard.get("refused", "?")) + "".join(f", {target}" for target in guard.get("targets", []))),
        ("outside", say("outside_value", count=len(proof.watch.outside), looks=proof.watch.looks,
                        processes=proof.watch.processes) + "".join(f", {end}" for end in sorted(proof.watch.outside))),
    ]  # fmt: skip
    if page is None:
        rows.append(("page", proof.page_problem))
    else:
        rows += [
            ("page", say("page_value", browser=page.browser, count=page.requests)),
            ("page_outside", str(len(page.outside)) + "".join(f", {url}" for url in page.outside)),
            ("page_fetch", say("fetch_refused") if page.forbidden_fetch == "refused" else say("fetch_sent")),
            ("answer", f"`{' '.join(page.answer.split())[:200]}`"),
            ("policy", f"`{page.policy}`"),
        ]
    parts = [
        f"# {say('title')}",
        "",
        say("verdict_clean") if proof.is_clean else say("verdict_not_clean"),
        "",
        say("subject", version=proof.version, when=proof.made_at, system=proof.system, python=proof.python),
        "",
        f"| {say('what')} | {say('found')} |",
        "|---|---|",
        *(f"| {say(code)} | {value.replace('|', '&#124;')} |" for code, value in rows),
        "",
        f"## {say('shipped_title')}",
        "",
        say("shipped", digest=proof.shipped[""], count=len(proof.shipped) - 1),
        "",
        say("software", torch=proof.torch or none, model=proof.model or none, kit=proof.kit or none),
        "",
        f"## {say('limits_title')}",
        "",
        say("limits"),
        "",
        "```",
        *(f"{digest}  {name}" for name, digest in sorted(proof.shipped.items()) if name),
        "```",
        "",
        say("signature"),
    ]
    return "\n".join(parts) + "\n"
