"""Lets ten callers ask and leave at random, through every door, and counts what was lost, mixed up or left behind.

    python scripts/try_queue.py --minutes 10 --report docs/queue-trial.md

The assistant, the queue, the history, the decoder and the HTTP doors are the real ones, on a free loopback port; the model
is one that repeats its question, so that every answer can be checked. Needs what the tests need.
"""

from __future__ import annotations

import argparse
import base64
import gc
import http.client
import io
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
import uvicorn
from PIL import Image
from starlette.applications import Starlette

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.api.guard import GuardMiddleware
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import (
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    Question,
    Rung,
    SeenSize,
    Size,
    SizePlan,
    StagedPicture,
    Usage,
)
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Prediction, Stage, StageStep, Step, TokenStep
from qwen_vl_app.errors import QueueFullError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.jobs import Priority
from qwen_vl_app.offline import go_offline

DOORS = ("page", "whole", "stream", "batch")
CANCELLED_SHARE = 0.3
PICTURE_SHARE = 0.1
PATIENCE_S = 60.0
"""An answer that takes longer is lost: a hundred of them take less."""
PLAN = SizePlan(28, 3136, (Rung(Detail.BALANCED, 256 * 784, 256),), Detail.BALANCED, 8192)


class RepeatingEngine:
    """A model that says its question again, a word at a time. Counts its runs, so that none can be left open."""

    def __init__(self, *, token_s: float) -> None:
        self._token_s = token_s
        self._status = EngineStatus(state=EngineState.EMPTY, model="repeating", family="Repeating", plan=PLAN)
        self.open_runs = 0

    @property
    def status(self) -> EngineStatus:
        """What it is."""
        return self._status

    def prepare(self) -> None:
        """Do nothing: its plan is known."""

    def load(self) -> None:
        """Be ready."""
        self._status = replace(self._status, state=EngineState.READY)

    def seen_size(self, size: Size, *, detail: Detail | None = None) -> SeenSize:
        """Return a size that every picture has."""
        del size, detail
        return SeenSize(Size(56, 56), 4, Detail.BALANCED)

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Say the last question again."""
        self.open_runs += 1
        try:
            yield StageStep(Stage.READING, 1, 1)
            words = request.messages[-1].text.split(" ")
            for number, word in enumerate(words):
                if should_stop():
                    yield FinishedStep(FinishReason.STOPPED, Usage(len(words), 0, 0, number))
                    return
                time.sleep(self._token_s)
                yield TokenStep(word if number == 0 else f" {word}", number, -0.1)
            yield FinishedStep(FinishReason.STOP, Usage(len(words), 0, 0, len(words)))
        finally:
            self.open_runs -= 1

    def predict(self, picture_tokens: Sequence[int], *, text_tokens: int = 0) -> Prediction:
        """Return that nothing is known."""
        del picture_tokens, text_tokens
        return Prediction(first_token_s=None, memory_bytes=0)

    def forget(self) -> None:
        """Do nothing: it holds nothing."""

    def close(self) -> None:
        """Be gone."""
        self._status = replace(self._status, state=EngineState.CLOSED)


@dataclass
class Remains:
    """What a process holds at one moment."""

    threads: int
    handles: int
    jobs: int
    rss_bytes: int

    @classmethod
    def now(cls) -> Remains:
        """Look."""
        gc.collect()
        process = psutil.Process()
        if sys.platform == "win32":
            handles = process.num_handles()
        else:
            handles = process.num_fds()
        jobs = sum(type(each) is AnswerJob for each in gc.get_objects())  # `isinstance` would ask strangers' proxies
        return cls(threading.active_count(), handles, jobs, process.memory_info().rss)


@dataclass
class Tally:
    """What became of the questions. Everything but `answered`, `cancelled` and `refused` is a fault."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {door: [] for door in DOORS})
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, *, door: str, seconds: float | None = None, fault: str = "") -> None:
        """Count one."""
        with self.lock:
            self.counts[outcome] += 1
            if seconds is not None:
                self.seconds[door].append(seconds)
            if fault:
                self.faults.append(f"{door}: {fault}"[:300])


@dataclass(frozen=True)
class Result:
    """What a trial ended with."""

    duration_s: float
    tally: Tally
    before: Remains
    after: Remains
    open_runs: int
    waiting: int

    @property
    def asked(self) -> int:
        """How many questions there were."""
        return sum(self.tally.counts.values())

    @property
    def problems(self) -> list[str]:
        """What must not be; empty where all is well."""
        found = list(self.tally.faults)
        for name, before, after in (
            ("threads", self.before.threads, self.after.threads),
            ("open files and sockets", self.before.handles, self.after.handles),
            ("answer jobs", self.before.jobs, self.after.jobs),
        ):
            # The thread pool and the database keep what they once opened; a leak grows with every question.
            allowance = 0 if name == "answer jobs" else 24
            if after > before + allowance:
                found.append(f"{name} were left: {before} before, {after} after")
        if self.open_runs or self.waiting:
            found.append(f"left in the model: {self.open_runs}, in the queue: {self.waiting}")
        return found


class Caller(threading.Thread):
    """Somebody who asks through a random door, and leaves early now and then."""

    def __init__(self, number: int, *, assistant: Assistant, port: int, key: str, seed: int, until: float) -> None:
        super().__init__(name=f"caller {number}")
        self._number = number
        self._assistant = assistant
        self._port = port
        self._key = key
        self._random = random.Random(seed * 1000 + number)
        self._until = until
        self.tally = Tally()
        self._png = _png(number)
        self._staged: StagedPicture | None = None

    def run(self) -> None:
        """Ask until the time is up."""
        asked = 0
        while time.monotonic() < self._until:
            asked += 1
            door = self._random.choice(DOORS)
            words = self._random.randint(2, 20)
            question = " ".join(f"{self._number}-{asked}-{word}" for word in range(words))
            leaves_after_s = self._random.uniform(0, 1.0) if self._random.random() < CANCELLED_SHARE else None
            has_picture = self._random.random() < PICTURE_SHARE
            started = time.monotonic()
            try:
                said = self._ask(door, question, leaves_after_s, has_picture=has_picture)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.tally.add("lost", door=door, fault=f"lost: {type(error).__name__} {error}")
                continue
            if said == question:
                self.tally.add("answered", door=door, seconds=time.monotonic() - started)
            elif said is None:
                self.tally.add("refused", door=door)
                time.sleep(0.2)
            elif leaves_after_s is not None and question.startswith(said):
                self.tally.add("cancelled", door=door)
            else:
                self.tally.add("mixed up", door=door, fault=f"asked {question!r}, got {said!r}")

    def _ask(self, door: str, question: str, leaves_after_s: float | None, *, has_picture: bool) -> str | None:
        """Return what was said, also where it was left in the middle; None where the queue was full."""
        if door in ("page", "batch"):
            return self._ask_directly(door, question, leaves_after_s, has_picture=has_picture)
        return self._ask_by_http(question, leaves_after_s, is_stream=door == "stream", has_picture=has_picture)

    def _ask_directly(self, door: str, question: str, leaves_after_s: float | None, *, has_picture: bool) -> str | None:
        if has_picture and self._staged is None:
            self._staged = self._assistant.stage(self._png, "a.png")
        pictures = (self._staged,) if has_picture and self._staged is not None else ()
        try:
            job = self._assistant.ask(
                Question(question, pictures=pictures),
                owner=f"{door} {self._number}",
                is_kept=door == "page",
                priority=Priority.PAGE if door == "page" else Priority.BATCH,
            )
        except QueueFullError:
            return None
        if leaves_after_s is not None and job.wait(leaves_after_s) is None:
            job.cancel()
        answer = job.wait(PATIENCE_S)
        if answer is None:
            raise ValueError("no end")
        if answer.finish_reason is FinishReason.FAILED:
            raise ValueError(f"failed: {answer.error}")
        return answer.text

    def _ask_by_http(
        self, question: str, leaves_after_s: float | None, *, is_stream: bool, has_picture: bool
    ) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=leaves_after_s or PATIENCE_S)
        content: list[dict[str, object]] = [{"type": "text", "text": question}]
        if has_picture:
            uri = f"data:image/png;base64,{base64.b64encode(self._png).decode()}"
            content.append({"type": "image_url", "image_url": {"url": uri}})
        body = {"model": "repeating", "messages": [{"role": "user", "content": content}], "stream": is_stream}
        said = ""
        try:
            connection.request(
                "POST",
                "/v1/chat/completions",
                body=json.dumps(body),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
            )
            response = connection.getresponse()
            if response.status == http.client.TOO_MANY_REQUESTS:
                return None
            if response.status != http.client.OK:
                raise ValueError(f"status {response.status}: {response.read()[:200]!r}")
            if not is_stream:
                return str(json.loads(response.read())["choices"][0]["message"]["content"])
            deadline = None if leaves_after_s is None else time.monotonic() + leaves_after_s
            while line := response.readline():
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise ValueError(f"error {event['error']}")
                    said += event["choices"][0]["delta"].get("content", "")
                if deadline is not None and time.monotonic() > deadline:
                    return said
            return said
        except TimeoutError:
            if leaves_after_s is None:
                raise
            return said  # it has waited as long as it wanted to, and leaves
        finally:
            connection.close()


def try_queue(*, duration_s: float, callers: int = 10, token_s: float = 0.005, seed: int = 11) -> Result:
    """Run a trial and return what became of it."""
    go_offline()
    keys = tuple(f"key-of-the-caller-{number:04d}" for number in range(callers))
    with tempfile.TemporaryDirectory(prefix="queue-trial-", ignore_cleanup_errors=True) as folder:
        settings = Settings(data_dir=Path(folder), api_keys=keys, queue_limit=callers - 3, queue_limit_per_owner=2)
        engine = RepeatingEngine(token_s=token_s)
        decoder = PictureDecoder(max_bytes=2**20, max_pixels=1_000_000, timeout_s=10.0)
        with Assistant(
            engine=engine, decoder=decoder, history=HistoryStore(settings.data_dir), settings=settings
        ) as assistant:
            assistant.wait_until_loaded(10.0)
            with _served(assistant) as port:
                _warm_up(assistant, port, keys)
                before = Remains.now()
                until = time.monotonic() + duration_s
                crowd = [
                    Caller(number, assistant=assistant, port=port, key=keys[number], seed=seed, until=until)
                    for number in range(callers)
                ]
                for caller in crowd:
                    caller.start()
                for caller in crowd:
                    caller.join()
                tally = _added_up(crowd)
                del crowd, caller
                _until_idle(assistant)
                after = _remains_at_last(before)
                return Result(duration_s, tally, before, after, engine.open_runs, assistant.status.waiting)


def _warm_up(assistant: Assistant, port: int, keys: tuple[str, ...]) -> None:
    """Let everybody ask for a second, so that pools and pages of memory are there before anything is counted."""
    crowd = [
        Caller(number, assistant=assistant, port=port, key=key, seed=0, until=time.monotonic() + 1.0)
        for number, key in enumerate(keys)
    ]
    for caller in crowd:
        caller.start()
    for caller in crowd:
        caller.join()
    _until_idle(assistant)


def _until_idle(assistant: Assistant) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (assistant.status.is_busy or assistant.status.waiting) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # the server lets go of connections that were left in its own time


def _remains_at_last(before: Remains) -> Remains:
    """Look until nobody holds a job any more: on a busy machine the server's last tasks end late."""
    deadline = time.monotonic() + PATIENCE_S
    while (after := Remains.now()).jobs > before.jobs and time.monotonic() < deadline:
        time.sleep(0.5)
    return after


def _added_up(crowd: list[Caller]) -> Tally:
    whole = Tally()
    for caller in crowd:
        whole.counts.update(caller.tally.counts)
        whole.faults.extend(caller.tally.faults)
        for door, seconds in caller.tally.seconds.items():
            whole.seconds[door].extend(seconds)
    return whole


@contextmanager
def _served(assistant: Assistant) -> Iterator[int]:
    app = Starlette(routes=make_routes(lambda: assistant))
    app.add_middleware(GuardMiddleware, policy="default-src 'none'")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join(10.0)


def _png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (number * 20 % 256, 80, 120)).save(stream, "PNG")
    return stream.getvalue()


def report(result: Result) -> str:
    """Return the result as Markdown."""
    counts, before, after = result.tally.counts, result.before, result.after
    lines = [
        "# The queue under ten callers",
        "",
        f"`python scripts/try_queue.py --minutes {result.duration_s / 60:g}`: callers ask through the page's way, a batch's",
        "way and HTTP (whole and streamed), a tenth of them with a picture; three in ten leave at a random moment. The model",
        "repeats its question, so that every answer is checked word for word.",
        "",
        "| | |",
        "|---|---|",
        f"| asked | {result.asked:,} |",
        f"| answered, word for word | {counts['answered']:,} |",
        f"| left by the caller | {counts['cancelled']:,} |",
        f"| refused, because the queue was full | {counts['refused']:,} |",
        f"| lost | {counts['lost']:,} |",
        f"| mixed up | {counts['mixed up']:,} |",
        f"| still in the queue, in the model, at the end | {result.waiting}, {result.open_runs} |",
        f"| answer jobs in memory, before and after | {before.jobs}, {after.jobs} |",
        f"| threads, before and after | {before.threads}, {after.threads} |",
        f"| open files and sockets, before and after | {before.handles}, {after.handles} |",
        f"| memory (MB), before and after | {before.rss_bytes / 2**20:.0f}, {after.rss_bytes / 2**20:.0f} |",
        "",
        "Seconds from question to whole answer, the waiting included:",
        "",
        "| door | answers | median | 95 % |",
        "|---|---|---|---|",
    ]
    for door, seconds in result.tally.seconds.items():
        if seconds:
            ordered = sorted(seconds)
            middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
            lines.append(f"| {door} | {len(ordered):,} | {middle:.2f} | {late:.2f} |")
    lines += ["", "Problems: " + ("; ".join(result.problems[:10]) or "none.")]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line. Returns 1 where anything was lost, mixed up or left behind."""
    parser = argparse.ArgumentParser(
        description="Lets ten callers ask and leave at random, and counts what went wrong."
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--token-ms", type=float, default=5.0)
    parser.add_argument("--report", type=Path, help="write the result here as well")
    given = parser.parse_args()
    result = try_queue(duration_s=given.minutes * 60, token_s=given.token_ms / 1000, seed=given.seed)
    text = report(result)
    print(text)
    if given.report is not None:
        given.report.write_text(text, encoding="utf-8")
    return 1 if result.problems else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
